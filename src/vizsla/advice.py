"""What more labels would bring, and when to stop. m checks, n images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from vizsla.errors import BadArray, BadOption
from vizsla.monitor import CHECKS_TO_SHOW, Accuracy

GAIN = 0.01
"""The one point of accuracy that a forecast is about."""

RETURN = 2 / 3
"""What half as many labels again bring, as a share of what the last third brought: error falls with 1/labels."""

SPREAD = 0.6
"""Standard deviation of that share; fitted to projects that benchmarks/stopping does not report."""

EIGHT_IN_TEN = 1.2815515655446004
"""Normal quantile of an 80% interval."""

LABELS_PER_CLASS = 10
"""Labels for each class before a forecast is made."""

GROWTH = 1.05
"""By how much labels must have grown before two models' predictions are compared."""

STOP_BELOW = 0.1
"""Chance of a further point below which labelling may stop."""

STOP_AFTER = 4
"""Models in a row that must see no more than that: labels have grown by a third meanwhile."""


# What more labels would bring ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Forecast:
    """What more labels would bring: label counts from today's on, with a range that holds the truth 8 times in 10."""

    labels_for_one_point: int | None = None
    """More labels for one more point of accuracy; None where that is too far off to tell."""
    low: int | None = None
    high: int | None = None
    """None: no end in sight."""
    chance_of_gain: float | None = None
    """Probability that `ahead` more labels bring more than one point; None = too early to tell."""
    ahead: int = 0

    @property
    def sentence(self) -> str:
        """The forecast in words.

        >>> Forecast(62, 41, 113, 0.8, 100).sentence
        'about 60 more labels for +1 point (40–110)'
        >>> Forecast().sentence
        'too early to tell'
        """
        if self.chance_of_gain is None:
            return "too early to tell"
        if self.labels_for_one_point is not None and self.low is not None:
            end = "or more" if self.high is None else f"{_about(self.high):,}"
            span = f"{_about(self.low):,}" + (f"–{end}" if self.high is not None else f" {end}")
            return f"about {_about(self.labels_for_one_point):,} more labels for +1 point ({span})"
        if self.chance_of_gain < STOP_BELOW:
            return f"{self.ahead:,} more labels will hardly bring +1 point"
        return "too early to tell"


def _about(count: int) -> int:
    """A label count as coarse as it is known: to tens, from 1,000 to hundreds.

    >>> _about(7), _about(62), _about(1234)
    (7, 60, 1200)
    """
    step = 1 if count < 20 else 10 if count < 1000 else 100
    return step * round(count / step)


def clock(growth: float) -> float:
    """How far a learning curve gets while labels grow so many times: 3·(1 − 1/growth); half as many again = 1.

    What a model lacks for want of labels falls with their number, as the variance of its boundary does.

    >>> round(clock(1.5), 6), clock(2.0)
    (1.0, 1.5)
    """
    return 3 * (1 - 1 / growth)


def growth(clock: float) -> float:
    """The inverse of `clock`: how many times labels must grow; inf = no number of labels gets so far.

    >>> round(growth(1.0), 6), growth(3.0)
    (1.5, inf)
    """
    return 1 / (1 - clock / 3) if clock < 3 else float("inf")


def chance_of_gain(last: float, growth: float, gain: float = GAIN) -> float:
    """Probability that accuracy gains more than that while labels grow so many times.

    Accuracy drifts upwards with `clock`, `RETURN` · last per tick, and strays from that by `SPREAD` · last per √tick.

    Args: last: what the last third of the labels brought, 0 to 1.

    >>> round(chance_of_gain(0.015, 1.5), 6), chance_of_gain(0.0, 1.5)      # 2/3 of it is a point
    (0.5, 0.0)
    """
    ticks = clock(growth)
    if last == 0 or ticks == 0:
        return 0.0
    return 1 - NormalDist(RETURN * ticks, SPREAD * ticks**0.5).cdf(gain / last)


def growth_for_gain(last: float, z: float, gain: float = GAIN) -> float:
    """How many times labels grow until `chance_of_gain` is that of a normal variable below z; inf = never.

    >>> round(growth_for_gain(0.015, 0.0), 6), growth_for_gain(0.0, 0.0)
    (1.5, inf)
    """
    if last == 0:
        return float("inf")
    root = (z * SPREAD + (z**2 * SPREAD**2 + 4 * RETURN * gain / last) ** 0.5) / (2 * RETURN)
    return growth(root**2)


