"""Accuracy without a test set, and advice to stop: answers by hand, and simulations where the truth is known."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest

from vizsla.errors import BadArray, BadOption
from vizsla.monitor import (
    EXPONENTS,
    Accuracy,
    Advice,
    Forecast,
    Snapshot,
    advise,
    audit_share,
    audited_accuracy,
    budget_spent,
    calibrate,
    comparison_due,
    effective_checks,
    forecast,
    interleave,
    kappa,
    labels_for_gain,
    no_gain_ahead,
    pool_exhausted,
    reasons,
    saturating_fit,
    stable_predictions,
    target_reached,
    wilson,
    with_temperature,
)

ACCURACIES = (0.6, 0.8, 0.9, 0.97)


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


def test_the_estimate_is_mean_confidence_put_right_by_the_checks():
    # mean .7; residuals .1, .4, −.6: mean −1/30
    found = audited_accuracy(np.array([0.5, 0.9]), np.array([0.9, 0.6, 0.6]), answers(2, 1))
    assert found is not None
    assert found.value == pytest.approx(0.7 - 1 / 30)
    assert found.checks == 3


def test_effective_checks_by_hand():
    # 6 right at .9, 2 wrong at .5: mean .8; residuals .1 ×6, −.5 ×2: squares about −.05 sum to .54
    # v = (.54 + 2·.04 + 2·.64)/12 = 1.9/12; p̃ = 8/12, p̃(1−p̃) = 2/9; ρ = 1.9·9/24 = .7125
    sure = np.array([0.9] * 6 + [0.5] * 2)
    assert effective_checks(sure, answers(6, 2)) == pytest.approx(8 / 0.7125)
    found = audited_accuracy(np.full(50, 0.8), sure, answers(6, 2))
    assert found is not None
    assert (found.low, found.high) == pytest.approx(wilson(0.75, 8 / 0.7125))


def test_a_confidence_that_tells_nothing_gives_wilsons_interval_of_the_plain_share():
    found = audited(0.5, 0.5, 5, 5)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.236593, 0.763407), abs=1e-6)


def test_a_confidence_that_knows_right_from_wrong_makes_the_checks_worth_more():
    sure = np.array([0.99] * 20 + [0.01] * 10)
    assert effective_checks(sure, answers(20, 10)) > 3 * 30


def test_a_confidence_that_misleads_makes_no_check_worth_less_than_one():
    assert effective_checks(np.array([0.1] * 5 + [0.9] * 5), answers(5, 5)) == 10


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


def test_when_every_image_is_checked_the_estimate_is_the_plain_accuracy():
    rng = np.random.default_rng(1)
    sure, correct = rng.random(60), rng.random(60) < 0.7
    found = audited_accuracy(sure, sure, correct)
    assert found is not None
    assert found.value == pytest.approx(correct.mean())


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


def test_the_interval_covers_the_truth_95_times_in_100_even_with_confidences_off_by_5_points():
    """N = 2,000, 1,000 runs per cell: mean coverage 94–97%, no cell under 92%."""
    cells = {
        (accuracy, off, m): coverage(accuracy, off, m)
        for accuracy in ACCURACIES
        for off in (-0.05, 0.0, 0.05)
        for m in (30, 60, 120)
    }
    assert min(cells.values()) >= 0.92, cells
    assert 0.94 <= np.mean(list(cells.values())) <= 0.97, cells


def coverage(accuracy: float, off: float, checks: int, runs: int = 1000, sharpness: float = 4.0) -> float:
    """How often the interval holds the truth: 10 catalogues, their images right with their own probability."""
    rng = np.random.default_rng([round(100 * accuracy), round(100 * off) + 5, checks])
    covered = 0
    for _ in range(10):
        chance = rng.beta(accuracy * sharpness, (1 - accuracy) * sharpness, 2000)
        correct = exactly(accuracy, chance, rng)
        confidence = np.clip(chance + off, 0, 1)
        for _ in range(runs // 10):
            picked = rng.choice(2000, checks, replace=False, shuffle=False)
            found = audited_accuracy(confidence, confidence[picked], correct[picked])
            assert found is not None
            covered += found.low <= accuracy <= found.high
    return covered / runs


def exactly(accuracy: float, chance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """That share of images right, the likelier ones more often."""
    odds = np.log(chance + 1e-12) - np.log1p(1e-12 - chance) + rng.logistic(size=len(chance))
    correct = np.zeros(len(chance), bool)
    correct[np.argsort(-odds)[: round(accuracy * len(chance))]] = True
    return correct


# The stream of checks -----------------------------------------------------------------------------------


def test_a_fifth_are_checks_until_there_are_30_then_a_tenth():
    assert [audit_share(n) for n in (0, 29, 30, 500)] == [0.2, 0.2, 0.1, 0.1]


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


# Calibration and agreement ------------------------------------------------------------------------------


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


def test_kappa_of_the_published_sequence():
    models = [np.array(list(bits)) for bits in ("0110", "0111", "0111", "0111")]
    assert [kappa(a, b) for a, b in pairwise(models)] == [0.5, 1, 1]


def test_kappa_at_its_limits():
    constant = np.zeros(4, int)
    assert kappa(constant, constant) == 1
    assert kappa(constant, constant + 1) == 0
    assert kappa(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])) == -1
    assert kappa(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == 0
    with pytest.raises(BadArray, match="same images"):
        kappa(constant, constant[:3])


# What more labels would bring ---------------------------------------------------------------------------

SIZES = np.array([80, 100, 120, 140, 160, 180, 200])


def checked(curve: np.ndarray, m: int, rng: np.random.Generator, steadiness: float = 0.9) -> np.ndarray:
    """Answers of m checks that are right as often as the curve says; the same images stay hard at all sizes."""
    hard = rng.standard_normal(m) * np.sqrt(steadiness)
    luck = rng.standard_normal((len(curve), m)) * np.sqrt(1 - steadiness)
    threshold = np.array([NormalDist().inv_cdf(p) for p in curve])
    return hard + luck < threshold[:, None]


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_the_fit_finds_exact_curves_again(exponent):
    ends, missing = np.array([0.95, 0.7]), np.array([0.1, 0.05])
    curves = ends[:, None] - missing[:, None] * (SIZES / 200) ** -exponent
    a, b, c = saturating_fit(SIZES, curves)
    np.testing.assert_allclose(a, ends)
    np.testing.assert_allclose(b, missing)
    assert c.tolist() == [exponent] * 2


def test_the_fit_stays_in_its_bounds():
    falling, steep = np.linspace(0.9, 0.8, 7), np.linspace(0.4, 0.99, 7)
    a, b, _ = saturating_fit(SIZES, np.stack([falling, steep]))
    assert b[0] == 0
    assert a[0] == pytest.approx(np.average(falling, weights=SIZES))
    assert a[1] == 1
    assert b[1] > 0


def test_labels_for_a_gain_by_hand():
    # .95 − .2·√(100/n) = .75 at 100; .76 where √(100/n) = .95: n = 110.8033
    assert labels_for_gain(100, np.array([0.2]), np.array([0.5])) == pytest.approx([10.8033], abs=1e-4)
    assert labels_for_gain(100, np.array([0.0, 0.01]), np.array([0.5, 0.5])).tolist() == [np.inf, np.inf]


def test_with_very_many_checks_the_forecast_is_the_true_curve():
    m = 20_000
    curve = 0.95 - 0.1 * (SIZES / 200) ** -0.5  # a point more where √(200/n) = .9: n = 246.9
    correct = np.arange(m) < (curve * m)[:, None]
    found = forecast(SIZES, correct, ahead=100, resamples=100)
    assert found.labels_for_one_point is not None and found.low is not None and found.high is not None
    assert found.labels_for_one_point == pytest.approx(47, abs=3)
    assert 35 <= found.low < found.labels_for_one_point < found.high <= 60
    assert found.chance_of_gain == 1
    # 20 more: .1·(1 − √(200/220)) = .0047, under the point
    assert forecast(SIZES, correct, ahead=20, resamples=100).chance_of_gain == 0


def test_a_flat_curve_from_few_checks_is_no_proof_but_from_many_it_is():
    def chance(m: int) -> float:
        found = forecast(SIZES, np.ones((7, m), bool), ahead=100).chance_of_gain
        assert found is not None
        return found

    assert 0.05 < chance(30) < 0.2
    assert chance(300) < 0.01


def test_too_early_to_tell_from_few_checks_or_sizes():
    enough = np.ones((7, 30), bool)
    assert forecast(SIZES, enough).chance_of_gain is not None
    for early in (forecast(SIZES, enough[:, :29]), forecast(SIZES[:3], enough[:3])):
        assert early == Forecast()
        assert early.sentence == "too early to tell"


def test_a_forecast_is_the_same_each_time_and_takes_under_200_ms():
    correct = checked(0.95 - 2.4 * SIZES**-0.5, 120, np.random.default_rng(0))
    first = forecast(SIZES, correct)
    start = time.process_time()
    assert forecast(SIZES, correct) == first
    assert time.process_time() - start < 0.2
    assert first.ahead == 100  # half of today's 200


def test_sizes_that_do_not_fit_are_refused():
    for sizes in (SIZES[::-1], SIZES[:6], np.array([0, 1, 2, 3, 4, 5, 6])):
        with pytest.raises(BadArray, match="ascending label counts"):
            forecast(sizes, np.ones((7, 40), bool))


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (Forecast(62, 41, 113, 0.8, 100), "about 60 more labels for +1 point (40–110)"),
        (Forecast(62, 41, None, 0.5, 100), "about 60 more labels for +1 point (40 or more)"),
        (Forecast(None, None, None, 0.04, 100), "100 more labels will hardly bring +1 point"),
        (Forecast(None, 60, None, 0.25, 100), "too early to tell"),
    ],
)
def test_the_forecast_in_words(found, sentence):
    assert found.sentence == sentence


# When to stop -------------------------------------------------------------------------------------------


def models(*kappas: float | None, growth: float = 1.1, start: int = 100, **facts) -> list[Snapshot]:
    """Models whose labels grow by 10% each, with these kappas."""
    return [Snapshot(round(start * growth**i), None, value, **facts) for i, value in enumerate(kappas)]


def test_predictions_are_stable_when_the_mean_of_three_kappas_is_99():
    assert stable_predictions(models(None, 0.985, 0.99, 0.995))
    assert not stable_predictions(models(None, 0.98, 0.99, 0.995))
    assert not stable_predictions(models(None, 1, 1))
    assert stable_predictions(models(None, 0.2, 1, 1, 1))
    assert not stable_predictions(models(None, 1, 1, 1, 0.2))


def test_kappas_between_nearly_equal_label_sets_do_not_count():
    assert not stable_predictions(models(None, 1, 1, 1, 1, 1, 1, growth=1.02))
    due = models(None, None, None, 1, None, None, 1, None, None, 1, growth=1.02)  # each third model is due
    assert stable_predictions(due)


def test_a_model_that_predicts_one_class_has_not_settled():
    assert not stable_predictions(models(None, 1, 1, 1, predicted_classes=1))


def test_a_comparison_is_due_after_5_percent_more_labels():
    past = [Snapshot(100), Snapshot(110, kappa=0.9), Snapshot(114)]
    assert [comparison_due(past, labels) for labels in (115, 116)] == [False, True]
    assert comparison_due([Snapshot(100)], 105)
    assert not comparison_due([], 50)


def lows(*pairs: tuple[int, float]) -> list[Snapshot]:
    return [Snapshot(10 * checks, Accuracy(0.95, low, 1.0, checks)) for checks, low in pairs]


def test_the_target_needs_three_models_with_five_new_checks_each():
    assert target_reached(lows((10, 0.9), (15, 0.91), (20, 0.92)), 0.9)
    assert not target_reached(lows((10, 0.9), (15, 0.91), (19, 0.92)), 0.9)
    assert target_reached(lows((10, 0.9), (12, 0.9), (15, 0.91), (17, 0.9), (20, 0.92)), 0.9)
    assert not target_reached(lows((10, 0.9), (15, 0.91), (18, 0.89), (20, 0.92), (25, 0.93)), 0.9)
    assert not target_reached(lows((10, 0.9), (15, 0.91), (20, 0.92), (21, 0.8)), 0.9)
    assert not target_reached(lows((3, 0.9), (8, 0.9), (13, 0.9)), 0.9)  # a percentage needs 10 checks
    assert not target_reached(lows((10, 0.9), (15, 0.9), (20, 0.9)), None)
    assert not target_reached([Snapshot(100)] * 3, 0.9)


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


def test_budget_and_pool():
    assert [budget_spent(n, 200) for n in (199, 200, 201)] == [False, True, True]
    assert not budget_spent(10**6, None)
    assert [pool_exhausted(n) for n in (0, 1)] == [True, False]


def test_no_gain_is_ahead_below_a_tenth():
    chances = (0.09, 0.1, None)
    assert [no_gain_ahead(Forecast(chance_of_gain=chance)) for chance in chances] == [True, False, False]
    assert not no_gain_ahead(None)


def told(past=(), found=None, *, target=None, budget=None, unlabelled=500, labels=200) -> Advice | None:
    return advise(past, found, target=target, budget=budget, unlabelled=unlabelled, labels=labels)


SETTLED = models(None, 1, 1, 1)
PROMISING = Forecast(62, 41, 113, 0.8, 100)
FLAT = Forecast(None, None, None, 0.04, 100)


def test_each_rule_gives_its_reason():
    assert told(unlabelled=0) == Advice("You can stop: no image is left to label.", True)
    assert told(budget=200) == Advice("You can stop: 200 of 200 planned labels.", True)
    reached = told(lows((10, 0.9), (15, 0.9), (20, 0.9)), target=0.9)
    assert reached == Advice(
        "You can stop: accuracy 95% (90–100), from 20 random checks; "
        "surely above your target of 90% at 3 of 3 models in a row.",
        True,
    )
    assert told(found=FLAT) == Advice("You can stop: 100 more labels will hardly bring +1 point.", True)
    assert told(SETTLED) == Advice("You can stop: the last three models predict nearly the same.", True)
    assert told(found=PROMISING) == Advice(
        "Keep labelling: about 60 more labels for +1 point (40–110).", False
    )


def test_there_is_nothing_to_say_before_the_first_model_or_when_it_is_too_early():
    assert told(labels=0) is None
    assert told(labels=0, unlabelled=0) is None
    assert told(found=Forecast()) is None


def test_settled_predictions_do_not_stop_while_a_gain_is_promised():
    advice = told(SETTLED, PROMISING)
    assert advice is not None and not advice.stop
    assert "may well bring another point" in advice.text
    assert stable_predictions(SETTLED)


def test_settled_predictions_wait_for_the_checks_that_a_forecast_needs():
    def with_checks(m: int) -> list[Snapshot]:
        return [*SETTLED[:-1], Snapshot(SETTLED[-1].labels, Accuracy(0.9, 0.7, 1.0, m), 1.0)]

    waiting, enough = told(with_checks(18)), told(with_checks(30))
    assert waiting is not None and not waiting.stop
    assert "12 more random checks" in waiting.text
    assert enough is not None and enough.stop


def test_an_unproved_target_is_not_hidden():
    advice = told(found=FLAT, target=0.95)
    assert advice is not None and advice.stop
    assert advice.text.endswith("though your target of 95% is not yet proved.")


def test_the_page_lists_every_rule_met_or_not():
    rows = reasons(SETTLED, PROMISING, target=0.9, budget=300, unlabelled=1500, labels=200)
    assert [(row.rule, row.met) for row in rows] == [
        ("pool", False),
        ("budget", False),
        ("target", False),
        ("forecast", False),
        ("stable", True),
    ]
    texts = [row.text for row in rows]
    assert texts[:2] == ["1,500 images are left", "200 of 300 planned labels"]
    assert texts[2] == "no random checks yet; surely above your target of 90% at 0 of 3 models in a row"
    rows = reasons([], None, target=None, budget=None, unlabelled=5, labels=0)
    assert not any(row.met for row in rows)
    assert [row.text for row in rows[1:]] == [
        "no number of labels was planned",
        "no target accuracy was set",
        "too early to tell",
        "too few models yet to see whether the predictions settle",
    ]


def share_stopped(curve: np.ndarray, checks: int, past: list[Snapshot], runs: int = 200) -> float:
    rng = np.random.default_rng(checks)
    verdicts = [
        told(past, forecast(SIZES, checked(curve, checks, rng), ahead=100, resamples=200))
        for _ in range(runs)
    ]
    return float(np.mean([verdict is not None and verdict.stop for verdict in verdicts]))


@pytest.mark.parametrize("checks", [30, 60, 120])
def test_a_rising_curve_is_hardly_ever_advised_to_stop(checks):
    steep = 0.97 - 2.4 * SIZES**-0.5  # three more points with the next 100 labels
    assert share_stopped(steep, checks, models(None, 0.95, 0.95, 0.95)) <= 0.02


def test_a_plateau_is_mostly_advised_to_stop():
    past = models(None, 0.995, 0.995, 0.995)
    assert share_stopped(np.full(7, 0.97), 120, past) >= 0.9
    assert share_stopped(np.full(7, 0.85), 120, past) >= 0.6
