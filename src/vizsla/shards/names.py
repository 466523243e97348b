"""Which image a row is of, for pools that an embedding made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from vizsla.engine import Engine
from vizsla.shards.folder import names_of
from vizsla.shards.pool import Shard, Shards


@dataclass(frozen=True)
class _Ids:
    """Work on a shard: where these names are, if they are here."""

    wanted: frozenset[str]

    def __call__(self, shard: Shard) -> dict[str, int]:
        rows = enumerate(names_of(shard.file), start=shard.first)
        return {name: row for row, name in rows if name in self.wanted}


def ids_of(pool: Shards, names: Iterable[str], engine: Engine) -> dict[str, int]:
    """Name → id, of those names that the pool has."""
    found: dict[str, int] = {}
    for _, part in engine.map(_Ids(frozenset(names)), pool.parts):
        found |= part
    return found


def names_at(pool: Shards, ids: Int64[np.ndarray, " m"]) -> list[str]:
    """The name of each of a few rows."""
    files: dict[str, list[str]] = {}
    names = []
    for row in ids.tolist():
        place = np.searchsorted([part.first for part in pool.parts], row, side="right") - 1
        shard = pool.parts[int(place)]
        if shard.file not in files:
            files[shard.file] = names_of(shard.file)
        names.append(files[shard.file][row - shard.first])
    return names
