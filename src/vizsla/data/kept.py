"""`Kept`: contents of far files on this disk, no more than a limit; what was not used for longest goes first."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from vizsla.caching import cache_dir
from vizsla.data.limits import size_from

log = logging.getLogger("vizsla")

LIMIT = "VIZSLA_CACHE_LIMIT"
"""The environment variable that says how much may be kept."""
DEFAULT_LIMIT = "10GB"

_MARK = b"vizsla1\n"
_HEAD = len(_MARK) + hashlib.sha256().digest_size
_FULL = 0.9  # what is left of a full cache once the oldest are gone
_PARTS = 64  # of the limit: the least that is free when a process stops looking how full it is
_ABANDONED_NS = 3_600_000_000_000  # age of a half-written file that nobody finishes any more


class Kept:
    """One folder of files, each a checksum and a content. Threads and processes may share it.

    A file appears whole, by renaming, and one that is damaged counts as missing; so a crash costs nothing. A process
    looks how full the folder is each time it has written a quarter of what was free: one alone stays below the limit,
    several that fill it at the same moment may pass it by a few hundredths.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        self.folder = folder or cache_dir() / "remote"
        self.limit = limit_in_bytes() if limit is None else limit
        self._lock = threading.Lock()
        self._written, self._room = 0, 0  # bytes since the last look, and until the next
        self._complained = False

    def get(self, key: str) -> bytes | None:
        """The content that was kept under this key; None where there is none, or it is damaged."""
        file = self._file(key)
        try:
            found = file.read_bytes()
        except OSError:
            return None
        content = found[_HEAD:]
        if found[:_HEAD] != _MARK + hashlib.sha256(content).digest():
            log.info("%s is damaged; it is fetched again", file)
            file.unlink(missing_ok=True)
            return None
        _touch(file)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep it, if there is room at all. Where nothing can be written, all goes on without."""
        size = _HEAD + len(content)
        if size > self.limit:
            return
        file = self._file(key)
        draft = file.with_name(f".{secrets.token_hex(8)}")
        try:
            self._make_room(size)
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                draft.write_bytes(b"".join((_MARK, hashlib.sha256(content).digest(), content)))
                _touch(draft)
                draft.replace(file)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            if not self._complained:
                log.warning(
                    "cannot keep files in %s (%s): they are fetched each time", self.folder, error.strerror
                )
            self._complained = True

    def _file(self, key: str) -> Path:
        name = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
        return self.folder / name[:2] / name[2:]

    def _make_room(self, size: int) -> None:
        with self._lock:
            self._written += size
            if self._written > self._room:
                self._room = self._look(size) // 4
                self._written = size

    def _look(self, size: int) -> int:
        """Delete the oldest where there is little room left; returns how much there is now."""
        spare = max(size, self.limit // _PARTS)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / "lock", timeout=0):
                files = sorted(_files(self.folder))
                total = sum(bytes for _, bytes, _ in files)
                goal = (
                    min(self.limit - size, int(_FULL * self.limit)) if total + spare > self.limit else total
                )
                for _, bytes, file in files:
                    if total <= goal:
                        break
                    Path(file).unlink(missing_ok=True)
                    total -= bytes
                return max(self.limit - total, 4 * size)
        except Timeout:  # another process is at it
            return 4 * spare


def limit_in_bytes() -> int:
    """What `$VIZSLA_CACHE_LIMIT` allows.

    >>> os.environ["VIZSLA_CACHE_LIMIT"] = "1.5 GB"
    >>> limit_in_bytes()
    1500000000
    >>> del os.environ["VIZSLA_CACHE_LIMIT"]
    """
    return size_from(LIMIT, DEFAULT_LIMIT)


def _files(folder: Path) -> Iterator[tuple[int, int, str]]:
    """Last use, size and path of each file; what was left half-written is taken away."""
    now = time.time_ns()
    for part in os.scandir(folder):
        if not part.is_dir():
            continue
        for entry in os.scandir(part.path):
            try:
                about = entry.stat()
                if entry.name.startswith(".") and about.st_mtime_ns < now - _ABANDONED_NS:
                    Path(entry.path).unlink()
                    continue
            except OSError:  # gone meanwhile
                continue
            yield about.st_mtime_ns, about.st_size, entry.path


def _touch(file: Path) -> None:
    """Say that it was used now. By our own clock: the file system's ticks are long."""
    now = time.time_ns()
    with suppress(OSError):
        os.utime(file, ns=(now, now))
