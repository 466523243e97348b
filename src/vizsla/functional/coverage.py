"""Choosing points that lie far apart: greedy k-center and k-means++ seeding. N points, n picks.

Both keep for each point an upper bound of its squared distance to what is chosen. Picks only ever lower it, so
a point needs another look only when its bound would win; most points are looked at a few times in all instead
of once per pick.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from numpy.random import Generator

from vizsla.functional.rows import Picked
from vizsla.functional.spaces import Space

_AT_ONCE = 256
_PROPOSALS = 32
_PATIENCE = 4  # rounds of proposals without a pick before all bounds are brought up to date


def k_center(space: Space, bounds: Float64[np.ndarray, " N"], n: int, rng: Generator) -> Picked:
    """Greedy k-center: again and again the point farthest from all that is chosen, ties at random.

    Args:    bounds: squared distance of each point to the nearest labelled one; inf where nothing is labelled,
             −inf for points that may not be chosen. At least n are finite or inf. It is changed in place.
    Returns: positions in chosen order, and the distance of each when it was chosen (0 for a first pick
             that has nothing to be far from).
    Source:  Gonzalez 1985, doi:10.1016/0304-3975(85)90224-5; Sener & Savarese 2018, arXiv:1708.00489. The lazy
             evaluation is that of Minoux 1978, doi:10.1007/BFb0006528.
    """
    picks = np.empty(n, np.int64)
    scores = np.zeros(n)
    seen = np.zeros(len(space), np.int64)  # how many picks each bound takes account of
    whole = 0  # how many all of them do
    for t in range(n):
        looked_at = 0
        while True:
            best = bounds.max()
            tied = np.flatnonzero(bounds == best)
            late = tied[seen[tied] < t]
            if not len(late):
                break
            looked_at += max(len(late), _AT_ONCE)
            if best == np.inf or looked_at > len(space) // 8:
                np.minimum(bounds, space.nearest(picks[whole:t]), out=bounds)
                seen[:], whole = t, t
                continue
            k = min(_AT_ONCE, len(bounds) - 1)
            late = np.union1d(late[:_AT_ONCE], np.argpartition(bounds, -k)[-k:])
            late = late[(seen[late] < t) & (bounds[late] > -np.inf)]
            away = space.between(late, picks[seen[late].min() : t]).min(axis=1)
            bounds[late] = np.minimum(bounds[late], away)
            seen[late] = t
        picks[t] = rng.choice(tied)
        scores[t] = 0.0 if best == np.inf else np.sqrt(best)
        bounds[picks[t]] = -np.inf
    return picks, scores


def d2_sampling(
    space: Space, bounds: Float64[np.ndarray, " N"], n: int, rng: Generator, *, first: int | None = None
) -> Picked:
    """k-means++ seeding: each point is drawn with probability ∝ its squared distance to the nearest pick.

    Points are proposed by their bounds and accepted with probability distance ÷ bound, which draws from
    exactly that distribution and looks at few points. Where all distances are 0, unpicked points at random.

    Args:    bounds: 1 where a point may be chosen, 0 where not; at least n ones. It is changed in place.
             first: the first pick; default: drawn uniformly.
    Returns: positions in chosen order, and the squared distance of each when it was chosen.
    Source:  Arthur & Vassilvitskii 2007, k-means++.
    """
    allowed = bounds > 0
    start = int(rng.choice(np.flatnonzero(allowed))) if first is None else first
    picks, scores = [start], [float(space.lengths()[start]) if first is not None else 0.0]
    allowed[start] = False
    bounds[:] = np.where(allowed, space.nearest(np.array([start])), 0.0) if n > 1 else 0.0
    late: list[int] = []  # picks that the bounds do not take account of
    rounds = 0
    while len(picks) < n:
        edges = np.cumsum(bounds)
        if not edges[-1] > 0:
            rest = rng.permutation(np.flatnonzero(allowed))[: n - len(picks)]
            return np.array([*picks, *rest.tolist()]), np.array([*scores, *np.zeros(len(rest))])
        proposed = np.searchsorted(edges, rng.random(_PROPOSALS) * edges[-1], side="right")
        proposed = np.minimum(proposed, len(bounds) - 1)
        bound = bounds[proposed]
        away = bound if not late else np.minimum(bound, space.between(proposed, np.array(late)).min(axis=1))
        accepted = np.flatnonzero((rng.random(_PROPOSALS) * bound < away) & (bound > 0))
        bounds[proposed] = away
        rounds += 1
        if len(accepted):
            pick = int(proposed[accepted[0]])
            picks.append(pick)
            scores.append(float(away[accepted[0]]))
            bounds[pick], allowed[pick] = 0.0, False
            late.append(pick)
        if rounds - len(late) > _PATIENCE:
            if late:
                np.minimum(bounds, space.nearest(np.array(late)), out=bounds)
            late, rounds = [], 0
    return np.array(picks), np.array(scores)
