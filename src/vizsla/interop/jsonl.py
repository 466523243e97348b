"""JSON Lines: an object per answer, with the columns of the CSV as keys.

The file is UTF-8. An odd byte in a file name is written as Python holds it, as a lone surrogate (`\\udcff`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from vizsla.errors import BadOption
from vizsla.interop import fields
from vizsla.interop.base import Format, Row, Unreadable, formats, importers
from vizsla.interop.files import open_file
from vizsla.interop.outgoing import Outgoing
from vizsla.store.database import batched

_ROWS = 500  # per piece


def write(outgoing: Outgoing) -> Iterator[bytes]:
    """A line for each image with an answer."""
    for page in batched(outgoing.answers(), _ROWS):
        yield b"".join(dump(dict(zip(fields.COLUMNS, fields.cells(row), strict=True))) for _, row in page)


def dump(value: object) -> bytes:
    """A line of JSON in UTF-8, lone surrogates as escapes."""
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


formats.register("jsonl")(Format("jsonl", ".jsonl", "application/jsonl", "an object per answer", write))


@importers.register("jsonl")
def read(path: Path) -> Iterator[Row | Unreadable]:
    """a JSON object per line, with a path and a label"""
    with open_file(path) as file:
        yield from rows(file, str(path))


def rows(file: IO[bytes], name: str) -> Iterator[Row | Unreadable]:
    """The rows of a file that is open at its start. `name`: what errors call it."""
    good = 0
    for number, line in enumerate(file, 1):
        if line.strip():
            row = _row(line, f"line {number}")
            good += isinstance(row, Row)
            yield row
    if not good:
        raise BadOption(
            f'{name} has no line like {{"file_name": "a.jpg", "label": "cat"}}. Choose another format.'
        )


def _row(line: bytes, where: str) -> Row | Unreadable:
    try:
        values = json.loads(line.decode("utf-8-sig", errors="surrogateescape"))
    except (ValueError, RecursionError):
        return Unreadable(where, "is no JSON")
    if not isinstance(values, dict):
        return Unreadable(where, "is no JSON object")
    names = fields.columns(values)
    if "file_name" not in names and "sha256" not in names:
        return Unreadable(where, "names no image")
    try:
        return fields.to_row({column: values[name] for column, name in names.items()}, where)
    except fields.SeveralClasses:
        return Unreadable(where, "names several classes")
