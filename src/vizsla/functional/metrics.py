"""What a model is worth, and how many labels a strategy saves. n images, c classes, s seeds, t points.

The learning-curve figures work on running maxima: a curve that once reached a level has reached it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from sklearn.metrics import f1_score, recall_score

from vizsla.errors import BadArray

STEPS = 20
"""How many equal steps of accuracy the labels-saved figure averages over."""


def accuracy(probs: Float[np.ndarray, "n c"], y: Int[np.ndarray, " n"]) -> float:
    """Share of images whose most probable class is the true one, 0 to 1.

    >>> accuracy(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    0.5
    """
    return float(np.mean(probs.argmax(axis=1) == y))


def balanced_accuracy(probs: Float[np.ndarray, "n c"], y: Int[np.ndarray, " n"]) -> float:
    """Mean recall of the classes that occur in y, 0 to 1: every class counts alike, however rare.

    >>> balanced_accuracy(np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]), np.array([0, 0, 1]))
    0.5
    """
    recall = recall_score(y, probs.argmax(axis=1), labels=np.unique(y), average="macro", zero_division=0)
    return float(recall)


def macro_f1(probs: Float[np.ndarray, "n c"], y: Int[np.ndarray, " n"]) -> float:
    """Mean F1 of the classes that occur in y, 0 to 1; a class never predicted counts 0.

    >>> round(macro_f1(np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]), np.array([0, 0, 1])), 3)
    0.4
    """
    f1 = f1_score(y, probs.argmax(axis=1), labels=np.unique(y), average="macro", zero_division=0)
    return float(f1)


def nll(probs: Float[np.ndarray, "n c"], y: Int[np.ndarray, " n"]) -> float:
    """Negative log-likelihood: mean −ln p(true class), in nats; lower is better.

    Probabilities are clipped at 1e-7, so that one sure mistake costs 16.1 nats and not infinity.

    >>> round(nll(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0])), 4)      # ln(2) / 2
    0.3466
    """
    p = probs[np.arange(len(y)), y].astype(np.float64)
    return float(np.mean(-np.log(np.clip(p, 1e-7, 1.0))))


def ece(probs: Float[np.ndarray, "n c"], y: Int[np.ndarray, " n"], bins: int = 15) -> float:
    """Expected calibration error: mean |accuracy − confidence| over bins of equal width, 0 to 1.

    The confidence is the largest probability; a bin (a, b] counts by its share of the images.
    Source: Guo et al. 2017, arXiv:1706.04599.

    >>> round(ece(np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1])), 4)      # right half the time
    0.3
    """
    confidence = probs.max(axis=1).astype(np.float64)
    correct = probs.argmax(axis=1) == y
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(y))


def evaluate(probs: Float[np.ndarray, "*n_c"], y: Int[np.ndarray, "*n"]) -> dict[str, float]:
    """All figures of one point of a learning curve: accuracy, balanced_accuracy, macro_f1, nll, ece.

    Args: probs: (n, c) probabilities of n ≥ 1 images, rows that sum to 1.
          y: (n,) the true class of each, 0 to c − 1. Both are checked here, once for all figures.
    """
    if probs.ndim != 2 or y.shape != probs.shape[:1] or len(y) == 0:
        raise BadArray(
            f"cannot score probabilities of shape {probs.shape} against labels of shape {y.shape}: "
            "give (n, c) probabilities and (n,) labels of at least one image."
        )
    if y.min() < 0 or y.max() >= probs.shape[1]:
        raise BadArray(
            f"labels run from {y.min()} to {y.max()}, but there are {probs.shape[1]} classes. "
            "Score labelled images only, with classes counted from 0."
        )
    if not np.isfinite(probs).all():
        raise BadArray("the probabilities hold NaN or infinity. Look for a diverged training run.")
    scores = (accuracy, balanced_accuracy, macro_f1, nll, ece)
    return {score.__name__: score(probs, y) for score in scores}


def aulc(labels: Real[np.ndarray, " t"], values: Real[np.ndarray, " t"], *, log: bool = False) -> float:
    """Area under the learning curve divided by its width, so in the unit of `values`.

    Args: labels: ascending label counts ≥ 1. log: measure the width in ln n, which weighs early labels.
    Returns: Σ (n′ − n)(a + a′)/2 / (n_last − n_first); the value itself where there is but one point.

    >>> aulc(np.array([10, 20, 40]), np.array([0.5, 0.7, 0.7]))
    0.6666666666666666
    """
    if len(labels) == 1:
        return float(values[0])
    n = np.log(labels) if log else np.asarray(labels, dtype=np.float64)
    return float(np.sum(np.diff(n) * (values[1:] + values[:-1]) / 2) / (n[-1] - n[0]))


def aulc_parts(
    labels: Real[np.ndarray, " t"], values: Real[np.ndarray, " t"], edges: Real[np.ndarray, " e"]
) -> Float[np.ndarray, " e-1"]:
    """The area under a learning curve, divided by its width, between each two neighbouring edges.

    Args:    labels: ascending label counts. edges: ascending, within them; the curve is linear between points.
    Returns: the mean height of each part; weighed by width they average to the `aulc` of the whole.
    Raises:  BadArray when an edge lies outside the curve.

    >>> aulc_parts(np.array([10, 30, 40]), np.array([0.0, 1.0, 1.0]), np.array([10, 20, 40]))
    array([0.25 , 0.875])
    """
    if edges[0] < labels[0] or edges[-1] > labels[-1]:
        raise BadArray(
            f"the curve runs from {labels[0]:g} to {labels[-1]:g} labels, so it has no area from "
            f"{edges[0]:g} to {edges[-1]:g}. Compare where all curves have points."
        )
    n = np.union1d(labels, edges).astype(np.float64)
    a = np.interp(n, labels, values)
    parts = [(n >= low) & (n <= high) for low, high in pairwise(edges)]
    return np.array([aulc(n[part], a[part]) for part in parts])


def labels_needed(
    labels: Real[np.ndarray, " t"],
    values: Real[np.ndarray, "*b t"],
    levels: Real[np.ndarray, "*b l"],
) -> Float[np.ndarray, "*b l"]:
    """Least label count at which the running maximum of each curve reaches each level.

    Args:    labels: ascending label counts ≥ 1, shared by all curves.
             values: any number of curves. levels: the levels asked of each curve.
    Returns: label counts, linear in ln n between points; the first count for a level already reached
             there, inf for one never reached.

    >>> labels_needed(np.array([10, 100]), np.array([0.5, 1.0]), np.array([0.4, 0.75, 1.1]))
    array([10.       , 31.6227766,        inf])
    """
    log_n = np.log(labels)
    running = np.maximum.accumulate(np.asarray(values, dtype=np.float64), axis=-1)
    reached = running[..., None, :] >= levels[..., :, None]
    after = reached.argmax(axis=-1)
    before = np.maximum(after - 1, 0)
    low = np.take_along_axis(running, before, axis=-1)
    high = np.take_along_axis(running, after, axis=-1)
    part = (levels - low) / np.where(after > 0, high - low, 1.0)
    needed = np.exp(log_n[before] + part * (log_n[after] - log_n[before]))
    needed = np.where(after > 0, needed, float(labels[0]))
    return np.where(reached.any(axis=-1), needed, np.inf)


@dataclass(frozen=True, eq=False)
class LabelsSaved:
    """How much smaller a labelling bill a strategy needs than random choice, for the same accuracy."""

    value: float
    """Share of random's labels saved, up to 1; negative = more labels needed; NaN = cannot be told."""
    low: float
    """Lower end of the 95% interval; NaN with one seed."""
    high: float
    levels: Float[np.ndarray, " l"]
    """The accuracies compared at, ascending."""
    needed: Float[np.ndarray, " l"]
    """Labels the strategy needs for each, after counting a level never reached as random's last count."""
    needed_random: Float[np.ndarray, " l"]
    missed: Bool[np.ndarray, " l"]
    """Which levels the strategy never reached."""
    reason: str = ""
    """Why there is no figure, where there is none."""

    @property
    def per_level(self) -> Float[np.ndarray, " l"]:
        """1 − n_strategy/n_random at each level."""
        return 1 - self.needed / self.needed_random

    @property
    def capped(self) -> int:
        """How many levels the strategy never reached."""
        return int(self.missed.sum())

    @property
    def sentence(self) -> str:
        """The figure in words."""
        if np.isnan(self.value):
            return f"No labels-saved figure: {self.reason}."
        verb = "saves" if self.value >= 0 else "costs"
        text = f"On average it {verb} {abs(self.value):.0%} of random's labels"
        if not np.isnan(self.low):
            low, high = (round(edge, 2) + 0.0 for edge in (self.low, self.high))  # + 0.0 turns −0 into 0
            text += f" (95% interval {low:.0%} to {high:.0%})".replace("-", "−")
        if self.capped:
            text += (
                f"; {self.capped} of the {len(self.levels)} accuracies it never reached, "
                "and they count as random's last label count"
            )
        return text + "."


