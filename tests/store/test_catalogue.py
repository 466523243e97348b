"""Images follow their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from vizsla.errors import UnknownName
from vizsla.store import Answer, ImageFile, Rescanned, Store
from vizsla.store.schema import images

Fill = Callable[[int], list[int]]


class Folder:
    """A real folder, scanned and hashed plainly."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hashed: list[str] = []
        self._time = 0

    def write(self, name: str, content: str) -> None:
        self._time += 1
        (self.path / name).write_text(content)
        os.utime(self.path / name, ns=(self._time, self._time))

    def rename(self, old: str, new: str) -> None:
        self.wait()
        (self.path / old).rename(self.path / new)

    def swap(self, one: str, other: str) -> None:
        self.rename(one, "aside")
        self.rename(other, one)
        self.rename("aside", other)

    def wait(self) -> None:
        """Until the file system's clock, which counts in milliseconds, has gone on."""
        probe = self.path.parent / "probe"
        probe.touch()
        before = probe.stat().st_ctime_ns
        while probe.stat().st_ctime_ns == before:
            probe.touch()

    def files(self) -> list[ImageFile]:
        found = ((path.name, path.stat()) for path in sorted(self.path.iterdir()))
        return [ImageFile(name, of.st_size, of.st_mtime_ns, of.st_ctime_ns) for name, of in found]

    def frames(self, *contents: str) -> None:
        """Files of one size and one time, as cameras and archives make them."""
        self._time += 1
        for content in contents:
            (self.path / f"{content}.jpg").write_text(content)
            os.utime(self.path / f"{content}.jpg", ns=(self._time, self._time))

    def digest(self, name: str) -> str:
        self.hashed.append(name)
        return hashlib.sha256((self.path / name).read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "photos").mkdir()
    return Folder(tmp_path / "photos")


@pytest.fixture
def scanned(store: Store, folder: Folder) -> dict[str, int]:
    """collie.jpg and chow.jpg scanned, decoded once and labelled; their ids by path."""
    folder.write("collie.jpg", "a collie")
    folder.write("chow.jpg", "two chows")
    store.rescan(folder.files(), folder.digest)
    store.add_classes(["collie", "chow"])
    ids = {str(image.path): image.id for image in store.images()}
    me = store.annotator("me")
    for path, image_id in ids.items():
        store.set_hashes({image_id: hashlib.sha256((folder.path / path).read_bytes()).hexdigest()})
        store.label(me.id, Answer(image_id, path.removesuffix(".jpg")))
    return ids


def standing(store: Store) -> dict[str | None, str | None]:
    return {label.path: label.label for label in store.labels()}


def test_adding_the_same_files_again_adds_nothing_and_keeps_their_ids(store: Store) -> None:
    files = [ImageFile(f"{i}.jpg", i, i) for i in range(5000)]
    assert store.add_images(iter(files)) == 5000
    before = store.images()
    assert store.add_images([*files, ImageFile("new.jpg", 1, 1)]) == 1
    assert store.images()[:5000] == before
    assert store.counts().total == 5001


def test_images_come_in_pages_by_rising_id(store: Store, fill: Fill) -> None:
    fill(7)
    first = store.images(limit=4)
    assert [image.id for image in first + store.images(after=first[-1].id)] == [i.id for i in store.images()]


def test_a_name_that_is_not_utf8_comes_back_as_python_reads_it(store: Store) -> None:
    odd = os.fsdecode(b"hund\xff\xe4.jpg")
    store.add_images([ImageFile(odd, 1, 1), ImageFile("🐕.jpg", 1, 1)])
    assert {image.path for image in store.images()} == {odd, "🐕.jpg"}
    assert store.add_images([ImageFile(odd, 1, 1)]) == 0


def test_half_a_surrogate_pair_in_a_name_comes_back_too(store: Store) -> None:
    names = ["\ud83d.jpg", "\ude00.jpg", "plain.jpg"]
    store.add_images(ImageFile(name, 1, 1) for name in names)
    assert {image.path for image in store.images()} == set(names)
    assert store.image(3).shuffle == 2976860471416224390


def test_an_unknown_id_is_an_error_that_names_it(store: Store) -> None:
    with pytest.raises(UnknownName, match="no image has the id 17"):
        store.image(17)


def test_a_rescan_of_an_unchanged_folder_reads_no_file(
    store: Store, folder: Folder, scanned: dict[str, int]
) -> None:
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 0, 0, 0, 0)
    assert folder.hashed == []


def test_a_renamed_file_keeps_its_id_and_its_label(
    store: Store, folder: Folder, scanned: dict[str, int]
) -> None:
    folder.rename("collie.jpg", "lassie.jpg")
    folder.write("new.jpg", "of another length")
    assert store.rescan(folder.files(), folder.digest) == Rescanned(1, 1, 0, 0, 0)
    assert store.image(scanned["collie.jpg"]).path == "lassie.jpg"
    assert standing(store) == {"lassie.jpg": "collie", "chow.jpg": "chow"}
    assert folder.hashed == ["lassie.jpg"]


