"""JSON Lines: an object for each row, each with its own keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO

from vizsla.data.tables import decoding
from vizsla.data.tables.columns import Wanted
from vizsla.data.tables.lines import Line, Unreadable


def lines(file: IO[bytes], name: str, wanted: Wanted) -> Iterator[Line | Unreadable]:
    """The rows of a file that is open at its start. Raises BadTable."""
    with decoding.opened(file, name) as text:
        for number, line in enumerate(text, 1):
            if line.strip():
                yield _line(line, f"line {number}")


def _line(line: str, where: str) -> Line | Unreadable:
    try:
        values = json.loads(line.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return Unreadable(where, "is no JSON")
    if not isinstance(values, dict):
        return Unreadable(where, "is no JSON object")
    return Line(where, tuple(values), list(values.values()))
