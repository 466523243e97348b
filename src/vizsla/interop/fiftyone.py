"""FiftyOne's two layouts of image classification.

dataset   `FiftyOneImageClassificationDataset`: `data/` with the images, and `labels.json` with the classes and, for
          each image, the number of its class and what else is known as attributes. Labels alone: only `labels.json`,
          to be read there with `data_path` set to the image folder.
tree      `ImageClassificationDirectoryTree`: a folder per class, images without a label in `_unlabeled/`.

Among the attributes are three by FiftyOne's own names, from 0 to 1, where the project knows them:

hardness       1 − the probability of the class that the model suggested
mistakenness   how much the model doubts the label, √p(likeliest other class) − √p(label); of suspected errors alone
uniqueness     1 − the cosine to the most similar image; of the newest few thousand labels
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

from vizsla.errors import BadOption
from vizsla.interop import fields, folders
from vizsla.interop.base import Row, Unreadable, files_in_folders, formats, importers
from vizsla.interop.files import File, opened
from vizsla.interop.foldernames import UNLABELLED, fitted, fitted_file
from vizsla.interop.jsonl import dump
from vizsla.interop.jsonstream import Stream
from vizsla.interop.outgoing import Outgoing, Picture, pages
from vizsla.interop.trees import Shared, kept, missing_list, pieces, stem
from vizsla.interop.zips import IN_MEMORY, Member
from vizsla.store import Store
from vizsla.store.queue import NEAREST, REVIEW

LABELS = "labels.json"
_DATA = "data"
_NOT_ATTRIBUTES = ("label", "status")


def dataset(outgoing: Outgoing) -> Iterator[Member]:
    """Images in `data/` under their own paths, and `labels.json`."""
    shared = Shared(stem(image.path) for image in pages(outgoing.store) if image.path)
    number = {one.name: n for n, one in enumerate(outgoing.store.classes())}
    known = _Known(outgoing.store)
    with SpooledTemporaryFile(IN_MEMORY) as labels:
        between = b'{"classes": ' + dump(list(number)).rstrip() + b', "labels": {\n'
        for picture in outgoing.pictures():
            name = _name(picture.path, shared)
            if not outgoing.labels_only:
                held = kept(outgoing, picture.image, picture.path)
                if held is None:
                    continue
                yield f"{_DATA}/{name}", picture.image.mtime_ns / 1e9, held
            key = dump(_key(picture, name, shared, outgoing)).rstrip()
            labels.write(
                between + key + b": " + dump(_label(picture.row, number, known.of(picture))).rstrip()
            )
            between = b",\n"
        labels.write(b"\n}}\n" if between == b",\n" else between + b"}}\n")
        yield LABELS, 0, pieces(labels)
    yield from missing_list(outgoing)


def _name(path: str, shared: Shared) -> str:
    """Where the image lies in `data/`: an image is known by its name without suffix, so that has to differ."""
    safe = "/".join(fitted_file(part) for part in path.split("/"))
    bare = stem(safe)
    suffix = safe[len(bare) :]
    if stem(path) not in shared:
        return safe
    above, slash, base = f"{bare}%2E{suffix[1:]}{suffix}".rpartition("/")
    return f"{above}{slash}{fitted(base, path, suffix)}"


def _key(picture: Picture, name: str, shared: Shared, outgoing: Outgoing) -> str:
    if not outgoing.labels_only:
        return stem(name)
    if (
        stem(picture.path) in shared or "\\" in picture.path
    ):  # FiftyOne cannot tell such names, but takes a path
        return outgoing.images.where(picture.path)
    return stem(picture.path)


def _label(row: Row, number: Mapping[str, int], more: Mapping[str, float]) -> dict[str, Any] | None:
    """What `labels.json` says of an image; null for one without a label."""
    if row.status != "labelled" or row.label is None:
        return None
    cells = dict(zip(fields.COLUMNS, fields.cells(row), strict=True))
    told = {name: cell for name, cell in cells.items() if cell is not None and name not in _NOT_ATTRIBUTES}
    return {"label": number.get(row.label, row.label), "attributes": {**told, **more}}


class _Known:
    """What the newest review of the project says of images."""

    def __init__(self, store: Store) -> None:
        review = store.setting(REVIEW) or {}
        self._doubt = {one["image"]: one["score"] for one in review.get("errors", [])}
        self._nearest = {int(image_id): cosine for image_id, cosine in store.setting(NEAREST, {}).items()}

    def of(self, picture: Picture) -> dict[str, float]:
        """The attributes by FiftyOne's names, of those that are known."""
        prob, image_id = picture.row.suggestion_prob, picture.image.id
        found = {
            "hardness": None if prob is None else 1 - prob,
            "mistakenness": self._doubt.get(image_id),
            "uniqueness": 1 - self._nearest[image_id] if image_id in self._nearest else None,
        }
        return {
            name: round(min(max(value, 0.0), 1.0), 4) for name, value in found.items() if value is not None
        }


