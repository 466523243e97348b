"""Forecasts and advice to stop: answers by hand. How often they are right: benchmarks/stopping."""

from __future__ import annotations

from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest

from vizsla.advice import (
    EIGHT_IN_TEN,
    GAIN,
    SPREAD,
    Advice,
    Forecast,
    Snapshot,
    advise,
    budget_spent,
    chance_of_gain,
    clock,
    comparison_due,
    forecast,
    growth,
    growth_for_gain,
    kappa,
    no_gain_ahead,
    pool_exhausted,
    reasons,
    stable_predictions,
    target_reached,
)
from vizsla.errors import BadArray, BadOption
from vizsla.monitor import Accuracy

# What more labels would bring ---------------------------------------------------------------------------


def test_the_clock_of_a_curve_is_what_it_gains_in_units_of_the_gain_from_half_more():
    curve = -1 / np.array([100, 150, 180, 400])  # error that falls with the number of labels
    ticks = (curve - curve[0]) / (curve[1] - curve[0])
    assert [clock(times) for times in (1, 1.5, 1.8, 4)] == pytest.approx(ticks.tolist())
    assert [growth(tick) for tick in ticks] == pytest.approx([1, 1.5, 1.8, 4])


def test_a_gain_by_hand():
    # half more labels bring 2/3 of the last .03 on average, .02: a point is half a mean below that
    assert chance_of_gain(0.03, 1.5) == pytest.approx(NormalDist().cdf((2 / 3 - 1 / 3) / SPREAD))
    # all labels to come bring three times as much, .06, and the spread grows with the root
    assert chance_of_gain(0.03, 1e9) == pytest.approx(NormalDist().cdf((2 - 1 / 3) / SPREAD / 3**0.5))


def test_on_a_curve_whose_error_falls_with_the_number_of_labels_the_middle_of_the_forecast_is_the_truth():
    def error(n: float) -> float:
        return 0.05 + 12 / n

    found = forecast(300, 3, error(200) - error(300))
    assert found.labels_for_one_point is not None
    assert error(300 + found.labels_for_one_point) == pytest.approx(error(300) - GAIN, abs=2e-4)


@pytest.mark.parametrize("z", [-EIGHT_IN_TEN, 0.0, 0.5, EIGHT_IN_TEN])
def test_the_range_ends_where_the_chance_of_the_gain_is_a_tenth_and_nine_tenths(z):
    reached = growth_for_gain(0.04, z)
    assert chance_of_gain(0.04, reached) == pytest.approx(NormalDist().cdf(z))


def test_the_more_the_last_labels_brought_the_sooner_the_next_point():
    chances = [forecast(200, 4, last).chance_of_gain for last in (0.0, 0.005, 0.02, 0.05, 0.1)]
    needed = [forecast(200, 4, last).labels_for_one_point for last in (0.02, 0.04, 0.1)]
    assert chances == sorted(chances) and chances[0] == 0
    assert needed == sorted(needed, reverse=True)


def test_where_the_last_labels_brought_nothing_no_point_is_ahead():
    found = forecast(300, 5, 0.0)
    assert (found.labels_for_one_point, found.low, found.high, found.chance_of_gain) == (None, None, None, 0)
    assert found.sentence == "150 more labels will hardly bring +1 point"


def test_too_early_to_tell_below_ten_labels_per_class():
    assert forecast(40, 4, 0.1).chance_of_gain is not None
    for early in (forecast(39, 4, 0.1), forecast(40, 4, None)):
        assert early == Forecast()
        assert early.sentence == "too early to tell"


def test_a_gain_that_is_no_share_is_refused():
    for last in (-0.1, 1.1, float("nan")):
        with pytest.raises(BadOption, match="from 0 to 1"):
            forecast(100, 2, last)


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


def seen(*chances: float | None) -> list[Snapshot]:
    return [Snapshot(100 + 10 * i, chance_of_gain=chance) for i, chance in enumerate(chances)]


def test_no_gain_is_ahead_where_four_models_in_a_row_see_a_chance_below_a_tenth():
    assert no_gain_ahead(seen(0.8, 0.09, 0.0, 0.05, 0.0))
    for chances in ((), (0.0,) * 3, (0.1, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.1), (None, 0.0, 0.0, 0.0)):
        assert not no_gain_ahead(seen(*chances))


def told(past=(), found=None, *, target=None, budget=None, unlabelled=500, labels=200) -> Advice | None:
    rules = reasons(past, found, target=target, budget=budget, unlabelled=unlabelled, labels=labels)
    return advise(rules, found, target)


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
    assert told(seen(0.05, 0.04, 0.03, 0.04), FLAT) == Advice(
        "You can stop: 100 more labels will hardly bring +1 point.", True
    )
    assert told(found=PROMISING) == Advice(
        "Keep labelling: about 60 more labels for +1 point (40–110).", False
    )


def test_there_is_nothing_to_say_before_the_first_model_or_when_it_is_too_early():
    assert told(labels=0) is None
    assert told(labels=0, unlabelled=0) is None
    assert told(found=Forecast()) is None


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (PROMISING, "but more labels may well bring another point"),
        (Forecast(), "but it is too early to tell whether more labels would help"),
        (FLAT, "and the next models will tell whether more labels would help"),
    ],
)
def test_settled_predictions_alone_are_no_reason_to_stop(found, why):
    assert stable_predictions(SETTLED)
    assert told(SETTLED, found) == Advice(f"Keep labelling: the predictions have settled, {why}.", False)


def test_an_unproved_target_is_not_hidden():
    advice = told(seen(0.05, 0.04, 0.03, 0.04), FLAT, target=0.95)
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
