"""The graph of nearest neighbours of a pool, and labels that spread along it.

n rows, k neighbours of each, l labelled rows, c classes, m new rows.
"""

from __future__ import annotations

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
    before, now, weight = told, step @ told + told, 2 / (2 - alpha**2)
    for _ in range(_STEPS):
        before, now = now, weight * (step @ now + told - before) + before
        weight = 1 / (1 - 0.25 * alpha**2 * weight)
    heard: Float32[np.ndarray, "n c"] = (1 - alpha) * now
    return heard


def own_voice(graph: Graph, rows: Int64[np.ndarray, " l"], alpha: float = ALPHA) -> Float32[np.ndarray, " l"]:
    """How much each of the rows hears of what it is told itself: the diagonal of (1 − α)(I − αS)⁻¹.

    By the walks that come back: those of up to six steps are counted, longer ones fall off as the fourth to the
    sixth do. Within a few per cent.
    """
    start = graph.weights[rows]
    two = start @ graph.weights
    three = two @ graph.weights
    back = [
        np.ones(len(rows)),
        np.zeros(len(rows)),  # there are no loops
        _products(start, start),
        _products(two, start),
        _products(two, two),
        _products(three, two),
        _products(three, three),
    ]
    total = sum(alpha**steps * share for steps, share in enumerate(back))
    falls = alpha * np.sqrt(back[6] / np.maximum(back[4], 1e-12)).clip(max=1)
    return ((1 - alpha) * (total + alpha**6 * back[6] * falls / (1 - falls))).astype(np.float32)


def _products(some: csr_array, others: csr_array) -> np.ndarray:
    """The product of each row of one with the same row of the other."""
    return np.asarray(some.multiply(others).sum(axis=1)).ravel()
