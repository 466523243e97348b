"""Which image a row means: the exact path, then the longest common end, and never a guess between two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vizsla.interop import Report, import_labels
from vizsla.interop.matching import DISPUTED, NOT_HERE, SEVERAL

if TYPE_CHECKING:
    from tests.interop.conftest import Made

    Make = Callable[..., Made]


def take(project: Made, folder: Path, *rows: str) -> Report:
    (folder / "x.csv").write_text("path,label\n" + "".join(f"{row}\n" for row in rows))
    return import_labels(project.store, "csv", folder / "x.csv")


def found(project: Made) -> dict[str, str | None]:
    return {path: label for path, (_, label) in project.standing().items()}


def told(report: Report) -> dict[str, list[str]]:
    return {reason: about.examples for reason, about in report.reasons.items()}


CASES = {
    "the exact path wins over the name that another folder shares": (
        ["b/x.png", "b/y.png"],
        ["b/x.png,cat", "b/y.png,cat", "a/x.png,dog"],
        {"b/x.png": "cat", "b/y.png": "cat"},
        {NOT_HERE: ["a/x.png (line 4)"]},
    ),
    "whatever the order of the rows": (
        ["b/x.png"],
        ["a/x.png,dog", "b/x.png,cat"],
        {"b/x.png": "cat"},
        {NOT_HERE: ["a/x.png (line 2)"]},
    ),
    "a row without a label keeps its image from others": (
        ["b/x.png"],
        ["a/x.png,dog", "b/x.png,"],
        {},
        {NOT_HERE: ["a/x.png (line 2)"], "has no label": ["b/x.png (line 3)"]},
    ),
    "a name in another folder takes none from a folder that the file knows": (
        ["b/x.png", "b/z.png"],
        ["b/x.png,cat", "a/z.png,dog"],
        {"b/x.png": "cat"},
        {NOT_HERE: ["a/z.png (line 3)"]},
    ),
    "even where that folder's own images are not here": (
        ["b/z.png"],
        ["b/x.png,cat", "a/z.png,dog"],
        {},
        {NOT_HERE: ["b/x.png (line 2)", "a/z.png (line 3)"]},
    ),
    "a folder that lies deeper in the file's paths is known, too": (
        ["b/x.png", "b/z.png"],
        ["data/b/x.png,cat", "data/a/z.png,dog"],
        {"b/x.png": "cat"},
        {NOT_HERE: ["data/a/z.png (line 3)"]},
    ),
    "the longest common end wins": (
        ["b/x.png"],
        ["a/x.png,dog", "data/b/x.png,cat"],
        {"b/x.png": "cat"},
        {NOT_HERE: ["a/x.png (line 2)"]},
    ),
    "also of several images": (
        ["train/a/x.png", "val/b/x.png"],
        ["data/a/x.png,cat", "data/b/x.png,dog"],
        {"train/a/x.png": "cat", "val/b/x.png": "dog"},
        {},
    ),
    "also of names without suffix": (
        ["a/1.png", "b/1.png"],
        ["a/1,cat", "b/1,dog"],
        {"a/1.png": "cat", "b/1.png": "dog"},
        {},
    ),
    "two rows that mean one image equally well and differ are both named": (
        ["x.png", "y.png"],
        ["a/x.png,dog", "b/x.png,cat", "a/y.png,dog"],
        {"y.png": "dog"},
        {DISPUTED: ["a/x.png (line 2) → x.png", "b/x.png (line 3) → x.png"]},
    ),
    "but taken where they agree": (
        ["x.png"],
        ["a/x.png,dog", "b/x.png,dog"],
        {"x.png": "dog"},
        {"is in the file twice": ["b/x.png (line 3)"]},
    ),
    "a path in another spelling is the exact path": (
        ["b/x.png", "b/y.png"],
        ["./b/x.png,cat", "b\\y.png,dog", "b/x.png,cat"],
        {"b/x.png": "cat", "b/y.png": "dog"},
        {"is in the file twice": ["b/x.png (line 4)"]},
    ),
    "uploads of one name are two images": (
        ["1.png"],
        ["/data/upload/1/1a2b3c4d-1.png,dog", "/data/upload/1/5e6f7a8b-1.png,cat"],
        {},
        {
            DISPUTED: [
                "/data/upload/1/1a2b3c4d-1.png (line 2) → 1.png",
                "/data/upload/1/5e6f7a8b-1.png (line 3) → 1.png",
            ]
        },
    ),
    "two images that one row may mean are named": (
        ["a/x.png", "b/x.png"],
        ["x.png,dog"],
        {},
        {SEVERAL: ["x.png (line 2) → a/x.png or b/x.png"]},
    ),
    "also where another row names one of them": (
        ["a/x.png", "b/x.png"],
        ["x.png,dog", "a/x.png,cat"],
        {"a/x.png": "cat"},
        {SEVERAL: ["x.png (line 2) → a/x.png or b/x.png"]},
    ),
    "one path twice is one image, of which the last row stands": (
        ["b/x.png"],
        ["elsewhere/x.png,dog", "elsewhere/x.png,cat"],
        {"b/x.png": "cat"},
        {},
    ),
}


@pytest.mark.parametrize(("images", "rows", "labels", "reasons"), CASES.values(), ids=CASES)
def test_the_image_that_a_row_means(
    images: list[str],
    rows: list[str],
    labels: dict[str, str],
    reasons: dict[str, list[str]],
    make: Make,
    tmp_path: Path,
) -> None:
    project = make(*images)
    report = take(project, tmp_path, *rows)
    assert (found(project), told(report)) == (labels, reasons)


def test_a_label_that_was_found_in_another_folder_is_noted(make: Make, tmp_path: Path) -> None:
    report = take(make("b/x.png", "b/y.png"), tmp_path, "from/a/x.png,cat", "y.png,cat")
    assert report.notes == ("1 × taken from a row that names another folder: from/a/x.png for b/x.png",)


def test_content_is_worth_more_than_the_name_of_another_row(make: Make, tmp_path: Path) -> None:
    project = make("b/x.png")
    project.hash_all()
    (image,) = project.store.images()
    (tmp_path / "x.csv").write_text(
        f"path,sha256,label\na/x.png,{'0' * 64},dog\nwas.png,{image.sha256},cat\n"
    )
    report = import_labels(project.store, "csv", tmp_path / "x.csv")
    assert (found(project), told(report)) == ({"b/x.png": "cat"}, {NOT_HERE: ["a/x.png (line 2)"]})
