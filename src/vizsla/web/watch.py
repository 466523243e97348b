"""What happens meanwhile: folder scans, the trainer's news for the browsers, leases of people who left."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi.sse import format_sse_event
from pydantic_core import to_json

from vizsla.errors import VizslaError
from vizsla.project import Project
from vizsla.store import Pulse
from vizsla.web.glance import Glance, Look
from vizsla.web.pictures import Pictures

_log = logging.getLogger("vizsla")

PULSE_SECONDS = 0.2
_REST_SECONDS = 2.0  # after something went wrong
LEAVE_SECONDS = 6.0  # a page that is loaded again within this time finds its images still leased


_HELLO = format_sse_event(comment="hello", retry=1000)
_STILL_HERE = format_sse_event(comment="still here")
_SILENCE = 15.0  # seconds without news after which a proxy might think that nobody is there
_PATIENT = frozenset({"saved", "training"})
"""News that come with every answer, and may wait for the next one's."""

_Moment = tuple[Pulse, bool, str | None]
"""What the store said, whether the folder is being scanned, and what is wrong with it."""


@dataclass(eq=False)
class Watch:
    """One per server. `run` is its heart, on the server's event loop."""

    project: Project
    pictures: Pictures
    glance: Glance
    tell: Callable[[Watch, Look, str], Any]
    """What goes with an event; found once, however many browsers listen."""
    scanning: bool = False
    notice: str | None = None
    """What is wrong with the image folder."""
    pulse: Pulse | None = None
    _listeners: set[asyncio.Queue[bytes | None]] = field(default_factory=set)
    _closed: bool = False
    _present: dict[str, int] = field(default_factory=dict)
    _again: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _leaving: set[asyncio.Task[None]] = field(default_factory=set)

    # scans

    def rescan(self) -> None:
        """Scan the folder in the background; a call during a scan has it done once more."""
        with self._lock:
            if self.scanning:
                self._again = True
                return
            self.scanning = True
        threading.Thread(target=self._scan, name="vizsla-scan", daemon=True).start()

    def _scan(self) -> None:
        while True:
            try:
                self.notice = self.project.scan().warning or None
            except VizslaError as error:
                self.notice = str(error)
            except Exception:
                _log.exception("the scan of %s failed", self.project.source.address)
                self.notice = "the folder could not be read; the server's output says more."
            with self._lock:
                if not self._again:
                    self.scanning = False
                    return
                self._again = False

    # news

    def listeners(self) -> int:
        """How many browsers listen."""
        return len(self._listeners)

    async def run(self) -> None:
        """Look at the store a few times a second, and tell the listeners what has changed."""
        was: _Moment | None = None
        quiet = 0.0
        while True:
            try:
                now = await asyncio.to_thread(self._look), self.scanning, self.notice
                events = _changes(was, now)
                if self.scanning or not _PATIENT.issuperset(events):
                    self.glance.forget()
                if not (_PATIENT.issuperset(events) and time.monotonic() < quiet):
                    if events and self._listeners:
                        quiet = time.monotonic() + await self._spread(events)
                    was = now
            except Exception as error:  # a database that restarts, say: the heart beats on
                _log.warning("no news for now: %s", error)
                await asyncio.sleep(_REST_SECONDS)
            await asyncio.sleep(PULSE_SECONDS)

    async def _spread(self, events: Collection[str]) -> float:
        """Tell all listeners; returns for how many seconds they know enough."""
        look, enough = await asyncio.to_thread(self.glance.fresh)
        for event in events:
            news = format_sse_event(data_str=to_json(self.tell(self, look, event)).decode(), event=event)
            for queue in self._listeners:
                queue.put_nowait(news)
        return enough

    def _look(self) -> Pulse:
        self.pictures.write_hashes()
        self.pulse = self.project.store.pulse()
        return self.pulse

    def close(self) -> None:
        """End all streams: a server that ends would wait for them."""
        self._closed = True
        for queue in self._listeners:
            queue.put_nowait(None)

    async def listen(self, token: str) -> AsyncIterator[bytes]:
        """News as they come, as server-sent events. When the browser leaves, its images are free again."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._listeners.add(queue)
        self._present[token] = self._present.get(token, 0) + 1
        try:
            news: bytes | None = _HELLO
            while news is not None and not self._closed:
                yield news
                try:
                    async with asyncio.timeout(_SILENCE):
                        news = await queue.get()
                except TimeoutError:
                    news = _STILL_HERE
        finally:
            self._listeners.discard(queue)
            self._present[token] -= 1
            task = asyncio.get_running_loop().create_task(self._leave(token, datetime.now(UTC)))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _leave(self, token: str, since: datetime) -> None:
        """Free what they held, unless they are here again, or active through another server."""
        await asyncio.sleep(LEAVE_SECONDS)
        if self._present.get(token):
            return  # loaded anew meanwhile, or open in another tab
        self._present.pop(token, None)
        if one := await asyncio.to_thread(self.project.store.who, token):
            await asyncio.to_thread(self.project.store.release, one.id, idle_since=since)


def _changes(was: _Moment | None, now: _Moment) -> list[str]:
    if was is None:
        return []
    old, new = was[0], now[0]
    found: list[str] = []
    if new.label_id != old.label_id:
        found.append("saved")
    if new.class_change != old.class_change:
        found.append("classes")
    if new.edition != old.edition:
        found += ["model_swapped", "advice"]
    if _training(old, was) != _training(new, now):
        found.append("training")
    if was[1:] != now[1:]:
        found.append("project")
    return found


def _training(pulse: Pulse, moment: _Moment) -> tuple[Any, ...]:
    return pulse.training, pulse.models, pulse.label_id, moment[1:]
