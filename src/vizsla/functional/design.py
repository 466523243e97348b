"""Experimental design: the rows whose labels leave a linear classifier least unsure of the whole pool.

N rows, d features, n candidates, l labelled, c classes; m coordinates on which the classifier is thought to learn.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import normalize

from vizsla.functional.centre import centre_of
from vizsla.functional.geometry import axes_that_fit, principal_axes
from vizsla.functional.rows import Picked, blocks, gather, parts

PENALTY = 1 / 30
"""λ, the L2 penalty of `vizsla.models.heads.LogisticHead` on rows of unit length (inverse_strength = 30)."""
_SAMPLE = 4096  # rows that settle the principal axes of a pool
_EQUAL = 1e-9
_TOLD = 0.2  # information of a label, p1(1 − p1) of an image that is in some doubt
_WORN = 0.03  # of the best gain since the last exact one: float32 then still has 1e-4 of it right


def doubt(probs: Float[Tensor, "n c"]) -> Float64[Tensor, " n"]:
    """Variance p1(1 − p1) of "it is the most likely class": what a label's Fisher information is weighted by.

    Returns: (n,) from 0 (certain) to 1/4.

    >>> doubt(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    tensor([0.2500, 0.0000], dtype=torch.float64)
    """
    top = probs.amax(dim=1).double().clamp(max=1)
    return top * (1 - top)


def bait(
    rows: Float[Tensor, "N d"],
    candidates: Int64[np.ndarray, " n"],
    labelled: Int64[np.ndarray, " l"],
    weights: Float[Tensor, " n"],
    known_weights: Float[Tensor, " l"],
    k: int,
    rng: Generator,
) -> Picked:
    """The k candidates that least leave in tr(A⁻¹F): 2k are added greedily, then k of them taken out again.

    A = λI + Σ w h hᵀ over labelled and chosen rows, F = the mean of w h hᵀ over candidates. h is what the head
    reads: the row from the pool's centre, scaled to unit length, and a 1 for the bias; on more than 256 features
    their principal axes (of a large pool fewer: `axes_that_fit`). So neither moving nor scaling all rows changes
    anything. This is BAIT with its Fisher information of "the most likely class or another", of rank one per row.

    Args:    weights: w of the candidates, at least 0 (see `doubt`). known_weights: w of the labelled rows.
    Returns: positions among the candidates in the order in which they were added, and by how much each lowered
             tr(A⁻¹F) then. Candidates without weight come last, at random, with 0.
    Source:  Ash et al. 2021, arXiv:2106.09675.
    """
    return minimise_trace(*_posed(rows, candidates, labelled, weights, known_weights, rng), k, rng)


def weighted_design(
    rows: Float[Tensor, "N d"],
    candidates: Int64[np.ndarray, " n"],
    labelled: Int64[np.ndarray, " l"],
    worth: Float[Tensor, " n"],
    k: int,
    rng: Generator,
) -> Picked:
    """The k candidates after whose labels a linear head is least unsure where it matters, one after the other.

    Each next one least leaves in Σ_j worth_j · h_jᵀA⁻¹h_j, the variance of the head's scores, with
    A = λI + .2·Σ h hᵀ over labelled and chosen rows, and h as in `bait`. Where all are worth the same this is coverage
    of the pool; the more is known of some of them, the more the rest counts. Unlike `bait` it does not ask whether
    the row to be labelled is itself in doubt: a sure row in the midst of doubtful ones tells of them too.

    Args:    worth: of the candidates, at least 0.
    Returns: positions among the candidates in chosen order, and by how much each lowered that sum over n.
    Source:  Yu, Bi & Tresp 2006, doi:10.1145/1143844.1143980 (transductive experimental design), with weights.
    """
    told, known = (torch.full((len(some),), _TOLD) for some in (candidates, labelled))
    points, information = _posed(rows, candidates, labelled, told, known, rng)
    return _Design(points, information, worth.to(points)).forward(k, rng)


def _posed(
    rows: Float[Tensor, "N d"],
    candidates: Int64[np.ndarray, " n"],
    labelled: Int64[np.ndarray, " l"],
    weights: Float[Tensor, " n"],
    known_weights: Float[Tensor, " l"],
    rng: Generator,
) -> tuple[Float32[Tensor, "n m"], Float64[Tensor, "m m"]]:
    """The candidates as the head reads them, times √weight, and what the labelled rows tell already."""
    head = _Inputs(rows, np.concatenate([candidates, labelled]), rng)
    information = PENALTY * torch.eye(head.width, dtype=torch.float64, device=rows.device)
    information += _moment(head.of(rows, labelled, known_weights))
    return head.of(rows, candidates, weights), information


def minimise_trace(
    points: Float32[Tensor, "n m"], information: Float64[Tensor, "m m"], k: int, rng: Generator
) -> Picked:
    """The k points x that least leave in tr(A⁻¹F), A = information + Σ x xᵀ over them, F = mean x xᵀ over all.

    Forward to 2k, then backward to k. O(n·m) per pick after an O(n·m²) start.

    >>> axes = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> minimise_trace(axes, torch.eye(2, dtype=torch.float64), 1, np.random.default_rng(0))[0]
    array([0])
    """
    design = _Design(points, information)
    picks, gains = design.forward(min(2 * k, len(points)), rng)
    kept = design.backward(picks, k)
    return picks[kept], gains[kept]


class _Inputs:
    """Rows as the head reads them, times √w."""

    def __init__(
        self, rows: Float[Tensor, "N d"], positions: Int64[np.ndarray, " s"], rng: Generator
    ) -> None:
        self.axes: Tensor | None = None
        self.amid = centre_of(rows, np.sort(positions)).point  # what is left is exact in float32
        most = axes_that_fit(len(positions), rows.shape[1] * rows.element_size())
        if rows.shape[1] > most:
            some = positions if len(positions) <= _SAMPLE else rng.choice(positions, _SAMPLE, replace=False)
            some = np.sort(some)  # the same pool has the same axes, whatever is labelled of it
            found = principal_axes(gather(rows, some, self.amid).cpu().numpy(), most)
            self.centre = torch.from_numpy(found.centre).to(rows.device)
            self.axes = torch.from_numpy(found.axes.T).to(rows.device)
        else:
            seen = parts(rows, positions, centre=self.amid)
            total = sum(block.double().sum(dim=0) for _, block in seen)
            self.centre = (torch.as_tensor(total) / max(len(positions), 1)).float()
        self.width = 1 + (rows.shape[1] if self.axes is None else self.axes.shape[1])

    def __call__(self, block: Float32[Tensor, "b d"], weights: Float[Tensor, " b"]) -> Float32[Tensor, "b m"]:
        seen = block.sub_(self.centre)  # `parts` gives copies
        seen = normalize(seen if self.axes is None else seen @ self.axes, dim=1, eps=1e-12)
        scale = weights.to(block).sqrt()[:, None]
        return torch.cat([seen, torch.ones_like(scale)], dim=1) * scale

    def of(
        self, rows: Float[Tensor, "N d"], positions: Int64[np.ndarray, " s"], weights: Float[Tensor, " s"]
    ) -> Float32[Tensor, "s m"]:
        """All of these rows."""
        points = torch.empty(len(positions), self.width, device=rows.device)
        for place, block in parts(rows, positions, centre=self.amid):
            points[place] = self(block, weights[place])
        return points


def directions(
    rows: Float[Tensor, "N d"], positions: Int64[np.ndarray, " s"], rng: Generator
) -> Float32[Tensor, "s m"]:
    """The rows as the head reads them: from their centre, on at most 256 axes, of unit length, and a 1."""
    return _Inputs(rows, positions, rng).of(rows, positions, torch.ones(len(positions)))


class _Design:
    """tr(A⁻¹F) while points come and go: M = A⁻¹, and of each point a = xᵀMx and b = xᵀMFMx.

    A point that comes lowers the trace by b/(1 + a) (Sherman–Morrison); one that goes raises it by b/(1 − a).
    All but the points is small, and numpy is quicker at that.
    """

    def __init__(
        self,
        points: Float32[Tensor, "n m"],
        information: Float64[Tensor, "m m"],
        worth: Float32[Tensor, " n"] | None = None,
    ) -> None:
        self.points = points
        moment = torch.zeros_like(information)
        for place, block in blocks(points, 4 * points.shape[1]):
            moment += _moment(block if worth is None else block * worth[place].sqrt()[:, None])
        self.pool = (moment / len(points)).cpu().numpy()
        self.inverse = np.linalg.inv(information.cpu().numpy())
        self.refresh()

    def refresh(self) -> None:
        """a and b without the rounding of all updates so far."""
        both = np.hstack([self.inverse, self.inverse @ self.pool @ self.inverse])
        mixed = torch.from_numpy(both).to(self.points)
        out = torch.empty(2, len(self.points), device=self.points.device)
        for place, block in blocks(self.points, mixed.shape[1]):
            near, far = (block @ mixed).chunk(2, dim=1)
            torch.linalg.vecdot(block, near, out=out[0, place])
            torch.linalg.vecdot(block, far, out=out[1, place])
        self.a, self.b = out.clamp_(min=0).double().cpu().numpy()

    def gains(self, taken: Bool[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        return np.where(taken, -1.0, self.b / (1 + self.a))

    def add(self, pick: int) -> None:
        """A ← A + x xᵀ."""
        x = self.points[pick].double().cpu().numpy()
        u = self.inverse @ x
        c = 1 / (1 + x @ u)
        f = self.pool @ u
        xu, xv = self._products(u, self.inverse @ f)
        self.b += c * xu * (c * (u @ f) * xu - 2 * xv)
        np.maximum(self.b, 0, out=self.b)
        self.a -= c * xu * xu
        self.inverse -= c * np.outer(u, u)

    def _products(
        self, u: Float64[np.ndarray, " m"], v: Float64[np.ndarray, " m"]
    ) -> Float64[np.ndarray, "2 n"]:
        """Points·u and points·v in one pass: the whole cost of a pick."""
        both = np.asfortranarray(np.stack([u, v], axis=1), np.float32)
        if self.points.device.type == "cpu":  # torch takes three times as long as numpy for two columns
            found = self.points.numpy() @ both
        else:
            found = (self.points @ torch.from_numpy(both).to(self.points)).cpu().numpy()
        return np.ascontiguousarray(found.T, np.float64)

    def forward(self, count: int, rng: Generator) -> Picked:
        """The points that lower the trace most, one after the other; those that lower nothing at random."""
        picks, scores = np.empty(count, np.int64), np.zeros(count)
        taken = np.zeros(len(self.points), bool)
        exact = 0.0  # the best gain when a and b were last exact
        for step in range(count):
            gains = self.gains(taken)
            if gains.max() < _WORN * exact:
                self.refresh()
                gains, exact = self.gains(taken), 0.0
            best = gains.max()
            exact = max(exact, best)
            picks[step] = rng.choice(np.flatnonzero(gains == best))
            scores[step], taken[picks[step]] = best, True
            if best > 0:
                self.add(picks[step])
        return picks, scores

    def backward(self, picks: Int64[np.ndarray, " p"], k: int) -> Int64[np.ndarray, " k"]:
        """Which k of the picks to keep: always the one that is missed least goes, of equal ones the latest.

        Only products of the picks with each other matter now: near = XMXᵀ and far = XMFMXᵀ, (p, p).
        """
        x = gather(self.points, picks).double().cpu().numpy()
        half = x @ self.inverse
        near, far = half @ x.T, half @ self.pool @ half.T
        kept = np.ones(len(picks), bool)
        for _ in range(len(picks) - k):
            losses = np.where(kept, np.diag(far) / (1 - np.diag(near)), np.inf)
            out = np.flatnonzero(losses <= losses.min() * (1 + _EQUAL))[-1]
            c, u, v = 1 / (1 - near[out, out]), near[out].copy(), far[out].copy()
            far += c * (np.outer(u, v) + np.outer(v, u)) + c * c * v[out] * np.outer(u, u)
            near += c * np.outer(u, u)
            kept[out] = False
        return np.flatnonzero(kept)


def _moment(block: Float32[Tensor, "b m"]) -> Float64[Tensor, "m m"]:
    exact = block.double()
    return exact.T @ exact
