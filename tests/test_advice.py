"""Forecasts and advice to stop: answers by hand, and simulations where the truth is known."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest

from vizsla.advice import (
    EXPONENTS,
    Advice,
    Forecast,
    Snapshot,
    advise,
    budget_spent,
    comparison_due,
    forecast,
    kappa,
    labels_for_gain,
    no_gain_ahead,
    pool_exhausted,
    reasons,
    saturating_fit,
    stable_predictions,
    target_reached,
)
from vizsla.errors import BadArray
from vizsla.monitor import Accuracy

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


def test_budget_and_pool():
    assert [budget_spent(n, 200) for n in (199, 200, 201)] == [False, True, True]
    assert not budget_spent(10**6, None)
    assert [pool_exhausted(n) for n in (0, 1)] == [True, False]


def test_no_gain_is_ahead_below_a_tenth():
    chances = (0.09, 0.1, None)
    assert [no_gain_ahead(Forecast(chance_of_gain=chance)) for chance in chances] == [True, False, False]
    assert not no_gain_ahead(None)


def told(past=(), found=None, *, target=None, budget=None, unlabelled=500, labels=200) -> Advice | None:
    rules = reasons(past, found, target=target, budget=budget, unlabelled=unlabelled, labels=labels)
    return advise(rules, past, found, target)


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
