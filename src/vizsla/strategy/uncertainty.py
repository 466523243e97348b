"""Strategies that look at the model's probabilities only, and the one that looks at nothing."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator

from vizsla.functional.uncertainty import entropy, least_confidence, margin, ratio
from vizsla.strategy.base import View, probs_of, strategies
from vizsla.types import Batch


@strategies.rule("random", alone=True)
def random_batch(view: View, n: int, rng: Generator) -> Batch:
    """n images drawn uniformly without replacement: the ruler for all others."""
    if view.chance is not None:
        return view.top(torch.zeros(len(view.ids)), n, rng)
    return view.pick(rng.choice(len(view.ids), size=n, replace=False), np.zeros(n))


@strategies.rule("least_confidence", needs={"probs"}, alone=True)
def least_confidence_batch(view: View, n: int, rng: Generator) -> Batch:
    """The n images whose most likely class is least likely."""
    return view.top(least_confidence(probs_of(view)), n, rng)


@strategies.rule("margin", needs={"probs"}, alone=True)
def margin_batch(view: View, n: int, rng: Generator) -> Batch:
    """The n images whose two most likely classes are nearest to a tie."""
    return view.top(margin(probs_of(view)), n, rng)


@strategies.rule("ratio", needs={"probs"}, alone=True)
def ratio_batch(view: View, n: int, rng: Generator) -> Batch:
    """The n images whose second most likely class comes nearest to the first, as a quotient."""
    return view.top(ratio(probs_of(view)), n, rng)


@strategies.rule("entropy", needs={"probs"}, alone=True)
def entropy_batch(view: View, n: int, rng: Generator) -> Batch:
    """The n images whose class is most uncertain over all classes, not over the first two only."""
    return view.top(entropy(probs_of(view)), n, rng)
