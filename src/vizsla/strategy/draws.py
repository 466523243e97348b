"""Predictions under uncertainty, drawn from the head alone. K draws, n candidates, c classes, r columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from numpy.random import Generator
from torch import Tensor

from vizsla.functional.rows import gather, take
from vizsla.strategy.base import Head, Pool

DRAWS = 20
DROPPED = 0.25


@dataclass(frozen=True, eq=False)
class ArrayDraws:
    """Draws that someone else has made."""

    array: Float[Tensor, "N k c"]
    candidates: Int64[np.ndarray, " n"]

    @property
    def k(self) -> int:
        return self.array.shape[1]

    def __call__(self, positions: Int64[np.ndarray, " b"]) -> Float[Tensor, "b k c"]:
        return take(self.array, self.candidates[positions])


@dataclass(frozen=True, eq=False)
class LinearDraws:
    """K linear heads over the same rows: no draw costs a pass of the backbone."""

    pool: Pool
    weights: Float32[Tensor, "k c r"]
    biases: Float32[Tensor, "k c"]

    @property
    def k(self) -> int:
        return len(self.weights)

    def __call__(self, positions: Int64[np.ndarray, " b"]) -> Float[Tensor, "b k c"]:
        rows = gather(self.pool.rows, self.pool.candidates[positions])
        logits = torch.einsum("br,kcr->bkc", rows, self.weights) + self.biases
        return logits.softmax(dim=2)


def dropout(head: Head, rng: Generator, *, k: int = DRAWS, rate: float = DROPPED) -> LinearDraws:
    """The head with some of its input features dropped, the same ones for all images of a draw.

    One mask for all images, or else the draws of two images share nothing and say nothing about each other
    (which BatchBALD needs); features are dropped and the others scaled up, as dropout does in training.

    Source: Gal & Ghahramani 2016, arXiv:1506.02142; Kirsch et al. 2019, arXiv:1906.08158 (consistent masks).
    """
    kept = torch.from_numpy(rng.random((k, 1, head.weight.shape[1])) >= rate).to(head.weight)
    return LinearDraws(head.pool, head.weight * kept / (1 - rate), head.bias.expand(k, -1))


def laplace(
    head: Head, labels: Int64[np.ndarray, " l"], rng: Generator, *, k: int = DRAWS, decay: float
) -> LinearDraws:
    """Heads drawn from the Gaussian that fits the posterior of the weights at the fitted ones.

    One Gaussian per class, with the precision decay·I + Σ p(1 − p) x xᵀ over the labelled rows x = (row, 1):
    the Hessian of the loss, without what couples two classes.

    Args: labels: of `head.pool.labelled`. decay: the head's L2 penalty, ½·decay·‖W‖².
    Source: MacKay 1992, doi:10.1162/neco.1992.4.5.720; Daxberger et al. 2021, arXiv:2106.14806.
    """
    rows = gather(head.pool.rows, head.pool.labelled).double()
    inputs = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
    probs = (rows @ head.weight.double().T + head.bias.double()).softmax(dim=1)
    noise = torch.from_numpy(rng.standard_normal((len(head.weight), inputs.shape[1], k))).to(inputs)
    eye = torch.eye(inputs.shape[1], dtype=inputs.dtype, device=inputs.device)
    weights = torch.cat([head.weight, head.bias[:, None]], dim=1).double().expand(k, -1, -1).clone()
    for c in np.unique(labels).tolist():  # a class never seen stays as it is
        variance = (probs[:, c] * (1 - probs[:, c]))[:, None]
        root = torch.linalg.cholesky(decay * eye + inputs.T @ (variance * inputs))
        weights[:, c] += torch.linalg.solve_triangular(root.T, noise[c], upper=True).T
    return LinearDraws(head.pool, weights[:, :, :-1].float(), weights[:, :, -1].float())