def forecast(labels: int, classes: int, last: float | None, *, ahead: int | None = None) -> Forecast:
    """What more labels would bring, from what the last third of today's labels brought.

    A model that lacks a third of its labels stands where the project stood at two thirds of them. What it lacks falls
    with the number of labels, so half as many again bring two thirds of what that third brought, and all labels to
    come three times as much.

    Args:    last: accuracy that the last third brought, 0 to 1; None where it is not known.
             ahead: labels of the next batches that a gain is asked of; default: half of today's, at least 50.
    Returns: the forecast; an empty one ("too early to tell") from fewer than 10 labels per class.
    Source:  ours; see docs/design/0012 and benchmarks/stopping.

    >>> forecast(200, 4, 0.03).sentence
    'about 40 more labels for +1 point (8–570)'
    """
    if last is None or labels < LABELS_PER_CLASS * classes:
        return Forecast()
    if not 0 <= last <= 1:
        raise BadOption(f"a last gain of {last:g} is not possible. Give a share from 0 to 1.")
    steps = max(50, labels // 2) if ahead is None else ahead
    middle, low, high = (
        _labels(labels * (growth_for_gain(last, z) - 1), 10 * labels)
        for z in (0.0, -EIGHT_IN_TEN, EIGHT_IN_TEN)
    )
    return Forecast(middle, low, high, chance_of_gain(last, 1 + steps / labels), steps)


def _labels(count: float, far: float) -> int | None:
    return int(np.ceil(count)) if count <= far else None


# When to stop -------------------------------------------------------------------------------------------


def kappa(before: Shaped[np.ndarray, " s"], after: Shaped[np.ndarray, " s"]) -> float:
    """Cohen's κ: how far two models' predicted classes agree beyond chance, −1 to 1; 1 = alike.

    1 also where both predict one and the same class throughout, though that says little.
    Source: Cohen 1960, doi:10.1177/001316446002000104.

    >>> kappa(np.array([0, 1, 1, 0]), np.array([0, 1, 1, 1]))
    0.5
    """
    if before.shape != after.shape or before.ndim != 1 or not len(before):
        raise BadArray(
            f"predictions of shape {before.shape} and {after.shape} cannot be compared. "
            "Give both models' classes of the same images, at least one."
        )
    agreed = float(np.mean(before == after))
    by_chance = sum(float(np.mean(before == c) * np.mean(after == c)) for c in np.intersect1d(before, after))
    return 1.0 if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


@dataclass(frozen=True)
class Snapshot:
    """What is remembered of one model: a row of the page's curve."""

    labels: int
    accuracy: Accuracy | None = None
    kappa: float | None = None
    """`kappa` with the last model compared, on a fixed set of images; None where none was due."""
    predicted_classes: int = 2
    """How many classes it predicts on that set; one class says nothing about settling."""
    chance_of_gain: float | None = None
    """Of its `Forecast`."""


def comparison_due(snapshots: Sequence[Snapshot], labels: int) -> bool:
    """Whether labels have grown by 5% since the last model whose predictions were compared (or the first).

    >>> comparison_due([Snapshot(100), Snapshot(103)], 104), comparison_due([Snapshot(100)], 105)
    (False, True)
    """
    if not snapshots:
        return False
    base = next((past for past in reversed(snapshots) if past.kappa is not None), snapshots[0])
    return labels >= GROWTH * base.labels


def stable_predictions(snapshots: Sequence[Snapshot]) -> bool:
    """Whether the mean of the last three κ is ≥ .99, each after ≥ 5% more labels.

    A κ taken before its time is left out: two nearly equal sets of labels always agree.
    Source: Bloodgood & Vijay-Shanker 2009, arXiv:1409.5165.
    """
    last = _compared(snapshots)[-3:]
    varied = all(past.predicted_classes > 1 for past in last)
    return len(last) == 3 and varied and float(np.mean([past.kappa for past in last])) >= 0.99


def _compared(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    return [
        past
        for i, past in enumerate(snapshots)
        if past.kappa is not None and comparison_due(snapshots[:i], past.labels)
    ]


def target_reached(snapshots: Sequence[Snapshot], target: float | None) -> bool:
    """Whether the lower end of the accuracy was ≥ target at three models, each with ≥ 5 new checks.

    A single look would stop too early by luck; a model below the target in between starts the count again.
    """
    return target is not None and _times_above(snapshots, target) >= 3


def _times_above(snapshots: Sequence[Snapshot], target: float) -> int:
    times = counted = 0
    for past in snapshots:
        if past.accuracy is None or past.accuracy.checks < CHECKS_TO_SHOW:
            continue
        if past.accuracy.low < target:
            times, counted = 0, past.accuracy.checks
        elif past.accuracy.checks >= counted + 5:
            times, counted = times + 1, past.accuracy.checks
    return times


def budget_spent(labels: int, budget: int | None) -> bool:
    """Whether as many labels are given as were planned; never without a plan."""
    return budget is not None and labels >= budget


def pool_exhausted(unlabelled: int) -> bool:
    """Whether no image waits for a label."""
    return unlabelled <= 0


def no_gain_ahead(snapshots: Sequence[Snapshot]) -> bool:
    """Whether four models in a row saw a chance below .1 that the next batches bring another point.

    One alone may be luck: it is looked at after every model.
    """
    last = [past.chance_of_gain for past in snapshots[-STOP_AFTER:]]
    return len(last) == STOP_AFTER and all(chance is not None and chance < STOP_BELOW for chance in last)


Rule = Literal["pool", "budget", "target", "forecast", "stable"]


@dataclass(frozen=True)
class Reason:
    """One rule for stopping, whether it is met, and how things stand in words."""

    rule: Rule
    met: bool
    text: str


@dataclass(frozen=True)
class Advice:
    """One sentence for the person who labels, and whether it says that they can stop."""

    text: str
    stop: bool


def reasons(
    snapshots: Sequence[Snapshot],
    found: Forecast | None,
    *,
    target: float | None,
    budget: int | None,
    unlabelled: int,
    labels: int,
) -> list[Reason]:
    """Every rule for stopping, the most certain first.

    Args: snapshots: of all models so far, oldest first. found: the newest `forecast`.
          target: the accuracy asked for, 0 to 1. budget: the labels planned. unlabelled, labels: images now.
    """
    return [
        Reason("pool", labels > 0 and pool_exhausted(unlabelled), _pool_text(unlabelled)),
        Reason("budget", budget_spent(labels, budget), _budget_text(labels, budget)),
        Reason("target", target_reached(snapshots, target), _target_text(snapshots, target)),
        Reason("forecast", no_gain_ahead(snapshots), (found or Forecast()).sentence),
        Reason("stable", stable_predictions(snapshots), _stable_text(snapshots)),
    ]


def _pool_text(unlabelled: int) -> str:
    return "no image is left to label" if pool_exhausted(unlabelled) else f"{unlabelled:,} images are left"


def _budget_text(labels: int, budget: int | None) -> str:
    return "no number of labels was planned" if budget is None else f"{labels:,} of {budget:,} planned labels"


def _target_text(snapshots: Sequence[Snapshot], target: float | None) -> str:
    if target is None:
        return "no target accuracy was set"
    accuracy = snapshots[-1].accuracy if snapshots else None
    shown = "no random checks yet" if accuracy is None else accuracy.sentence
    times = min(3, _times_above(snapshots, target))
    return f"{shown}; surely above your target of {target:.0%} at {times} of 3 models in a row"


def _stable_text(snapshots: Sequence[Snapshot]) -> str:
    if stable_predictions(snapshots):
        return "the last three models predict nearly the same"
    if len(_compared(snapshots)) < 3:
        return "too few models yet to see whether the predictions settle"
    return "the predictions still change from model to model"


def advise(rules: Sequence[Reason], found: Forecast | None, target: float | None) -> Advice | None:
    """Whether to stop, in one sentence with its reason; None while there is nothing to say.

    Args: rules: what `reasons` gave for the other arguments.

    Settled predictions alone are no reason to stop: they also settle on a slowly rising curve.
    """
    met = {reason.rule: reason.text for reason in rules if reason.met}
    for rule in ("pool", "budget", "target"):
        if rule in met:
            return Advice(f"You can stop: {met[rule]}.", stop=True)
    if "forecast" in met:
        return Advice(f"You can stop: {met['forecast']}{_but(target)}.", stop=True)
    if "stable" in met:
        return _settled(found)
    if found is not None and found.labels_for_one_point is not None:
        return Advice(f"Keep labelling: {found.sentence}.", stop=False)
    return None


def _settled(found: Forecast | None) -> Advice:
    chance = found.chance_of_gain if found else None
    if chance is None:
        but = "but it is too early to tell whether more labels would help"
    elif chance >= STOP_BELOW:
        but = "but more labels may well bring another point"
    else:
        but = "and the next models will tell whether more labels would help"
    return Advice(f"Keep labelling: the predictions have settled, {but}.", False)


def _but(target: float | None) -> str:
    return "" if target is None else f", though your target of {target:.0%} is not yet proved"
