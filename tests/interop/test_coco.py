"""COCO's annotations: the category of an image, and nothing where there are two."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vizsla.errors import BadOption
from vizsla.interop import import_labels
from vizsla.store import Answer

if TYPE_CHECKING:
    from tests.interop.conftest import Made

    Make = Callable[..., Made]

CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}]


def coco(folder: Path, *annotations: dict[str, Any], **parts: Any) -> Path:
    images = [
        {"id": 10 + n, "file_name": f"{name}.png", "width": 9, "height": 9} for n, name in enumerate("abcd")
    ]
    whole = {"info": {"year": 2024}, "images": images, "categories": CATEGORIES, "annotations": annotations}
    (folder / "x.json").write_text(json.dumps(whole | parts))
    return folder / "x.json"


def of(image_id: Any, category_id: Any, **more: Any) -> dict[str, Any]:
    return {"id": 100 + image_id, "image_id": image_id, "category_id": category_id, **more}


def test_an_image_has_the_category_that_all_its_annotations_have(make: Make, tmp_path: Path) -> None:
    project = make("a.png", "b.png", "sub/c.png", "d.png")
    boxes = [of(10, 5, bbox=[0, 0, 3, 3]), of(10, 5, bbox=[3, 3, 3, 3], segmentation=[[0, 0, 1, 1, 2, 0]])]
    report = import_labels(project.store, "coco", coco(tmp_path, *boxes, of(11, 1), of(12, 5)))
    assert {path: label for path, (_, label) in project.standing().items()} == {
        "a.png": "dog",
        "b.png": "cat",
        "sub/c.png": "dog",
    }
    assert report.new_classes == ("dog", "cat")
    assert {reason: about.examples for reason, about in report.reasons.items()} == {
        "has no label": ["d.png (image 13)"]
    }


def test_what_makes_no_sense_is_named_and_passed_over(make: Make, tmp_path: Path) -> None:
    project = make("a.png", "b.png", "c.png", "d.png")
    annotations = [of(10, 1), of(10, 5), of(11, 1), of(12, 77), of(99, 1)]
    report = import_labels(project.store, "coco", coco(tmp_path, *annotations))
    assert project.standing() == {"b.png": ("labelled", "cat")}
    assert {reason: about.examples for reason, about in report.reasons.items()} == {
        "is of an image that the file does not have": ["annotation 199"],
        "names several classes": ["a.png (image 10)"],
        "has a category that the file does not have": ["c.png (image 12)"],
        "has no label": ["d.png (image 13)"],
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"images": []', "is no JSON of COCO"),
        ('[{"image_id": 1, "category_id": 1, "score": 0.5}]', "is no JSON of COCO"),
        ('{"images": [], "categories": []}', "has no list 'annotations'"),
        ('{"images": {}, "annotations": []}', "has no list 'images' and no list 'categories'"),
    ],
)
def test_a_file_that_is_something_else_is_refused(text: str, why: str, make: Make, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadOption, match=why):
        import_labels(make("a.png").store, "coco", tmp_path / "x.json")


def test_what_goes_out_is_coco(make: Make, tmp_path: Path) -> None:
    project = make("a.png", "b.png")
    project.store.add_classes(["cat", "dog"])
    me = project.store.annotator("me").id
    a, b = (project.ids()[name] for name in ("a.png", "b.png"))
    project.store.label(me, Answer(a, "dog", lead_ms=7))
    project.store.label(me, Answer(b, status="skipped"))
    whole = json.loads(project.export("coco", tmp_path).read_text())
    assert whole["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert {image["id"]: image["file_name"] for image in whole["images"]} == {a: "a.png", b: "b.png"}
    (annotation,) = whole["annotations"]
    assert (annotation["image_id"], annotation["category_id"]) == (a, 2)
    assert annotation["attributes"]["lead_ms"] == 7
