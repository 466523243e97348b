"""A zip that is written as it is sent: one member in memory at a time, and a large one in a temporary file.

Members are stored, for images do not shrink. Sizes and checksums stand before each, as every reader likes it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

Member = tuple[str, float, "bytes | Iterable[bytes]"]
"""A file in a folder or zip: its path there, with forward slashes; Unix time; content, whole or in pieces."""

IN_MEMORY = 8 << 20
"""Bytes of a member above which it waits on the disk."""

_PIECE = 1 << 20
_OLDEST, _NEWEST = 1980, 2107  # what a zip can tell


def stream(members: Iterable[Member]) -> Iterator[bytes]:
    """The zip in pieces."""
    with SpooledTemporaryFile(IN_MEMORY) as pending:
        window = _Window(pending)
        yield from _archived(members, window)
        yield from window.drain()


def _archived(members: Iterable[Member], window: _Window) -> Iterator[bytes]:
    with zipfile.ZipFile(window, "w", zipfile.ZIP_STORED) as archive:
        for name, seconds, content in members:
            whole = isinstance(content, bytes)
            with archive.open(zipfile.ZipInfo(name, _date(seconds)), "w", force_zip64=not whole) as file:
                for piece in [content] if isinstance(content, bytes) else content:
                    file.write(piece)
            yield from window.drain()


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

    def __init__(self, pending: SpooledTemporaryFile[bytes]) -> None:
        self._start = 0
        self._pending = pending

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

    def write(self, data: Buffer) -> int:
        return self._pending.write(data)

    def drain(self) -> Iterator[bytes]:
        """What was written since the last time."""
        self._start += self._pending.tell()
        self._pending.seek(0)
        while piece := self._pending.read(_PIECE):
            yield piece
        self._pending.seek(0)
        self._pending.truncate()
