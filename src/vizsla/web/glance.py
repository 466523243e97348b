"""`Glance`: how the project stands, worked out no more often than it is worth.

Counting images and reading all models takes the database some milliseconds, and with a team there is always
someone who asks. So an answer is kept for a while: at most a thirtieth of the time goes into finding it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from vizsla.project import Project
from vizsla.standing import Standing, standing
from vizsla.store import ImageClass

_SHARE = 30  # an answer is good for so many times what it took
_LONGEST = 2.0  # seconds that it is good for at most
_WRITERS = 1000  # remembered, at most


@dataclass(frozen=True)
class Look:
    """A project at one moment, as pages show it."""

    now: Standing
    classes: tuple[ImageClass, ...]
    suspects: int


def look(project: Project) -> Look:
    """Ask the store."""
    return Look(standing(project), project.store.classes(), project.store.suspects())


class Glance:
    """One per server; threads share it. What others do is seen a moment late, what one did oneself never."""

    def __init__(self, project: Project, clock: Callable[[], float] = time.monotonic) -> None:
        self._project = project
        self._clock = clock
        self._kept: Look | None = None
        self._began = self._until = self._changed = -1.0
        self._wrote: dict[str, float] = {}
        self._written = -1.0
        self._lock = threading.Lock()

    def wrote(self, token: str | None) -> None:
        """Note that whoever has that token has just been told that a change is kept."""
        now = self._clock()
        if len(self._wrote) > _WRITERS:
            self._wrote.clear()  # who is not in it counts as having made the newest change
        if token is not None:
            self._wrote[token] = now
        self._written = now

    def forget(self) -> None:
        """Something else than an answer has changed."""
        self._changed = self._clock()

    def at(self, token: str | None) -> Look:
        """How the project stands, with all that this token's owner has changed."""
        since = self._wrote.get(token or "", self._written)
        with self._lock:
            fits = self._began > max(since, self._changed) and self._clock() < self._until
            return self._kept if fits and self._kept else self._find()

    def fresh(self) -> tuple[Look, float]:
        """How the project stands now, and for how many seconds that is good enough for those who only listen."""
        with self._lock:
            return self._find(), self._until - self._clock()

    def _find(self) -> Look:
        began = self._clock()
        found = look(self._project)
        now = self._clock()
        self._kept, self._began, self._until = found, began, now + min(_LONGEST, _SHARE * (now - began))
        return found
