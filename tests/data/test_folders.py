from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vizsla.data.folders import (
    class_folder,
    classes_in,
    folder_classes,
    matched,
    number_classes,
    scan,
    walk,
)
from vizsla.data.leftout import LeftOut
from vizsla.data.sources import Folder
from vizsla.data.splits import layout_of
from vizsla.errors import BadOption, NoImages


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_scan_finds_every_image_suffix_in_any_case_and_nothing_else(tmp_path: Path) -> None:
    touch(
        tmp_path, "a.JPG", "b/c.jpeg", "b/d/e.Heic", "f.avif", "g.txt", "h.jpg.txt", "jpg", "b/i.csv", "k.pdf"
    )
    assert scan(tmp_path) == ("a.JPG", "b/c.jpeg", "b/d/e.Heic", "f.avif")


def test_scan_is_sorted_however_the_files_came_to_the_disk(tmp_path: Path) -> None:
    names = [f"{folder}/{n}.png" for folder in ("10_x", "2_y", "ä", "Z z") for n in (1, 2, 10)]
    for order in range(3):
        shuffled = random.Random(order).sample(names, len(names))
        touch(tmp_path / str(order), *shuffled)
        assert scan(tmp_path / str(order)) == tuple(sorted(names))


def test_scan_leaves_out_what_is_hidden_and_what_archives_and_nas_boxes_add(tmp_path: Path) -> None:
    root = tmp_path / ".hidden" / "root"  # only what lies below the folder counts
    hidden = [".vizsla/x.jpg", ".DS_Store", "a/._b.jpg", "a/@eaDir/b.jpg", "__MACOSX/b.jpg", ".x.png"]
    touch(root, "a/b.jpg", *hidden)
    assert scan(root) == ("a/b.jpg",)


def test_scan_follows_links_to_folders_and_stops_at_loops(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "x.jpg")
    touch(tmp_path / "root", "a/b.jpg")
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "a" / "loop").symlink_to(tmp_path / "root")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "root" / "a")
    (tmp_path / "root" / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert scan(tmp_path / "root") == ("a/b.jpg", "linked/back/b.jpg", "linked/x.jpg")


def left_out_of(root: Path) -> tuple[str, ...]:
    found = LeftOut()
    scan(root, found)
    return found.lines()


def test_what_people_threw_away_and_what_systems_keep_is_no_image_and_is_counted(tmp_path: Path) -> None:
    system = ["$RECYCLE.BIN", "#recycle", "System Volume Information", "lost+found", "@eaDir", "__MACOSX"]
    system += ["RECYCLER", "FOUND.000"]
    touch(tmp_path, "1.png", "cat/2.png", *(f"{folder}/old.png" for folder in system))
    touch(tmp_path, "cat/@eaDir/2.png/thumb.jpg", "$Recycle.Bin/S-1-5/$R1.png")
    touch(tmp_path, ".Trash-1000/3.png", ".ipynb_checkpoints/4.png", "cat/._2.png", "Thumbs.db", ".DS_Store")
    touch(tmp_path, ".vizsla/project.db", "recycled/5.png", "recycle.bin.png")
    assert scan(tmp_path) == ("1.png", "cat/2.png", "recycle.bin.png", "recycled/5.png")
    assert left_out_of(tmp_path) == (
        "left out 2 hidden folders, such as .Trash-1000",
        "left out 1 hidden image: cat/._2.png",
        "left out 10 system folders, such as #recycle",
    )


def test_images_of_kinds_that_cannot_be_read_are_counted_by_kind_and_other_files_are_not(
    tmp_path: Path,
) -> None:
    touch(tmp_path, *(f"{n}.PPM" for n in range(3)), "a/0.jp2", "a/1.jp2", "a/2.Jp2", "x.nef", "a.png")
    touch(tmp_path, "labels.csv", "notes.txt", "ppm", ".ppm", "a/clip.mp4", ".cache/y.nef")
    assert left_out_of(tmp_path) == (
        "left out 3 .ppm, 3 .jp2, 1 .nef: not supported",
        "left out 1 hidden folder: .cache",
    )


def test_a_folder_of_nothing_but_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n}.jxl" for n in range(1200)))
    with pytest.raises(NoImages, match=r"below it \(left out: 1,200 \.jxl: not supported\)\. Vizsla reads"):
        scan(tmp_path)


