"""JSON Lines: an object per answer, with the columns of the CSV as keys.

The file is UTF-8. An odd byte in a file name is written as Python holds it, as a lone surrogate (`\\udcff`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from vizsla.interop import fields, tables
from vizsla.interop.base import Format, formats, importers
from vizsla.interop.outgoing import Outgoing
from vizsla.interop.tables import Columns, Found
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
def read(path: Path, columns: Columns | None = None) -> Iterator[Found]:
    """a JSON object per line, with a path and a label"""
    return tables.read(path, "jsonl", columns)
