"""CSV: a header and a row per answer; also headerless `path,label`, and Label Studio's CSV.

File names need not be UTF-8: their bytes are written as they are. A cell that begins with `=`, `+`, `-` or `@`
is written as it is, too, though a spreadsheet may take it for a formula: what is exported must come back the same.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from vizsla.errors import BadOption
from vizsla.interop import fields
from vizsla.interop.base import Format, Row, Unreadable, formats, importers
from vizsla.interop.files import open_file
from vizsla.interop.outgoing import Outgoing
from vizsla.store.database import batched

_ROWS = 500  # per piece
_KEEP_ODD_BYTES = "surrogateescape"
_HEADERLESS = {"file_name": 0, "label": 1}


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
def read(path: Path) -> Iterator[Row | Unreadable]:
    """a table parted by commas, semicolons or tabs: path and label, with or without a header"""
    with open_file(path) as file:
        yield from rows(file, str(path))


def rows(file: IO[bytes], name: str) -> Iterator[Row | Unreadable]:
    """The rows of a table that is open at its start. `name`: what errors call it."""
    bom = file.read(2)
    file.seek(0)
    encoding = "utf-16" if bom in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    errors = "replace" if encoding == "utf-16" else _KEEP_ODD_BYTES
    with io.TextIOWrapper(file, encoding, errors, newline="") as text:
        yield from _rows(text, name)


def _rows(file: IO[str], path: str) -> Iterator[Row | Unreadable]:
    first = next((line for line in iter(file.readline, "") if line.strip()), "")
    comma = next((mark for mark in ",;\t" if _place_of(_cells(first, mark))), None) or next(
        (mark for mark in ",;\t" if len(_cells(first, mark)) == 2), ","
    )
    reader = csv.reader(chain([first], file), delimiter=comma)
    header = _next(reader, path)
    if header is None:
        raise BadOption(f"{path} is empty. Give a CSV file with the columns file_name and label.")
    place = _place_of(header)
    if place is None:
        if len(header) != 2 or "\0" in first or fields.columns(header):
            raise fields.no_labels(path, header)
        place = _HEADERLESS
        yield _row(header, place, f"line {reader.line_num}")
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Unreadable(f"line {reader.line_num}", f"is no CSV: {error}")
            continue
        if cells:
            yield _row(cells, place, f"line {reader.line_num}")


def _next(reader: Iterator[list[str]], path: str) -> list[str] | None:
    try:
        return next((cells for cells in reader if cells), None)
    except csv.Error as error:
        raise BadOption(f"{path} is no CSV file: {error}. Choose another file or format.") from None


def _cells(line: str, comma: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=comma), [])
    except csv.Error:
        return []


def _place_of(header: list[str]) -> dict[str, int] | None:
    """Column → where it stands; None for a row that is no header of ours."""
    names = fields.columns(header)
    return {column: header.index(name) for column, name in names.items()} if fields.suffice(names) else None


def _row(cells: list[str], place: dict[str, int], where: str) -> Row | Unreadable:
    if len(cells) <= max(place.values()):
        return Unreadable(where, "has too few cells")
    try:
        return fields.to_row({column: cells[at] for column, at in place.items()}, where)
    except fields.SeveralClasses:
        return Unreadable(where, "names several classes")
