"""Choosing from clusters and balls: TypiClust, ProbCover, Cluster-Margin. N rows, n candidates, k clusters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.random import Generator
from torch import Tensor

from vizsla.functional.neighbours import Balls, typicality
from vizsla.functional.rows import Picked, gather

SMALL = 5


def typical(
    rows: Float[Tensor, "N d"],
    clusters: Int64[np.ndarray, " N"],
    candidate: Bool[np.ndarray, " N"],
    labelled: Bool[np.ndarray, " N"],
    n: int,
) -> Picked:
    """The most typical candidate of the cluster with the fewest labels, of those the largest; again and again.

    Clusters of up to 5 rows are passed over while others have candidates. Rows that are neither candidates
    nor labelled are in no cluster.

    Returns: positions in chosen order, and the typicality of each.
    Source:  Hacohen et al. 2022, arXiv:2202.02794.
    """
    there = candidate | labelled
    k = int(clusters.max()) + 1
    sizes = np.bincount(clusters[there], minlength=k)
    labels = np.bincount(clusters[labelled], minlength=k)
    left = np.bincount(clusters[candidate], minlength=k)
    queues: dict[int, list[tuple[int, float]]] = {}
    picks, scores = [], []
    for _ in range(n):
        open_ones = np.flatnonzero(left > 0)
        large = open_ones[sizes[open_ones] > SMALL]
        among = large if len(large) else open_ones
        chosen = int(among[np.lexsort((-sizes[among], labels[among]))[0]])
        if chosen not in queues:
            queues[chosen] = _by_typicality(rows, np.flatnonzero(there & (clusters == chosen)), candidate)
        row, score = queues[chosen].pop()
        picks.append(row)
        scores.append(score)
        labels[chosen] += 1
        left[chosen] -= 1
    return np.array(picks, np.int64), np.array(scores)


def _by_typicality(
    rows: Tensor, members: Int64[np.ndarray, " m"], candidate: Bool[np.ndarray, " N"]
) -> list[tuple[int, float]]:
    """The candidates of a cluster, the most typical last."""
    values = typicality(rows[torch.from_numpy(members).to(rows.device)])
    return [
        (int(members[i]), float(values[i]))
        for i in np.argsort(values, kind="stable")
        if candidate[members[i]]
    ]


def central(
    rows: Float[Tensor, "N d"], centroids: Float[Tensor, "k d"], clusters: Int64[np.ndarray, " N"]
) -> Picked:
    """Of each cluster that has rows, largest first, the most typical row of the quarter nearest to its centroid.

    Args:    clusters: which each row is in; −1 for rows that are in none.
    Returns: positions, and the typicality of each.
    """
    picks, scores = [], []
    for cluster in np.argsort(-np.bincount(clusters[clusters >= 0]), kind="stable"):
        members = np.flatnonzero(clusters == cluster)
        if not len(members):
            break
        near = gather(rows, members)
        away = (near - centroids[int(cluster)]).square().sum(dim=1).cpu().numpy()
        inner = np.sort(np.argsort(away, kind="stable")[: -(-len(members) // 4)])
        values = typicality(near)[inner]
        best = int(values.argmax())
        picks.append(members[inner[best]])
        scores.append(values[best])
    return np.array(picks, np.int64), np.array(scores)


def cover(
    graph: Balls,
    candidate: Bool[np.ndarray, " N"],
    labelled: Int64[np.ndarray, " l"],
    n: int,
    farthest: Callable[[Int64[np.ndarray, " p"]], int],
    rng: Generator,
) -> Picked:
    """ProbCover: again and again the candidate whose ball holds most rows that no ball covers yet.

    All edges into a covered row go, whoever they come from; each edge goes once, so the whole costs O(edges).

    Args:    farthest: given all rows chosen or labelled, the unpicked candidate to take when no ball gains.
    Returns: positions in chosen order, and how many rows each newly covered.
    Source:  Yehuda et al. 2022, arXiv:2205.11320.
    """
    covered = np.zeros(len(candidate), bool)
    gains = np.diff(graph.starts).astype(np.int64)
    open_ones = candidate.copy()

    def add(row: int) -> None:
        fresh = graph.of(row)
        fresh = fresh[~covered[fresh]]
        covered[fresh] = True
        for one in fresh.tolist():  # balls are symmetric: those that hold a row are those in its ball
            gains[graph.of(one)] -= 1

    for row in labelled.tolist():
        add(row)
    picks: list[int] = []
    scores: list[float] = []
    for _ in range(n):
        values = np.where(open_ones, gains, -1)
        best = int(values.max())
        if best > 0:
            pick = int(rng.choice(np.flatnonzero(values == best)))
        else:
            pick = farthest(np.concatenate([labelled, np.array(picks, np.int64)]))
        picks.append(pick)
        scores.append(float(max(best, 0)))
        open_ones[pick] = False
        add(pick)
    return np.array(picks, np.int64), np.array(scores)


def round_robin(
    ranked: Int64[np.ndarray, " m"], clusters: Int64[np.ndarray, " m"], n: int
) -> Int64[np.ndarray, " n"]:
    """From each cluster in turn, the smallest first, its next one in the order given; full turns until n.

    Source: Citovsky et al. 2021, arXiv:2107.14263 (Cluster-Margin).

    >>> round_robin(np.array([5, 6, 7, 8]), np.array([1, 1, 1, 0]), 3)
    array([8, 5, 6])
    """
    names, sizes = np.unique(clusters, return_counts=True)
    queues = [list(ranked[clusters == name]) for name in names[np.argsort(sizes, kind="stable")]]
    picks: list[int] = []
    while len(picks) < n:
        for queue in queues:
            if queue and len(picks) < n:
                picks.append(int(queue.pop(0)))
    return np.array(picks, np.int64)
