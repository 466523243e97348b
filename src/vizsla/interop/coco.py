"""COCO's JSON with a category for each image: `images`, `categories`, and `annotations` that join the two.

Of boxes and masks only the category is read: an image whose annotations are all of one category has that class, and
one with several is passed over. Out go annotations without boxes. What COCO has no place for (who, when, a skip)
goes into `attributes`, as CVAT has them, of the annotation or, where there is none, of the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

from vizsla.errors import BadOption
from vizsla.interop import fields
from vizsla.interop.base import Format, Row, Unreadable, formats, importers
from vizsla.interop.files import open_file
from vizsla.interop.jsonl import dump
from vizsla.interop.jsonstream import Stream
from vizsla.interop.outgoing import Outgoing
from vizsla.interop.trees import pieces
from vizsla.interop.zips import IN_MEMORY
from vizsla.store.database import batched

_ROWS = 500  # per piece
_PARTS = ("images", "annotations", "categories")
_NOT_ATTRIBUTES = ("file_name", "label")


def write(outgoing: Outgoing) -> Iterator[bytes]:
    """The images with an answer, then their annotations, then the classes as categories."""
    number = {one.name: n for n, one in enumerate(outgoing.store.classes(), 1)}
    with SpooledTemporaryFile(IN_MEMORY) as annotations:
        between = b""
        yield b'{"images": [\n'
        for page in batched(outgoing.answers(), _ROWS):
            answers = [(label.image_id, row) for label, row in page]
            yield between + _joined(_image(image_id, row) for image_id, row in answers)
            labelled = [_annotation(*one, number) for one in answers if one[1].label is not None]
            if labelled:
                annotations.write((b",\n" if annotations.tell() else b"") + _joined(labelled))
            between = b",\n"
        yield b'\n], "annotations": [\n'
        yield from pieces(annotations)
    categories = [{"id": n, "name": name} for name, n in number.items()]
    yield b'\n], "categories": ' + dump(categories).rstrip() + b"}\n"


def _joined(objects: Iterable[Mapping[str, Any]]) -> bytes:
    return b",\n".join(dump(one).rstrip() for one in objects)


def _image(image_id: int, row: Row) -> dict[str, Any]:
    about = {"id": image_id, "file_name": row.file_name}
    return about if row.label is not None else {**about, "attributes": _attributes(row)}


def _annotation(image_id: int, row: Row, number: dict[str, int]) -> dict[str, Any]:
    category = number.setdefault(row.label or "", len(number) + 1)
    return {"id": image_id, "image_id": image_id, "category_id": category, "attributes": _attributes(row)}


def _attributes(row: Row) -> dict[str, Any]:
    cells = dict(zip(fields.COLUMNS, fields.cells(row), strict=True))
    return {name: cell for name, cell in cells.items() if cell is not None and name not in _NOT_ATTRIBUTES}


formats.register("coco")(Format("coco", ".json", "application/json", "a category for each image", write))


@importers.register("coco")
def read(path: Path) -> Iterator[Row | Unreadable]:
    """annotations of COCO as JSON, of which the category counts: one for each image"""
    parts = _parts(path)
    missing = [name for name in _PARTS if name not in parts]
    if missing:
        raise BadOption(
            f"{path} has no list {' and no list '.join(map(repr, missing))}. Give a file of COCO annotations."
        )
    names = {one.get("id"): fields.text(one.get("name")) for one in parts["categories"]}
    images = {one.get("id"): one for one in parts["images"]}
    said: dict[Any, list[dict[str, Any]]] = {}
    for one in parts["annotations"]:
        if one.get("image_id") in images:
            said.setdefault(one["image_id"], []).append(one)
        else:
            yield Unreadable(f"annotation {one.get('id')}", "is of an image that the file does not have")
    for image_id, image in images.items():
        yield _row(image, said.get(image_id, []), names)


def _parts(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The lists that matter, of their objects what matters: masks may be long. Raises BadOption for no JSON."""
    parts: dict[str, list[dict[str, Any]]] = {}
    with open_file(path) as file:
        try:
            stream = Stream(file)
            for name in stream.members():
                if name in _PARTS and stream.next() == "[":
                    parts[name] = [_slim(one) for one in stream.elements() if isinstance(one, dict)]
                else:
                    stream.value()
            stream.end()
        except (ValueError, RecursionError) as error:
            raise BadOption(f"{path} is no JSON of COCO: {error}. Export it anew.") from None
    return parts


_KEPT = ("id", "file_name", "name", "image_id", "category_id", "attributes")


def _slim(one: dict[str, Any]) -> dict[str, Any]:
    """What is read of an image, an annotation or a category; ids that are no numbers or words are none."""
    kept = {name: one[name] for name in _KEPT if name in one}
    return {
        name: value if name == "attributes" or isinstance(value, str | int) else None
        for name, value in kept.items()
    }


def _row(
    image: Mapping[str, Any], annotations: list[dict[str, Any]], names: Mapping[Any, str | None]
) -> Row | Unreadable:
    file_name = fields.text(image.get("file_name")) or ""
    where = f"image {image.get('id')}"
    classes = {one.get("category_id") for one in annotations}
    labels = {names.get(category) for category in classes}
    if None in labels:
        return Unreadable(f"{file_name} ({where})", "has a category that the file does not have")
    if len(labels) > 1:
        return Unreadable(f"{file_name} ({where})", "names several classes")
    told = (annotations[-1] if annotations else image).get("attributes")
    cells = {name: told[name] for name in fields.COLUMNS if name in told} if isinstance(told, dict) else {}
    row = fields.to_row({**cells, "file_name": file_name, "label": next(iter(labels), None)}, where)
    return replace(row, status="") if annotations else row
