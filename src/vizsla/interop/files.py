"""Opening what a person wants to import."""

from __future__ import annotations

import io
from pathlib import Path

from vizsla.errors import BadOption


def open_file(path: Path) -> io.BufferedReader:
    """The file, open for reading bytes. Raises BadOption where that cannot be."""
    try:
        return path.open("rb")
    except OSError as error:
        raise BadOption(f"cannot read {path}: {error.strerror}. Check the path.") from None
