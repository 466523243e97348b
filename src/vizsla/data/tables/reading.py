"""A table of any kind, row by row, under our names for its columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO, Any, NamedTuple

from vizsla.data.names import from_text
from vizsla.data.tables import delimited, objects, parquet
from vizsla.data.tables.cells import SeveralClasses, is_one, one_class, text, trimmed
from vizsla.data.tables.columns import Layout, Wanted, classes_of, layout, no_columns, told
from vizsla.data.tables.decoding import Words, windows
from vizsla.data.tables.lines import Header, Line, Note, Unreadable
from vizsla.errors import BadTable

__all__ = ["KINDS", "Note", "Record", "Unreadable", "kind_of", "read"]

Lines = Callable[[IO[bytes], str, Wanted], Iterator[Line | Unreadable | Note]]

_LINES: Mapping[str, Lines] = {"csv": delimited.lines, "jsonl": objects.lines, "parquet": parquet.lines}
KINDS = tuple(_LINES)
_ESCAPED = re.compile("%([89A-F][0-9A-F])")  # how older versions wrote odd bytes in Parquet


class Record(NamedTuple):
    """What a row says."""

    names: tuple[str, ...]
    """What the image may be called, as it is written first, without blanks around it next; none: it has no name."""
    label: str | None
    """Its class, without blanks around it."""
    cells: Mapping[str, Any]
    """The other columns that are wanted and there."""
    where: str
    """Such as `line 3`."""
    held: bytes | None = None
    """The image file, where it lies in the table."""


def kind_of(name: str) -> str:
    """The kind of table by the file's suffix, CSV for any other.

    >>> kind_of("a.JSONL"), kind_of("a.txt")
    ('jsonl', 'csv')
    """
    suffix = PurePath(name).suffix.lower().removeprefix(".")
    return suffix if suffix in KINDS else "csv"


def read(file: IO[bytes], name: str, kind: str, wanted: Wanted) -> Iterator[Record | Unreadable | Note]:
    """The rows of a table that is open at its start, few of which are held at a time; what was odd comes last.

    Args:   name: what errors call it. kind: of KINDS.
    Raises: BadTable where it is no such table, or something in it cannot be told.
    """
    reading = _Reading(name, kind, wanted)
    for line in _LINES[kind](file, name, wanted):
        if not isinstance(line, Line):
            yield line
        elif line.values is None:
            reading.begin(line.header)
        else:
            yield reading.row(line.where, line.header, line.values)
    reading.end()
    yield from map(Note, reading.notes())


class _Plan(NamedTuple):
    """Where to look in rows of one header."""

    layout: Layout
    needed: int
    """How many cells a row must have."""
    others: tuple[tuple[str, int], ...]
    """Our columns but for the image's name and its class, and where they stand."""


@dataclass
class _Blanks:
    """Names with blanks around them."""

    count: int = 0
    first: str = ""

    def add(self, name: str, where: str) -> None:
        self.count += 1
        self.first = self.first or f"{name!r} ({where})"


