"""Rows of a table of any kind, as the formats that are tables share them."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

from vizsla.data import tables
from vizsla.data.tables import ALIASES, Wanted, several_in_one
from vizsla.errors import BadOption, UnknownName
from vizsla.interop import fields
from vizsla.interop.base import Importer, Note, Row, Unreadable
from vizsla.interop.files import open_file

Found = Row | Unreadable | Note
Columns = Mapping[str, str]
"""Our column → what it is called in a file, where its name does not tell."""


def read(path: Path, kind: str, columns: Columns | None = None) -> Iterator[Found]:
    """The rows of a table of a kind that the reader knows. Raises BadOption where it is none."""
    with open_file(path) as file:
        yield from rows(file, str(path), kind, columns)


def rows(file: IO[bytes], name: str, kind: str, columns: Columns | None = None) -> Iterator[Found]:
    """The rows of a table that is open at its start. `name`: what errors call it."""
    wanted = Wanted(tuple(ALIASES), chosen=columns or {}, option="--column {}=NAME")
    for found in tables.read(file, name, kind, wanted):
        yield _row(found) if isinstance(found, tables.Record) else found


def _row(record: tables.Record) -> Row:
    name, *others = record.names or ("",)
    row = fields.to_row({**record.cells, "file_name": name, "label": record.label}, record.where)
    if others:
        row = replace(row, other_names=tuple(others))
    if record.held is not None:
        row = replace(row, size=len(record.held), digest=partial(_sha256, record.held))
    return row


def _sha256(held: bytes) -> str:
    return hashlib.sha256(held).hexdigest()


def check_columns(read: Importer, columns: Columns) -> None:
    """Raises BadOption for a column that is none of ours, or where the format has no columns to choose from."""
    for column in columns:
        if column not in ALIASES:
            raise UnknownName(f"{column!r} is none of our columns. Known: {', '.join(ALIASES)}.")
    if columns and "columns" not in inspect.signature(read).parameters:
        raise BadOption("only tables have columns to choose from. Leave out --column.")


def several_classes(new: Iterable[str], known: Collection[str]) -> list[str]:
    """What to note of new classes that look like several in one cell."""
    odd = set(several_in_one(known)).intersection(new)
    return [f"the class {name!r} looks like several; an image has one here" for name in new if name in odd]
