"""Predictions under uncertainty, drawn from the head alone. K draws, n candidates, c classes, r columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from numpy.random import Generator
from torch import Tensor

from vizsla.functional.rows import gather
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
        return self.array[torch.from_numpy(self.candidates[positions]).to(self.array.device)]


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