class _Reading:
    """What is known of a table while it is read."""

    def __init__(self, name: str, kind: str, wanted: Wanted) -> None:
        self._name = name
        self._kind = kind
        self._wanted = wanted
        self._header: Header | None = None  # where each row has its own: that of the first
        self._plans: dict[Header, _Plan] = {}
        self._words = Words(name)
        self._odd_names, self._odd_classes = _Blanks(), _Blanks()

    def begin(self, header: Header) -> None:
        """Take in the header. Raises BadTable where no column of it names images."""
        self._header = header
        if not (found := self._layout(header)).images:
            raise self._no_columns(found)

    def row(self, where: str, header: Header, values: Sequence[Any]) -> Record | Unreadable:
        """What a row says."""
        plan = self._plans.get(header) or self._plan(where, header, values)
        place = plan.layout.place
        if not plan.layout.images:
            return Unreadable(where, f"names no image, only {told(header) or 'nothing'}")
        if len(values) < plan.needed:
            return Unreadable(where, "has too few cells")
        picture, held = values[place["file_name"]] if "file_name" in place else None, None
        if isinstance(picture, Mapping):  # an image inside the table
            held, picture = picture.get("bytes"), picture.get("path")
        names = self._names(text(picture) or "", where)
        try:
            label = _class_of(plan.layout, values)
        except SeveralClasses as error:
            return Unreadable(f"{names[-1]} ({where})" if names else where, str(error))
        n = len(values)
        cells = {
            column: value
            if not isinstance(value := values[at], str) or value.isascii()
            else self._words.read(value, where)
            for column, at in plan.others
            if at < n
        }
        return Record(
            names, self._class(label, where), cells, where, held if isinstance(held, bytes) else None
        )

    def end(self) -> None:
        """Raises BadTable where no row can be told, or none says anything of classes."""
        if self._header is None:
            raise BadTable(
                f'{self._name} has no line like {{"file_name": "a.jpg", "label": "cat"}}. Choose another format.'
            )
        layouts = [plan.layout for plan in self._plans.values()] or [self._layout(self._header)]
        images, labels = (any(one.images for one in layouts), any(one.labels for one in layouts))
        if not images or (self._wanted.labels and not labels):
            raise self._no_columns(layouts[0])

    def notes(self) -> list[str]:
        """What was odd."""
        found = list(dict.fromkeys(note for plan in self._plans.values() for note in plan.layout.notes))
        if (odd := self._odd_names).count:
            found.append(
                f"{odd.count} × blanks around a file name, such as {odd.first}: looked for with and without them"
            )
        if (odd := self._odd_classes).count:
            found.append(f"{odd.count} × blanks around a class name, such as {odd.first}: left out")
        return found + self._words.notes()

    def _layout(self, header: Header) -> Layout:
        return layout(header, self._wanted, self._name, loose=self._kind == "jsonl")

    def _no_columns(self, found: Layout) -> BadTable:
        return no_columns(self._name, self._header or (), found, self._wanted)

    def _plan(self, where: str, header: Header, values: Sequence[Any]) -> _Plan:
        self._header = self._header or header
        found = self._layout(header)
        if found.images and not found.labels:
            found = self._with_classes(found, where, header, values)
            if self._wanted.labels and not found.labels and self._kind != "jsonl":
                raise self._no_columns(self._layout(self._header))
        place = found.place
        needed = {*place.values(), *found.classes}
        if not self._wanted.labels:
            needed = {place["file_name"]} if "file_name" in place else set()
        others = tuple((column, at) for column, at in place.items() if column not in ("file_name", "label"))
        plan = self._plans[header] = _Plan(found, max(needed, default=-1) + 1, others)
        return plan

    def _with_classes(self, found: Layout, where: str, header: Header, values: Sequence[Any]) -> Layout:
        """With a column for each class, if that is what the first row looks like."""
        binary = [is_one(value) is not None for value in values]
        classes = classes_of(header, found, binary, self._name)
        if not classes:
            return found
        classes = {at: self._words.read(name, "its header") for at, name in classes.items()}
        note = f"took each of the columns {told(classes.values())} for a class"
        return Layout(found.place, classes, (*found.notes, note))

    def _class(self, label: str | None, where: str) -> str | None:
        if label is None:
            return None
        label = label if label.isascii() else self._words.read_class(label, where)
        if (bare := self._bare(label)) != label:
            self._odd_classes.add(label, where)
        return bare or None

    def _names(self, name: str, where: str) -> tuple[str, ...]:
        bare = self._bare(name)
        if not bare:
            return ()
        if bare == name and name.isascii() and self._kind != "parquet":
            return (name,)
        names = [name]
        if bare != name:
            self._odd_names.add(name, where)
            names.append(bare)
        if not bare.isascii() and (read := windows(bare)):
            names.append(read)
        if self._kind == "parquet":  # whose text is UTF-8
            names += from_text(bare), _ESCAPED.sub(lambda found: chr(0xDC00 + int(found[1], 16)), bare)
        return tuple(dict.fromkeys(names))

    def _bare(self, name: str) -> str:
        bare = trimmed(name)
        if bare == name:
            return name
        if self._kind == "csv" and name[0] != '"' and len(bare) > 2 and bare[0] == bare[-1] == '"':
            bare = trimmed(bare[1:-1].replace('""', '"'))  # behind a blank CSV takes quotes for letters
        return bare


def _class_of(found: Layout, values: Sequence[Any]) -> str | None:
    """The class of a row. Raises SeveralClasses, with why."""
    if found.classes:
        said = {name: is_one(values[at]) for at, name in found.classes.items() if at < len(values)}
        if None in said.values():
            raise SeveralClasses("has a number that is neither 0 nor 1 in the column of a class")
        ones = [name for name, one in said.items() if one]
        if len(ones) > 1:
            raise SeveralClasses("has a 1 in the columns of several classes")
        return ones[0] if ones else None
    at = found.place.get("label")
    return one_class(values[at]) if at is not None and at < len(values) else None
