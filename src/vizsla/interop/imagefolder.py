"""Hugging Face's `imagefolder`, so that `load_dataset("imagefolder", data_dir=…)` gives the same labels.

Four forms go out, all of the labelled images alone:

jsonl, csv, parquet   the images under their own paths, and `metadata.jsonl` (`.csv`, `.parquet`) with `file_name` and
                      `label` beside them, in a folder for each split. CSV is read by pandas there, which takes a class
                      `NA` for nothing and `007` for a number; JSON Lines and Parquet keep them.
tree                  `<split>/<class>/<file>`. There a label is a folder's name, so classes that cannot be one are
                      refused.

Hugging Face takes a folder called `test`, `my-test` or `val 2` for a split wherever it lies, so such folders are
renamed, `%74est`. In comes any of the forms; a tree only where Hugging Face itself would infer labels from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from urllib.parse import unquote

from vizsla.data.splits import SPLITS
from vizsla.errors import BadOption
from vizsla.interop import csv, folders, jsonl, parquet
from vizsla.interop.base import Row, Unreadable, files_in_folders, formats, importers
from vizsla.interop.files import OUTSIDE, File, opened
from vizsla.interop.foldernames import escape, fitted, fitted_file, unescape
from vizsla.interop.outgoing import Outgoing, Picture, pages, split_of
from vizsla.interop.tables import Columns, Found, rows
from vizsla.interop.trees import kept, missing_list, pieces
from vizsla.interop.zips import IN_MEMORY, Member

COLUMNS = ("file_name", "label")
METADATA = {f"metadata.{kind}": kind for kind in ("jsonl", "csv", "parquet")}
_TRAIN = "train"
_ROWS = 5000  # at once
_KEYWORDS = [
    "train",
    "training",
    "validation",
    "valid",
    "dev",
    "val",
    "test",
    "testing",
    "eval",
    "evaluation",
]
_SPLIT = re.compile(rf"(?<![^-._ 0-9])({'|'.join(_KEYWORDS)})(?![^-._ 0-9])")
"""What makes Hugging Face take a folder for a split, anywhere in its name."""


def with_metadata(outgoing: Outgoing, kind: str) -> Iterator[Member]:
    """The labelled images, and a table of their labels for each split."""
    home = _home_of(outgoing)
    with ExitStack() as stack:
        tables: dict[str, _Table] = {}
        for picture in _labelled(outgoing):
            folder, name = home(picture.path)
            if not outgoing.labels_only:
                held = kept(outgoing, picture.image, picture.path)
                if held is None:
                    continue
                yield "/".join(filter(None, (folder, name))), picture.image.mtime_ns / 1e9, held
            if folder not in tables:
                tables[folder] = stack.enter_context(_Table(kind))
            tables[folder].add(name, str(picture.row.label))
        for folder, table in tables.items():
            yield "/".join(filter(None, (folder, f"metadata.{kind}"))), 0, table.pieces()
    yield from missing_list(outgoing)


def _labelled(outgoing: Outgoing) -> Iterator[Picture]:
    return (picture for picture in outgoing.pictures() if picture.row.status == "labelled")


def _home_of(outgoing: Outgoing) -> Callable[[str], tuple[str, str]]:
    """Path of an image → the folder of its table, and its name there.

    Where all images lie in folders of splits, these; else one that no image lies in yet, so that no name below it is
    the path of another image. Labels alone belong beside the images, whose names stay as they are.
    """
    tops = {_top(image.path) for image in pages(outgoing.store) if image.path and image.status == "labelled"}
    if all(split_of(f"{top}/") for top in tops):
        return lambda path: (_top(path), _named(path.partition("/")[2], outgoing))
    if outgoing.labels_only:
        return lambda path: ("", path)
    new = next(
        name for name in (_TRAIN, *(f"{_TRAIN}-{n}" for n in range(len(tops) + 1))) if name not in tops
    )
    return lambda path: (new, _named(path, outgoing))


def _top(path: str) -> str:
    """The outermost folder; nothing for an image that lies in none."""
    first, slash, _ = path.partition("/")
    return first if slash else ""


def _named(path: str, outgoing: Outgoing) -> str:
    """The path as Hugging Face can read it: no signs that file systems refuse, no folder that looks like a split."""
    if outgoing.labels_only:
        return path
    *inner, base = path.split("/")
    return "/".join([*(fitted(_no_split(escape(part)), part) for part in inner), fitted_file(base)])


def _no_split(folder: str) -> str:
    """
    >>> _no_split("unit test"), _no_split("contest"), _no_split("val-2")
    ('unit %74est', 'contest', '%76al-2')
    """
    return _SPLIT.sub(lambda found: f"%{ord(found[0][0]):02X}{found[0][1:]}", folder)


class _Table:
    """The metadata of one split, as it grows."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._rows: list[tuple[str, str]] = []

    def __enter__(self) -> _Table:
        with ExitStack() as stack:  # pyarrow may not be there
            self._file: IO[bytes] = stack.enter_context(SpooledTemporaryFile(IN_MEMORY))
            if self._kind == "csv":
                self._file.write(csv.lines([COLUMNS]))
            self._writer: Any = parquet.table_writer(self._file, COLUMNS) if self._kind == "parquet" else None
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, name: str, label: str) -> None:
        self._rows.append((name, label))
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._kind == "parquet":
            parquet.write_rows(self._writer, self._rows)
        elif self._kind == "csv":
            self._file.write(csv.lines(self._rows))
        else:
            self._file.writelines(jsonl.dump(dict(zip(COLUMNS, row, strict=True))) for row in self._rows)
        self._rows = []

    def pieces(self) -> Iterator[bytes]:
        """All of it; nothing can be added any more."""
        if self._rows:
            self._flush()
        if self._writer:
            self._writer.close()
        yield from pieces(self._file)


