"""What the readers of each format hand on: the header, the lines, and what is odd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Header = tuple[str, ...]


class Line(NamedTuple):
    """A row as it stands in the file."""

    where: str
    """Such as `line 3`."""
    header: Header
    values: Sequence[Any] | None
    """Of the header's columns; None: it is the header itself."""


@dataclass(frozen=True)
class Unreadable:
    """A row that makes no sense, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Note:
    """What was odd in a table, and how it was taken."""

    text: str
