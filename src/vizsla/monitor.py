"""How good the model is without a test set. N catalogue images, m checks, n images.

A *check* is an image drawn at random from the whole catalogue and labelled without a suggestion. Chosen labels
say little about accuracy; checks say it honestly, and the model's own confidence makes few of them go further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int64
from scipy.optimize import minimize_scalar
from scipy.special import betaincinv

from vizsla.errors import BadArray, BadOption

Z = 1.959963984540054
"""Normal quantile of a 95% interval."""

SHRINKAGE = 5
"""Checks that the weight of the confidence is made smaller by: chosen on other simulated projects than reported."""

CHECKS_TO_SHOW = 10
"""Random checks before an accuracy is shown as a percentage."""

CHECKS_AT_A_FIFTH = 30
"""Random checks before they become rarer."""

LABELS_AT_A_FIFTH = 150
"""Labels of which at most a fifth are random checks; of those that follow, a tenth."""


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


def share_interval(p: float, n: float) -> tuple[float, float]:
    """The 95% interval of a share p seen in n trials: the wider end of Wilson's and of Jeffreys', on each side.

    Wilson's is too short towards the nearer of 0 and 1, Jeffreys' away from it. From 30 trials on, the two together
    hold 93 times in 100 or more at every share from 50 to 99.5%, where Wilson's alone comes down to 86.

    Args:    n: need not be whole.
    Source:  Brown, Cai & DasGupta 2001, doi:10.1214/ss/1009213286.

    >>> tuple(round(end, 4) for end in share_interval(0.5, 10))      # Jeffreys' would be .224 to .776
    (0.2235, 0.7765)
    """
    low, high = wilson(p, n)
    right, wrong = p * n + 0.5, (1 - p) * n + 0.5
    return min(low, float(betaincinv(right, wrong, 0.025))), max(high, float(betaincinv(right, wrong, 0.975)))


def confidence_weight(confidence: Float[np.ndarray, " m"], correct: Bool[np.ndarray, " m"]) -> float:
    """How far to trust the confidence, 0 to 1: λ = cov(confidence, 1[correct]) / var(confidence) over the checks.

    That λ leaves the least variance. It is made smaller by m/(m + 5), for it is itself an estimate; where confidence
    tells nothing, or less than nothing, it is 0.

    Source:  Angelopoulos et al. 2023, PPI++, arXiv:2311.01453, section 5 (power tuning).

    >>> confidence_weight(np.array([1.0, 1.0, 1.0, 0.0, 0.0]), np.array([True, True, True, False, False]))
    0.5
    """
    m, away = len(correct), confidence - confidence.mean()
    spread = float(away @ away)
    if spread < 1e-12 * m:  # all alike, but for rounding
        return 0.0
    return float(np.clip(away @ correct / spread * m / (m + SHRINKAGE), 0, 1))


def effective_checks(confidence: Float[np.ndarray, " m"], correct: Bool[np.ndarray, " m"]) -> float:
    """How many plain checks m checks are worth once the confidence has explained part of them; at least m.

    m/ρ, where ρ is the variance of 1[correct] − λ·confidence over that of 1[correct], λ their `confidence_weight`.
    Four imagined checks, two right and two wrong at the mean confidence, keep both variances honest when nearly
    all are right.

    >>> effective_checks(np.full(4, 0.5), np.array([True, True, False, False]))      # nothing explained
    4.0
    """
    m, away = len(correct), confidence - confidence.mean()
    weight, share = confidence_weight(confidence, correct), (correct.sum() + 2) / (m + 4)
    explained = 2 * weight * (away @ correct) - weight**2 * (away @ away)
    return float(m / (1 - explained / ((m + 4) * share * (1 - share))))


def audited_accuracy(
    confidence_all: Float[np.ndarray, " N"],
    audit_confidence: Float[np.ndarray, " m"],
    audit_correct: Bool[np.ndarray, " m"],
    open_confidence: Float[np.ndarray, " k"] | None = None,
) -> Accuracy | None:
    """Accuracy over the whole catalogue: the share right among the random checks, put right by the confidence.

    Share right + λ · (mean confidence of the catalogue − mean confidence of the checks), λ the `confidence_weight`,
    so a worthless confidence counts for nothing. Its interval is `share_interval` at `effective_checks` trials, times
    (N − 1)/(N − m), for checks are part of the catalogue and known; the ends are whole numbers of images, rounded
    outwards. Checks still open count as all wrong for the lower end, all right for the upper.

    Args:    confidence_all: calibrated probability of the predicted class of every image, out-of-fold
             where it is labelled: in-sample confidences are too high and would bias the estimate.
             audit_confidence, audit_correct: of each answered check, from a model that has not seen its label.
             open_confidence: of the checks that were shown but not answered.
    Returns: value and interval, 0 to 1; None without an answered check. No width once every image is checked.
    Source:  Angelopoulos et al. 2023, PPI++, arXiv:2311.01453.

    >>> sure = np.full(10_000, 0.5)
    >>> found = audited_accuracy(sure, sure[:10], np.array([True] * 5 + [False] * 5))
    >>> found.value, found.low, found.high      # nothing but the interval of 5 in 10
    (0.5, 0.2236, 0.7764)
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
    if len(everywhere) < len(sure) + len(left):
        raise BadArray(
            f"the catalogue has {len(everywhere) or 'no'} confidences, its checks {len(sure) + len(left)}. "
            "Give one for every image, labelled or not."
        )
    value, low, high = _estimate(everywhere, sure, right)
    if len(left):
        both = np.concatenate([sure, left])
        wrong, fine = (np.concatenate([right, np.full(len(left), answer)]) for answer in (False, True))
        low = min(low, _estimate(everywhere, both, wrong)[1])
        high = max(high, _estimate(everywhere, both, fine)[2])
    return Accuracy(value, low, high, len(right))


def _estimate(
    everywhere: np.ndarray, confidence: np.ndarray, correct: np.ndarray
) -> tuple[float, float, float]:
    total, m = len(everywhere), len(correct)
    least = correct.sum() / total  # of the catalogue is known to be right …
    most = (correct.sum() + total - m) / total  # … and at most so much can be
    if m == total:
        return float(least), float(least), float(least)
    weight = confidence_weight(confidence, correct)
    value = correct.mean() + weight * (everywhere.mean() - confidence.mean())
    value = float(np.clip(value, least, most))
    trials = effective_checks(confidence, correct) * (total - 1) / (total - m)
    low, high = share_interval(value, trials)
    low, high = np.floor(low * total + 1e-9) / total, np.ceil(high * total - 1e-9) / total
    return value, float(max(low, least)), float(min(high, most))


def _require_probabilities(values: np.ndarray) -> None:
    if not np.all((values >= 0) & (values <= 1)):  # NaN fails too
        raise BadArray("a confidence lies outside 0 to 1. Give probabilities, not logits.")


# The stream of checks -----------------------------------------------------------------------------------


def audit_share(checks: int, labels: int) -> float:
    """Share of the queue that is random checks: a fifth until 30 are answered, none up to 150 labels, then a tenth.

    The first labels of all are random too, so the 30 are there before 150 labels; more would be over a fifth.

    >>> audit_share(29, 120), audit_share(30, 130), audit_share(30, 150)
    (0.2, 0.0, 0.1)
    """
    if checks < CHECKS_AT_A_FIFTH:
        return 0.2
    return 0.1 if labels >= LABELS_AT_A_FIFTH else 0.0


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


# Calibration --------------------------------------------------------------------------------------------


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