def test_links_that_lead_nowhere_or_back_are_passed_over_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "dog/2.png")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "photo.png").symlink_to("photo.png")
    (tmp_path / "there").symlink_to("back")
    (tmp_path / "back").symlink_to("there")
    (tmp_path / "cat" / "up").symlink_to("..")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "dog" / "gone.jpg").symlink_to("nowhere.jpg")
    assert scan(tmp_path) == ("cat/1.png", "dog/2.png")
    assert left_out_of(tmp_path) == (
        "left out 5 links that lead back to themselves, such as back",
        "left out 2 links that lead nowhere, such as dog/gone.jpg",
    )
    assert list(Folder(tmp_path).class_names()) == ["cat", "dog"]


@pytest.mark.slow
def test_a_folder_that_may_not_be_read_is_passed_over_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "open/1.png", "open/2.png", "closed/3.png", "open/inner/4.png")
    assert as_nobody(tmp_path, "closed", "open/inner") == [
        "open/1.png open/2.png",
        "left out 2 folders that cannot be read, such as closed (Permission denied)",
        "open",
    ]


@pytest.mark.slow
def test_a_folder_that_may_itself_not_be_read_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "photos/1.png", "photos/inner/2.png")
    for given in ("photos", "photos/inner"):
        [said] = as_nobody(tmp_path / given, "../photos" if given == "photos" else "..")
        assert (
            said == f"cannot read the folder {tmp_path / given}: Permission denied. Allow it or move it away."
        )


SCAN = """
import sys
from pathlib import Path
from vizsla.data.folders import scan
from vizsla.data.leftout import LeftOut
from vizsla.data.sources import Folder
from vizsla.errors import NoImages
root, left_out = Path(sys.argv[1]), LeftOut()
try:
    print(*scan(root, left_out))
    print(*left_out.lines(), sep="\\n")
    print(*Folder(root).class_names())
except NoImages as error:
    print(error)
"""


def as_nobody(root: Path, *closed: str) -> list[str]:
    """What a scan says where nobody may read these folders; root may read all, so it gives that right up first."""
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    folders = [(root / name).resolve() for name in closed]
    try:
        for folder in folders:
            folder.chmod(0)
        run = subprocess.run(
            [*drop, sys.executable, "-c", SCAN, root], capture_output=True, text=True, check=True
        )
    finally:
        for folder in folders:
            folder.chmod(0o755)
    return run.stdout.splitlines()


def test_what_a_scan_finds_does_not_depend_on_the_order_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "root", "a/1.png", "b/2.png", "c/3.png", "b/x.ppm", "a/.x/1.png", "c/.x/1.png")
    (tmp_path / "root" / "a" / "b").symlink_to(tmp_path / "root" / "b")
    (tmp_path / "root" / "b" / "c").symlink_to(tmp_path / "root" / "c")
    (tmp_path / "root" / "c" / "a").symlink_to(tmp_path / "root" / "a")
    listed, found = os.scandir, set()
    for order in range(5):

        @contextmanager
        def in_another_order(folder: Path, order: int = order) -> Iterator[list[os.DirEntry[str]]]:
            with listed(folder) as entries:
                names = list(entries)
            yield random.Random(order).sample(names, len(names))

        monkeypatch.setattr(os, "scandir", in_another_order)
        left_out = LeftOut()
        found.add((tuple(walk(tmp_path / "root", left_out)), left_out.lines()))
    [(names, _)] = found
    assert len(names) == 9


