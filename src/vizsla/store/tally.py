"""`Tally`: how many images are answered, without counting all of them for each answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection, select

from vizsla.store.answers import answered
from vizsla.store.schema import labels

_COUNTED_SECONDS = 1.0


class Tally:
    """One per store; threads share it.

    Every answer keeps the count that it was acknowledged with, so the next one need only add itself. Answers that
    several people give at the same moment do not know of each other; hence all are counted again after a second.
    SQLite takes one answer at a time, and counts faster than it writes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = -1.0

    def forget(self) -> None:
        """Count the next time: images came or went."""
        self._until = -1.0

    def before(self, conn: Connection) -> int:
        """Images that have an answer and are there, before the answer that is about to be written."""
        if conn.dialect.name != "sqlite" and self._clock() < self._until:
            newest = select(labels.c.saved, labels.c.status, labels.c.redoes, labels.c.source)
            row = conn.execute(newest.order_by(labels.c.id.desc()).limit(1)).first()
            # Those that were taken back, given again or imported carry the count before them.
            if row is not None and row.status != "undone" and row.redoes is None and row.source != "import":
                return int(row.saved)
        self._until = self._clock() + _COUNTED_SECONDS
        return answered(conn)
