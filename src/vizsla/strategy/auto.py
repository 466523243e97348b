"""`auto`: the default, for every budget from no labels on."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.random import Generator
from torch import Tensor

from vizsla.functional.clusters import central
from vizsla.functional.design import directions, weighted_design
from vizsla.functional.kmeans import kmeans
from vizsla.functional.rows import Picked
from vizsla.functional.uncertainty import margin
from vizsla.strategy.base import Pool, View, pool_of, strategies
from vizsla.types import Batch

STARTS = 10
"""k-means runs of which the best is taken: they are cheap, and the first labels decide much."""
_SETTLED = 1e-4


@strategies.rule("auto", needs={"embeddings"}, wants={"probs"}, joint=True)
def auto_batch(view: View, n: int, rng: Generator) -> Batch:
    """The default: first the middles of clusters, then images that tell most about those the model is unsure of."""
    pool = pool_of(view)
    if not len(pool.labelled):
        return view.pick(*_middles(pool, n, rng))
    worth = _worth(view.probs, len(view.ids))
    return view.pick(*weighted_design(pool.rows, pool.candidates, pool.labelled, worth, n, rng))


def _worth(probs: Float[Tensor, "n c"] | None, n: int) -> Float[Tensor, " n"]:
    """How unsure the model is of each candidate, 1 − (p1 − p2); all alike where it is never unsure or not there."""
    if probs is None:
        return torch.ones(n)
    worth = 1 + margin(probs).float()
    return worth if worth.max() > 0 else torch.ones_like(worth)


def _middles(pool: Pool, n: int, rng: Generator) -> Picked:
    """Of each of n clusters by direction a typical row near its middle; clusters that stay empty leave it to chance."""
    rows = directions(pool.rows, pool.candidates, rng)
    found = min(
        (kmeans(rows, n, rng, settled=_SETTLED) for _ in range(STARTS)), key=lambda clusters: clusters.cost
    )
    places, scores = central(rows, found.centroids, found.labels)
    others = rng.permutation(np.setdiff1d(np.arange(len(rows)), places))[: n - len(places)]
    return np.concatenate([places, others]), np.append(scores, np.zeros(len(others)))
