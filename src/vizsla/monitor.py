"""How good the model is without a test set, and when to stop. N catalogue images, m checks, s sizes, n images.

A *check* is an image drawn at random from the whole catalogue and labelled without a suggestion. Chosen labels
say little about accuracy; checks say it honestly, and the model's own confidence makes few of them go further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Int64, Real, Shaped
from scipy.optimize import minimize_scalar

from vizsla.errors import BadArray, BadOption

Z = 1.959963984540054
"""Normal quantile of a 95% interval."""

CHECKS_TO_SHOW = 10
"""Random checks before an accuracy is shown as a percentage."""

CHECKS_TO_FORECAST = 30
"""Random checks before a forecast is made, and before checks become rarer."""

GAIN = 0.01
"""The one point of accuracy that a forecast is about."""

EXPONENTS = np.array([0.1, 0.2, 0.35, 0.5, 0.7, 1.0])
"""How fast learning curves may approach their end: error falls with labels to the power of minus this."""

GROWTH = 1.05
"""By how much labels must have grown before two models' predictions are compared."""


# Accuracy -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Accuracy:
    """An accuracy with its 95% interval, shares from 0 to 1, and how many random checks it rests on."""

    value: float
    low: float
    high: float
    checks: int

    @property
    def sentence(self) -> str:
        """The accuracy in words; no percentage from fewer than 10 checks.

        >>> Accuracy(0.91, 0.78, 0.97, 15).sentence
        'accuracy 91% (78–97), from 15 random checks'
        >>> Accuracy(0.91, 0.6, 1.0, 7).sentence
        'too few random checks yet (7 of 10)'
        """
        if self.checks < CHECKS_TO_SHOW:
            return f"too few random checks yet ({self.checks} of {CHECKS_TO_SHOW})"
        value, low, high = (round(100 * share) for share in (self.value, self.low, self.high))
        return f"accuracy {value}% ({low}–{high}), from {self.checks} random checks"


def wilson(p: float, n: float) -> tuple[float, float]:
    """Wilson's 95% interval of a share p seen in n trials; n need not be whole.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.

    >>> tuple(round(end, 4) for end in wilson(0.5, 10))
    (0.2366, 0.7634)
    """
    centre = p + Z**2 / (2 * n)
    half = Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + Z**2 / n), (centre + half) / (1 + Z**2 / n)
    return float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))


def effective_checks(confidence: Float[np.ndarray, " m"], correct: Bool[np.ndarray, " m"]) -> float:
    """How many plain checks m checks are worth once the confidence has explained part of them; at least m.

    m/ρ, where ρ is the variance of 1[correct] − confidence over that of 1[correct]. Four imagined checks,
    two right and two wrong at the mean confidence, keep both variances honest when nearly all are right.

    >>> effective_checks(np.full(4, 0.5), np.array([True, True, False, False]))      # nothing explained
    4.0
    """
    m = len(correct)
    residual = correct - confidence
    mean = confidence.mean()
    imagined = 2 * (1 - mean) ** 2 + 2 * mean**2
    unexplained = (np.sum((residual - residual.mean()) ** 2) + imagined) / (m + 4)
    share = (correct.sum() + 2) / (m + 4)
    return float(m / min(1.0, unexplained / (share * (1 - share))))


def audited_accuracy(
    confidence_all: Float[np.ndarray, " N"],
    audit_confidence: Float[np.ndarray, " m"],
    audit_correct: Bool[np.ndarray, " m"],
    open_confidence: Float[np.ndarray, " k"] | None = None,
) -> Accuracy | None:
    """Accuracy over the whole catalogue: mean confidence, put right by the random checks.

    mean p̂ over the catalogue + mean over checks of (1[correct] − p̂), with Wilson's interval at
    `effective_checks` trials. Checks still open count as all wrong for the lower end, all right for the upper.

    Args:    confidence_all: calibrated probability of the predicted class of every image, out-of-fold
             where it is labelled: in-sample confidences are too high and would bias the estimate.
             audit_confidence, audit_correct: of each answered check, from a model that has not seen its label.
             open_confidence: of the checks that were shown but not answered.
    Returns: value and interval, 0 to 1; None without an answered check.
    Source:  Särndal et al. 1992, Model Assisted Survey Sampling, ch. 6 (difference estimator).

    >>> sure = np.full(100, 0.5)
    >>> found = audited_accuracy(sure, sure[:10], np.array([True] * 5 + [False] * 5))
    >>> found.value, round(found.low, 4), round(found.high, 4)      # Wilson's interval of 5 in 10
    (0.5, 0.2366, 0.7634)
    """
    left = np.empty(0) if open_confidence is None else np.asarray(open_confidence, np.float64)
    everywhere, sure = (np.asarray(p, np.float64) for p in (confidence_all, audit_confidence))
    right = np.asarray(audit_correct, bool)
    if sure.shape != right.shape or sure.ndim != 1:
        raise BadArray(
            f"{sure.shape} confidences do not fit {right.shape} answers. Give one of each per check."
        )
    if not len(right):
        return None
    for confidence in (everywhere, sure, left):
        _require_probabilities(confidence)
    if not len(everywhere):
        raise BadArray("the catalogue has no confidences. Give one for every image, labelled or not.")
    value, low, high = _estimate(everywhere.mean(), sure, right)
    if len(left):
        both = np.concatenate([sure, left])
        wrong, fine = (np.concatenate([right, np.full(len(left), answer)]) for answer in (False, True))
        low = min(low, _estimate(everywhere.mean(), both, wrong)[1])
        high = max(high, _estimate(everywhere.mean(), both, fine)[2])
    return Accuracy(value, low, high, len(right))


