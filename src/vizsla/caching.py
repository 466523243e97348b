"""Where the cache lies, and writing files so that a crash never leaves half of one."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from vizsla.errors import BadOption, DiskFull


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
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"no space left while writing {where}. Free some space, or move the cache with "
                "VIZSLA_CACHE=/another/disk, and run the same command again: it goes on where it stopped."
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise BadOption(
                f"cannot write {where}: {error.strerror}. Choose a folder you may write to "
                "(--out, --project or VIZSLA_CACHE)."
            ) from None
        raise


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


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write the file whole or not at all: temporary file, fsync, rename."""
    write_stream_atomically(path, [content.encode() if isinstance(content, str) else content])


def write_stream_atomically(path: Path, parts: Iterable[bytes]) -> None:
    """The same for what comes piece by piece."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
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
