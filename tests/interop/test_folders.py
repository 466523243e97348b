"""Class folders, in and out."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vizsla.data.sources import Folder
from vizsla.errors import UserError
from vizsla.interop import export_labels, formats, import_labels
from vizsla.interop.foldernames import classes_of, cut, escape, folders, in_full, unescape
from vizsla.interop.outgoing import Outgoing

if TYPE_CHECKING:
    from tests.interop.conftest import Made

    Make = Callable[..., Made]

NAMES = st.text(st.sampled_from("abCN012 .%/\\_-:é犬\n\udcff2F5"), min_size=1, max_size=6)
WINDOWS = set('\\/:*?"<>|')


@given(st.lists(NAMES | st.sampled_from(["con", "NUL.x", "com1", "_unlabeled", "1_a", "1_b"]), unique=True))
@settings(max_examples=300, deadline=None)
def test_any_class_names_are_legal_distinct_folders_and_come_back(names: list[str]) -> None:
    made = folders(names)
    assert classes_of(made.values()) == {folder: name for name, folder in made.items()}
    assert set(made) == set(names)
    assert len({folder.casefold() for folder in made.values()}) == len(names)
    for folder in made.values():
        assert not WINDOWS & set(folder) and folder.isprintable()
        assert not folder.startswith(".") and folder[-1] not in ". "
        assert folder.split(".")[0].lower() not in {"con", "nul", "com1"}
        assert folder.lower() != "_unlabeled"


@given(NAMES)
def test_escaping_can_be_undone_and_is_not_done_twice(name: str) -> None:
    assert unescape(escape(name)) == name
    assert unescape(name) == name or escape(unescape(name)) == name


def test_plain_names_stay_as_they_are() -> None:
    plain = ["cat", "great dane", "ünïcode 犬", "a, b", "50%", "cat.v2", "a_b-c"]
    assert folders(plain) == {name: name for name in plain}


def test_foreign_folders_are_taken_at_their_word() -> None:
    assert classes_of(["a%20b", "100%25", "%63at"]) == {"a%20b": "a%20b", "100%25": "100%25", "%63at": "cat"}


def test_numbers_from_0_before_all_the_names_are_no_part_of_them() -> None:
    assert classes_of(["0_collie", "1_great_dane"]) == {"0_collie": "collie", "1_great_dane": "great_dane"}
    for names in (["3_cat", "10_dog"], ["3d printer", "robot"], ["0_a", "1_a"], ["2023 dogs", "2024 dogs"]):
        assert classes_of(names) == {name: name for name in names}
    assert classes_of(["3_cat", "10_dog"], known=["cat", "dog"]) == {"3_cat": "cat", "10_dog": "dog"}


@pytest.mark.parametrize(
    "names", [["train", "test"], ["test"], ["0_collie", "1_chow"], ["Training set", "val"]]
)
def test_classes_that_would_mean_something_else_as_folders_come_back(
    names: list[str], make: Make, tmp_path: Path
) -> None:
    project = make("a.jpg", "b.jpg", "c.jpg")
    project.store.add_classes(names)
    project.label("me", **dict(zip(("a.jpg", "b.jpg"), names, strict=False)))
    fresh = make(like=project)
    import_labels(fresh.store, "folders", project.export("folders", tmp_path))
    assert fresh.standing() == project.standing()


LONG = "a class whose name tells all that there is to be told " * 6


@pytest.mark.parametrize("letter", ["x", "é", "犬", "/", "\udcff"])
def test_a_class_name_that_is_too_long_is_cut_and_told_apart_by_a_hash(letter: str) -> None:
    names = [letter * 300 + end for end in "ab"] + ["cat"]
    made = folders(names)
    assert made["cat"] == "cat"
    cuts = [made[name] for name in names[:2]]
    assert cuts[0] != cuts[1]
    for name, folder in zip(names, cuts, strict=False):
        assert len(os.fsencode(folder)) <= 255
        mark = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
        assert folder.endswith(f"{letter if letter not in '/' and letter.isprintable() else 'F'}~{mark}")
    read = in_full(cut(made).decode().splitlines())
    assert [read[folder] for folder in cuts] == names[:2]
    assert "cat" not in read.values(), "whose folder says all of it"


def test_a_name_of_255_bytes_is_left_as_it_is() -> None:
    assert folders(["x" * 255]) == {"x" * 255: "x" * 255}
    assert len(folders(["x" * 256])["x" * 256]) == 255


@pytest.mark.parametrize(
    ("format", "form"),
    [("folders", None), ("cvat", None), ("imagefolder", "tree"), ("fiftyone", "tree"), ("fiftyone", None)],
)
def test_long_class_names_come_back_from_class_folders(
    make: Make, tmp_path: Path, format: str, form: str | None
) -> None:
    project = make("a.jpg", "b.jpg", "c.jpg")
    project.store.add_classes([LONG + "a", LONG + "b", "cat"])
    project.label("me", **{"a.jpg": LONG + "a", "b.jpg": LONG + "b", "c.jpg": "cat"})
    export_labels(project.store, project.images, format, tmp_path / "out", form=form)
    other = make(like=project)
    report = import_labels(other.store, format, tmp_path / "out")
    assert (report.taken, report.skipped) == (3, 0)
    assert other.standing() == project.standing()


@pytest.mark.parametrize("format", ["folders", "cvat", "imagefolder", "fiftyone"])
def test_file_names_as_long_as_can_be_are_written_and_come_back(
    make: Make, tmp_path: Path, format: str
) -> None:
    names = ["x" * 251 + ".jpg", "y" * 251 + ".jpg", "z\\" * 120 + ".jpg", "z\\" * 120 + ".png"]
    project = make(*names)
    project.hash_all()
    project.store.add_classes(["cat", "dog"])
    project.label("me", **dict(zip(names, ["cat", "dog", "cat", "dog"], strict=True)))
    export_labels(project.store, project.images, format, tmp_path / "out")
    other = make(like=project)
    other.hash_all()
    assert import_labels(other.store, format, tmp_path / "out").taken == 4
    assert other.standing() == project.standing()


def test_the_zip_holds_each_image_under_its_class(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "x/b.jpg", "y/b.jpg", "c.jpg", "d.jpg")
    project.store.add_classes(["cat", "no/dog", "unused"])
    project.label("me", **{"a.jpg": "cat", "x/b.jpg": "no/dog", "y/b.jpg": "no/dog", "d.jpg": "cat"})
    (project.images / "d.jpg").unlink()
    with zipfile.ZipFile(project.export("folders", tmp_path)) as archive:
        content = {member.filename: archive.read(member) for member in archive.infolist()}
        assert archive.testzip() is None
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
    assert content == {
        "cat/a.jpg": b"content of a.jpg",
        "no%2Fdog/x%2Fb.jpg": b"content of x/b.jpg",
        "no%2Fdog/y%2Fb.jpg": b"content of y/b.jpg",
        "_unlabeled/c.jpg": b"content of c.jpg",
        "MISSING.txt": b"d.jpg\n",
    }


def test_a_file_that_was_replaced_is_not_given_the_old_label(make: Make, tmp_path: Path) -> None:
    project = make("same.jpg", "touched.jpg", "other.jpg", "unread.jpg", "longer.jpg")
    project.hash_all()
    project.store.add_classes(["cat"])
    project.label("me", **dict.fromkeys(project.ids(), "cat"))
    fresh = make(like=project)  # known by size and time alone
    fresh.store.add_classes(["cat"])
    for one in (project, fresh):
        (one.images / "touched.jpg").write_bytes(b"content of touched.jpg")
        (one.images / "other.jpg").write_bytes(b"CONTENT of other.jpg")
        (one.images / "longer.jpg").write_bytes(b"much more content of longer.jpg")
        for path in ("touched.jpg", "other.jpg"):
            os.utime(one.images / path, ns=(1, 1))
    reason = "\tanother image has taken its place since; rescan the folder\n"
    with zipfile.ZipFile(project.export("folders", tmp_path)) as archive:
        assert {*archive.namelist()} == {"cat/same.jpg", "cat/touched.jpg", "cat/unread.jpg", "MISSING.txt"}
        lines = archive.read("MISSING.txt").decode().splitlines(keepends=True)
    assert sorted(lines) == [f"longer.jpg{reason}", f"other.jpg{reason}"]
    with zipfile.ZipFile(fresh.export("folders", tmp_path)) as archive:
        assert archive.read("MISSING.txt").decode() == f"longer.jpg{reason}"


def test_a_reader_that_sees_the_zip_only_once_can_unpack_it(hard: Made, tmp_path: Path) -> None:
    """Sizes and checksums stand before each member: no data descriptors, which such readers refuse."""
    path = hard.export("folders", tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert not any(member.flag_bits & 0x08 for member in archive.infolist())
        assert archive.testzip() is None
        names = archive.namelist()
    assert len(set(names)) == len(names) == len(hard.store.images())


def test_the_zip_comes_an_image_at_a_time(make: Make) -> None:
    project = make(*(f"{n}.jpg" for n in range(50)))
    pieces = list(formats["folders"].write(Outgoing(project.store, Folder(project.images))))
    assert len(pieces) >= 50 and max(map(len, pieces[:50])) < 200


def test_equal_names_in_and_out_of_a_folder_called_like_the_class(make: Make, tmp_path: Path) -> None:
    project = make("1.jpg", "cat/1.jpg", "dog/1.jpg")
    project.store.add_classes(["cat", "dog"])
    project.label("me", **{"1.jpg": "cat", "cat/1.jpg": "dog", "dog/1.jpg": "cat"})
    fresh = make(like=project)
    import_labels(fresh.store, "folders", project.export("folders", tmp_path))
    assert fresh.standing() == project.standing()


def test_copies_of_one_image_keep_their_own_labels(make: Make, tmp_path: Path) -> None:
    project = make("x/1.jpg", "y/1.jpg")
    (project.images / "y/1.jpg").write_bytes((project.images / "x/1.jpg").read_bytes())
    project.store.add_classes(["cat", "dog"])
    project.label("me", **{"x/1.jpg": "cat", "y/1.jpg": "dog"})
    fresh = make(like=project)
    fresh.hash_all()
    import_labels(fresh.store, "folders", project.export("folders", tmp_path))
    assert fresh.standing() == project.standing()


@pytest.mark.parametrize(
    "layout",
    [
        {"cat": "cat/a.jpg", "dog": "dog/b.jpg"},
        {"cat": "0_cat/a.jpg", "dog": "1_dog/b.jpg"},
        {"cat": "train/cat/a.jpg", "dog": "test/dog/b.jpg"},
        {"cat": "train/0_cat/a.jpg", "dog": "train/1_dog/deeper/b.jpg"},
        {"cat": "TRAIN/cat/a.jpg", "dog": "Val/dog/b.jpg", None: "test/c.jpg"},
    ],
    ids=["classes", "numbered", "splits", "splits, numbered, deeper", "splits, one without classes"],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_folders_as_others_lay_them_out(
    layout: dict[str | None, str], zipped: bool, make: Make, tmp_path: Path
) -> None:
    project = make("a.jpg", "sub/b.jpg", "c.jpg")
    for path in [*layout.values(), "_unlabeled/c.jpg"][: 2 if "train" in str(layout) else 3]:
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / path).write_bytes(b"another content")
    source = tmp_path / "in"
    if zipped:
        source = tmp_path / "in.zip"
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in layout.values():
                archive.write(tmp_path / "in" / path, f"wrapper/{path}")
            archive.writestr("__MACOSX/wrapper/cat/._a.jpg", b"")
            archive.writestr("wrapper/readme.txt", b"")
    import_labels(project.store, "folders", source)
    assert project.standing() == {"a.jpg": ("labelled", "cat"), "sub/b.jpg": ("labelled", "dog")}


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"another content")
    return root


def test_splits_are_classes_where_one_says_so(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg")
    source = write(tmp_path / "in", "train/cat/a.jpg", "test/dog/b.jpg")
    import_labels(project.store, "folders", source, splits=False)
    assert project.standing() == {"a.jpg": ("labelled", "train"), "b.jpg": ("labelled", "test")}


def test_splits_without_class_folders_are_no_classes(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg")
    source = write(tmp_path / "in", "train/a.jpg", "test/b.jpg")
    with pytest.raises(
        UserError, match=r"are splits \(test, train\), and no class folders .* use --no-splits"
    ):
        import_labels(project.store, "folders", source)
    assert project.store.classes() == ()
    import_labels(project.store, "folders", source, splits=False)
    assert project.standing() == {"a.jpg": ("labelled", "train"), "b.jpg": ("labelled", "test")}


def test_a_folder_called_test_beside_others_is_a_class(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg", "c.jpg")
    source = write(tmp_path / "in", "test/a.jpg", "blood/b.jpg", "urine/c.jpg")
    import_labels(project.store, "folders", source)
    assert {label for _, label in project.standing().values()} == {"test", "blood", "urine"}


def test_numbered_folders_are_the_classes_that_an_older_project_made_of_them(
    make: Make, tmp_path: Path
) -> None:
    project = make("a.jpg", "b.jpg", "c.jpg")
    project.store.add_classes(["cat", "dog"])
    project.store.rename_class("cat", "feline")
    source = write(tmp_path / "in", "3_cat/a.jpg", "10_dog/b.jpg", "5_fox/c.jpg")
    assert import_labels(project.store, "folders", source).new_classes == ("fox",)
    assert project.standing() == {
        "a.jpg": ("labelled", "feline"),
        "b.jpg": ("labelled", "dog"),
        "c.jpg": ("labelled", "fox"),
    }


def test_an_import_leaves_out_what_a_scan_leaves_out(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project = make("a.jpg", "b.jpg")
    source = write(tmp_path / "in", "cat/a.jpg", "dog/b.jpg", "#recycle/a.jpg", "dog/@eaDir/b.jpg", "c.ppm")
    (source / "dog" / "loop").symlink_to("loop")
    said = [
        "left out 1 .ppm: not supported",
        "left out 1 link that leads back to itself: dog/loop",
        "left out 2 system folders, such as #recycle",
    ]
    import_labels(project.store, "folders", source)
    assert caplog.messages == said
    caplog.clear()
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for file in ("cat/a.jpg", "dog/b.jpg", "#recycle/a.jpg", "dog/@eaDir/b.jpg", "c.ppm"):
            archive.write(source / file, file)
    fresh = make(like=project)
    import_labels(fresh.store, "folders", tmp_path / "in.zip")
    assert (
        fresh.standing() == project.standing() == {"a.jpg": ("labelled", "cat"), "b.jpg": ("labelled", "dog")}
    )
    assert caplog.messages == [said[0], said[2]]


def test_images_are_known_by_content_under_any_name(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg")
    project.hash_all()
    for name, content in {"cat/renamed.jpg": "a.jpg", "dog/a.jpg": "b.jpg"}.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        (tmp_path / "in" / name).write_bytes((project.images / content).read_bytes())
    import_labels(project.store, "folders", tmp_path / "in")
    assert project.standing() == {"a.jpg": ("labelled", "cat"), "b.jpg": ("labelled", "dog")}


def test_the_projects_own_folder_can_be_imported(make: Make) -> None:
    project = make("cat/1.jpg", "dog/1.jpg", "loose.jpg")
    report = import_labels(project.store, "folders", project.images, annotator="folders")
    assert project.standing() == {"cat/1.jpg": ("labelled", "cat"), "dog/1.jpg": ("labelled", "dog")}
    assert report.reasons["has no label"].examples == ["loose.jpg"]
    assert {label.annotator for label in project.store.labels()} == {"folders"}


def test_a_folder_without_class_folders_is_a_user_error(make: Make) -> None:
    project = make("a.jpg")
    with pytest.raises(UserError, match="no class folders"):
        import_labels(project.store, "folders", project.images)


def test_a_damaged_member_counts_by_its_name(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg")
    project.hash_all()
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(project.images / "a.jpg", "cat/a.jpg")
    data = (tmp_path / "in.zip").read_bytes().replace(b"content of", b"CONTENT OF")
    (tmp_path / "in.zip").write_bytes(data)
    import_labels(project.store, "folders", tmp_path / "in.zip")
    assert project.standing() == {"a.jpg": ("labelled", "cat")}


@pytest.mark.slow
def test_interop_never_loads_torch() -> None:
    code = "import sys, vizsla.interop; print(sorted({'torch', 'vizsla.data.indexed'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
