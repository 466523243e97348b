"""Where the cache lies, and writing files so that a crash never leaves half of one."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from vizsla.errors import BadOption, DiskFull, NotWritable, UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_PROBE = 64 * 1024  # bytes
_STEM = 200  # bytes of a name, which has 255 at the most


def cache_dir() -> Path:
    """The cache folder: `$VIZSLA_CACHE`, else the platform's own place for caches."""
    chosen = os.environ.get("VIZSLA_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("vizsla", appauthor=False))


@contextmanager
def explain_write_errors(where: Path) -> Iterator[None]:
    """Turn 'no space left', 'permission denied' and 'not a directory' into errors that say the mend."""
    try:
        yield
    except OSError as error:
        if (known := write_error(error, where)) is not None:
            raise known from None
        raise


def write_error(error: OSError, where: Path) -> UserError | None:
    """What it means for the caller that something could not be written; None where it was something else."""
    if error.errno in _FULL:
        return DiskFull(
            f"no space left while writing {where}. Free some space ({room(where)} there), or move the cache with "
            "VIZSLA_CACHE=/another/disk, and run the same command again: it goes on where it stopped."
        )
    if error.errno in _REFUSED:
        return NotWritable(
            f"cannot write {where}: {error.strerror}. Choose a folder you may write to "
            "(--out, --project or VIZSLA_CACHE)."
        )
    return None


def room(where: Path) -> str:
    """How much room there is on the disk of a file or folder, in words."""
    there = next((one for one in (where, *where.absolute().parents) if one.is_dir()), None)
    if there is None:
        return "an unknown amount is free"
    free = shutil.disk_usage(there).free
    if free > _PROBE and _has_no_more_files(there):
        return f"{in_units(free)} are free, but no more files can be made,"
    return f"{in_units(free)} are free"


def _has_no_more_files(folder: Path) -> bool:
    found = os.statvfs(folder) if hasattr(os, "statvfs") else None
    return found is not None and found.f_files > 0 and found.f_favail == 0


def is_full(folder: Path) -> bool:
    """Whether no file of 64 kB can be written there, for want of room or of what a quota leaves."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".vizsla-") as file:
            file.write(bytes(_PROBE))
            file.flush()
    except OSError as error:
        return error.errno in _FULL
    return False


def in_units(count: float) -> str:
    """Bytes for people.

    >>> in_units(0), in_units(999), in_units(1_234_567), in_units(78_900_000_000)
    ('0 bytes', '999 bytes', '1.2 MB', '79 GB')
    """
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count, units = count / 1000, units[1:]
    digits = 1 if count < 9.95 and units[0] != "bytes" else 0
    return f"{count:.{digits}f} {units[0]}"


@contextmanager
def alone_in(folder: Path, busy: str) -> Iterator[None]:
    """Hold the folder's lock, made with the folder where need be.

    Raises: BadOption, saying `busy`, where another process holds it; else as `explain_write_errors` does.
    """
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise BadOption(busy) from None
    try:
        yield
    finally:
        lock.release()


def draft_of(path: Path) -> Path:
    """A hidden name beside the path for what takes its place once it is whole; no longer than the path's own can be."""
    name = os.fsencode(path.name)[:_STEM]
    return path.with_name(f".{os.fsdecode(name)}.{secrets.token_hex(4)}")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write the file whole or not at all: temporary file, fsync, rename."""
    write_stream_atomically(path, [content.encode() if isinstance(content, str) else content])


def write_stream_atomically(path: Path, parts: Iterable[bytes]) -> None:
    """The same for what comes piece by piece."""
    temporary = draft_of(path)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
