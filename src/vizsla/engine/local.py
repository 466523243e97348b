"""The engine of one machine: one shard after another, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from vizsla.engine.base import Engine, R, S


class LocalEngine(Engine):
    """A plain loop. What is done with a shard uses all cores by itself: torch, ONNX Runtime, threads that decode."""

    name = "local"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Nothing was started."""

    @property
    def workers(self) -> int:
        return 1

    def map(self, work: Callable[[S], R], shards: Sequence[S]) -> Iterator[tuple[int, R]]:
        for place, shard in enumerate(shards):
            yield place, work(shard)

    def map_prepared(
        self, make: Callable[[], Callable[[S], R]], shards: Sequence[S]
    ) -> Iterator[tuple[int, R]]:
        if shards:
            yield from self.map(make(), shards)
