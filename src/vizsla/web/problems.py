"""Which HTTP status an error is, and whether asking again will help."""

from __future__ import annotations

from pathlib import Path

from vizsla.caching import write_error
from vizsla.errors import (
    Damaged,
    DatabaseAway,
    DiskFull,
    KeyTaken,
    NoLabel,
    NotWritable,
    UnknownName,
    Unreachable,
    UnreadableImage,
    UserError,
    VizslaError,
)
from vizsla.web.pictures import Gone, Replaced

AGAIN = {"Retry-After": "1"}
"""What is away or busy, and most likely back soon."""
LATER = {"Retry-After": "10"}
"""Somebody has to make room first."""

_STATUS: list[tuple[type[VizslaError], int, dict[str, str] | None]] = [
    (Gone, 410, None),
    (Replaced, 409, None),
    (KeyTaken, 409, None),
    (UnreadableImage, 415, None),
    (Unreachable, 503, AGAIN),
    (DatabaseAway, 503, AGAIN),
    (NotWritable, 503, None),
    (Damaged, 503, None),
    (DiskFull, 507, LATER),
    (UnknownName, 404, None),
    (NoLabel, 422, None),
    (UserError, 422, None),
]


def status_of(error: VizslaError) -> tuple[int, dict[str, str] | None]:
    """Status and headers of the answer."""
    found = ((code, headers) for kind, code, headers in _STATUS if isinstance(error, kind))
    return next(found, (500, None))


def known(error: OSError) -> VizslaError | None:
    """What a full or read-only disk means; None for any other error."""
    return write_error(error, Path(str(error.filename or "a file")))
