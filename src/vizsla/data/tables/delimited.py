"""CSV: rows of cells parted by commas, semicolons, tabs or bars, with quotes about those that need it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import IO, NamedTuple, Self, TextIO

from vizsla.data.tables import decoding
from vizsla.data.tables.cells import is_image_name, trimmed
from vizsla.data.tables.columns import Wanted
from vizsla.data.tables.lines import Header, Line, Note, Unreadable
from vizsla.errors import BadTable

_COMMAS = ",;\t|"
_SAID = re.compile(r'"?sep=(\t|[^\w\s"])"?[,;\t|]*\s*', re.IGNORECASE)
"""The first line with which Excel says what parts the cells."""
_BLANK_AFTER_QUOTE = re.compile(r'"[ \t]+(?=[,;\t|\r\n]|\Z)')
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_HEADERLESS = ("file_name", "label")


class _Row(NamedTuple):
    where: str
    cells: list[str]


def lines(file: IO[bytes], name: str, wanted: Wanted) -> Iterator[Line | Unreadable | Note]:
    """The header and the rows of a table that is open at its start. Raises BadTable."""
    with decoding.opened(file, name) as text:
        feed = _Feed(text)
        first = feed.visible()
        said = _SAID.fullmatch(first)
        first = feed.visible() if said else first
        if not first:
            raise BadTable(f"{name} is empty. Give it a line for each image: file_name,label.")
        feed.again(first)
        yield from _with_header(_rows(feed, said[1] if said else _comma(first, wanted), name), wanted)


class _Feed:
    """Lines of a text, which remembers those of the row that is being read."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._again: list[str] = []
        self._number = 0
        self.held: list[str] = []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else next(self._text)
        self._number += 1
        self.held.append(line)
        return line

    def visible(self) -> str:
        """The next line in which there is something; nothing at the end."""
        return next((line for line in self if trimmed(line)), "")

    def again(self, line: str) -> None:
        """Hand out the line once more."""
        self._again.append(line)
        self._number -= 1

    @property
    def first(self) -> int:
        """The number of the first line that is held."""
        return self._number - len(self.held) + 1


def _comma(line: str, wanted: Wanted) -> str:
    """What parts the cells: the sign by which most columns are known, or that leaves an image's name in front."""

    def worth(comma: str) -> tuple[int, bool, int]:
        cells = _cells(line, comma)
        return wanted.count(cells), len(cells) < 3 and is_image_name("".join(cells[:1])), len(cells)

    return max(_COMMAS, key=worth)


def _cells(line: str, comma: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=comma), [])
    except csv.Error:
        return []


def _with_header(rows: Iterator[_Row | Unreadable], wanted: Wanted) -> Iterator[Line | Unreadable | Note]:
    """The rows under their header, or under the one that a table of two columns need not have."""
    start = list(islice(rows, 2))
    cells = [row.cells if isinstance(row, _Row) else [] for row in start]
    header, rest = _without_end(cells[0]), start[1:]
    if not wanted.count(header) and "\0" not in "".join(header):
        enough = (2,) if wanted.labels else (1, 2)
        if len(header) in enough and is_image_name(header[0]):
            header, rest = _HEADERLESS, start
        elif len(header) == 2 and (named := _by_content(cells[1:])):
            where = {column: header[at] for at, column in enumerate(named)}
            yield Note(
                f"took file_name from the column {where['file_name']!r}, label from {where['label']!r}"
            )
            header = named
        elif len(header) == 2 and wanted.labels:  # names without suffix
            header, rest = _HEADERLESS, start
    yield Line(start[0].where, header, None)
    for row in chain(rest, rows):
        if isinstance(row, Unreadable):
            yield row
        elif len(row.cells) > len(header) and any(map(trimmed, row.cells[len(header) :])):
            yield Unreadable(row.where, "has too many cells")
        else:
            yield Line(row.where, header, row.cells)


def _without_end(cells: list[str]) -> Header:
    """Without the empty cells at the end."""
    n = max((n for n, cell in enumerate(cells, 1) if trimmed(cell)), default=0)
    return tuple(cells[:n])