def accuracy_levels(
    labels: Real[np.ndarray, " t"], values: Real[np.ndarray, "*b t"], classes: int
) -> Float[np.ndarray, "*b l"]:
    """The 20 accuracies, in equal steps, at which labels are compared: set by random's curve alone.

    They run from the running maximum at max(2 × classes, first point) labels to .99 of the best reached.
    NaN where that range is empty.
    """
    running = np.maximum.accumulate(np.asarray(values, dtype=np.float64), axis=-1)
    start = np.log(max(2.0 * classes, float(labels[0])))
    log_n = np.log(labels)
    if start > log_n[-1]:
        return np.full((*running.shape[:-1], STEPS), np.nan)
    after = int(np.searchsorted(log_n, start))
    before = max(after - 1, 0)
    part = (start - log_n[before]) / (log_n[after] - log_n[before]) if after else 0.0
    lowest = running[..., before] + part * (running[..., after] - running[..., before])
    highest = 0.99 * running[..., -1]
    steps = np.linspace(lowest, highest, STEPS, axis=-1)
    return np.where((highest > lowest)[..., None], steps, np.nan)


def labels_saved(
    labels: Real[np.ndarray, " t"],
    values: Real[np.ndarray, "s t"],
    random_labels: Real[np.ndarray, " u"],
    random_values: Real[np.ndarray, "s u"],
    *,
    classes: int,
    rng: np.random.Generator,
    resamples: int = 2000,
) -> LabelsSaved:
    """Labels saved against random choice: 1 − exp(mean ln(n_strategy/n_random)) over 20 accuracies.

    Args:    labels, values: accuracy of the strategy, a row per seed.
             random_labels, random_values: the same of random choice, the same seeds in the same order.
             classes: number of classes; comparison starts at 2 labels per class.
             rng, resamples: for the interval, which resamples seeds jointly for both.
    Returns: the figure on the seed-mean curves, with a 95% percentile interval. A level never reached
             counts as random's last label count, so a curve cut short cannot save labels.
    """
    last = float(random_labels[-1])

    def compare(mean: np.ndarray, random_mean: np.ndarray) -> tuple[np.ndarray, ...]:
        levels = accuracy_levels(random_labels, random_mean, classes)
        reached = labels_needed(labels, mean, levels)
        needed = np.where(np.isinf(reached), last, reached)
        needed_random = labels_needed(random_labels, random_mean, levels)
        valid = ~np.isnan(levels)
        ratio = np.where(valid, needed / needed_random, np.nan)
        value = np.asarray(1 - np.exp(np.log(ratio).mean(axis=-1)))
        return value, levels, needed, needed_random, np.isinf(reached)

    random_mean = random_values.mean(axis=0)
    value, levels, needed, needed_random, missed = compare(values.mean(axis=0), random_mean)
    if np.isnan(value):
        reason = _why_no_levels(random_labels, random_mean, classes)
        return LabelsSaved(np.nan, np.nan, np.nan, levels, needed, needed_random, missed, reason)
    low = high = float("nan")
    seeds = len(values)
    if seeds > 1:
        drawn = rng.integers(seeds, size=(resamples, seeds))
        resampled = compare(values[drawn].mean(axis=1), random_values[drawn].mean(axis=1))[0]
        low, high = (float(edge) for edge in np.nanpercentile(resampled, [2.5, 97.5]))
    return LabelsSaved(float(value), low, high, levels, needed, needed_random, missed)


def _why_no_levels(labels: np.ndarray, mean: np.ndarray, classes: int) -> str:
    if labels[-1] < 2 * classes:
        return (
            f"random stops at {labels[-1]:.0f} labels, before 2 per class ({2 * classes}); "
            "give it a larger budget"
        )
    return (
        f"random hardly improves after its first labels (best {mean.max():.1%}), so no level can be compared"
    )
