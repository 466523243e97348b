"""The best of each shard, merged into the best of all: exact, and the same however the pool is parted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from vizsla.engine import Engine
from vizsla.shards.learned import Learned
from vizsla.shards.pool import Shard, Shards
from vizsla.types import Progress


@dataclass(frozen=True, eq=False)
class Ranked:
    """Rows by their ids, the best first; equal scores in ascending order of chance, then of id."""

    ids: Int64[np.ndarray, " m"]
    scores: Float64[np.ndarray, " m"]
    chance: Float64[np.ndarray, " m"]

    def best(self, n: int) -> Ranked:
        order = np.lexsort((self.ids, self.chance, -self.scores))[:n]
        return Ranked(self.ids[order], self.scores[order], self.chance[order])

    def merged(self, other: Ranked, n: int) -> Ranked:
        """The n best of both."""
        pairs = ((self.ids, other.ids), (self.scores, other.scores), (self.chance, other.chance))
        return Ranked(*(np.concatenate(pair) for pair in pairs)).best(n)


NOTHING = Ranked(np.empty(0, np.int64), np.empty(0), np.empty(0))


@dataclass(frozen=True, eq=False)
class _Best:
    """Work on a shard: its n best rows by a rule whose scores stand alone."""

    learned: Learned
    n: int

    def __call__(self, shard: Shard) -> Ranked:
        view = self.learned.view(shard)
        n = min(self.n, len(view.ids))
        if not n:
            return NOTHING
        batch = self.learned.rule.choose(view, n, np.random.default_rng(self.learned.seed))
        chance = shard.chance(self.learned.seed)[batch.ids - shard.first]
        return Ranked(batch.ids, batch.scores, chance)


@dataclass(frozen=True, eq=False)
class _Total:
    """Work on a shard: what the rule must know of all rows, summed over those of the shard."""

    learned: Learned

    def __call__(self, shard: Shard) -> tuple[Float64[Tensor, " m"] | None, int]:
        view, average = self.learned.view(shard), self.learned.rule.average
        assert average is not None
        n = len(view.ids)
        return (average(view).double() * n, n) if n else (None, 0)


def ranking(
    pool: Shards, learned: Learned, n: int, engine: Engine, progress: Progress | None = None
) -> Ranked:
    """The n best of the pool by a rule whose scores stand alone. Each shard is read once, twice where the rule
    must know something of the whole pool."""
    if learned.rule.average is not None:
        learned = replace(learned, average=_average(pool, learned, engine))
    found = NOTHING
    for done, (_, part) in enumerate(engine.map(_Best(learned, n), pool.parts), start=1):
        found = found.merged(part, n)
        if progress:
            progress(done, len(pool.parts))
    return found


def _average(pool: Shards, learned: Learned, engine: Engine) -> Float[Tensor, " m"]:
    """Summed in the order of the shards, so that the last digit does not depend on who is done first."""
    sums = dict(engine.map(_Total(learned), pool.parts))
    ordered = [sums[place] for place in range(len(pool.parts))]
    return torch.stack([total for total, _ in ordered if total is not None]).sum(dim=0) / sum(
        n for _, n in ordered
    )


def drawn(pool: Shards, closed: Int64[np.ndarray, " l"], n: int, seed: int) -> Int64[np.ndarray, " n"]:
    """n unlabelled ids drawn uniformly, without a look at any row; fewer where there are no more."""
    found = NOTHING
    for shard in pool.parts:
        kept = shard.others(closed)
        chance = shard.chance(seed)[kept]
        if len(found.ids) == n:  # most rows of a large pool are never sorted
            better = chance < found.chance[-1]
            kept, chance = kept[better], chance[better]
        found = found.merged(Ranked(shard.first + kept, np.zeros(len(kept)), chance), n)
    return found.ids
