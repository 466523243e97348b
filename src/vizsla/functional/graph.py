"""The graph of nearest neighbours of a pool, and labels that spread along it.

n rows, k neighbours of each, l labelled rows, c classes, m new rows.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from scipy.sparse import csr_array, diags_array
from torch import Tensor
from torch.nn.functional import normalize

from vizsla.functional.rows import BLOCK_BYTES

NEIGHBOURS = 15
ALPHA = 0.9
"""How much of what a row is told comes from its neighbours."""
_STEPS = 12  # leave less than 0.3% at α = .9
_SHARPNESS = 3
_TILE = 4096
_WORTH_THREADS = 500_000
_ALL = slice(None)


@dataclass(frozen=True, eq=False)
class Graph:
    """Who resembles whom: an edge where one row is among the k nearest of the other."""

    weights: csr_array
    """(n, n) float32, D^−½ W D^−½ with W = cosine³: symmetric, no loops, eigenvalues from −1 to 1."""

    def __len__(self) -> int:
        return int(self.weights.shape[0])


def neighbour_graph(rows: Float32[Tensor, "n d"], k: int = NEIGHBOURS) -> Graph:
    """The graph of the rows' k nearest by cosine; O(n²d), a block at a time.

    A row with no positive cosine to any other is alone.
    """
    n = len(rows)
    cosines, places = nearest(rows, rows, min(k, n - 1), apart=True)
    starts = places.shape[1] * np.arange(n + 1)
    found = csr_array(((cosines**_SHARPNESS).ravel(), places.ravel(), starts), shape=(n, n))
    joined = found.maximum(found.T).tocsr()
    joined.eliminate_zeros()
    degrees = np.asarray(joined.sum(axis=1)).ravel()
    scale = diags_array(1 / np.sqrt(np.where(degrees > 0, degrees, 1.0)))
    return Graph((scale @ joined @ scale).tocsr().astype(np.float32))


def nearest(
    rows: Float32[Tensor, "m d"], others: Float32[Tensor, "n d"], k: int, *, apart: bool = False
) -> tuple[Float32[np.ndarray, "m k"], Int64[np.ndarray, "m k"]]:
    """Cosines, at least 0, and places of the k others nearest to each row, nearest first.

    Args: apart: rows and others are the same, and no row is its own neighbour.
    """
    known = normalize(others.float(), dim=1)
    cosines, places = np.empty((len(rows), k), np.float32), np.empty((len(rows), k), np.int64)
    step = max(16, BLOCK_BYTES // (4 * max(len(others), 1)))
    for start in range(0, len(rows), step):
        block = slice(start, min(start + step, len(rows)))
        alike = normalize(rows[block].float(), dim=1) @ known.T
        if apart:
            alike[torch.arange(len(alike)), torch.arange(block.start, block.stop)] = -torch.inf
        best, where = alike.topk(k, dim=1)
        cosines[block], places[block] = best.clamp_(min=0).cpu().numpy(), where.cpu().numpy()
    return cosines, places


def spread(
    graph: Graph, told: Float32[np.ndarray, "n c"], alpha: float = ALPHA
) -> Float32[np.ndarray, "n c"]:
    """What each row hears of what some are told: (1 − α)(I − αS)⁻¹ told, by Chebyshev's iteration.

    Args:    told: for example 1 in the column of a labelled row's class, else 0.
    Source:  Zhou et al. 2004, Learning with Local and Global Consistency; Golub & Varga 1961,
             doi:10.1007/BF01386013 (Chebyshev semi-iteration).
    """
    step = alpha * graph.weights

    def heard(some: Float32[np.ndarray, "n b"]) -> Float32[np.ndarray, "n b"]:
        before, now, weight = some, step @ some + some, 2 / (2 - alpha**2)
        for _ in range(_STEPS):
            before, now = now, weight * (step @ now + some - before) + before
            weight = 1 / (1 - 0.25 * alpha**2 * weight)
        return (1 - alpha) * now

    if told.size < _WORTH_THREADS:
        return heard(told)
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # a sparse product lets other threads run
        parts = np.array_split(told, torch.get_num_threads(), axis=1)
        return np.concatenate(list(threads.map(heard, map(np.ascontiguousarray, parts))), axis=1)


@dataclass(frozen=True, eq=False)
class Hearing:
    """What every row hears of the labels, kept apart by fold and class so that any fold can be left out."""

    voices: Float32[np.ndarray, "n m"]
    """One column for each fold and class that has a label."""
    fold_of: Int64[np.ndarray, " m"]
    class_of: Int64[np.ndarray, " m"]
    labelled: Int64[np.ndarray, " l"]
    fold: Int64[np.ndarray, " l"]
    """Which labels are left out together."""
    c: int

    @property
    def heard(self) -> Float32[np.ndarray, "n c"]:
        """Of all labels."""
        return self.without(self.fold[:0])

    @property
    def unheard(self) -> Float32[np.ndarray, "l c"]:
        """What the labelled rows would hear without their own label and those of its fold."""
        heard = np.empty((len(self.labelled), self.c), np.float32)
        for fold in np.unique(self.fold):
            out = self.fold == fold
            heard[out] = self.without(self.fold[out], self.labelled[out])
        return heard

    def without(
        self, folds: Int64[np.ndarray, " f"], rows: Int64[np.ndarray, " r"] | slice = _ALL
    ) -> Float32[np.ndarray, "r c"]:
        """What some rows hear when the labels of some folds are not told."""
        summed = np.zeros((len(self.class_of), self.c), np.float32)
        summed[np.arange(len(summed)), self.class_of] = ~np.isin(self.fold_of, folds)
        return self.voices[rows] @ summed


def hearing(
    graph: Graph,
    labelled: Int64[np.ndarray, " l"],
    labels: Int64[np.ndarray, " l"],
    fold: Int64[np.ndarray, " l"],
    c: int,
) -> Hearing:
    """Spread labels, those of each fold apart: at most l columns, and at most c for each fold."""
    pairs, column = np.unique(np.stack([fold, labels], axis=1), axis=0, return_inverse=True)
    told = np.zeros((len(graph), len(pairs)), np.float32)
    told[labelled, column.ravel()] = 1
    return Hearing(spread(graph, told), pairs[:, 0], pairs[:, 1], labelled, fold, c)