def test_two_files_that_swap_names_swap_paths_and_keep_their_labels(
    store: Store, folder: Folder, scanned: dict[str, int]
) -> None:
    folder.swap("collie.jpg", "chow.jpg")
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 2, 0, 0, 0)
    assert standing(store) == {"chow.jpg": "collie", "collie.jpg": "chow"}


@pytest.fixture
def frames(store: Store, folder: Folder) -> dict[str, int]:
    """red.jpg and sea.jpg, of one size and one time, read once and labelled; their ids by path."""
    folder.frames("red", "sea")
    store.rescan(folder.files(), folder.digest)
    store.add_classes(["red", "sea"])
    ids = {str(image.path): image.id for image in store.images()}
    store.set_hashes({image_id: hash_of(path[:3]) for path, image_id in ids.items()})
    me = store.annotator("me").id
    for path, image_id in ids.items():
        store.label(me, Answer(image_id, path[:3]))
    return ids


def hash_of(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def test_files_of_one_size_and_time_that_swap_names_swap_labels(
    store: Store, folder: Folder, frames: dict[str, int]
) -> None:
    folder.swap("red.jpg", "sea.jpg")
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 2, 0, 0, 0)
    assert standing(store) == {"red.jpg": "sea", "sea.jpg": "red"}
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 0, 0, 0, 0)
    assert sorted(folder.hashed) == ["red.jpg", "sea.jpg"], "once, and not again"


def test_a_file_replaced_by_another_content_of_its_size_and_time_loses_its_label(
    store: Store, folder: Folder, frames: dict[str, int]
) -> None:
    folder.wait()
    (folder.path / "red.jpg").write_text("tan")
    os.utime(folder.path / "red.jpg", ns=(1, 1))
    found = store.rescan(folder.files(), folder.digest)
    assert found == Rescanned(0, 0, 1, 0, 0, dropped=1)
    assert found.warning.startswith("1 answer counts no more, for its file holds another picture now")
    assert standing(store) == {"sea.jpg": "sea"}


def test_other_rights_cost_one_look_and_no_label(
    store: Store, folder: Folder, frames: dict[str, int]
) -> None:
    folder.wait()
    for path in folder.path.iterdir():
        path.chmod(0o600)
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 0, 0, 0, 0)
    assert standing(store) == {"red.jpg": "red", "sea.jpg": "sea"}
    assert sorted(folder.hashed) == ["red.jpg", "sea.jpg"]
    store.rescan(folder.files(), folder.digest)
    assert len(folder.hashed) == 2


def test_a_touched_file_that_cannot_be_read_now_keeps_its_label_until_it_can(
    store: Store, folder: Folder, frames: dict[str, int]
) -> None:
    folder.swap("red.jpg", "sea.jpg")
    assert store.rescan(folder.files(), lambda _: None) == Rescanned(0, 0, 0, 0, 0)
    assert standing(store) == {"red.jpg": "red", "sea.jpg": "sea"}
    store.rescan(folder.files(), folder.digest)
    assert standing(store) == {"red.jpg": "sea", "sea.jpg": "red"}


def test_an_answer_to_a_file_that_was_touched_before_anyone_read_it_counts_no_more_and_that_is_said(
    store: Store, folder: Folder
) -> None:
    folder.frames("red", "sea")
    store.rescan(folder.files(), folder.digest)
    store.add_classes(["red", "sea"])
    store.label(store.annotator("me").id, Answer(1, "red"))
    folder.swap("red.jpg", "sea.jpg")
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 0, 1, 0, 0, dropped=1)
    assert standing(store) == {}
    assert [label.label for label in store.history()] == ["red"], "what was said is never lost"


def test_who_has_an_answer_and_was_never_read_can_be_asked(store: Store, folder: Folder) -> None:
    folder.frames("red", "sea", "tan")
    store.rescan(folder.files(), folder.digest)
    store.add_classes(["red"])
    for image_id in (1, 2):
        store.label(store.annotator("me").id, Answer(image_id, "red"))
    store.set_hashes({1: hash_of("red")})
    assert [image.path for image in store.unread()] == ["sea.jpg"]
    assert [image.path for image in store.unread([1, 3])] == ["tan.jpg"]
    store.set_hashes({1: hash_of("another")})
    assert store.image(1).sha256 == hash_of("red"), "an id's content never changes"


def test_a_project_whose_ctimes_nobody_noted_reads_what_is_labelled_once(
    store: Store, folder: Folder, frames: dict[str, int]
) -> None:
    folder.frames("tan")
    store.rescan(folder.files(), folder.digest)
    forget_ctimes(store)
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 0, 0, 0, 0)
    assert sorted(folder.hashed) == ["red.jpg", "sea.jpg"], "an image without an answer is taken as it is"
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 0, 0, 0, 0)
    assert len(folder.hashed) == 2
    assert [image.ctime_ns for image in store.images()] == [
        (folder.path / str(image.path)).stat().st_ctime_ns for image in store.images()
    ]


