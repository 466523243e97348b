"""What a query strategy sees, what it gives back, and the registry of them all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64
from numpy.random import Generator
from torch import Tensor

from vizsla.errors import BadArray, BadBatch, NotEnoughImages
from vizsla.functional.centre import Centre, centre_of
from vizsla.functional.given import as_probs as as_probs
from vizsla.functional.rows import parts, take
from vizsla.functional.uncertainty import at_least_float32
from vizsla.registry import Registry
from vizsla.types import Batch


@dataclass(frozen=True, eq=False)
class Pool:
    """Feature rows of candidates and labelled images in one array, so that neither is copied. N rows in all."""

    rows: Float[Tensor, "N d"]
    """Any float type, on any device; it may be a memory map. Rows that are neither are not looked at."""
    candidates: Int64[np.ndarray, " n"]
    """Where the candidates lie in `rows`, in the order of the view."""
    labelled: Int64[np.ndarray, " l"]
    """Where the labelled images lie."""
    given_centre: Centre | None = None
    """Of the larger pool that this is a part of; None: found where it is needed."""

    @cached_property
    def centre(self) -> Centre:
        """Where candidates and labelled images lie: what is reckoned with them is reckoned as seen from there."""
        if self.given_centre is not None:
            return self.given_centre
        return centre_of(self.rows, np.sort(np.concatenate([self.candidates, self.labelled])))

    def compact(self) -> Pool:
        """The same in an array of its own, where candidates and labelled are less than half of the rows."""
        few = 2 * (len(self.candidates) + len(self.labelled)) <= len(self.rows)
        return self._copy() if few else self

    def alone(self) -> Pool:
        """Candidates and labelled only; a copy where there are other rows."""
        whole = len(self.candidates) + len(self.labelled) == len(self.rows)
        return self if whole else self._copy()

    def _copy(self) -> Pool:
        kept = np.concatenate([self.candidates, self.labelled])
        n = len(self.candidates)
        return Pool(take(self.rows, kept), np.arange(n), np.arange(n, len(kept)), self.given_centre)

    @property
    def is_candidate(self) -> Bool[np.ndarray, " N"]:
        return self._mask(self.candidates)

    @property
    def is_labelled(self) -> Bool[np.ndarray, " N"]:
        return self._mask(self.labelled)

    def _mask(self, rows: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, " N"]:
        mask = np.zeros(len(self.rows), bool)
        mask[rows] = True
        return mask

    def of_candidates(
        self, centre: Float[Tensor, " d"] | None = None
    ) -> Iterator[tuple[slice, Float32[Tensor, "b d"]]]:
        """The candidates' rows piece by piece in float32, as seen from a centre, each with its place in the view."""
        return parts(self.rows, self.candidates, centre=centre)


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier: logits = rows · weightᵀ + bias. A class never seen has bias −inf and weight 0."""

    pool: Pool
    """The rows that it reads; r columns."""
    weight: Float32[Tensor, "c r"]
    bias: Float32[Tensor, " c"]


class Draws(Protocol):
    """K sets of class probabilities of each candidate, made when asked for: they are never all in memory."""

    @property
    def k(self) -> int: ...

    def __call__(self, positions: Int64[np.ndarray, " b"]) -> Float[Tensor, "b k c"]:
        """Those of the candidates at these places of the view; the same again for the same place."""


@dataclass(frozen=True, eq=False)
class View:
    """The n unlabelled images that a query looks at, and what is known of them and of the labelled ones.

    A strategy declares which of the parts after `strategy` it needs, and which it wants; the others may be None.
    """

    ids: Int64[np.ndarray, " n"]
    """Image ids of the candidates, ascending."""
    probs: Float[Tensor, "n c"] | None = None
    """Class probabilities of each candidate."""
    strategy: str = ""
    embeddings: Pool | None = None
    """Features of the candidates and of the labelled images."""
    labels: Int64[np.ndarray, " l"] | None = None
    """Class numbers of the labelled images, in the order of `embeddings.labelled`."""
    labelled_probs: Float[Tensor, "l c"] | None = None
    """Those of the labelled images by models that were not trained on them; None where nobody has made them."""
    familiar: Float[np.ndarray, " n"] | None = None
    """Chance that each candidate is of one of the classes; None where no image was ever said to be of none."""
    head: Head | None = None
    """The linear head that gave `probs`."""
    draws: Draws | None = None
    """Predictions under uncertainty about the head."""
    classes: int | None = None
    """How many classes there are, where that is known."""
    committee: Draws | None = None
    """Predictions of heads that were each fitted on another draw of the labels."""
    chance: Float[np.ndarray, " n"] | None = None
    """A number of each candidate's own, uniform from 0 to 1, where the view is a part of a larger pool: what is
    left to chance is read off it, and so falls the same way however the pool is parted. None: ask the generator."""
    average: Float[Tensor, " m"] | None = None
    """The strategy's `Strategy.average` over the larger pool; None: over this view."""

    def pick(self, positions: Int64[np.ndarray, " b"], scores: Float[np.ndarray, " b"]) -> Batch:
        """Turn positions in this view into image ids. Nothing else in Vizsla does that."""
        return Batch(ids=self.ids[positions], scores=scores, strategy=self.strategy)

    def top(self, scores: Float[Tensor, " n"], n: int, rng: Generator) -> Batch:
        """The n candidates of highest score, best first; ties are broken at random, not by file order."""
        values = at_least_float32(scores.detach()).cpu().numpy()
        positions = top_positions(values, n, rng if self.chance is None else self.chance)
        return self.pick(positions, values[positions].astype(np.float64))

    def gumbel(self, rng: Generator) -> Float64[np.ndarray, " n"]:
        """Standard Gumbel noise for each candidate."""
        if self.chance is None:
            return rng.gumbel(size=len(self.ids))
        return -np.log(-np.log(self.chance.clip(np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg)))