def test_scan_says_what_is_missing(tmp_path: Path) -> None:
    touch(tmp_path, "photo.jpg", "only/notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoImages, match=r"no folder .*absent\. Check the path"):
        scan(tmp_path / "absent")
    with pytest.raises(NoImages, match=r"photo\.jpg is a file\. Give the folder"):
        scan(tmp_path / "photo.jpg")
    for folder in ("empty", "only"):
        with pytest.raises(NoImages, match=rf"no image in .*{folder}.*reads .*\.heic.* \.jpg"):
            scan(tmp_path / folder)


def test_the_class_is_the_first_folder() -> None:
    assert class_folder("6_great_dane/puppies/1.jpg") == "6_great_dane"
    assert class_folder("1.jpg") is None


def read(*folders: str) -> tuple[tuple[str, ...], dict[str, int]]:
    found = folder_classes([f"{folder}/x.jpg" for folder in folders])
    assert found is not None
    return found.names, dict(found.labels)


@pytest.mark.parametrize(
    "folders",
    [
        ["2023 dogs", "2024 dogs"],
        ["10_dog", "3_cat"],
        ["1_y", "2000_x"],
        ["10_a", "10_b", "1_a"],
        ["2023-05", "2023-06", "2024-05"],
        ["0-a", "1 b", "2.c", "3d"],
        ["0_a", "1_b", "other"],
        ["0_cat", "2_dog"],
        ["1_cat", "2_dog"],
        ["0_cat", "1_dog", "1_fox"],
        ["06_b", "6_a"],
        ["20240101_trip", "20240102_trip"],
        ["0", "1_cat"],
        ["0_", "1_cat"],
    ],
    ids=" ".join,
)
def test_digits_are_part_of_a_name(folders: list[str]) -> None:
    assert read(*folders) == (tuple(folders), {folder: label for label, folder in enumerate(folders)})


def test_where_all_folders_are_numbered_from_0_the_number_is_the_label_and_the_rest_the_name() -> None:
    assert read("1_pekinese", "0_chihuahua") == (
        ("chihuahua", "pekinese"),
        {"0_chihuahua": 0, "1_pekinese": 1},
    )
    names = [f"{number}_class {number:c}" for number in range(60, 71)]
    numbered = [f"{number}_{name}" for number, name in enumerate(names)]
    assert read(*numbered) == (tuple(names), {folder: label for label, folder in enumerate(numbered)})
    assert read("00_a", "01_b", "2__c") == (("a", "b", "_c"), {"00_a": 0, "01_b": 1, "2__c": 2})


def test_folders_that_are_only_digits_are_in_the_order_of_their_numbers() -> None:
    assert read(*map(str, range(12))) == (
        tuple(map(str, range(12))),
        {str(number): number for number in range(12)},
    )
    assert read("10", "9", "2023", "007")[0] == ("007", "9", "10", "2023")
    assert read("9" * 5000, "8" * 5000)[0] == ("8" * 5000, "9" * 5000)


def test_plain_names_count_in_sorted_order_and_stay_as_they_are() -> None:
    assert read("žlutý pes", "big dog", "Äffchen")[0] == ("big dog", "Äffchen", "žlutý pes")


def test_names_that_differ_only_by_number_keep_it() -> None:
    assert read("0_dog", "1_dog")[0] == ("0_dog", "1_dog")


def test_images_beside_the_folders_have_no_class() -> None:
    assert folder_classes(["a.jpg", "b.jpg"]) is None
    found = folder_classes(["a.jpg", "x/b.jpg", "y/c.jpg"])
    assert found is not None
    assert found.names == ("x", "y")


def test_given_names_number_the_folders() -> None:
    found = folder_classes(["b/x.jpg", "3_c/x.jpg", "new/x.jpg"], names=("a", "b", "c"))
    assert found is not None
    assert (found.names, dict(found.labels)) == (("a", "b", "c"), {"b": 1, "3_c": 2})


@pytest.mark.parametrize(
    ("folders", "names", "labels"),
    [
        (["3_collie"], ["chow", "collie"], {"3_collie": 1}),
        (["3_collie"], ["chow", "3_collie"], {"3_collie": 1}),
        (["3_collie"], ["collie", "3_collie"], {"3_collie": 1}),
        (["3_collie", "collie"], ["collie"], {"collie": 0}),
        (["3_collie", "5_collie"], ["collie"], {}),
        (["12", "2"], ["2"], {"2": 0}),
        (["2023 dogs", "2024 dogs"], ["2024 dogs", "dogs"], {"2024 dogs": 0, "2023 dogs": 1}),
    ],
)
def test_a_folder_is_called_like_a_class_by_its_whole_name_or_without_its_number_where_no_other_is(
    folders: list[str], names: list[str], labels: dict[str, int]
) -> None:
    found = number_classes(folders, names)
    assert found is not None
    assert dict(found.labels) == labels


def test_a_part_of_the_numbered_layout_has_the_classes_of_the_whole() -> None:
    whole = number_classes(["0_chow", "1_collie", "2_great_dane"])
    assert whole is not None
    part = number_classes(["0_chow", "2_great_dane"], whole.names)
    assert part is not None
    assert dict(part.labels) == {"0_chow": 0, "2_great_dane": 2}
    assert matched(["0_chow", "1_collie", "2_great_dane"], ["1_collie", "2_great_dane"]) == {
        "1_collie": "1_collie",
        "2_great_dane": "2_great_dane",
    }


@pytest.mark.parametrize(
    ("known", "called"),
    [
        ([], ["3_cat", "10_dog"]),
        (["fox"], ["3_cat", "10_dog"]),
        (["3_cat"], ["3_cat", "10_dog"]),
        (["cat", "dog"], ["cat", "dog"]),
        (["dog"], ["cat", "dog"]),
        (["cat", "3_cat"], ["3_cat", "10_dog"]),
    ],
)
def test_a_project_whose_classes_lost_their_numbers_once_keeps_them_so(
    known: list[str], called: list[str]
) -> None:
    assert classes_in(["3_cat", "10_dog"], known) == dict(zip(["3_cat", "10_dog"], called, strict=True))


def test_a_year_before_a_known_class_is_not_dropped_where_it_tells_two_classes_apart() -> None:
    folders = ["2023 dogs", "2024 dogs"]
    assert classes_in(folders, ["dogs"]) == {folder: folder for folder in folders}
    assert classes_in(["0_chow", "1_collie"], ["0_chow"]) == {"0_chow": "0_chow", "1_collie": "collie"}


def test_a_name_given_twice_is_an_error() -> None:
    with pytest.raises(BadOption, match="'a' twice"):
        folder_classes(["a/x.jpg"], names=("a", "b", "a"))


@pytest.mark.parametrize(
    "tops",
    [
        ["train", "test"],
        ["TRAIN", "Val", "test"],
        ["Training", "Testing"],
        ["train", "valid"],
        ["training_set", "test_set"],
        ["train2017", "val2017"],
        ["train", "test1"],
        ["dev", "eval"],
        ["train", "test", "unlabeled"],
        ["Train", "extra"],
        ["train"],
    ],
)
def test_folders_that_are_all_called_like_parts_of_a_data_set_are_splits(tops: list[str]) -> None:
    layout = layout_of(tops)
    assert set(layout.splits) == set(tops)
    assert layout.class_folder(f"{tops[0]}/cat/indoors/1.png") == "cat"
    assert layout.class_folder(f"{tops[0]}/1.png") is layout.class_folder("1.png") is None


@pytest.mark.parametrize(
    "tops",
    [
        ["test", "blood", "urine"],
        ["train", "plane"],
        ["test 1", "test 2"],
        ["train 1", "train 2"],
        ["trains", "tests"],
        ["contest", "attest"],
        ["test", "extra"],
        ["unlabelled", "extra"],
        ["extra"],
        ["test1"],
        [],
    ],
)
def test_other_folders_are_classes_also_beside_one_called_test(tops: list[str]) -> None:
    layout = layout_of(tops)
    assert layout.splits == ()
    assert [layout.class_folder(f"{top}/a/1.png") for top in tops] == tops
