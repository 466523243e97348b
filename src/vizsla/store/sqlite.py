"""SQLite: connections that wait for the disk, projects that can only be read, and what its errors mean."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event

from vizsla.caching import is_full, room
from vizsla.errors import Damaged, DatabaseAway, DiskFull, NotWritable, VizslaError

BUSY_SECONDS = 30
_HEADER = 32  # bytes of a write-ahead log that holds nothing else

Connect = Callable[[], sqlite3.Connection]


def engines(file: Path) -> tuple[Engine, Engine]:
    """Engines to read and to write with; nothing is opened yet."""
    uri = f"{file.absolute().as_uri()}?mode=rwc"
    return _engine(_opening(uri), "BEGIN"), _engine(_opening(uri), "BEGIN IMMEDIATE")


def reading(file: Path, held: ExitStack) -> list[Connect]:
    """Ways to look into a project whose disk is full or may not be written, the best first.

    SQLite keeps a small file beside a database that others may write to, and there is no room for it. Without one it
    reads a database that nobody changes meanwhile. Where some of it is still in the write-ahead log, as a crash
    leaves it, both are copied.

    Args: held: closed when nobody looks any more.
    """
    uri = file.absolute().as_uri()
    log = file.with_name(f"{file.name}-wal")
    if not (log.exists() and log.stat().st_size > _HEADER):
        return [_opening(f"{uri}?mode=ro"), _opening(f"{uri}?mode=ro&immutable=1")]
    return [_opening(f"{uri}?mode=ro"), _copying(file, log, held)]


def reader(connect: Connect) -> Engine:
    """An engine that only reads."""
    return _engine(connect, "BEGIN")


def _opening(uri: str) -> Connect:
    return lambda: sqlite3.connect(uri, uri=True, check_same_thread=False)


def _copying(file: Path, log: Path, held: ExitStack) -> Connect:
    @cache
    def copied() -> Path:
        home = held.enter_context(tempfile.TemporaryDirectory(prefix="vizsla-", ignore_cleanup_errors=True))
        for one in (log, file):  # the log first: what is moved out of it meanwhile is in the file
            shutil.copyfile(one, Path(home, one.name))
        return Path(home, file.name)

    return lambda: sqlite3.connect(copied(), check_same_thread=False)


def _engine(connect: Connect, begin: str) -> Engine:
    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=16, max_overflow=32)

    @event.listens_for(engine, "connect")
    def settle(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # else the driver begins transactions when it sees fit
        connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def explained(error: BaseException, name: str) -> VizslaError | None:
    """What an error of SQLite's means for the caller; None for one that tells of a fault of ours."""
    error = getattr(error, "orig", None) or error
    said, code = str(error), getattr(error, "sqlite_errorcode", 0) & 0xFF
    file = Path(name)
    folder = file.parent
    if code == sqlite3.SQLITE_FULL or (code in _TROUBLE and is_full(folder)):
        return DiskFull(
            f"no space left for {file}: {room(folder)} where it lies. Free some space there, 1 MB or more, and try "
            "again; all that was acknowledged is kept."
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseAway(
            f"{file} was held by another process for {BUSY_SECONDS} s, perhaps by an import. Try again."
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        if code == sqlite3.SQLITE_CANTOPEN and not folder.is_dir():
            return DatabaseAway(f"{file} is not there any more. Is its disk still connected?")
        return NotWritable(
            f"cannot write {file}: {_reason(file) or said}. Choose a folder you may write to (--project)."
        )
    if code == sqlite3.SQLITE_NOTADB:
        return Damaged(
            f"{file} is no Vizsla project, or it is damaged: {said}. To see what can be done: "
            f"vizsla doctor --project {folder}"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR):
        return Damaged(
            f"{file} is damaged ({said}). To see what can be done: vizsla doctor --project {folder}"
            if code == sqlite3.SQLITE_CORRUPT
            else f"the disk does not give or take {file} ({said}). Look at the disk, then run: "
            f"vizsla doctor --project {folder}"
        )
    return None


_TROUBLE = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
"""What SQLite also says on a full disk, where it finds no room for the files beside a database."""


def _reason(file: Path) -> str:
    """Why a file may not be written."""
    for one, about in ((file, "the file"), (file.parent, "its folder")):
        if one.exists() and not os.access(one, os.W_OK):
            return f"{about} is read-only"
    return ""


def is_lasting(error: BaseException) -> bool:
    """Whether a connection that said so will say so for good: its file was taken away, overwritten or read-only."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (*_TROUBLE, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def check_not_empty(file: Path) -> None:
    """Raises Damaged for a database of no bytes: nothing of ours is ever so short."""
    if file.is_file() and not file.stat().st_size:
        raise Damaged(
            f"{file} is damaged: it is empty. Put a backup in its place; if nothing was labelled yet, delete it and "
            f"start anew. For more: vizsla doctor --project {file.parent}"
        )
