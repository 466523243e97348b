"""Accuracy without a test set: answers by hand, and simulations where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from vizsla.advice import Snapshot, target_reached
from vizsla.errors import BadArray, BadOption
from vizsla.monitor import (
    Accuracy,
    audit_share,
    audited_accuracy,
    calibrate,
    confidence_weight,
    effective_checks,
    interleave,
    share_interval,
    wilson,
    with_temperature,
)

ACCURACIES = (0.65, 0.82, 0.95)


def answers(right: int, wrong: int = 0) -> np.ndarray:
    return np.array([True] * right + [False] * wrong)


def audited(everywhere: float, sure: float, right: int, wrong: int, left: int = 0) -> Accuracy:
    """An accuracy whose confidences are all alike."""
    found = audited_accuracy(
        np.full(100, everywhere), np.full(right + wrong, sure), answers(right, wrong), np.full(left, sure)
    )
    assert found is not None
    return found


# Accuracy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # Newcombe 1998 (doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_agrees_with_newcombes_published_table(right, n, low, high):
    assert wilson(right / n, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_and_shrinks_to_the_share():
    low, high = wilson(0.2, 37.5)
    assert wilson(0.8, 37.5) == pytest.approx((1 - high, 1 - low))
    assert wilson(0.3, 1e12) == pytest.approx((0.3, 0.3), abs=1e-5)


def test_the_interval_of_a_share_is_the_wider_of_wilsons_and_jeffreys_on_each_side():
    # Jeffreys' of 29 in 30 (Brown, Cai & DasGupta 2001): quantiles of beta(29.5, 1.5)
    right = np.sort(np.random.default_rng(0).beta(29.5, 1.5, 400_000))
    low, high = share_interval(29 / 30, 30)
    assert low == wilson(29 / 30, 30)[0] < right[10_000]
    assert high == pytest.approx(right[390_000], abs=2e-4)
    assert high > wilson(29 / 30, 30)[1]


def test_the_interval_of_a_share_is_symmetric_and_reaches_both_ends():
    assert share_interval(0.2, 37.5) == pytest.approx(
        tuple(1 - end for end in share_interval(0.8, 37.5)[::-1])
    )
    assert share_interval(1.0, 30) == (wilson(1.0, 30)[0], 1.0)
    assert share_interval(0.0, 30) == (0.0, wilson(0.0, 30)[1])


@pytest.mark.parametrize("checks", [30, 60, 120])
def test_the_interval_of_a_plain_share_holds_93_times_in_100_at_any_accuracy(checks):
    """Exact: every outcome with its hypergeometric probability, in a catalogue of 2,000."""
    seen = np.arange(checks + 1)
    lows, highs = np.array([interval_of(right, checks, 2000) for right in seen]).T
    counts = np.arange(1000, 1991, 2)
    chances = hypergeom.pmf(seen, 2000, counts[:, None], checks)
    truths = counts[:, None] / 2000
    held = (chances * ((lows <= truths + 1e-9) & (truths <= highs + 1e-9))).sum(axis=1)
    assert held.min() >= 0.93
    assert 0.95 <= held.mean() <= 0.965
    at = [held[np.flatnonzero(counts == round(2000 * accuracy))[0]] for accuracy in ACCURACIES]
    assert min(at) >= 0.935


def interval_of(right: int, checks: int, images: int) -> tuple[float, float]:
    """Of checks whose confidences are all alike."""
    sure = np.full(images, 0.8)
    found = audited_accuracy(sure, sure[:checks], answers(right, checks - right))
    assert found is not None
    return found.low, found.high


def test_the_estimate_by_hand():
    # 3 right at 1, 2 wrong at 0: cov/var = 1, halved by 5/(5 + 5). All: mean .5; checks: .6. .6 + ½(.5 − .6)
    everywhere = np.array([1.0, 1.0, 1.0, 0.0, 0.0] + [0.5, 0.4] * 10 + [0.5] * 5)
    everywhere[-5:] = (15 - everywhere[:-5].sum()) / 5
    found = audited_accuracy(everywhere, everywhere[:5], answers(3, 2))
    assert found is not None
    assert found.value == pytest.approx(0.55)
    assert found.checks == 5
    # Σ(y − p̃)² with the imagined two and two: 9·(5/9)(4/9) = 20/9; explained: 2·½·1.2 − ¼·1.2 = .9
    trials = 5 / (1 - 0.9 * 9 / 20)
    assert effective_checks(everywhere[:5], answers(3, 2)) == pytest.approx(trials)
    low, high = share_interval(0.55, trials * 29 / 25)  # 5 of 30 are known
    assert (found.low, found.high) == (np.floor(30 * low) / 30, np.ceil(30 * high) / 30)


def test_the_weight_of_the_confidence_by_hand():
    # 6 right at .9, 2 wrong at .5: mean .8; cov·m = 6·.1 = .6; var·m = 6·.01 + 2·.09 = .24: 2.5·8/13, held to 1
    sure = np.array([0.9] * 6 + [0.5] * 2)
    assert confidence_weight(sure, answers(6, 2)) == 1
    # 3 right and 1 wrong at either: cov 0
    assert confidence_weight(np.array([0.9, 0.6] * 4), answers(6, 2)) == pytest.approx(0, abs=1e-12)


def test_a_confidence_that_misleads_or_never_changes_counts_for_nothing():
    misleading = np.array([0.1] * 5 + [0.9] * 5)
    assert confidence_weight(misleading, answers(5, 5)) == 0
    assert effective_checks(misleading, answers(5, 5)) == 10
    assert confidence_weight(np.full(10, 0.7), answers(5, 5)) == 0
    everywhere = np.concatenate([misleading, np.full(990, 0.99)])
    found = audited_accuracy(everywhere, misleading, answers(5, 5))
    assert found is not None
    assert (found.value, found.low, found.high) == (0.5, *interval_of(5, 10, 1000))


def test_a_confidence_that_tells_nothing_gives_the_interval_of_the_plain_share():
    sure = np.full(10**7, 0.5)
    found = audited_accuracy(sure, sure[:10], answers(5, 5))
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.5, *share_interval(0.5, 10)), abs=1e-6)


def test_a_confidence_that_knows_right_from_wrong_makes_the_checks_worth_more():
    sure = np.array([0.99] * 20 + [0.01] * 10)
    assert effective_checks(sure, answers(20, 10)) > 3 * 30


def test_confidence_that_is_off_everywhere_alike_leaves_the_estimate_alone():
    rng = np.random.default_rng(0)
    everywhere, picked = rng.uniform(0.2, 0.8, 200), np.arange(40)
    correct = rng.random(40) < everywhere[:40]
    values = [
        found.value
        for shift in (-0.2, 0.0, 0.2)
        if (found := audited_accuracy(everywhere + shift, everywhere[picked] + shift, correct))
    ]
    assert values == pytest.approx([values[0]] * 3)


def test_when_every_image_is_checked_the_accuracy_is_known():
    rng = np.random.default_rng(1)
    sure, correct = rng.random(60), rng.random(60) < 0.7
    found = audited_accuracy(sure, sure, correct)
    assert found is not None
    assert (found.value, found.low, found.high) == (correct.mean(),) * 3


def test_the_ends_are_whole_images_and_never_deny_a_check():
    # 8 of 10 are checked, 7 of them right: 7, 8 or 9 of 10 can be
    found = audited_accuracy(np.full(10, 0.9), np.full(8, 0.9), answers(7, 1))
    assert found is not None
    assert (found.low, found.high) == (0.7, 0.9)


def test_all_right_gives_1_at_most_and_still_an_honest_lower_end():
    found = audited(0.99, 0.9, 30, 0)  # .99 + .1 is more than 1
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.85 < found.low < 0.95  # Wilson of 30 in 30: .886
    nothing = audited(0.01, 0.1, 0, 30)
    assert (nothing.value, nothing.low, nothing.high) == pytest.approx((0, 0, 1 - found.low))


def test_open_checks_widen_to_all_wrong_and_all_right():
    closed, with_open = audited(0.8, 0.8, 16, 4), audited(0.8, 0.8, 16, 4, left=5)
    assert with_open.value == closed.value
    assert with_open.checks == 20
    assert with_open.low == audited(0.8, 0.8, 16, 9).low < closed.low
    assert with_open.high == audited(0.8, 0.8, 21, 4).high > closed.high


def test_open_checks_never_narrow_the_interval():
    closed, with_open = audited(0.9, 0.9, 0, 10), audited(0.9, 0.9, 0, 10, left=10)
    assert with_open.low <= closed.low
    assert with_open.high >= closed.high


def test_there_is_no_accuracy_without_a_check():
    none = np.empty(0)
    assert audited_accuracy(np.full(5, 0.9), none, none.astype(bool)) is None
    assert audited_accuracy(np.full(5, 0.9), none, none.astype(bool), np.array([0.9])) is None


def test_logits_and_unmatched_answers_are_refused():
    with pytest.raises(BadArray, match="Give probabilities, not logits"):
        audited(1.2, 0.5, 1, 1)
    with pytest.raises(BadArray, match="one of each per check"):
        audited_accuracy(np.full(5, 0.9), np.full(3, 0.9), answers(2))
    with pytest.raises(BadArray, match="the catalogue has no confidences"):
        audited_accuracy(np.empty(0), np.full(2, 0.9), answers(2))
    with pytest.raises(BadArray, match="the catalogue has 3 confidences, its checks 4"):
        audited_accuracy(np.full(3, 0.9), np.full(2, 0.9), answers(2), np.full(2, 0.9))


@pytest.mark.parametrize(
    ("accuracy", "sentence"),
    [
        (Accuracy(0.9, 0.5, 1.0, 9), "too few random checks yet (9 of 10)"),
        (Accuracy(0.914, 0.776, 0.968, 10), "accuracy 91% (78–97), from 10 random checks"),
        (Accuracy(1.0, 0.995, 1.0, 800), "accuracy 100% (100–100), from 800 random checks"),
    ],
)
def test_the_accuracy_in_words(accuracy, sentence):
    assert accuracy.sentence == sentence


def test_the_interval_covers_the_truth_whatever_the_confidences_are_worth():
    """N = 2,000, 700 runs per cell: mean coverage 94–97%, no cell under 92%."""
    cells = {
        (kind, accuracy, m): coverage(kind, accuracy, m)
        for kind in CONFIDENCES
        for accuracy in ACCURACIES
        for m in (30, 60)
    }
    assert min(cells.values()) >= 0.92, cells
    assert 0.94 <= np.mean(list(cells.values())) <= 0.97, cells


CONFIDENCES = {
    "calibrated": lambda chance, rng: chance,
    "5 points too low": lambda chance, rng: np.clip(chance - 0.05, 0, 1),
    "5 points too high": lambda chance, rng: np.clip(chance + 0.05, 0, 1),
    "over-confident": lambda chance, rng: chance**3 / (chance**3 + (1 - chance) ** 3),
    "uninformative": lambda chance, rng: rng.permutation(chance),
    "inverted": lambda chance, rng: 1 - chance,
}


def coverage(kind: str, accuracy: float, checks: int, runs: int = 700, sharpness: float = 4.0) -> float:
    """How often the interval holds the truth: 10 catalogues, their images right with their own probability."""
    rng = np.random.default_rng([len(kind), round(100 * accuracy), checks])
    covered = 0
    for _ in range(10):
        chance = rng.beta(accuracy * sharpness, (1 - accuracy) * sharpness, 2000)
        correct = exactly(accuracy, chance, rng)
        confidence = CONFIDENCES[kind](chance, rng)
        for _ in range(runs // 10):
            picked = rng.choice(2000, checks, replace=False, shuffle=False)
            found = audited_accuracy(confidence, confidence[picked], correct[picked])
            assert found is not None
            covered += found.low - 1e-9 <= accuracy <= found.high + 1e-9
    return covered / runs


def exactly(accuracy: float, chance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """That share of images right, the likelier ones more often."""
    odds = np.log(chance + 1e-12) - np.log1p(1e-12 - chance) + rng.logistic(size=len(chance))
    correct = np.zeros(len(chance), bool)
    correct[np.argsort(-odds)[: round(accuracy * len(chance))]] = True
    return correct


def test_a_model_one_point_short_of_the_target_is_falsely_accepted_in_at_most_1_run_of_20():
    """From 10 to 120 checks, looking at every fifth: the accuracy never changes and is too low."""
    rng = np.random.default_rng(7)
    false = 0
    for _ in range(400):
        chance = rng.beta(3.56, 0.44, 2000)
        correct = exactly(0.89, chance, rng)
        order = rng.permutation(2000)
        past = [
            Snapshot(10 * m, audited_accuracy(chance, chance[order[:m]], correct[order[:m]]))
            for m in range(10, 121, 5)
        ]
        false += any(target_reached(past[:i], 0.9) for i in range(3, len(past) + 1))
    assert false / 400 <= 0.05


# The stream of checks -----------------------------------------------------------------------------------


def test_a_fifth_are_checks_until_there_are_30_then_none_to_150_labels_then_a_tenth():
    shares = [audit_share(*at) for at in ((0, 0), (29, 400), (30, 130), (30, 149), (30, 150), (500, 5000))]
    assert shares == [0.2, 0.2, 0.0, 0.0, 0.1, 0.1]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.5])
def test_checks_are_spread_evenly(share):
    ids, is_audit = interleave(np.arange(900), np.arange(1000, 2000), share)
    assert len(ids) == len(set(ids.tolist()))
    np.testing.assert_array_equal(ids[~is_audit], np.arange(900))
    np.testing.assert_array_equal(ids[is_audit], np.arange(1000, 1000 + is_audit.sum()))
    so_far = np.cumsum(is_audit)
    assert np.all(np.abs(so_far - share * np.arange(1, len(ids) + 1)) <= 1)


def test_every_fifth_is_a_check_by_hand():
    ids, is_audit = interleave([1, 2, 3, 4, 5, 6, 7, 8], [11, 12, 13], 0.2)
    assert ids.tolist() == [11, 1, 2, 3, 4, 12, 5, 6, 7, 8]  # 13 finds no place
    assert np.flatnonzero(is_audit).tolist() == [0, 5]


def test_a_queue_made_anew_goes_on_counting():
    def first(since: int) -> int:
        return int(np.flatnonzero(interleave(range(40), [90, 91, 92], 0.1, since=since)[1])[0])

    assert [first(since) for since in (0, 4, 9, 30)] == [9, 5, 0, 0]


def test_an_image_that_is_ranked_and_a_check_is_shown_once_as_a_check_in_the_checks_order():
    ids, is_audit = interleave([5, 6, 7, 8], [8, 5], 0.5)
    assert ids.tolist() == [8, 6, 5, 7]
    assert is_audit.tolist() == [True, False, True, False]


def test_with_the_whole_catalogue_as_checks_a_fifth_of_it_are():
    everything = np.arange(1000)
    ids, is_audit = interleave(everything, everything[::-1], 0.2)
    assert sorted(ids.tolist()) == list(range(1000))
    assert is_audit.sum() == 200
    np.testing.assert_array_equal(ids[is_audit], np.arange(999, 799, -1))


def test_queues_at_the_limits():
    assert interleave([1, 1, 2], [], 0.2)[0].tolist() == [1, 2]
    assert interleave([], [3, 3, 4], 0.2)[0].tolist() == [3, 4]
    assert interleave([1, 2], [3], 0)[0].tolist() == [1, 2]
    assert interleave([1, 2], [3, 4], 1)[0].tolist() == [3, 4, 1, 2]
    with pytest.raises(BadOption, match="from 0 to 1"):
        interleave([1], [2], 20)


# Calibration --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("right", "temperature"), [(3, 2.0), (2, 10.0), (4, 0.1)])
def test_the_temperature_makes_the_confidence_the_share_that_is_right(right, temperature):
    # logit ln 9; right in 3 of 4 means logit ln 3: T = 2. A coin means T → ∞, never wrong T → 0: the bounds.
    y = np.array([0] * right + [1] * (4 - right))
    assert calibrate(np.tile([0.9, 0.1], (4, 1)), y) == pytest.approx(temperature, rel=1e-3)


def test_calibrated_probabilities_keep_temperature_1_and_a_known_temperature_is_found_again():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(4), 20_000)
    y = (probs.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert calibrate(probs, y) == pytest.approx(1, abs=0.03)
    assert calibrate(with_temperature(probs, 0.4), y) == pytest.approx(2.5, rel=0.03)


def test_one_sure_mistake_does_not_make_the_temperature_nan():
    probs = np.array([[1.0, 0.0]] * 50)
    assert 0.1 <= calibrate(probs, np.array([0] * 49 + [1])) <= 10
    assert calibrate(np.empty((0, 3)), np.empty(0, int)) == 1


def test_temperature_at_its_limits():
    probs = np.array([[0.5, 0.3, 0.2], [0.0, 0.1, 0.9]])
    np.testing.assert_allclose(with_temperature(probs, 1), probs, atol=1e-12)
    np.testing.assert_allclose(with_temperature(probs, 1e6), 1 / 3, atol=1e-4)
    np.testing.assert_allclose(with_temperature(probs, 0.01), [[1, 0, 0], [0, 0, 1]], atol=1e-12)