def tree(outgoing: Outgoing) -> Iterator[Member]:
    """A folder per class, and `_unlabeled/`."""
    yield from folders.by_class(outgoing, UNLABELLED, numbered=False)
    yield from missing_list(outgoing)


formats.register("fiftyone")(
    files_in_folders("fiftyone", "data/ and labels.json, or a folder per class", dataset=dataset, tree=tree)
)


@importers.register("fiftyone")
def read(path: Path) -> Iterator[Row | Unreadable]:
    """a FiftyOneImageClassificationDataset or ImageClassificationDirectoryTree, or labels.json alone"""
    with opened(path, alone=True) as (files, refused):
        yield from refused
        images = [file for file in files if file.is_image]
        labels = next((file for file in files if file.suffix == ".json" and len(files) == 1), None) or next(
            (file for file in files if file.parts[-1] == LABELS), None
        )
        if labels is None:
            images = folders.unwrapped(images)
            found = folders.rows(images, path, folders.deeper(images), numbered=False)
            yield from folders.named_in_full(found, files)
            return
        data = (*labels.parts[:-1], _DATA)
        held = {
            stem("/".join(file.parts[len(data) :])): file
            for file in images
            if file.parts[: len(data)] == data
        }
        yield from _rows(labels, held, path)


def _rows(labels: File, images: Mapping[str, File], path: Path) -> Iterator[Row | Unreadable]:
    classes, found = _classes(labels, path), False
    try:
        with labels.reading() as file:
            stream = Stream(file)
            for part in stream.members():
                if part != "labels" or stream.next() != "{":
                    stream.value()
                    continue
                found = True
                for key in stream.members():
                    yield _row(key, stream.value(), classes, images)
    except (ValueError, RecursionError) as error:
        raise _no_json(path, error) from None
    if not found:
        raise BadOption(f'{path} has no object "labels". Export it from FiftyOne anew.')


def _classes(labels: File, path: Path) -> Sequence[str]:
    """The classes by their numbers, wherever in the file they stand; none where labels are names."""
    try:
        with labels.reading() as file:
            stream = Stream(file)
            for part in stream.members():
                if part == "classes":
                    classes = stream.value()
                    return classes if isinstance(classes, list) else ()
                _pass_over(stream)
    except (ValueError, RecursionError) as error:
        raise _no_json(path, error) from None
    return ()


def _pass_over(stream: Stream) -> None:
    if stream.next() != "{":
        stream.value()
        return
    for _ in stream.members():
        stream.value()


def _no_json(path: Path, error: Exception) -> BadOption:
    if isinstance(error, BadOption):
        return error
    return BadOption(f"{path} has no labels.json of FiftyOne: {error}. Export it from FiftyOne anew.")


def _row(key: str, said: Any, classes: Sequence[str], images: Mapping[str, File]) -> Row | Unreadable:
    if isinstance(said, list):
        if len(said) > 1:
            return Unreadable(key, "names several classes")
        said = said[0] if said else None
    about = said if isinstance(said, dict) else {"label": said}
    label = about.get("label")
    if isinstance(label, int) and classes:
        if not 0 <= label < len(classes):
            return Unreadable(key, "has a number that is none of the classes")
        label = classes[label]
    told = about.get("attributes")
    cells = {name: told[name] for name in fields.COLUMNS if name in told} if isinstance(told, dict) else {}
    row = fields.to_row({**cells, "label": label if isinstance(label, str | int) else None, "status": ""}, "")
    return _with_file(row, key, images.get(key.replace("\\", "/")))


def _with_file(row: Row, key: str, image: File | None) -> Row:
    """The row with the names by which its image may be known, and its content."""
    names = (key,) if image is None else ("/".join(image.parts[-key.count("/") - 1 :]), key)
    known = tuple(name for name in (row.file_name, *names) if name)
    size, digest = (image.size, image.digest) if image else (None, None)
    return replace(row, file_name=known[0], other_names=known[1:], size=size, digest=digest)
