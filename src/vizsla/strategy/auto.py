"""`auto`: the default, for every budget from no labels on."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
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
MIDDLES = 200
"""Clusters at most; what is asked for beyond them is chosen for what the middles leave untold."""
_SETTLED = 1e-4


@strategies.rule("auto", needs={"embeddings"}, wants={"probs", "labels", "familiar"}, joint=True)
def auto_batch(view: View, n: int, rng: Generator) -> Batch:
    """The default: first the middles of clusters, then images that tell most about those the model is unsure of."""
    pool = pool_of(view)
    if not len(pool.labelled):
        return view.pick(*_middles(pool, n, rng))
    worth = _worth(view.probs, len(view.ids))
    ignorance = hardly_known(view.labels if view.labels is not None else np.zeros(len(pool.labelled), int))
    worth = (1 - ignorance) * worth + ignorance
    if view.familiar is not None:  # what is of no class is not worth knowing
        worth = worth * torch.from_numpy(view.familiar).to(worth)
    return view.pick(*weighted_design(pool.rows, pool.candidates, pool.labelled, worth, n, rng))


def _worth(probs: Float[Tensor, "n c"] | None, n: int) -> Float[Tensor, " n"]:
    """How unsure the model is of each candidate, 1 − (p1 − p2); all alike where it is never unsure or not there."""
    if probs is None:
        return torch.ones(n)
    worth = 1 + margin(probs).float()
    return worth if worth.max() > 0 else torch.ones_like(worth)


def hardly_known(labels: Int64[np.ndarray, " l"]) -> float:
    """Chance that an image is of a class that has no label yet or one only: whatever the model says, it cannot know.

    Turing's estimate, the share of labels that are the only one of their class, with one more of them added.
    Without it a class that looks much like another is never asked for: the model is sure that it is the other.

    Source: Good 1953, doi:10.1093/biomet/40.3-4.237.

    >>> hardly_known(np.array([0, 0, 1, 1])), hardly_known(np.array([0, 0, 1])), hardly_known(np.array([0, 1]))
    (0.2, 0.5, 1.0)
    """
    seldom = np.count_nonzero(np.unique(labels, return_counts=True)[1] == 1)
    return float((seldom + 1) / (len(labels) + 1))


def _middles(pool: Pool, n: int, rng: Generator) -> Picked:
    """Of each of n clusters by direction a typical row near its middle; then what tells most about the rest."""
    rows = directions(pool.rows, pool.candidates, rng)
    k = min(n, MIDDLES)
    found = min((kmeans(rows, k, rng, settled=_SETTLED) for _ in range(STARTS)), key=lambda run: run.cost)
    places, scores = central(rows, found.centroids, found.labels)
    rest = np.setdiff1d(np.arange(len(rows)), places)
    middles, others = pool.candidates[places], pool.candidates[rest]
    more, gains = weighted_design(pool.rows, others, middles, torch.ones(len(rest)), n - len(places), rng)
    return np.concatenate([places, rest[more]]), np.append(scores, gains)
