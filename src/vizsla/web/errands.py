"""`Errands`: things to do one after another, on a thread of their own, while requests are answered."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from vizsla.errors import VizslaError

_log = logging.getLogger("vizsla")

_PATIENCE = 2.0  # seconds that closing waits for the errand under way


class Errands:
    """In the order in which they were given. One that fails is logged, and the next is done."""

    def __init__(self, about: str) -> None:
        self.about = about
        """Begins what is logged."""
        self.closed = False
        """Long errands look at it, and end."""
        self._todo: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="vizsla-errands", daemon=True)
        self._thread.start()

    def later(self, work: Callable[[], object]) -> None:
        with self._lock:
            self._waiting += 1
        self._todo.put(work)

    def now(self, work: Callable[[], bool]) -> bool:
        """Do it at once, where nothing that was given before still waits; returns whether it came to something."""
        with self._lock:
            return not self._waiting and work()

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not self._waiting

    def close(self) -> None:
        """Forget what waits."""
        self.closed = True
        self._todo.put(None)
        self._thread.join(_PATIENCE)

    def _work(self) -> None:
        while (work := self._todo.get()) is not None and not self.closed:
            try:
                work()
            except VizslaError as error:
                self._say("%s", error)
            except Exception:
                self._say("an errand failed", trace=True)
            finally:
                with self._lock:
                    self._waiting -= 1

    def _say(self, what: str, *more: object, trace: bool = False) -> None:
        if not self.closed:
            _log.warning(f"{self.about}: {what}", *more, exc_info=trace)
