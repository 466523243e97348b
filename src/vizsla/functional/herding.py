"""Herding: rows that between them are near to as much of the pool as can be.

N rows, d features, n candidates, l labelled; r references, the candidates whose coverage counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import normalize

from vizsla.functional.rows import Picked, gather, parts

REFERENCES = 2048
NEAR_DUPLICATE = 0.1
"""Distance of two unit rows at a cosine of .995."""
_NEIGHBOUR = 20
_ASKED = 256  # rows whose neighbours settle the bandwidth
_LABELLED = 4096  # labelled rows that settle it
_FIRST = 32  # stale candidates looked at first; twice as many each time that is not enough
_ROUNDING = 1e-7


def herding(
    rows: Float[Tensor, "N d"],
    candidates: Int64[np.ndarray, " n"],
    labelled: Int64[np.ndarray, " l"],
    weights: Float[Tensor, " n"],
    k: int,
    rng: Generator,
    *,
    references: int = REFERENCES,
    centre: Float[Tensor, " d"] | None = None,
) -> Picked:
    """Greedy maximum of Σ_j u_j max_{i ∈ labelled or chosen} k(i, j): each next candidate adds most to it.

    k = exp(−d²/σ²) between rows scaled to unit length, σ by `bandwidth`. The sum runs over at most `references`
    candidates j, drawn at random. With u = 1 that is MaxHerding, with u = the model's doubt UHerding.

    Args:    weights: u of the candidates, at least 0.
             centre: where the rows' directions are seen from; default: the origin.
    Returns: positions among the candidates in chosen order, and what each added per reference, not increasing.
             Once nothing can be added the rest is random, with 0.
    Source:  Bae et al. 2024, arXiv:2407.12212 (MaxHerding); Bae et al. 2025, arXiv:2412.20644 (UHerding).
    """
    drawn = np.arange(len(candidates))
    if len(drawn) > references:
        drawn = np.sort(rng.choice(drawn, references, replace=False))
    sigma = bandwidth(rows, candidates, labelled, rng, centre)
    kernel = Kernel(normalize(gather(rows, candidates[drawn], centre), dim=1), sigma)
    covered = torch.zeros(len(drawn), device=rows.device)
    for _, block in parts(rows, labelled, len(drawn), centre):
        covered = torch.maximum(covered, kernel(normalize(block, dim=1)).amax(dim=0))
    worth = weights.to(kernel.points)[torch.from_numpy(drawn).to(rows.device)]
    return _Coverage(rows, candidates, centre, kernel, worth, covered).greedy(k, rng)


def bandwidth(
    rows: Float[Tensor, "N d"],
    candidates: Int64[np.ndarray, " n"],
    labelled: Int64[np.ndarray, " l"],
    rng: Generator,
    centre: Float[Tensor, " d"] | None = None,
) -> float:
    """σ: the smallest distance within the labelled rows, so that one label does not cover another.

    Distances of near-duplicates (up to .1) do not count: one pair of them, apart by rounding, would leave a
    kernel that covers nothing. Where no distance counts it is the median distance of a candidate to its 20th
    neighbour among the candidates, and at least .1.
    """
    among = labelled if len(labelled) <= _LABELLED else rng.choice(labelled, _LABELLED, replace=False)
    known = normalize(gather(rows, among, centre), dim=1)
    smallest = np.inf
    for block in known.split(512) if len(known) > 1 else ():
        away = _squared(block, known).sqrt_()
        smallest = min(smallest, float(away.masked_fill_(away <= NEAR_DUPLICATE, torch.inf).min()))
    return smallest if smallest < np.inf else _usual_distance(rows, candidates, rng, centre)


def _usual_distance(
    rows: Tensor, candidates: Int64[np.ndarray, " n"], rng: Generator, centre: Tensor | None
) -> float:
    if len(candidates) < 2:
        return 1.0
    asked = np.arange(len(candidates))
    if len(asked) > _ASKED:
        asked = np.sort(rng.choice(asked, _ASKED, replace=False))
    some = normalize(gather(rows, candidates[asked], centre), dim=1)
    own = torch.from_numpy(asked).to(rows.device)
    rank = min(_NEIGHBOUR, len(candidates) - 1)
    near = torch.empty(len(asked), 0, device=rows.device)
    for place, block in parts(rows, candidates, len(asked), centre):
        away = _squared(some, normalize(block, dim=1))
        inside = torch.nonzero((own >= place.start) & (own < place.stop))[:, 0]
        away[inside, own[inside] - place.start] = torch.inf
        near = torch.cat([near, away], dim=1)
        near = near.topk(min(rank, near.shape[1]), dim=1, largest=False).values
    return max(float(near[:, -1].median().sqrt()), NEAR_DUPLICATE)


def _squared(some: Float32[Tensor, "a d"], others: Float32[Tensor, "b d"]) -> Float32[Tensor, "a b"]:
    lengths = some.square().sum(dim=1), others.square().sum(dim=1)
    return torch.addmm(lengths[1], some, others.T, alpha=-2).add_(lengths[0][:, None]).clamp_(min=0)


class Kernel:
    """exp(−d²/σ²) of rows with some points, both of unit length or zero."""

    def __init__(self, points: Float32[Tensor, "r d"], sigma: float) -> None:
        self.points = points
        self.scaled = points * (2 / sigma**2)
        self.shift = points.square().sum(dim=1) / -(sigma**2)
        self.sigma = sigma

    def __call__(self, block: Float32[Tensor, "b d"]) -> Float32[Tensor, "b r"]:
        lengths = block.square().sum(dim=1, keepdim=True) / self.sigma**2
        return torch.addmm(self.shift, block, self.scaled.T).sub_(lengths).exp_()


@dataclass(eq=False)
class _Coverage:
    rows: Tensor
    candidates: Int64[np.ndarray, " n"]
    centre: Tensor | None
    kernel: Kernel
    worth: Float32[Tensor, " r"]
    covered: Float32[Tensor, " r"]
    """m_j, the largest kernel of a reference with anything labelled or chosen."""

    def gains(self, positions: Int64[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
        """Σ_j u_j [k(i, j) − m_j]₊ / r: over references, so each candidate gets one number."""
        out = torch.empty(len(positions), device=self.rows.device)
        for place, block in parts(self.rows, self.candidates[positions], len(self.covered), self.centre):
            more = self.kernel(normalize(block, dim=1)).sub_(self.covered).clamp_(min=0)
            torch.mv(more, self.worth, out=out[place])
        gains = out.double().cpu().numpy() / len(self.covered)
        gains[gains <= _ROUNDING * float(self.worth.mean())] = 0.0
        return gains

    def greedy(self, k: int, rng: Generator) -> Picked:
        """Lazily: a gain only falls as more is covered, so what it was once bounds what it is.

        Source: Minoux 1978, doi:10.1007/BFb0006528.
        """
        bounds = self.gains(np.arange(len(self.candidates)))
        picks, scores = np.empty(k, np.int64), np.zeros(k)
        fresh = np.ones(len(bounds), bool)
        for step in range(k):
            self._settle(bounds, fresh)
            best = bounds.max()
            picks[step] = rng.choice(np.flatnonzero(bounds == best))
            scores[step] = best
            bounds[picks[step]] = -np.inf
            if best > 0:
                self._cover(picks[step])
                fresh = bounds <= 0  # what can add nothing now never will
        return picks, scores

    def _settle(self, bounds: Float64[np.ndarray, " n"], fresh: np.ndarray) -> None:
        """Evaluate candidates, largest bound first, until no other can be as good as the best of them."""
        size = _FIRST
        while True:
            contenders = np.flatnonzero(~fresh & (bounds >= bounds.max(where=fresh, initial=-np.inf)))
            if not len(contenders):
                return
            if len(contenders) > size:
                contenders = contenders[np.argpartition(-bounds[contenders], size)[:size]]
            bounds[contenders] = np.minimum(bounds[contenders], self.gains(contenders))
            fresh[contenders] = True
            size *= 2

    def _cover(self, pick: int) -> None:
        block = normalize(gather(self.rows, self.candidates[[pick]], self.centre), dim=1)
        self.covered = torch.maximum(self.covered, self.kernel(block)[0])
