"""What the labels teach, learned once and taken to each shard. l labelled, C classes, r coordinates, d features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vizsla.engine import Engine
from vizsla.functional.centre import Centre, centre_of, looked_at
from vizsla.functional.geometry import SETTLING, PrincipalAxes, axes_that_fit, principal_axes
from vizsla.functional.rows import as_rows
from vizsla.shards.pool import Shard, Shards
from vizsla.strategy.base import Draws, Head, Pool, Strategy, View
from vizsla.strategy.draws import LinearDraws
from vizsla.views import Drawn, Material

Linear = tuple[Tensor, Tensor]
"""Weights and biases, of one head or of several."""


@dataclass(frozen=True, eq=False)
class Labels:
    """The labelled rows of a pool."""

    ids: Int64[np.ndarray, " l"]
    codes: Int64[np.ndarray, " l"] | None
    """Class of each, 0 … C−1; None where nobody gave them."""
    rows: Float[np.ndarray, "l d"]
    left_out: Int64[np.ndarray, " s"]
    """Ids of rows that are neither labelled nor to be chosen."""

    @property
    def closed(self) -> Int64[np.ndarray, " t"]:
        """Ids that are not to be chosen, ascending."""
        return np.sort(np.concatenate([self.ids, self.left_out]))

    @property
    def classes(self) -> int:
        """How many different ones there are."""
        return 0 if self.codes is None else len(np.unique(self.codes))


@dataclass(frozen=True, eq=False)
class Learned:
    """A rule with all that it needs to score the rows of a shard, but for those rows."""

    rule: Strategy
    closed: Int64[np.ndarray, " t"]
    """Ids that are not to be chosen, ascending."""
    seed: int
    centre: Centre | None = None
    """Of the whole pool. None where the rule looks at no features."""
    axes: PrincipalAxes | None = None
    """Of the whole pool: where the head sees rows. None where the rule asks no head."""
    head: Linear | None = None
    draws: Linear | None = None
    committee: Linear | None = None
    average: Float[Tensor, " m"] | None = None
    """What the rule must know of the pool as a whole."""

    def view(self, shard: Shard) -> View:
        """What the rule sees of a shard: its unlabelled rows, as candidates of their own ids."""
        vectors, kept = shard.vectors(), shard.others(self.closed)
        pool = Pool(as_rows(vectors), kept, np.empty(0, np.int64), self.centre)
        seen = (
            None if self.axes is None else Pool(as_rows(self.axes.directions(vectors)), kept, pool.labelled)
        )
        head = None if seen is None or self.head is None else Head(seen, *self.head)
        return View(
            ids=shard.first + kept,
            probs=_probs(head) if head is not None and "probs" in self.rule.reads else None,
            strategy=self.rule.name,
            embeddings=pool,
            head=head,
            draws=_drawn(seen, self.draws),
            committee=_drawn(seen, self.committee),
            chance=shard.chance(self.seed)[kept],
            average=self.average,
        )


def _probs(head: Head) -> Float[Tensor, "n c"]:
    parts = [torch.addmm(head.bias, rows, head.weight.T) for _, rows in head.pool.of_candidates()]
    logits = torch.cat(parts) if parts else torch.empty(0, len(head.bias))
    return logits.softmax(dim=1)


def _drawn(pool: Pool | None, heads: Linear | None) -> Draws | None:
    return None if pool is None or heads is None else LinearDraws(pool, *heads)


def learn(
    rule: Strategy, pool: Shards, labels: Labels, seed: int, drawn: Drawn, engine: Engine
) -> tuple[Learned, Material]:
    """Fit what the rule needs, exactly as `vizsla.select` would on one machine.

    Returns: what goes to the shards; and the labelled rows with all that is known of them.
    """
    material = Material(
        np.empty(0, np.int64), np.arange(len(labels.ids)), labels.rows, labels.codes, draws=drawn
    )
    axes = None
    if asks_a_head(rule, labels):
        axes = axes_of(pool, engine)
        material.coordinates = axes.directions(labels.rows)
    view = material.view(rule, np.random.default_rng(seed))
    head = None if axes is None else material.head
    learned = Learned(
        rule,
        labels.closed,
        seed,
        centre_in(pool, labels.left_out, engine) if "embeddings" in rule.needs else None,
        axes,
        None if head is None else (head.weight, head.bias),
        _linear(view.draws),
        _linear(view.committee),
    )
    return learned, material


def asks_a_head(rule: Strategy, labels: Labels) -> bool:
    """Whether the rule reads what a head says, or would like to and one can be had."""
    if rule.needs & {"probs", "head", "draws", "committee"}:
        return True
    return bool(rule.wants & {"probs"}) and labels.classes > 1


def axes_of(pool: Shards, engine: Engine) -> PrincipalAxes:
    """Principal axes of the pool, by the evenly spaced rows that `principal_axes` would look at."""
    step = max(1, len(pool) // SETTLING)
    rows = pool.take(np.arange(0, len(pool), step), engine)
    return principal_axes(rows, axes_that_fit(len(pool), pool.row_bytes))


def centre_in(pool: Shards, left_out: Int64[np.ndarray, " s"], engine: Engine) -> Centre:
    """Where the pool lies, by the evenly spaced rows that `centre_of` would look at on one machine."""
    kept = np.setdiff1d(np.arange(len(pool)), left_out, assume_unique=True)
    return centre_of(as_rows(pool.take(looked_at(kept), engine)))


def _linear(draws: Draws | None) -> Linear | None:
    return (draws.weights, draws.biases) if isinstance(draws, LinearDraws) else None