def test_files_that_swapped_under_an_older_version_are_found_out(
    store: Store, folder: Folder, frames: dict[str, int]
) -> None:
    folder.swap("red.jpg", "sea.jpg")
    forget_ctimes(store)
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 2, 0, 0, 0)
    assert standing(store) == {"red.jpg": "sea", "sea.jpg": "red"}


def forget_ctimes(store: Store) -> None:
    """As an older version left it."""
    store._db.write(lambda conn: conn.execute(update(images).values(ctime_ns=None)))


def test_a_file_with_another_content_is_another_image_without_a_label(
    store: Store, folder: Folder, scanned: dict[str, int]
) -> None:
    folder.write("collie.jpg", "a poodle")
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 0, 1, 0, 0, dropped=1)
    (new,) = [image for image in store.images() if image.path == "collie.jpg"]
    assert new.id not in scanned.values() and new.status == "unlabelled"
    assert standing(store) == {"chow.jpg": "chow"}
    assert store.image(scanned["collie.jpg"]).path is None

    folder.write("found again.jpg", "a collie")
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 1, 0, 0, 0)
    assert standing(store) == {"chow.jpg": "chow", "found again.jpg": "collie"}


def test_a_file_renamed_over_another_takes_its_path_but_not_its_label(
    store: Store, folder: Folder, scanned: dict[str, int]
) -> None:
    (folder.path / "chow.jpg").unlink()
    folder.rename("collie.jpg", "chow.jpg")
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 1, 0, 0, 0, dropped=1)
    assert standing(store) == {"chow.jpg": "collie"}


def test_a_touched_file_and_a_copy_of_it_leave_the_label_where_it_was(
    store: Store, folder: Folder, scanned: dict[str, int]
) -> None:
    folder.write("collie.jpg", "a collie")
    folder.write("a copy.jpg", "a collie")
    assert store.rescan(folder.files(), folder.digest) == Rescanned(1, 0, 0, 0, 0)
    assert standing(store) == {"collie.jpg": "collie", "chow.jpg": "chow"}
    assert store.image(scanned["collie.jpg"]).mtime_ns == 3


def test_a_file_that_is_gone_counts_no_more_until_it_is_back(
    store: Store, folder: Folder, scanned: dict[str, int]
) -> None:
    folder.rename("collie.jpg", "../away")
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 0, 0, 1, 0)
    assert (store.counts().total, standing(store)) == (1, {"chow.jpg": "chow"})
    folder.rename("../away", "collie.jpg")
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 0, 0, 0, 1)
    assert standing(store) == {"collie.jpg": "collie", "chow.jpg": "chow"}


def test_a_changed_file_that_nobody_decoded_keeps_its_id(store: Store, folder: Folder) -> None:
    folder.write("a.jpg", "half of it")
    store.rescan(folder.files(), folder.digest)
    folder.write("a.jpg", "all of it, copied at last")
    assert store.rescan(folder.files(), folder.digest) == Rescanned(0, 0, 0, 0, 0)
    assert [(image.id, image.size) for image in store.images()] == [(1, 25)]


def test_of_two_equal_images_that_left_the_labelled_one_is_found_again(
    store: Store, folder: Folder, scanned: dict[str, int]
) -> None:
    folder.write("a twin.jpg", "a collie")
    store.rescan(folder.files(), folder.digest)
    twin = max(image.id for image in store.images())
    store.set_hashes({twin: folder.digest("a twin.jpg")})
    folder.rename("a twin.jpg", "one.jpg")
    (folder.path / "collie.jpg").unlink()
    store.rescan(folder.files(), folder.digest)
    assert standing(store) == {"one.jpg": "collie", "chow.jpg": "chow"}


def test_an_unreadable_image_is_flagged_and_leaves_the_queue(store: Store, fill: Fill) -> None:
    first, second = fill(2)
    me = store.annotator("me")
    store.claim(me.id, 2)
    store.set_unreadable(first, "truncated")
    assert [item.image_id for item in store.claim(me.id, 2)] == [second]
    assert store.image(first).problem == "truncated"
    counts = store.counts()
    assert (counts.total, counts.unlabelled, counts.flagged) == (2, 1, 1)


def test_a_problem_that_quotes_odd_names_is_kept_as_far_as_it_can_be_said(store: Store, fill: Fill) -> None:
    (image_id,) = fill(1)
    store.set_unreadable(image_id, "a\udcff\ud83d\0é" + "x" * 2000)
    assert store.image(image_id).problem == "a\ufffd\ufffd\ufffdé" + "x" * 995