def _estimate(mean: float, confidence: np.ndarray, correct: np.ndarray) -> tuple[float, float, float]:
    value = float(np.clip(mean + np.mean(correct - confidence), 0, 1))
    return value, *wilson(value, effective_checks(confidence, correct))


def _require_probabilities(values: np.ndarray) -> None:
    if not np.all((values >= 0) & (values <= 1)):  # NaN fails too
        raise BadArray("a confidence lies outside 0 to 1. Give probabilities, not logits.")


# The stream of checks -----------------------------------------------------------------------------------


def audit_share(checks: int) -> float:
    """Share of the queue that is random checks: a fifth until 30 are answered, then a tenth.

    >>> audit_share(29), audit_share(30)
    (0.2, 0.1)
    """
    return 0.2 if checks < CHECKS_TO_FORECAST else 0.1


def interleave(
    ranked: Int[np.ndarray, " r"] | Sequence[int],
    audit: Int[np.ndarray, " a"] | Sequence[int],
    share: float,
    *,
    since: int | None = None,
) -> tuple[Int64[np.ndarray, " t"], Bool[np.ndarray, " t"]]:
    """A queue in which every 1/share-th place is a random check, both kinds in the order given.

    An id in both lists is shown once, as a check and at a check's place: answered earlier because the model is
    unsure of it, it would make the checks harder than the catalogue. Checks that find no place are left out.

    Args:    ranked: ids to label, best first. audit: ids of the next checks. share: 0 to 1.
             since: how many images were answered since the last check, so that a queue that is often
             made anew asks neither too rarely nor too often; None puts a check first.
    Returns: the ids, and which of them are checks.

    >>> interleave([1, 2, 3, 4], [9, 3], 0.5)
    (array([9, 1, 3, 2, 4]), array([ True, False,  True, False, False]))
    """
    if not 0 <= share <= 1:
        raise BadOption(f"a share of {share:g} checks is not possible. Give a number from 0 to 1.")
    images, checks = _distinct(ranked), _distinct(audit)
    if not len(images) or share == 0:
        ids = checks if share else images
        return ids, np.full(len(ids), share > 0)
    first = 0 if since is None else max(0, int(np.ceil(1 / share - 1e-9)) - 1 - since)
    others, places = images, _places(len(images), share, first)[: len(checks)]
    while True:
        others = images[~np.isin(images, checks[: len(places)])]
        more = _places(len(others) + len(places), share, first)[: len(checks)]
        if len(more) <= len(places):
            break
        places = more
    is_audit = np.zeros(len(others) + len(places), bool)
    is_audit[places] = True
    ids = np.empty(len(is_audit), np.int64)
    ids[is_audit], ids[~is_audit] = checks[: len(places)], others
    return ids, is_audit


def _distinct(ids: np.ndarray | Sequence[int]) -> Int64[np.ndarray, " n"]:
    array = np.asarray(ids, np.int64)
    return array[np.sort(np.unique(array, return_index=True)[1])]


def _places(total: int, share: float, first: int) -> Int64[np.ndarray, " k"]:
    places = first + np.floor(np.arange(int(total * share) + 2) / share + 1e-9).astype(np.int64)
    return places[places < total]


# Calibration and agreement ------------------------------------------------------------------------------


def with_temperature(probs: Float[np.ndarray, "n c"], temperature: float) -> Float[np.ndarray, "n c"]:
    """Probabilities made flatter (temperature > 1) or sharper (< 1): p^(1/T), scaled to sum to 1.

    The same as softmax(logits / T). Never changes which class is the most probable.

    >>> with_temperature(np.array([[0.9, 0.1]]), 2.0)
    array([[0.75, 0.25]])
    """
    logits = np.log(np.clip(np.asarray(probs, np.float64), 1e-30, 1)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def calibrate(probs: Float[np.ndarray, "n c"], y: Int[np.ndarray, " n"]) -> float:
    """The temperature, 0.1 to 10, at which probabilities fit the labels best (least negative log-likelihood).

    Args:    probs: out-of-fold probabilities: a model is too sure of labels it was trained on.
             y: the true classes. No labels: temperature 1.
    Source:  Guo et al. 2017, arXiv:1706.04599.

    >>> sure = np.tile([0.9, 0.1], (4, 1))
    >>> round(calibrate(sure, np.array([0, 0, 0, 1])), 3)      # right in three of four: .9 becomes .75
    2.0
    """
    if not len(y):
        return 1.0
    logits = np.log(np.clip(np.asarray(probs, np.float64), 1e-7, 1))  # one sure mistake must not rule

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        likelihood = scaled[np.arange(len(y)), y] - np.log(np.exp(scaled).sum(axis=1))
        return -float(likelihood.mean())

    best = minimize_scalar(loss, bounds=(np.log(0.1), np.log(10)), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(best.x))


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


STOP_BELOW = 0.1
"""Chance of a further point below which labelling may stop."""

GO_ON_ABOVE = 0.3
"""Chance of a further point above which settled predictions are no reason to stop."""


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
    snapshots: Sequence[Snapshot],
    found: Forecast | None,
    *,
    target: float | None,
    budget: int | None,
    unlabelled: int,
    labels: int,
) -> Advice | None:
    """Whether to stop, in one sentence with its reason; None while there is nothing to say.

    Arguments as for `reasons`. Settled predictions alone are no reason to stop while the forecast promises a
    gain, nor while random checks are being gathered for one: predictions also settle on a slowly rising curve.
    """
    rules = reasons(snapshots, found, target=target, budget=budget, unlabelled=unlabelled, labels=labels)
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