def probs_of(view: View) -> Float[Tensor, "n c"]:
    """The view's probabilities, which `Strategy.choose` has found there."""
    assert view.probs is not None
    return view.probs


def pool_of(view: View) -> Pool:
    """The view's embeddings, which `Strategy.choose` has found there."""
    assert view.embeddings is not None
    return view.embeddings


def top_positions(
    values: Float[np.ndarray, " n"], count: int, ties: Generator | Float[np.ndarray, " n"]
) -> Int64[np.ndarray, " count"]:
    """Positions of the `count` largest values, largest first, equal values in random order.

    Args: ties: or in ascending order of these numbers.

    >>> top_positions(np.array([0.1, 0.9, 0.5, 0.7]), 2, np.random.default_rng(0))
    array([1, 3])
    """
    if count == 0:
        return np.empty(0, np.int64)
    threshold = np.partition(values, len(values) - count)[len(values) - count]
    contenders = np.flatnonzero(values >= threshold)
    if isinstance(ties, Generator):
        contenders = ties.permutation(contenders)
    else:
        contenders = contenders[np.argsort(ties[contenders], kind="stable")]
    order = np.argsort(-values[contenders], kind="stable")
    return contenders[order[:count]].astype(np.int64)


PARTS = ("probs", "embeddings", "labels", "head", "draws", "committee", "familiar")
"""What a strategy can declare that it needs or wants."""

Average = Callable[[View], Float[Tensor, " m"]]
Choose = Callable[[View, int, Generator], Batch]
"""(view, batch size, random generator) → batch of exactly that size."""


