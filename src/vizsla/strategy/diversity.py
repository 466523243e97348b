"""Strategies that look at where images lie: coverage, clusters, gradients."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.random import Generator

from vizsla.functional import clusters, coverage
from vizsla.functional.kmeans import kmeans, nearest_unpicked
from vizsla.functional.neighbours import balls, pure_radius
from vizsla.functional.spaces import Gradients, Points
from vizsla.functional.uncertainty import margin
from vizsla.strategy.base import Pool, View, pool_of, probs_of, strategies, top_positions
from vizsla.types import Batch

CLUSTERS = 500
PSEUDO_CLASSES = 20


@strategies.rule("coreset", needs={"embeddings"}, joint=True)
def coreset_batch(view: View, n: int, rng: Generator) -> Batch:
    """Greedy k-center: each next image is the farthest from all that are labelled or chosen."""
    pool = pool_of(view)
    space = Points(pool.rows, pool.centre.point)
    bounds = space.nearest(pool.labelled) if len(pool.labelled) else np.full(len(space), np.inf)
    bounds[~pool.is_candidate] = -np.inf
    return _pick(view, pool, *coverage.k_center(space, bounds, n, rng))


@strategies.rule("kmeans", needs={"embeddings"}, joint=True)
def kmeans_batch(view: View, n: int, rng: Generator) -> Batch:
    """As many clusters of the unlabelled images as are asked for, and of each the image nearest its centre."""
    pool = pool_of(view)
    found = kmeans(pool.rows, n, rng, mask=pool.is_candidate, centre=pool.centre.point)
    return _pick(
        view, pool, nearest_unpicked(pool.rows, found.centroids, mask=pool.is_candidate), np.zeros(n)
    )


@strategies.rule("typiclust", needs={"embeddings"}, joint=True)
def typiclust_batch(view: View, n: int, rng: Generator) -> Batch:
    """The most typical images of clusters that have few labels or none."""
    pool = pool_of(view)
    candidate, labelled = pool.is_candidate, pool.is_labelled
    k = min(len(pool.labelled) + n, CLUSTERS)
    found = kmeans(pool.rows, k, rng, mask=candidate | labelled)
    return _pick(view, pool, *clusters.typical(pool.rows, found.labels, candidate, labelled, n))


@strategies.rule("probcover", needs={"embeddings"}, joint=True)
def probcover_batch(view: View, n: int, rng: Generator) -> Batch:
    """Images whose neighbourhoods cover most of what no label covers yet."""
    pool = pool_of(view).alone()
    found = kmeans(pool.rows, min(view.classes or PSEUDO_CLASSES, len(pool.rows)), rng)
    graph = balls(pool.rows, pure_radius(pool.rows, found.labels, rng))
    space, candidate = Points(pool.rows, pool.centre.point), pool.is_candidate

    def farthest(chosen: Int64[np.ndarray, " p"]) -> int:
        away = space.nearest(chosen) if len(chosen) else np.zeros(len(space))
        away[~candidate] = -np.inf
        away[chosen] = -np.inf
        return int(rng.choice(np.flatnonzero(away == away.max())))

    return _pick(view, pool, *clusters.cover(graph, candidate, pool.labelled, n, farthest, rng))


@strategies.rule("badge", needs={"embeddings", "probs"}, joint=True)
def badge_batch(view: View, n: int, rng: Generator) -> Batch:
    """Images whose loss gradients are large and differ: k-means++ seeding, from the largest on."""
    pool, probs = pool_of(view), probs_of(view)
    everywhere = torch.zeros(len(pool.rows), probs.shape[1], device=pool.rows.device)
    everywhere[torch.from_numpy(pool.candidates)] = probs.float().to(pool.rows.device)
    space = Gradients(pool.rows, everywhere, pool.centre.vantage)
    bounds = pool.is_candidate.astype(np.float64)
    lengths = np.where(bounds > 0, space.lengths(), -1.0)
    first = int(rng.choice(np.flatnonzero(lengths == lengths.max())))
    return _pick(view, pool, *coverage.d2_sampling(space, bounds, n, rng, first=first))


@strategies.rule("cluster_margin", needs={"embeddings", "probs"}, joint=True)
def cluster_margin_batch(view: View, n: int, rng: Generator) -> Batch:
    """Of the images nearest to a tie some from each cluster, from small clusters first."""
    pool, probs = pool_of(view), probs_of(view)
    scores = margin(probs).double().cpu().numpy()
    unsure = top_positions(scores, min(10 * n, len(scores)), rng)
    found = kmeans(pool.rows, min(2 * n, CLUSTERS, len(scores)), rng, mask=pool.is_candidate)
    picks = clusters.round_robin(unsure, found.labels[pool.candidates[unsure]], n)
    return view.pick(picks, scores[picks])


def _pick(
    view: View, pool: Pool, places: Int64[np.ndarray, " n"], scores: Float64[np.ndarray, " n"]
) -> Batch:
    """Rows of the pool to positions in the view."""
    position = np.empty(len(pool.rows), np.int64)
    position[pool.candidates] = np.arange(len(pool.candidates))
    return view.pick(position[places], scores)
