"""What more labels would bring, and when to stop. m checks, s sizes, b redraws, n images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Real, Shaped

from vizsla.errors import BadArray
from vizsla.monitor import CHECKS_TO_FORECAST, CHECKS_TO_SHOW, Accuracy

GAIN = 0.01
"""The one point of accuracy that a forecast is about."""

EXPONENTS = np.array([0.1, 0.2, 0.35, 0.5, 0.7, 1.0])
"""How fast learning curves may approach their end: error falls with labels to the power of minus this."""

GROWTH = 1.05
"""By how much labels must have grown before two models' predictions are compared."""

STOP_BELOW = 0.1
"""Chance of a further point below which labelling may stop."""

GO_ON_ABOVE = 0.3
"""Chance of a further point above which settled predictions are no reason to stop."""


# What more labels would bring ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Forecast:
    """What more labels would bring: label counts from today's on, with the range of 8 in 10 redraws."""

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


def saturating_fit(
    sizes: Real[np.ndarray, " s"], accuracy: Float[np.ndarray, "b s"]
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    """The curve a − b·(n/n_last)^−c that fits best, a ≤ 1, b ≥ 0, c one of `EXPONENTS`; for b curves at once.

    Least squares weighted by label count, because the last sizes say most about what comes next. Given c it is
    a straight line in (n/n_last)^−c, so that all curves and exponents are solved together.

    Returns: a, the accuracy at the end; b, what is still missing to it today; c.
    Source:  Figueroa et al. 2012, doi:10.1186/1472-6947-12-8.

    >>> a, b, c = saturating_fit(np.array([25, 50, 100]), np.array([[0.5, 0.6171572876, 0.7]]))
    >>> round(float(a[0]), 3), round(float(b[0]), 3), float(c[0])      # .9 − .2·√(100/n)
    (0.9, 0.2, 0.5)
    """
    n = np.asarray(sizes, np.float64)
    weight = n / n.sum()
    x = (n / n[-1]) ** -EXPONENTS[:, None]  # (e, s)
    x_mean, y_mean = x @ weight, accuracy @ weight
    centred = (x - x_mean[:, None]) * weight
    slope = -(centred @ accuracy.T) / np.sum(centred * x, axis=1)[:, None]  # (e, b)
    b = np.maximum(slope, 0)
    a = y_mean + b * x_mean[:, None]
    through_one = (x * weight) @ (1 - accuracy).T / np.sum(x * x * weight, axis=1)[:, None]
    a, b = np.where(a > 1, 1.0, a), np.where(a > 1, np.maximum(through_one, 0), b)
    error = np.sum((accuracy - a[..., None] + b[..., None] * x[:, None, :]) ** 2 * weight, axis=2)
    best, row = error.argmin(axis=0), np.arange(len(accuracy))
    return a[best, row], b[best, row], EXPONENTS[best]


def labels_for_gain(
    labels: int, missing: Float[np.ndarray, " b"], exponent: Float[np.ndarray, " b"], gain: float = GAIN
) -> Float[np.ndarray, " b"]:
    """More labels until the curve a − missing·(n/labels)^−exponent has gained that much; inf = never.

    >>> labels_for_gain(100, np.array([0.02, 0.005]), np.array([1.0, 1.0]))      # half of what is missing
    array([100.,  inf])
    """
    left = 1 - gain / np.maximum(missing, gain / 2)
    growth = np.maximum(left, 1e-12) ** (-1 / exponent)
    return np.where(left > 0, labels * (growth - 1), np.inf)


def forecast(
    sizes: Int[np.ndarray, " s"],
    correct: Bool[np.ndarray, "s m"],
    *,
    ahead: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Forecast:
    """What more labels would bring, from models refit on nested parts of today's labels.

    Fits `saturating_fit` to accuracy over size and redraws the checks (Bayesian bootstrap, the same weights at
    all sizes, so that the comparison stays paired). Each redraw holds two imagined checks, one that turns right
    and one that turns wrong at a random size: a flat curve from 30 checks is no proof.

    Args:    sizes: ascending label counts, 40% to 100% of today's, at least 4 of them.
             correct: whether each size's model is right on each check; never trained on that check.
             ahead: labels of the next batches that a gain is asked of; default: half of today's, at least 50.
    Returns: the forecast; an empty one ("too early to tell") from fewer than 30 checks or 4 sizes.
    Source:  Rubin 1981, doi:10.1214/aos/1176345338; Agresti & Min 2005, doi:10.1002/sim.1781 (imagined pairs).
    """
    right = np.asarray(correct, bool)
    if (
        right.ndim != 2
        or right.shape[0] != len(sizes)
        or np.any(np.diff(sizes) <= 0)
        or np.any(sizes[:1] < 1)
    ):
        raise BadArray(
            f"{len(sizes)} sizes do not fit answers of shape {right.shape}. "
            "Give ascending label counts and a row of answers for each."
        )
    s, m = right.shape
    if m < CHECKS_TO_FORECAST or s < 4:
        return Forecast()
    labels = int(sizes[-1])
    steps = max(50, labels // 2) if ahead is None else ahead
    accuracy = _redrawn(right, resamples, np.random.default_rng(seed))
    _, missing, exponent = saturating_fit(sizes, accuracy)
    gains = missing * (1 - (1 + steps / labels) ** -exponent)
    needed = labels_for_gain(labels, missing, exponent)
    low, middle, high = np.quantile(needed, [0.1, 0.5, 0.9], method="nearest")
    far = 10.0 * labels
    return Forecast(
        _labels(middle, far), _labels(low, far), _labels(high, far), float(np.mean(gains > GAIN)), steps
    )


def _redrawn(right: np.ndarray, resamples: int, rng: np.random.Generator) -> Float[np.ndarray, "b s"]:
    s, m = right.shape
    weight = rng.exponential(size=(resamples, m + 2))
    turn = rng.integers(1, s, size=(2, resamples, 1))
    better, worse = np.arange(s) >= turn[0], np.arange(s) < turn[1]
    total = weight[:, :m] @ right.T + weight[:, [m]] * better + weight[:, [m + 1]] * worse
    return total / weight.sum(axis=1, keepdims=True)


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


def no_gain_ahead(found: Forecast | None) -> bool:
    """Whether the chance that the next batches bring another point is below .1."""
    return found is not None and found.chance_of_gain is not None and found.chance_of_gain < STOP_BELOW


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
        Reason("forecast", no_gain_ahead(found), (found or Forecast()).sentence),
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


def advise(
    rules: Sequence[Reason], snapshots: Sequence[Snapshot], found: Forecast | None, target: float | None
) -> Advice | None:
    """Whether to stop, in one sentence with its reason; None while there is nothing to say.

    Args: rules: what `reasons` gave for the other arguments.

    Settled predictions alone are no reason to stop while the forecast promises a
    gain, nor while random checks are being gathered for one: predictions also settle on a slowly rising curve.
    """
    met = {reason.rule: reason.text for reason in rules if reason.met}
    for rule in ("pool", "budget", "target"):
        if rule in met:
            return Advice(f"You can stop: {met[rule]}.", stop=True)
    if "forecast" in met:
        return Advice(f"You can stop: {met['forecast']}{_but(target)}.", stop=True)
    if "stable" in met:
        return _settled(snapshots, found, target)
    if found is not None and found.labels_for_one_point is not None:
        return Advice(f"Keep labelling: {found.sentence}.", stop=False)
    return None


def _settled(snapshots: Sequence[Snapshot], found: Forecast | None, target: float | None) -> Advice:
    chance = found.chance_of_gain if found else None
    accuracy = snapshots[-1].accuracy
    checks = accuracy.checks if accuracy else 0
    if chance is not None and chance >= GO_ON_ABOVE:
        return Advice(
            "Keep labelling: the predictions have settled, but more labels may well bring another point.",
            False,
        )
    if chance is None and 0 < checks < CHECKS_TO_FORECAST:
        wait = f"{CHECKS_TO_FORECAST - checks} more random checks will tell whether more labels would help"
        return Advice(f"Keep labelling: the predictions have settled, and {wait}.", False)
    return Advice(f"You can stop: {_stable_text(snapshots)}{_but(target)}.", True)


def _but(target: float | None) -> str:
    return "" if target is None else f", though your target of {target:.0%} is not yet proved"