@dataclass(frozen=True)
class Strategy:
    """A named rule for choosing a batch."""

    name: str
    needs: frozenset[str]
    """Which parts of the view the rule reads: any of `PARTS`."""
    rule: Choose
    joint: bool = False
    """Whether images are chosen for what they add to each other. Then the order beyond one batch means little,
    and every image asked for costs time; else a batch is the head of one ranking."""
    wants: frozenset[str] = frozenset()
    """Parts that the rule reads where they are to be had, and does without where they are not."""
    alone: bool = False
    """Whether a candidate's score depends on itself and the model only, and at most on `average`. Then the best of
    the parts of a pool are the best of the pool. Such a rule leaves to `View.top` what it leaves to chance."""
    average: Average | None = None
    """What the rule must know of the pool as a whole: the mean over its candidates of so many numbers of each."""

    @property
    def reads(self) -> frozenset[str]:
        """Needed or wanted."""
        return self.needs | self.wants

    def choose(self, view: View, n: int, rng: Generator) -> Batch:
        """Apply the rule.

        Raises: NotEnoughImages when the view has fewer than n images; BadArray when a needed part is missing;
                BadBatch when the rule gives anything but n different images of the view.
        """
        check_enough(n, len(view.ids))
        for part in sorted(self.needs):
            if getattr(view, part) is None:
                raise BadArray(f"strategy {self.name!r} needs {part}, which were not given. Pass {part}=….")
        return checked_batch(self.rule(view, n, rng), view, n, self.name)


def checked_batch(batch: object, view: View, n: int, name: str) -> Batch:
    """The batch, ids in int64, if it has n different images of the view. Raises BadBatch where it has not."""
    if not isinstance(batch, Batch):
        kind = type(batch).__name__
        raise BadBatch(f"strategy {name!r} gave a {kind}, not a Batch. Return view.pick(…) or view.top(…).")
    ids, scores = np.asarray(batch.ids), np.asarray(batch.scores)
    if ids.ndim != 1 or len(ids) != n:
        size = f"{len(ids)} images" if ids.ndim == 1 else f"ids of shape {ids.shape}"
        raise BadBatch(f"strategy {name!r} gave {size}, not {n}.")
    if not np.issubdtype(ids.dtype, np.integer):
        raise BadBatch(f"strategy {name!r} gave ids of {ids.dtype}, not whole numbers. Use view.pick.")
    if len(np.unique(ids)) < n:
        raise BadBatch(f"strategy {name!r} gave an image twice.")
    outside = ids[~np.isin(ids, view.ids)]
    if len(outside):
        raise BadBatch(
            f"strategy {name!r} gave ids from outside the view ({outside[:3].tolist()}…): positions instead of ids? "
            "Use view.pick."
        )
    if scores.shape != ids.shape:
        raise BadBatch(f"strategy {name!r} gave scores of shape {scores.shape} for {n} images.")
    return Batch(ids.astype(np.int64), scores, batch.strategy)


def check_enough(n: int, unlabelled: int) -> None:
    """Raise NotEnoughImages when a batch of n cannot be had."""
    if n > unlabelled == 0:
        raise NotEnoughImages(
            f"asked for a batch of {n} images, but all are labelled or skipped. Add images, or stop here."
        )
    if n > unlabelled:
        raise NotEnoughImages(
            f"asked for a batch of {n} images, but only {unlabelled} are unlabelled. "
            f"Ask for {unlabelled} or fewer, or add images."
        )


class Strategies(Registry[Strategy]):
    """The registry of query strategies; also an entry-point group, `vizsla.strategies`."""

    def __init__(self) -> None:
        super().__init__("strategy", "strategies")

    def rule(
        self,
        name: str,
        needs: Collection[str] = (),
        *,
        joint: bool = False,
        wants: Collection[str] = (),
        alone: bool = False,
        average: Average | None = None,
    ) -> Callable[[Choose], Choose]:
        """Decorator: file a `(view, n, rng) → Batch` function as the strategy `name`."""

        def add(rule: Choose) -> Choose:
            made = Strategy(name, frozenset(needs), rule, joint, frozenset(wants), alone, average)
            self.register(name)(made)
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
