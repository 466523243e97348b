"""`Ahead`: images that an engine embeds, on whichever machines, while the trainer does other things."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial

from vizsla.data.fetched import PREFIX
from vizsla.engine import Engine
from vizsla.errors import DeadlyWork
from vizsla.models.elsewhere import Embedder, Features, Order
from vizsla.store import Image

_PIECE = 256
"""Images that a worker does at a time: some seconds of a CPU."""
_PIECES = 10_000  # handed over at once

Done = tuple[Sequence[Image], Features]


@dataclass(frozen=True)
class _Work:
    """Work on a piece."""

    embedder: Embedder

    def __call__(self, piece: Sequence[Image]) -> Features:
        stamps = {image.path or "": (image.size, image.mtime_ns, 0) for image in piece}
        return self.embedder([image.path or "" for image in piece], stamps)


def _make(order: Order, more: int) -> _Work:
    return _Work(Embedder(order, more))


class Ahead:
    """Hands images to an engine in pieces, and gives back each piece once it is done."""

    def __init__(self, engine: Engine, order: Order) -> None:
        self._engine = engine
        self._order = order
        self._coming: Generator[Done] | None = None

    def next(self, todo: Sequence[Image]) -> Done | None:
        """The next piece that is done, whichever it is; waits for it. None where there is nothing to hand over.

        Args:   todo: handed over, as it is then, when nothing is under way.
        Raises: what the work raises; the next call hands over anew.
        """
        found = next(self._coming, None) if self._coming else None
        if found is None:
            self._coming = self._done(_reachable(todo))
            found = next(self._coming, None)
        return found

    def _done(self, todo: Sequence[Image]) -> Generator[Done]:
        size = max(1, min(_PIECE, len(todo) // (2 * self._engine.workers)))
        pieces = [todo[start : start + size] for start in range(0, len(todo), size)][:_PIECES]
        make = partial(_make, self._order, len(todo) // self._engine.workers)
        results = self._engine.map_prepared(make, pieces)
        try:
            for done, (place, found) in enumerate(results, start=1):
                if done == len(pieces):
                    next(results, None)  # lets the workers go, who have nothing more to do
                yield pieces[place], found
        except DeadlyWork as error:
            raise _named(error, [pieces[place] for place in error.places]) from None

    def close(self) -> None:
        """Give up what is under way."""
        if self._coming:
            self._coming.close()


def _reachable(images: Sequence[Image]) -> list[Image]:
    """Those that lie where every machine finds them; what another tool brought lies beside the project."""
    return [image for image in images if not (image.path or "").startswith(PREFIX)]


def _named(error: DeadlyWork, pieces: Sequence[Sequence[Image]]) -> DeadlyWork:
    images = [image.path for image in pieces[0]]
    return DeadlyWork(
        f"{error} It is one of {len(images)} images, {images[0]} to {images[-1]}; all others are done. Take it away.",
        error.places,
    )
