"""A zip that is written as it is sent: no temporary file, one member in memory at a time.

Members are stored, for images do not shrink. Sizes and checksums stand before each, as every reader likes it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

_OLDEST, _NEWEST = 1980, 2107  # what a zip can tell


def stream(members: Iterable[tuple[str, float, bytes]]) -> Iterator[bytes]:
    """The zip in pieces, of members (name, Unix time, content)."""
    window = _Window()
    with zipfile.ZipFile(window, "w", zipfile.ZIP_STORED) as archive:
        for name, seconds, content in members:
            archive.writestr(zipfile.ZipInfo(name, _date(seconds)), content)
            yield window.drain()
    yield window.drain()


def _date(seconds: float) -> tuple[int, int, int, int, int, int]:
    try:
        when = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return (_OLDEST, 1, 1, 0, 0, 0)
    if not _OLDEST <= when.year <= _NEWEST:
        return (_OLDEST, 1, 1, 0, 0, 0)
    return (when.year, when.month, when.day, when.hour, when.minute, when.second)


class _Window(io.RawIOBase):
    """A file of which only the end, not yet drained, can be written anew."""

    def __init__(self) -> None:
        self._start = 0
        self._pending = io.BytesIO()

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._start + self._pending.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._start:
            raise OSError("that part was sent already")
        return self._start + self._pending.seek(offset - self._start)

    def write(self, data: object) -> int:
        return self._pending.write(data)  # type: ignore[arg-type]

    def drain(self) -> bytes:
        """What was written since the last time."""
        piece = self._pending.getvalue()
        self._start += len(piece)
        self._pending = io.BytesIO()
        return piece
