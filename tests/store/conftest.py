"""Every test of the store runs on SQLite and on a real PostgreSQL of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from vizsla.store import ImageFile, Store
from vizsla.store.database import Database


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(address: str, clock: Clock) -> Iterator[Store]:
    """An empty project with leases of a minute, on the test's clock."""
    with Store.open(address, lease_seconds=60, clock=clock) as opened:
        yield opened


@pytest.fixture
def fill(store: Store) -> Callable[[int], list[int]]:
    """Put n images and the classes cat and dog into the store; returns the ids in order of their paths."""

    def fill(n: int) -> list[int]:
        store.add_images(ImageFile(f"{i:05}.jpg", 1000 + i, i) for i in range(n))
        store.add_classes(["cat", "dog"])
        return [image.id for image in sorted(store.images(), key=lambda image: image.path or "")]

    return fill


@pytest.fixture
def statements() -> Callable[[Callable[[], object]], int]:
    """Counts the statements that all databases get while a call runs; a list of rows is one."""

    def statements(call: Callable[[], object]) -> int:
        seen = []

        def executed(*told: Any) -> None:
            seen.append(told)

        event.listen(Engine, "before_cursor_execute", executed)
        try:
            call()
        finally:
            event.remove(Engine, "before_cursor_execute", executed)
        return len(seen)

    return statements


Job = Callable[[Connection], Any]


@pytest.fixture
def overlap(address: str) -> Iterator[Callable[[Job, Job], tuple[Any, Future[Any]]]]:
    """Does two jobs as two processes would, of which the second begins before the first has committed."""
    one, two = Database.open(address), Database.open(address)
    with ThreadPoolExecutor(1) as pool:

        def overlap(first: Job, second: Job) -> tuple[Any, Future[Any]]:
            def both(conn: Connection) -> tuple[Any, Future[Any]]:
                done, pending = first(conn), pool.submit(two.write, second)
                wait([pending], 0.5)
                return done, pending

            done, pending = one.write(both)
            wait([pending], 30)
            return done, pending

        yield overlap
    one.close()
    two.close()