def tree(outgoing: Outgoing) -> Iterator[Member]:
    """`<split>/<class>/<file>`. Raises BadOption where Hugging Face would read other labels off the folders."""
    used = [name for name, n in outgoing.store.counts().classes.items() if n]
    mend = "Use another form: --form jsonl, csv or parquet."
    if len(used) < 2:
        raise BadOption(f"Hugging Face infers no labels from a single class folder. {mend}")
    for name in used:
        if escape(name) != name or _no_split(name) != name or name.startswith("__"):
            raise BadOption(
                f"the class {name!r} cannot be a folder that Hugging Face takes for a class. {mend}"
            )
    if len({name.casefold() for name in used}) < len(used):
        raise BadOption(
            f"some classes differ only by capitals, which not every file system tells apart. {mend}"
        )
    yield from folders.by_class(outgoing, None, numbered=False, above=lambda row: f"{row.split or _TRAIN}/")
    yield from missing_list(outgoing)


_tables = {kind: partial(with_metadata, kind=kind) for kind in METADATA.values()}
formats.register("imagefolder")(
    files_in_folders(
        "imagefolder", "Hugging Face: images and metadata.jsonl, or class folders", **_tables, tree=tree
    )
)


@importers.register("imagefolder")
def read(path: Path, columns: Columns | None = None) -> Iterator[Found]:
    """an imagefolder of Hugging Face, a folder or zip, with metadata or class folders; or its metadata alone"""
    with opened(path, alone=True) as (files, refused):
        yield from refused
        tables = [file for file in files if file.parts[-1] in METADATA]
        images = [file for file in files if file.is_image]
        if not tables:
            yield from folders.named_in_full(_by_folders(folders.unwrapped(images), path), files)
            return
        by_name = {file.name: file for file in images}
        for table in tables:
            with table.reading() as file:
                for row in rows(file, table.name, METADATA[table.parts[-1]], columns):
                    yield _placed(row, table, by_name) if isinstance(row, Row) else row


def _placed(row: Row, table: File, images: dict[str, File]) -> Row | Unreadable:
    """The row with the image file that it means."""
    folder = table.parts[:-1]
    if row.file_name.startswith("/") or ".." in row.file_name.split("/"):
        return Unreadable(f"{row.file_name} ({row.where})", OUTSIDE)
    name = "/".join((*folder, row.file_name))
    split = next((part for part in folder if part.lower() in SPLITS), row.split)
    image = images.get(name)
    return replace(
        row,
        file_name=name,
        other_names=(_original(row.file_name), *row.other_names),
        where=f"{table.name} {row.where}" if folder else row.where,
        split=split,
        size=image.size if image else None,
        digest=image.digest if image else None,
    )


def _original(name: str) -> str:
    """The path that `_named` was given; one that it would not have written stays as it is."""
    plain = unquote(name, errors="surrogateescape")
    *inner, base = (escape(part) for part in plain.split("/"))
    return plain if "/".join([*map(_no_split, inner), base]) == name else name


def _by_folders(images: list[File], path: Path) -> Iterator[Row]:
    classes, depths = {file.parts[-2:-1] for file in images}, {len(file.parts) for file in images}
    if len(classes) < 2 or len(depths) > 1:
        why = "images at several depths" if len(depths) > 1 else "fewer than two class folders"
        raise BadOption(
            f"{path} has no metadata file and {why}, so Hugging Face infers no labels. Import it as folders."
        )
    for file in images:
        yield Row(
            file_name=file.name,
            label=file.parts[-2],
            split=split_of(file.name),
            other_names=(unescape(file.parts[-1]),),
            size=file.size,
            digest=file.digest,
        )
