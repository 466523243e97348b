"""What a query strategy sees, what it gives back, and the registry of them all."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.random import Generator
from torch import Tensor

from vizsla.errors import BadArray, NotEnoughImages
from vizsla.registry import Registry
from vizsla.types import Batch


@dataclass(frozen=True, eq=False)
class View:
    """The n unlabelled images that a query looks at, and what is known of them."""

    ids: Int64[np.ndarray, " n"]
    """Image ids of the candidates, ascending."""
    probs: Float[Tensor, "n c"] | None = None
    """Class probabilities of each candidate; present when the strategy declares that it needs them."""
    strategy: str = ""

    def pick(self, positions: Int64[np.ndarray, " b"], scores: Float[np.ndarray, " b"]) -> Batch:
        """Turn positions in this view into image ids. Nothing else in Vizsla does that."""
        return Batch(ids=self.ids[positions], scores=scores, strategy=self.strategy)

    def top(self, scores: Float[Tensor, " n"], n: int, rng: Generator) -> Batch:
        """The n candidates of highest score, best first; ties are broken at random, not by file order."""
        values = scores.detach().cpu().double().numpy()
        positions = top_positions(values, n, rng)
        return self.pick(positions, values[positions])


def top_positions(values: Float[np.ndarray, " n"], count: int, rng: Generator) -> Int64[np.ndarray, " count"]:
    """Positions of the `count` largest values, largest first, equal values in random order.

    >>> top_positions(np.array([0.1, 0.9, 0.5, 0.7]), 2, np.random.default_rng(0))
    array([1, 3])
    """
    if count == 0:
        return np.empty(0, np.int64)
    threshold = np.partition(values, len(values) - count)[len(values) - count]
    contenders = rng.permutation(np.flatnonzero(values >= threshold))
    order = np.argsort(-values[contenders], kind="stable")
    return contenders[order[:count]].astype(np.int64)


Choose = Callable[[View, int, Generator], Batch]
"""(view, batch size, random generator) → batch of exactly that size."""


@dataclass(frozen=True)
class Strategy:
    """A named rule for choosing a batch."""

    name: str
    needs: frozenset[str]
    """Which parts of the view the rule reads: any of `probs`."""
    rule: Choose

    def choose(self, view: View, n: int, rng: Generator) -> Batch:
        """Apply the rule.

        Raises: NotEnoughImages when the view has fewer than n images; BadArray when a needed part is missing.
        """
        check_enough(n, len(view.ids))
        for part in sorted(self.needs):
            if getattr(view, part) is None:
                raise BadArray(f"strategy {self.name!r} needs {part}, which were not given. Pass {part}=….")
        return self.rule(view, n, rng)


def check_enough(n: int, unlabelled: int) -> None:
    """Raise NotEnoughImages when a batch of n cannot be had."""
    if n > unlabelled:
        raise NotEnoughImages(
            f"asked for a batch of {n} images, but only {unlabelled} are unlabelled. "
            f"Ask for {unlabelled} or fewer, or add images."
        )


class Strategies(Registry[Strategy]):
    """The registry of query strategies; also an entry-point group, `vizsla.strategies`."""

    def __init__(self) -> None:
        super().__init__("strategy", "strategies")

    def rule(self, name: str, needs: Collection[str] = ()) -> Callable[[Choose], Choose]:
        """Decorator: file a `(view, n, rng) → Batch` function as the strategy `name`."""

        def add(rule: Choose) -> Choose:
            self.register(name)(Strategy(name, frozenset(needs), rule))
            return rule

        return add


strategies = Strategies()


def sub_pool(ids: Int64[np.ndarray, " n"], size: int, rng: Generator) -> Int64[np.ndarray, " m"]:
    """A uniform random sample of `size` candidates, in ascending order; 0 or too large a size means all.

    The seed article's guard against outliers: a query that sees only some of the pool cannot chase the
    strangest image of all. Every candidate, the first one too, is equally likely to be in it.
    """
    if not 0 < size < len(ids):
        return ids
    return np.sort(rng.choice(ids, size=size, replace=False))


def as_probs(probs: object) -> Float[Tensor, "n c"]:
    """Checked class probabilities as a tensor.

    Raises: BadArray on a wrong shape, NaN, negative entries or rows that do not sum to one.
    """
    tensor = torch.as_tensor(probs)
    if not tensor.is_floating_point():
        tensor = tensor.double()
    if tensor.ndim != 2 or tensor.shape[1] < 2:
        raise BadArray(f"probs must have shape (images, classes ≥ 2), not {tuple(tensor.shape)}.")
    sums = tensor.double().sum(dim=1)
    tolerance = 1e-2 if tensor.dtype in (torch.float16, torch.bfloat16) else 1e-3
    bad = ~(((sums - 1).abs() <= tolerance) & (tensor >= 0).all(dim=1))
    if bad.any():
        row = int(bad.nonzero()[0, 0])
        raise BadArray(
            f"probs row {row} is not a probability row: it sums to {sums[row]:.4g} and its smallest entry is "
            f"{tensor[row].min():.4g}. Pass softmax outputs, not logits."
        )
    return tensor
