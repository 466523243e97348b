"""Squared distances in spaces too large to write down. N rows, d features, c classes, m and p some of the rows.

Whole pools are read in blocks and in float32, as seen from a centre. Between few rows distances are exact to float64,
so that equal rows are at distance 0 and not at what rounding leaves.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from vizsla.functional.centre import centre_of
from vizsla.functional.rows import blocks, gather, sq_norms, take

Places = Int64[np.ndarray, " m"]


class Space(Protocol):
    """N points with squared distances."""

    def __len__(self) -> int: ...

    def lengths(self) -> Float64[np.ndarray, " n"]:
        """Squared length of each point."""

    def between(self, some: Places, others: Places) -> Float64[np.ndarray, "m p"]:
        """Squared distances between few points."""

    def nearest(self, others: Places) -> Float64[np.ndarray, " n"]:
        """Squared distance of each point to the nearest of p ≥ 1 others; one pass over the rows."""


class _Rows:
    """Rows, the squared lengths of the points that are made of them, and where both are seen from."""

    def __init__(
        self,
        rows: Float[Tensor, "n d"],
        norms: Float32[Tensor, " n"],
        centre: Float[Tensor, " d"] | None,
    ) -> None:
        self.rows = rows
        self.norms = norms
        self.centre = centre

    def __len__(self) -> int:
        return len(self.rows)

    def lengths(self) -> Float64[np.ndarray, " n"]:
        return self.norms.double().cpu().numpy()

    def _exactly(self, places: Places) -> Float64[Tensor, "m d"]:
        rows = _take(self.rows, places)
        return rows if self.centre is None else rows - self.centre

    def _roughly(self, places: Places) -> Float32[Tensor, "m d"]:
        return gather(self.rows, places, self.centre)


class Points(_Rows):
    """The rows themselves.

    Args: centre: a point amid them, from which distances are reckoned; default: one is found.
    """

    def __init__(self, rows: Float[Tensor, "n d"], centre: Float[Tensor, " d"] | None = None) -> None:
        centre = centre_of(rows).point if centre is None else centre
        super().__init__(rows, sq_norms(rows, centre), centre)

    def lengths(self) -> Float64[np.ndarray, " n"]:
        return sq_norms(self.rows).double().cpu().numpy()

    def between(self, some: Places, others: Places) -> Float64[np.ndarray, "m p"]:
        return _between(self._exactly(some), self._exactly(others))

    def nearest(self, others: Places) -> Float64[np.ndarray, " n"]:
        points = self._roughly(others)
        lengths = take(self.norms, others)
        out = torch.empty(len(self.rows), device=self.rows.device)
        for place, block in blocks(self.rows, len(others), self.centre):
            away = torch.addmm(lengths, block, points.T, alpha=-2)
            torch.amin(away, dim=1, out=out[place])
        return _at_least_0(out.add_(self.norms))


class Gradients(_Rows):
    """The loss gradient of each row at its most probable class, by the last layer: g = δ ⊗ h, (N, c·d) in all.

    ‖g_i − g_j‖² = ‖δ_i‖²‖h_i‖² + ‖δ_j‖²‖h_j‖² − 2⟨δ_i, δ_j⟩⟨h_i, h_j⟩, with δ = p − onehot(argmax p).

    Args: centre: where the layer sees the rows h from; default: the origin.
    """

    def __init__(
        self,
        rows: Float[Tensor, "n d"],
        probs: Float32[Tensor, "n c"],
        centre: Float[Tensor, " d"] | None = None,
    ) -> None:
        self.errors = probs.clone()
        most = probs.argmax(dim=1, keepdim=True)
        self.errors.scatter_add_(1, most, -torch.ones_like(most, dtype=probs.dtype))
        super().__init__(rows, sq_norms(self.errors) * sq_norms(rows, centre), centre)

    def between(self, some: Places, others: Places) -> Float64[np.ndarray, "m p"]:
        (h, e), (g, f) = ((self._exactly(which), _take(self.errors, which)) for which in (some, others))
        norms, other_norms = (a.square().sum(dim=1) * b.square().sum(dim=1) for a, b in ((h, e), (g, f)))
        away = norms[:, None] + other_norms - 2 * (e @ f.T) * (h @ g.T)
        return _exact(away, norms, other_norms)

    def nearest(self, others: Places) -> Float64[np.ndarray, " n"]:
        points, errors = self._roughly(others), gather(self.errors, others)
        lengths = take(self.norms, others)
        out = torch.empty(len(self.rows), device=self.rows.device)
        for place, block in blocks(self.rows, len(others), self.centre):
            alike = (block @ points.T).mul_(self.errors[place] @ errors.T)
            torch.amin(torch.add(lengths, alike, alpha=-2), dim=1, out=out[place])
        return _at_least_0(out.add_(self.norms))


def _between(some: Tensor, others: Tensor) -> Float64[np.ndarray, "m p"]:
    norms, other_norms = some.square().sum(dim=1), others.square().sum(dim=1)
    return _exact(norms[:, None] + other_norms - 2 * some @ others.T, norms, other_norms)


def _exact(away: Tensor, norms: Tensor, other_norms: Tensor) -> Float64[np.ndarray, "m p"]:
    rounding = 1e-13 * (norms[:, None] + other_norms)
    return torch.where(away > rounding, away, 0.0).cpu().numpy()


def _at_least_0(distances: Tensor) -> Float64[np.ndarray, " n"]:
    return distances.clamp_(min=0).double().cpu().numpy()


def _take(rows: Tensor, places: Places) -> Tensor:
    return take(rows, places).double()
