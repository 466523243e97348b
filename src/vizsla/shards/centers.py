"""k-center and k-means over all shards: what takes all rows goes to the shards, what decides stays in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from vizsla.engine import Engine
from vizsla.functional.kmeans import Assigned, assigned, first_centroids, lloyd, nearest, sampled
from vizsla.functional.rows import as_rows, seen_from, sq_norms
from vizsla.functional.spaces import Points
from vizsla.shards.learned import Labels, centre_in
from vizsla.shards.pool import Shard, Shards
from vizsla.shards.ranking import NOTHING, Ranked

_OF_EACH = 512
_IN_ALL = 4096
"""Farthest rows of a shard, and of all shards, that one pass brings; the more, the fewer passes."""
_NEAREST = 8


# --- k-center


@dataclass(frozen=True, eq=False)
class _Farthest:
    """Work on a shard: the rows farthest from all centres."""

    centres: Float[np.ndarray, "p d"]
    taken: Int64[np.ndarray, " p"]
    """Ids that are not to be chosen, those chosen already among them; ascending."""
    seed: int
    n: int
    amid: Float[Tensor, " d"]
    """A point amid the pool, from which distances are reckoned."""

    def __call__(self, shard: Shard) -> Ranked:
        """The n farthest by squared distance; infinite where there is no centre."""
        kept = shard.others(self.taken)
        away = np.full(len(kept), np.inf)
        if len(self.centres) and len(kept):
            rows = torch.cat([as_rows(shard.vectors()[kept]), as_rows(self.centres)])
            away = Points(rows, self.amid).nearest(np.arange(len(kept), len(rows)))[: len(kept)]
        return Ranked(shard.first + kept, away, shard.chance(self.seed)[kept]).best(self.n)


def k_center(pool: Shards, labels: Labels, n: int, seed: int, engine: Engine) -> Int64[np.ndarray, " n"]:
    """Greedy k-center over all rows: the same picks as in one place, but for ties, which chance decides.

    A pass over the shards brings the rows that are farthest now. Picks only lower distances, so as long as the best of
    them is farther than every row that was left behind, it is the farthest of all; then another pass is due.
    """
    ids, rows = np.empty(0, np.int64), labels.rows
    amid = centre_in(pool, labels.left_out, engine).point
    while len(ids) < n:
        taken = np.sort(np.concatenate([labels.closed, ids]))
        candidates, limit = _farthest(pool, _Farthest(rows, taken, seed, _OF_EACH, amid), engine)
        vectors = pool.take(candidates.ids, engine)
        chosen = _greedy(candidates, Points(as_rows(vectors), amid), limit, n - len(ids))
        ids = np.concatenate([ids, candidates.ids[chosen]])
        rows = np.concatenate([rows, vectors[chosen]])
    return ids


def _farthest(pool: Shards, work: _Farthest, engine: Engine) -> tuple[Ranked, tuple[float, float]]:
    """The farthest rows, and what the best that was left behind is worth at the most: (distance, −chance)."""
    found, limit = NOTHING, (-np.inf, 0.0)
    for _, part in engine.map(work, pool.parts):
        if len(part.ids) == work.n:  # the shard may hold more, none better than its last
            limit = max(limit, _worth(part, -1))
        found = found.merged(part, _IN_ALL + 1)
    if len(found.ids) > _IN_ALL:
        limit = max(limit, _worth(found, -1))
    return found.best(_IN_ALL), limit


def _worth(rows: Ranked, place: int) -> tuple[float, float]:
    return float(rows.scores[place]), -float(rows.chance[place])


def _greedy(candidates: Ranked, space: Points, limit: tuple[float, float], n: int) -> list[int]:
    """Positions of those that are surely next, at least one."""
    away, chosen = candidates.scores.copy(), list[int]()
    for _ in range(min(n, len(away))):
        tied = np.flatnonzero(away == away.max())
        best = int(tied[candidates.chance[tied].argmin()])
        if chosen and (float(away[best]), -float(candidates.chance[best])) < limit:
            break
        chosen.append(best)
        np.minimum(away, space.between(np.arange(len(away)), np.array([best]))[:, 0], out=away)
        away[best] = -np.inf
    return chosen


# --- k-means


@dataclass(frozen=True, eq=False)
class _Assign:
    """Work on a shard: give its unlabelled rows to their nearest centroids."""

    centroids: Float32[Tensor, "k d"]
    """As seen from the point amid the pool."""
    closed: Int64[np.ndarray, " l"]
    amid: Float[Tensor, " d"]

    def __call__(self, shard: Shard) -> tuple[Tensor, Tensor, float]:
        rows, inside = as_rows(shard.vectors()), torch.from_numpy(_inside(shard, self.closed))
        found = assigned(rows, self.centroids, inside, sq_norms(rows, self.amid), self.amid)
        return found.sums, found.counts, found.cost


@dataclass(frozen=True, eq=False)
class _Nearest:
    """Work on a shard: its unlabelled rows nearest to each centroid."""

    centroids: Float32[Tensor, "k d"]
    closed: Int64[np.ndarray, " l"]
    amid: Float[Tensor, " d"]
    depth: int

    def __call__(self, shard: Shard) -> tuple[Float32[Tensor, "p k"], Int64[Tensor, "p k"]]:
        """Squared distances and ids; inf and −1 where there are not so many."""
        outside = torch.from_numpy(np.where(_inside(shard, self.closed), 0.0, np.inf)).float()
        rows = as_rows(shard.vectors())
        near, where = nearest(rows, self.centroids, outside, self.depth, centre=self.amid)
        return near, torch.where(where >= 0, where + shard.first, -1)


def _inside(shard: Shard, closed: Int64[np.ndarray, " l"]) -> Bool[np.ndarray, " n"]:
    mask = np.zeros(shard.rows, bool)
    mask[shard.others(closed)] = True
    return mask


def k_means(pool: Shards, labels: Labels, n: int, seed: int, engine: Engine) -> Int64[np.ndarray, " n"]:
    """n clusters of the unlabelled rows, and of each the row nearest its centre that no earlier one took.

    Seeds come from a sample that is the same as in one place; each step of Lloyd's algorithm is a pass over the shards.
    """
    rng, closed = np.random.default_rng(seed), labels.closed
    open_ones = np.ones(len(pool), bool)
    open_ones[closed] = False
    allowed = np.flatnonzero(open_ones)
    amid = centre_in(pool, closed, engine).point
    sample = seen_from(amid, as_rows(pool.take(sampled(allowed, n, rng), engine)))
    first = first_centroids(sample, n, rng, settle=len(sample) < len(allowed))
    found = lloyd(first, lambda centroids: _assigned(pool, _Assign(centroids, closed, amid), engine))
    return _representatives(pool, _Nearest(found.centroids, closed, amid, _NEAREST), engine)


def _assigned(pool: Shards, work: _Assign, engine: Engine) -> Assigned:
    """Added up in the order of the shards, so that the last digit does not depend on who is done first."""
    parts = dict(engine.map(work, pool.parts))
    sums, counts, costs = zip(*(parts[place] for place in range(len(parts))), strict=True)
    return Assigned(
        torch.stack(sums).sum(dim=0),
        torch.stack(counts).sum(dim=0),
        sum(costs),
        torch.empty(0, dtype=torch.int64),
    )


def _representatives(pool: Shards, work: _Nearest, engine: Engine) -> Int64[np.ndarray, " k"]:
    """For each centroid in turn the nearest row that no earlier one took."""
    for doubled in count():  # where one has lost all of its nearest to others, look farther
        options = _nearest(pool, replace(work, depth=work.depth << doubled), engine)
        taken: dict[int, None] = {}
        for mine in options.T.tolist():
            free = next((row for row in mine if row >= 0 and row not in taken), None)
            if free is None:
                break
            taken[free] = None
        if len(taken) == len(work.centroids):
            break
    return np.array(list(taken), np.int64)


def _nearest(pool: Shards, work: _Nearest, engine: Engine) -> Int64[Tensor, "p k"]:
    near = torch.full((work.depth, len(work.centroids)), torch.inf)
    where = torch.full(near.shape, -1, dtype=torch.int64)
    parts = dict(engine.map(work, pool.parts))
    for place in range(len(parts)):
        near, order = torch.cat([near, parts[place][0]]).topk(work.depth, dim=0, largest=False)
        where = torch.cat([where, parts[place][1]]).gather(0, order)
    return where
