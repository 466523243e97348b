"""Neighbours within a pool, without ever writing down all N × N distances. N rows, d features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int32, Int64
from numpy.random import Generator
from scipy.sparse import coo_array, eye_array
from torch import Tensor

from vizsla.functional.centre import centre_of
from vizsla.functional.rows import BLOCK_BYTES, gather, seen_from, sq_norms

_SAMPLED = 4096
_TILE = 2048
PURITY = 0.95


def typicality(rows: Float[Tensor, "n d"], most: int = 20) -> Float64[np.ndarray, " n"]:
    """1 / mean distance to the nearest min(`most`, n/2) other rows; at least one.

    Args:    rows: a cluster. Equal rows give a finite number, larger than any other.
    Source:  Hacohen et al. 2022, arXiv:2202.02794.
    """
    n = len(rows)
    k = min(max(1, min(most, n // 2)), n - 1)
    if k < 1:
        return np.ones(n)
    centre = centre_of(rows).point
    norms = sq_norms(rows, centre)
    out = torch.empty(n, dtype=torch.float64)
    step = max(16, BLOCK_BYTES // (4 * n))
    seen: Tensor | None = centre
    if 4 * rows.numel() <= 4 * BLOCK_BYTES:  # few: seen from there once and for all
        rows, seen = seen_from(centre, rows), None
    for start in range(0, n, step):
        mine = torch.arange(start, min(start + step, n), device=rows.device)
        away = _squared(seen_from(seen, rows[mine]), norms[mine], rows, norms, seen)
        away[mine - start, mine] = torch.inf
        near = away.topk(k, dim=1, largest=False).values
        out[mine.cpu()] = near.sqrt().mean(dim=1).double().cpu()
    return (1 / (out + 1e-5)).numpy()


def _squared(some: Tensor, lengths: Tensor, rows: Tensor, norms: Tensor, centre: Tensor | None) -> Tensor:
    parts = []
    for start in range(0, len(rows), _TILE):
        place = slice(start, start + _TILE)
        parts.append(torch.addmm(norms[place], some, seen_from(centre, rows[place]).T, alpha=-2))
    away = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
    return away.add_(lengths[:, None]).clamp_(min=0)


def pure_radius(
    rows: Float[Tensor, "n d"], labels: Int64[np.ndarray, " n"], rng: Generator, purity: float = PURITY
) -> float:
    """The largest radius at which a share `purity` of balls hold rows of one cluster only.

    A ball is pure exactly while the nearest row of another cluster is outside it, so the radius is a quantile
    of those distances: no search. On large pools the balls of 4,096 rows drawn at random stand for all.

    Returns: the radius; inf where all rows are of one cluster.
    Source:  Yehuda et al. 2022, arXiv:2205.11320 (purity); the quantile is ours.
    """
    n = len(rows)
    asked = np.arange(n) if n <= _SAMPLED else np.sort(rng.choice(n, _SAMPLED, replace=False))
    code = torch.from_numpy(labels).to(rows.device)
    centre = centre_of(rows).point
    norms, nearest = sq_norms(rows, centre), torch.full((len(asked),), torch.inf, device=rows.device)
    mine = torch.from_numpy(asked).to(rows.device)
    some, own = gather(rows, asked, centre), code[mine]
    for start in range(0, n, _TILE):
        place = slice(start, min(start + _TILE, n))
        others = seen_from(centre, rows[place])
        away = torch.addmm(norms[place], some, others.T, alpha=-2).add_(norms[mine][:, None])
        away.masked_fill_(own[:, None] == code[None, place], torch.inf)
        nearest = torch.minimum(nearest, away.amin(dim=1))
    edges = np.sort(nearest.clamp_(min=0).sqrt().double().cpu().numpy())
    allowed = int(np.floor((1 - purity) * len(edges) + 1e-9))  # balls that may be impure
    return float(edges[min(allowed, len(edges) - 1)])


@dataclass(frozen=True, eq=False)
class Balls:
    """Which rows lie within a radius of each row, itself included, as compressed sparse rows."""

    starts: Int32[np.ndarray, " n1"] | Int64[np.ndarray, " n1"]
    members: Int32[np.ndarray, " e"] | Int64[np.ndarray, " e"]

    def of(self, row: int) -> Int32[np.ndarray, " b"] | Int64[np.ndarray, " b"]:
        """Rows in the ball of that row."""
        return self.members[self.starts[row] : self.starts[row + 1]]


def balls(rows: Float[Tensor, "n d"], radius: float) -> Balls:
    """All pairs of rows nearer than the radius; half of the products suffice, for distance is symmetric."""
    n, centre = len(rows), centre_of(rows).point
    norms = sq_norms(rows, centre)
    limit = radius * radius
    firsts, seconds = [], []
    for start in range(0, n, _TILE):
        mine = slice(start, min(start + _TILE, n))
        block = seen_from(centre, rows[mine])
        for other in range(start, n, _TILE):
            place = slice(other, min(other + _TILE, n))
            others = seen_from(centre, rows[place])
            away = torch.addmm(norms[place], block, others.T, alpha=-2).add_(norms[mine, None])
            near = away < limit
            if other == start:
                near = near.triu(diagonal=1)
            i, j = (part.cpu().numpy().astype(np.int32) for part in near.nonzero(as_tuple=True))
            firsts.append(i + start)
            seconds.append(j + other)
    pairs = np.concatenate(firsts), np.concatenate(seconds)
    above = coo_array((np.ones(len(pairs[0]), np.int8), pairs), shape=(n, n)).tocsr()
    graph = (above + above.T + eye_array(n, dtype=np.int8)).tocsr()
    return Balls(graph.indptr, graph.indices)