def _by_content(rows: list[list[str]]) -> Header | None:
    """The header of two columns, one of which holds names of images."""
    images = [is_image_name(cell) for cell in _without_end(rows[0])] if rows else []
    if len(images) != 2 or images[0] == images[1]:
        return None
    return ("file_name", "label") if images[0] else ("label", "file_name")


def _rows(feed: _Feed, comma: str, name: str) -> Iterator[_Row | Unreadable]:
    """All rows that are not blank. Raises BadTable where a quote is left open."""
    reader = csv.reader(feed, delimiter=comma, strict=True)
    width = 0  # cells of the first row
    while True:
        feed.held.clear()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            cells = _without_blanks_after_quotes(feed.held, comma)
            if not cells:
                _check_quotes(feed, comma, name)
                yield Unreadable(f"line {feed.first}", f"is no CSV: {error}")
                continue
        if cells is None:
            return
        width = width or len(cells)
        if len(feed.held) > 1:
            _check_swallowed(cells, width, feed, comma, name)
        if any(map(trimmed, cells)):
            yield _Row(f"line {feed.first}", cells)


def _without_blanks_after_quotes(held: Sequence[str], comma: str) -> list[str]:
    """The cells of a line such as `"1.png" , "cat"`."""
    try:
        line = _BLANK_AFTER_QUOTE.sub('"', held[0])
        return next(csv.reader([line], delimiter=comma, strict=True), []) if len(held) == 1 else []
    except csv.Error:
        return []


class _Quoted(NamedTuple):
    """A cell in quotes."""

    line: int
    """In which it opens, from 0 on."""
    breaks: bool
    """Whether there are line breaks in it."""
    fits: bool
    """Whether it closes, and the cell ends there."""


def _quoted(held: Sequence[str], comma: str) -> Iterator[_Quoted]:
    text = "".join(held)
    sign = re.escape(comma)
    for cell in re.finditer(rf'(?:\A|(?<=[{sign}\r\n]))"[^"]*(?:""[^"]*)*("|\Z)', text):
        after = text[cell.end() : cell.end() + 1]
        line = len(_LINE_BREAK.findall(text[: cell.start()]))
        yield _Quoted(
            line, bool(_LINE_BREAK.search(cell[0])), bool(cell[1]) and after in ("", comma, "\r", "\n")
        )


def _check_quotes(feed: _Feed, comma: str, name: str) -> None:
    for cell in _quoted(feed.held, comma):
        if not cell.fits:
            raise _left_open(name, feed.first + cell.line)


def _check_swallowed(cells: list[str], width: int, feed: _Feed, comma: str, name: str) -> None:
    """See that no cell holds whole rows, as where a quote was left open and one further below closes it."""
    broken = [at for at, cell in enumerate(cells) if _LINE_BREAK.search(cell)]
    quoted = [cell.line for cell in _quoted(feed.held, comma) if cell.breaks]
    for at, line in zip(broken, quoted, strict=False):
        if _swallows_rows(cells, at, width, comma):
            raise _left_open(name, feed.first + line)


def _swallows_rows(cells: list[str], at: int, width: int, comma: str) -> bool:
    """Whether the lines in a cell are the end of a row, rows, and the beginning of another as far as this cell.

    Args: width: cells of a row of this table; fewer are left of one whose end was swallowed too.
    """
    parts = [_cells(line, comma) for line in _LINE_BREAK.split(cells[at])]
    wide = [width - at, *(width for _ in parts[2:]), width - (len(cells) - at - 1)]
    images = parts[0] if at == 0 else [cell for row in parts[1:] for cell in row]
    return [len(row) for row in parts] == wide and (len(parts) > 2 or any(map(is_image_name, images)))


def _left_open(name: str, line: int) -> BadTable:
    return BadTable(
        f"{name} line {line}: the quote that opens there does not close where its cell ends. Close it, or take it "
        "out; inside of quotes a quote is written twice."
    )
