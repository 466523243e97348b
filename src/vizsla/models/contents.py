"""Content hashes of image files, remembered by path, size and times, so that known files need not be read again."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from vizsla.data.sources import Stamp

log = logging.getLogger(__name__)

Sha = bytes
"""SHA-256 of a file's content."""

_SETTLED_NS = 2_000_000_000
"""A file changed less than 2 s ago may change once more within the same tick of its file system's clock."""
_AT_ONCE = 500
"""Paths in one query: SQLite takes 999 at the least."""
# Paths or URLs, as bytes: a file name need not be text.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS file (
    path BLOB PRIMARY KEY, size INTEGER, changed INTEGER, status INTEGER, sha BLOB
) WITHOUT ROWID
"""


class Contents:
    """What is known of files, in one SQLite file of the cache. Processes may share it.

    It only saves reading: where it cannot be opened or written, nothing is known, and all goes on. A damaged one is
    deleted.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._database: sqlite3.Connection | None = None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(file, timeout=5, isolation_level=None)
            self._database.execute("PRAGMA synchronous = OFF")
            self._database.execute(_SCHEMA)
        except (sqlite3.DatabaseError, OSError) as error:
            self._give_up(error)

    def find(self, keys: Sequence[bytes], stamps: Sequence[Stamp | None]) -> list[Sha | None]:
        """The content hash of each file, by its key, as it is now; None where it must be read."""
        known: dict[bytes, tuple[Stamp, Sha]] = {}
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            query = f"SELECT * FROM file WHERE path IN ({','.join('?' * len(part))})"
            for key, size, changed, status, sha in self._run(query, part):
                known[key] = (size, changed, status), sha
        found = (known.get(key, (None, None)) for key in keys)
        return [sha if of == now else None for (of, sha), now in zip(found, stamps, strict=True)]

    def note(self, keys: Iterable[bytes], stamps: Iterable[Stamp | None], shas: Iterable[Sha | None]) -> None:
        """Remember the hashes of files that had these stamps before they were read."""
        settled = time.time_ns() - _SETTLED_NS
        rows = [
            (key, *of, sha)
            for key, of, sha in zip(keys, stamps, shas, strict=True)
            if of is not None and sha is not None and max(of[1:]) < settled
        ]
        if rows and self._database is not None:
            self._run("BEGIN IMMEDIATE")
            for row in rows:
                self._run("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)", row)
            self._run("COMMIT")

    def _run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[bytes, int, int, int, Sha]]:
        if self._database is None:
            return []
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            self._give_up(error)
            return []

    def _give_up(self, error: Exception) -> None:
        log.info("%s is of no use (%s): files are read to know their content", self.file, error)
        self._database = None
        if not isinstance(error, sqlite3.OperationalError | OSError):  # those: locked, read-only, no space
            self.file.unlink(missing_ok=True)
