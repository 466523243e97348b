"""Strategies that weigh where images lie with how unsure the model is of them."""

from __future__ import annotations

import torch
from numpy.random import Generator
from torch import Tensor

from vizsla.functional import perturbation
from vizsla.functional.design import bait, doubt
from vizsla.functional.herding import herding
from vizsla.functional.uncertainty import margin
from vizsla.strategy.base import Head, View, pool_of, probs_of, strategies
from vizsla.strategy.draws import dropout
from vizsla.types import Batch

DROPQUERY_DRAWS = 3
DROPQUERY_RATE = 0.75


@strategies.rule("bait", needs={"embeddings", "probs"}, joint=True)
def bait_batch(view: View, n: int, rng: Generator) -> Batch:
    """Images whose labels leave the classifier least unsure of all the others (Fisher information)."""
    pool, probs = pool_of(view), probs_of(view)
    weights = doubt(probs)
    if view.labelled_probs is not None:
        known = doubt(view.labelled_probs)
    else:  # a model is too sure of what it was trained on; that would erase what is already covered
        known = weights.median().expand(len(pool.labelled))
    device = pool.rows.device
    chosen = bait(pool.rows, pool.candidates, pool.labelled, weights.to(device), known.to(device), n, rng)
    return view.pick(*chosen)


@strategies.rule("maxherding", needs={"embeddings"}, joint=True)
def maxherding_batch(view: View, n: int, rng: Generator) -> Batch:
    """Images that between them, and with the labelled ones, are near to as many others as can be."""
    pool = pool_of(view)
    return _herded(view, torch.ones(len(pool.candidates)), n, rng)


@strategies.rule("uherding", needs={"embeddings", "probs"}, joint=True)
def uherding_batch(view: View, n: int, rng: Generator) -> Batch:
    """As `maxherding`, but near to what the model is unsure of. Wants calibrated probabilities."""
    return _herded(view, 1 + margin(probs_of(view).double()), n, rng)


def _herded(view: View, weights: Tensor, n: int, rng: Generator) -> Batch:
    pool = pool_of(view)
    seen_from = pool.centre.vantage
    return view.pick(*herding(pool.rows, pool.candidates, pool.labelled, weights, n, rng, centre=seen_from))


@strategies.rule("alfamix", needs={"head", "labels"}, joint=True)
def alfamix_batch(view: View, n: int, rng: Generator) -> Batch:
    """Images of many kinds whose predicted class flips when their features are mixed a little with others."""
    head = _head(view)
    assert view.labels is not None
    pool = head.pool
    return view.pick(
        *perturbation.alfamix(
            pool.rows, pool.candidates, pool.labelled, view.labels, head.weight, head.bias, n, rng
        )
    )


@strategies.rule("dropquery", needs={"head"}, joint=True)
def dropquery_batch(view: View, n: int, rng: Generator) -> Batch:
    """Images of many kinds whose predicted class flips when most of their features are dropped."""
    head = _head(view)
    draws = dropout(head, rng, k=DROPQUERY_DRAWS, rate=DROPQUERY_RATE)
    drawn = draws.weights, draws.biases
    return view.pick(
        *perturbation.dropquery(head.pool.rows, head.pool.candidates, head.weight, head.bias, drawn, n, rng)
    )


def _head(view: View) -> Head:
    assert view.head is not None
    return view.head
