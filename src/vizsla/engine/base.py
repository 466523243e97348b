"""`Engine`: what runs a function over shards, whatever the shards are and wherever the function runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar

S = TypeVar("S")
R = TypeVar("R")


class Engine(ABC):
    """Runs work over shards. Making one touches nothing; `with` starts it and ends it.

    Each shard gives exactly one result, whatever dies meanwhile. Work may be done twice for that, so it must
    give the same each time, and what it writes must be whole or not there.
    """

    name: str

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """End what was started."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """Shards that are worked on at once, at the most."""

    @abstractmethod
    def map(self, work: Callable[[S], R], shards: Sequence[S]) -> Iterator[tuple[int, R]]:
        """`work(shard)` of each, with its place among the shards, in whichever order they are done.

        Raises: what the work raises, if it is a VizslaError; the shards that are not begun are dropped then.
                DeadlyWork where it kills its worker again and again.
        """

    @abstractmethod
    def map_prepared(
        self, make: Callable[[], Callable[[S], R]], shards: Sequence[S]
    ) -> Iterator[tuple[int, R]]:
        """The same with work that takes long to prepare: each worker calls `make` once, with a GPU if there are any.

        Raises: as `map` does, but DeadlyWork only when all other shards are done.
        """
