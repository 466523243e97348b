from __future__ import annotations

import random
from pathlib import Path

import pytest

from vizsla.data.folders import class_folder, folder_classes, scan
from vizsla.errors import BadOption, NoImages, NoLabel


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


def test_a_leading_number_is_the_label_and_the_rest_the_name() -> None:
    assert read("1_pekinese", "0_chihuahua") == (
        ("chihuahua", "pekinese"),
        {"0_chihuahua": 0, "1_pekinese": 1},
    )
    assert read("0-a", "1 b", "2.c", "3d", "4__e")[0] == ("a", "b", "c", "d", "_e")


def test_numbers_are_compared_as_numbers_and_gaps_are_filled_with_them() -> None:
    names, labels = read("10_foo", "9_bar", "2_baz")
    assert labels == {"10_foo": 10, "9_bar": 9, "2_baz": 2}
    assert names == ("0", "1", "baz", "3", "4", "5", "6", "7", "8", "bar", "foo")


def test_folders_that_are_only_numbers_are_named_by_them() -> None:
    assert read("0", "1", "7") == (("0", "1", "2", "3", "4", "5", "6", "7"), {"0": 0, "1": 1, "7": 7})


def test_one_folder_without_a_number_makes_all_folders_plain_names() -> None:
    assert read("1_b", "0_a", "other") == (("0_a", "1_b", "other"), {"0_a": 0, "1_b": 1, "other": 2})


def test_dates_are_names_and_not_twenty_million_classes() -> None:
    assert read("20240102_trip", "20240101_trip")[1] == {"20240101_trip": 0, "20240102_trip": 1}


def test_plain_names_count_in_sorted_order_and_stay_as_they_are() -> None:
    assert read("žlutý pes", "big dog", "Äffchen")[0] == ("big dog", "Äffchen", "žlutý pes")


def test_names_that_differ_only_by_number_keep_it() -> None:
    assert read("0_dog", "1_dog")[0] == ("0_dog", "1_dog")
    assert read("0_1", "2_x")[0] == ("0_1", "1", "2_x")  # without it, label 0 and the gap would both be '1'


def test_a_number_used_twice_is_an_error_that_names_both_folders() -> None:
    with pytest.raises(NoLabel, match="'06_b' and '6_a' both have the number 6"):
        read("6_a", "06_b")


def test_images_beside_the_folders_have_no_class() -> None:
    assert folder_classes(["a.jpg", "b.jpg"]) is None
    found = folder_classes(["a.jpg", "x/b.jpg", "y/c.jpg"])
    assert found is not None
    assert found.names == ("x", "y")


def test_given_names_number_the_folders() -> None:
    found = folder_classes(["b/x.jpg", "3_c/x.jpg", "new/x.jpg"], names=("a", "b", "c"))
    assert found is not None
    assert (found.names, dict(found.labels)) == (("a", "b", "c"), {"b": 1, "3_c": 2})


def test_a_name_given_twice_is_an_error() -> None:
    with pytest.raises(BadOption, match="'a' twice"):
        folder_classes(["a/x.jpg"], names=("a", "b", "a"))
