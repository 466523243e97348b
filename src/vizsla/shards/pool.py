"""`Shards`: feature rows in several files. A row's id counts through all of them, in their order. d features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, Int64

from vizsla.engine import Engine
from vizsla.errors import BadArray
from vizsla.shards.places import vectors_at

ROWS_AT_ONCE = 65_536
"""Rows of a shard where one file holds the whole pool."""


@dataclass(frozen=True)
class Shard:
    """Rows that lie side by side in one .npy file."""

    file: str
    """Path or URL."""
    first: int
    """Number of its first row in the pool."""
    rows: int
    start: int = 0
    """Where that row lies in the file."""

    @property
    def ids(self) -> Int64[np.ndarray, " n"]:
        return np.arange(self.first, self.first + self.rows)

    def vectors(self) -> Float[np.ndarray, "n d"]:
        """The rows, mapped from a disk or fetched from a bucket."""
        return vectors_at(self.file)[self.start : self.start + self.rows]

    def others(self, closed: Int64[np.ndarray, " l"]) -> Int64[np.ndarray, " m"]:
        """Positions of the rows that are not among these ids, which are ascending."""
        low, high = np.searchsorted(closed, [self.first, self.first + self.rows])
        mask = np.ones(self.rows, bool)
        mask[closed[low:high] - self.first] = False
        return np.flatnonzero(mask)

    def chance(self, seed: int) -> Float64[np.ndarray, " n"]:
        """A uniform number from 0 to 1 for each row, which depends on seed and id only.

        It is the number at the id's place in one stream of PCG64, which can be entered anywhere.
        """
        stream = np.random.PCG64([seed, 1]).advance(self.first)  # not default_rng(seed), which draws heads
        return np.random.Generator(stream).random(self.rows)


@dataclass(frozen=True)
class Shards:
    """A pool in shards."""

    parts: tuple[Shard, ...]
    """In the order of their rows; none is empty."""

    def __len__(self) -> int:
        return self.parts[-1].first + self.parts[-1].rows if self.parts else 0

    @cached_property
    def row_bytes(self) -> int:
        rows = self.parts[0].vectors()
        return rows.shape[1] * rows.itemsize

    def take(self, ids: Int64[np.ndarray, " m"], engine: Engine) -> Float[np.ndarray, "m d"]:
        """The rows with these ids, in this order; read where the engine reads."""
        if not len(ids):
            return self.parts[0].vectors()[:0]
        order = np.argsort(ids, kind="stable")
        edges = np.searchsorted(ids[order], [part.first for part in self.parts] + [len(self)])
        wanted = [
            (part, ids[order[low:high]] - part.first)
            for part, low, high in zip(self.parts, edges[:-1], edges[1:], strict=True)
            if high > low
        ]
        found = dict(engine.map(_rows, wanted))
        rows = np.concatenate([found[place] for place in range(len(wanted))])
        out = np.empty_like(rows)
        out[order] = rows
        return out


def _rows(wanted: tuple[Shard, Int64[np.ndarray, " m"]]) -> Float[np.ndarray, "m d"]:
    shard, positions = wanted
    return np.asarray(shard.vectors()[positions])


def numbered(files: Sequence[tuple[str | Path, int]]) -> Shards:
    """The files, each with its number of rows, as one pool."""
    parts, first = [], 0
    for file, rows in files:
        if rows:
            parts.append(Shard(str(file), first, rows))
        first += rows
    return Shards(tuple(parts))


def of_file(file: Path, rows_at_once: int = ROWS_AT_ONCE) -> Shards:
    """One .npy file as a pool. Raises BadArray where it holds no table of real numbers."""
    shape, kind = _header(file)
    if len(shape) != 2 or kind.kind not in "fiu" or not shape[0]:
        raise BadArray(f"{file} must hold numbers of shape (images, dimensions), not {kind} {shape}.")
    path, starts = str(file.absolute()), range(0, shape[0], rows_at_once)
    parts = (Shard(path, start, min(rows_at_once, shape[0] - start), start) for start in starts)
    return Shards(tuple(parts))


def _header(file: Path) -> tuple[tuple[int, ...], np.dtype]:
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadArray(
            f"{file} is no .npy array that can be read ({error}). Write it with numpy.save."
        ) from None
    if not isinstance(found, np.ndarray):
        raise BadArray(f"{file} holds several arrays. Give a .npy file.")
    return found.shape, found.dtype
