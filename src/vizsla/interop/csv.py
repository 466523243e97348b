"""CSV: a header and a row per answer; also headerless `path,label`, and Label Studio's CSV.

File names need not be UTF-8: their bytes are written as they are. A cell that begins with `=`, `+`, `-` or `@`
is written as it is, too, though a spreadsheet may take it for a formula: what is exported must come back the same.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from vizsla.interop import fields, tables
from vizsla.interop.base import Format, formats, importers
from vizsla.interop.outgoing import Outgoing
from vizsla.interop.tables import Columns, Found
from vizsla.store.database import batched

_ROWS = 500  # per piece
_KEEP_ODD_BYTES = "surrogateescape"


def write(outgoing: Outgoing) -> Iterator[bytes]:
    """A header, then a row for each image with an answer."""
    yield lines([fields.COLUMNS])
    for page in batched(outgoing.answers(), _ROWS):
        yield lines([_plain(cell) for cell in fields.cells(row)] for _, row in page)


def _plain(cell: Any) -> Any:
    return str(cell).lower() if isinstance(cell, bool) else cell


def lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """Rows of cells as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(errors=_KEEP_ODD_BYTES)


formats.register("csv")(Format("csv", ".csv", "text/csv; charset=utf-8", "a table, a row per answer", write))


@importers.register("csv")
def read(path: Path, columns: Columns | None = None) -> Iterator[Found]:
    """a table parted by commas, semicolons or tabs: path and label, with or without a header"""
    return tables.read(path, "csv", columns)


def rows(file: IO[bytes], name: str, columns: Columns | None = None) -> Iterator[Found]:
    """The rows of a table that is open at its start. `name`: what errors call it."""
    return tables.rows(file, name, "csv", columns)
