"""Figures against answers worked out by hand, limits and plain twins."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vizsla.errors import BadArray
from vizsla.functional.metrics import (
    STEPS,
    accuracy,
    accuracy_levels,
    aulc,
    aulc_parts,
    balanced_accuracy,
    ece,
    evaluate,
    labels_needed,
    labels_saved,
    macro_f1,
    nll,
)


def one_hot(predicted: list[int], classes: int) -> np.ndarray:
    return np.eye(classes)[predicted]


# One model ----------------------------------------------------------------------------------------------


def test_accuracies_of_a_lopsided_test_set_by_hand():
    # 8 of class 0, all right; 2 of class 1, both called 0
    probs, y = one_hot([0] * 10, 2), np.array([0] * 8 + [1] * 2)
    assert accuracy(probs, y) == 0.8
    assert balanced_accuracy(probs, y) == 0.5
    assert macro_f1(probs, y) == pytest.approx((2 * 0.8 / 1.8 + 0) / 2)  # precision .8, recall 1; and 0


def test_classes_absent_from_the_test_set_do_not_count_even_when_predicted():
    probs, y = one_hot([0, 2, 1], 3), np.array([0, 0, 1])  # class 2 is predicted but never true
    assert balanced_accuracy(probs, y) == 0.75  # (1/2 + 1) / 2
    assert macro_f1(probs, y) == pytest.approx((2 / 3 + 1) / 2)


def test_nll_of_uniform_probabilities_is_ln_c():
    assert nll(np.full((5, 7), 1 / 7), np.arange(5)) == pytest.approx(math.log(7))


def test_one_sure_mistake_costs_the_clip_and_not_infinity():
    assert nll(one_hot([0], 2), np.array([1])) == pytest.approx(-math.log(1e-7))


def test_float32_probabilities_give_the_same_nll():
    probs = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    y = np.arange(50) % 4
    assert nll(probs.astype(np.float32), y) == pytest.approx(nll(probs, y), abs=1e-6)


def test_ece_of_two_bins_by_hand():
    # confidence .95: 3 of 4 right, gap .20, weight 4/6; confidence .55: 2 of 2 right, gap .45, weight 2/6
    probs = np.array([[0.95, 0.05]] * 4 + [[0.55, 0.45]] * 2)
    y = np.array([0, 0, 0, 1, 0, 0])
    assert ece(probs, y) == pytest.approx(4 / 6 * 0.20 + 2 / 6 * 0.45)


def test_ece_is_zero_when_confidence_is_earned_and_one_when_sure_and_wrong():
    assert ece(np.array([[0.75, 0.25]] * 4), np.array([0, 0, 0, 1])) == pytest.approx(0)
    assert ece(one_hot([0, 0], 2), np.array([1, 1])) == 1


def test_ece_agrees_with_a_plain_loop_over_bins():
    rng = np.random.default_rng(1)
    probs, y = rng.dirichlet(np.ones(3), 300), rng.integers(3, size=300)
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == y
    expected = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert ece(probs, y) == pytest.approx(expected)


def test_evaluate_gives_each_figure_under_its_name():
    rng = np.random.default_rng(2)
    probs, y = rng.dirichlet(np.ones(3), 40), rng.integers(3, size=40)
    assert evaluate(probs, y) == {
        "accuracy": accuracy(probs, y),
        "balanced_accuracy": balanced_accuracy(probs, y),
        "macro_f1": macro_f1(probs, y),
        "nll": nll(probs, y),
        "ece": ece(probs, y),
    }


@pytest.mark.parametrize(
    ("probs", "y", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, dtype=int), "at least one image"),
        (np.full((2, 2), 0.5), np.array([0, 1, 1]), r"shape \(2, 2\) against labels of shape \(3,\)"),
        (np.full((2, 2), 0.5), np.array([0, 2]), "0 to 2, but there are 2 classes"),
        (np.full((2, 2), 0.5), np.array([-1, 0]), "labelled images only"),
        (np.array([[np.nan, 0.5]]), np.array([0]), "NaN"),
    ],
)
def test_evaluate_says_what_is_wrong_with_its_arrays(probs, y, message):
    with pytest.raises(BadArray, match=message):
        evaluate(probs, y)


# Learning curves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [False, True])
def test_area_of_a_constant_is_the_constant(log):
    labels = np.array([10, 11, 50, 400])
    assert aulc(labels, np.full(4, 0.8), log=log) == pytest.approx(0.8)
    assert aulc(labels[:1], np.array([0.8]), log=log) == 0.8


def test_area_by_hand_on_n_and_on_ln_n():
    labels, values = np.array([1.0, 10.0, 1000.0]), np.array([0.0, 1.0, 1.0])
    assert aulc(labels, values) == pytest.approx((9 * 0.5 + 990) / 999)
    assert aulc(labels, values, log=True) == pytest.approx((1 * 0.5 + 2) / 3)  # decades


def test_parts_of_the_area_by_hand_where_an_edge_lies_between_points():
    labels, values = np.array([0.0, 10.0, 30.0]), np.array([0.0, 1.0, 0.0])
    assert aulc_parts(labels, values, np.array([0, 10, 20, 30])) == pytest.approx([0.5, 0.75, 0.25])


def test_parts_weighed_by_their_width_are_the_whole_area():
    rng = np.random.default_rng(8)
    labels, values = np.sort(rng.choice(np.arange(1, 500), 30, replace=False)), rng.random(30)
    edges = np.sort(np.concatenate([labels[[0, -1]], rng.uniform(labels[0], labels[-1], 2)]))
    whole = np.dot(aulc_parts(labels, values, edges), np.diff(edges)) / (edges[-1] - edges[0])
    assert whole == pytest.approx(aulc(labels, values))


def test_a_part_of_no_width_is_the_value_there():
    assert aulc_parts(np.array([20.0]), np.array([0.7]), np.full(4, 20.0)).tolist() == [0.7, 0.7, 0.7]


def test_a_curve_has_no_area_where_it_does_not_reach():
    with pytest.raises(BadArray, match="from 10 to 40 labels, so it has no area from 10 to 50"):
        aulc_parts(np.array([10, 40]), np.array([0.5, 0.6]), np.array([10, 30, 50]))


def test_labels_needed_is_linear_in_ln_n():
    needed = labels_needed(np.array([10, 100]), np.array([0.5, 1.0]), np.array([0.75, 0.6]))
    assert needed == pytest.approx([math.sqrt(1000), 10 * 10**0.2])


def test_levels_at_the_edges_of_a_curve():
    needed = labels_needed(np.array([10, 100]), np.array([0.5, 1.0]), np.array([0.1, 0.5, 1.0, 1.01]))
    assert needed == pytest.approx([10, 10, 100, math.inf])


def test_a_level_once_reached_stays_reached_when_the_curve_falls_again():
    labels, values = np.array([10, 20, 40, 80]), np.array([0.2, 0.8, 0.4, 0.9])
    needed = labels_needed(labels, values, np.array([0.8, 0.85]))
    assert needed == pytest.approx([20, 40 * 2**0.5])  # from .8 (kept) at 40 to .9 at 80


def test_labels_needed_of_many_curves_agrees_with_a_plain_loop():
    rng = np.random.default_rng(3)
    labels = np.sort(rng.choice(np.arange(1, 200), 12, replace=False))
    curves, levels = rng.random((30, 12)), rng.random((30, 9))
    expected = np.full((30, 9), np.inf)
    for row in range(30):
        for column in range(9):
            best, level = curves[row, 0], levels[row, column]
            if best >= level:
                expected[row, column] = labels[0]
                continue
            for t in range(1, 12):
                new = max(best, curves[row, t])
                if new >= level:
                    part = (level - best) / (new - best)
                    expected[row, column] = labels[t - 1] ** (1 - part) * labels[t] ** part
                    break
                best = new
    np.testing.assert_allclose(labels_needed(labels, curves, levels), expected)


def test_levels_run_from_two_labels_per_class_to_99_percent_of_the_best():
    labels, values = np.array([5, 10, 40, 80]), np.array([0.1, 0.3, 0.9, 0.8])
    levels = accuracy_levels(labels, values, classes=10)  # 20 labels: half way from 10 to 40 in ln n
    np.testing.assert_allclose(levels, np.linspace(0.6, 0.99 * 0.9, STEPS))
    assert accuracy_levels(labels, values, classes=2)[0] == 0.1  # 4 labels lie before the first point: use it


# Labels saved -------------------------------------------------------------------------------------------

LABELS = np.array([5.0, 10.0, 20.0, 40.0, 80.0, 160.0])


def rising(labels: np.ndarray, speed: float | np.ndarray = 1.0) -> np.ndarray:
    """A curve linear in ln n: `speed` 2 reaches everything with half the labels."""
    return 0.2 + 0.1 * np.log(np.multiply.outer(np.atleast_1d(speed), labels))


def saved(values: np.ndarray, random: np.ndarray, labels=LABELS, ruler=LABELS, classes=10, resamples=200):
    rng = np.random.default_rng(0)
    return labels_saved(labels, values, ruler, random, classes=classes, rng=rng, resamples=resamples)


def test_half_the_labels_everywhere_saves_half():
    figure = saved(rising(LABELS, 2.0), rising(LABELS))
    assert figure.value == pytest.approx(0.5)
    assert figure.per_level == pytest.approx(np.full(STEPS, 0.5))
    assert figure.capped == 0


def test_twice_the_labels_everywhere_costs_as_much_again():
    ruler = LABELS[:5]  # the strategy runs on to 160, so that it reaches all that random reaches at 80
    figure = saved(rising(LABELS, 0.5), rising(ruler), ruler=ruler)
    assert figure.value == pytest.approx(-1)
    assert figure.sentence == "On average it costs 100% of random's labels."


def test_random_against_itself_saves_exactly_nothing():
    noisy = rising(LABELS, np.ones(6)) + np.random.default_rng(4).normal(0, 0.05, (6, 6))
    figure = saved(noisy, noisy)
    assert (figure.value, figure.low, figure.high) == (0, 0, 0)


@pytest.mark.parametrize("points", [1, 2, 3, 4, 5])
def test_random_cut_short_saves_nothing(points):
    noisy = rising(LABELS, np.ones(6)) + np.random.default_rng(5).normal(0, 0.05, (6, 6))
    figure = saved(noisy[:, :points], noisy, labels=LABELS[:points], classes=2)
    reached = ~figure.missed
    assert figure.per_level[reached] == pytest.approx(0, abs=1e-12)
    assert (figure.per_level[figure.missed] <= 0).all()
    assert figure.capped > 0
    assert figure.value < 0
    assert figure.high <= 0


def test_another_random_run_cut_short_is_called_saving_in_at_most_5_percent_of_comparisons():
    rng = np.random.default_rng(9)
    labels = np.arange(20.0, 601.0, 20.0)
    called = 0
    for _ in range(200):
        split = rng.normal(0, 0.01, (10, 1))  # what both owe to the seed's test set
        luck = 0.03 * np.sqrt(20 / labels) * rng.normal(size=(2, 10, len(labels)))
        run, ruler = 0.95 - 1.6 * labels**-0.65 + luck + split
        called += saved(run[:, :15], ruler, labels=labels[:15], ruler=labels).low > 0
    assert called <= 10


def test_randoms_own_bill_runs_from_two_labels_per_class_to_99_percent_of_its_best():
    figure = saved(rising(LABELS, 2.0), rising(LABELS))
    best = rising(LABELS)[0, -1]
    assert figure.needed_random[0] == pytest.approx(20)
    assert figure.needed_random[-1] == pytest.approx(160 * math.exp(-0.01 * best / 0.1))  # .1 a unit of ln n
    assert figure.levels[[0, -1]] == pytest.approx([0.2 + 0.1 * math.log(20), 0.99 * best])


def test_a_level_never_reached_counts_as_randoms_last_count_and_is_marked():
    flat = np.full((1, 6), rising(LABELS)[0, 2])  # stays where random is at 20 labels
    figure = saved(flat, rising(LABELS))
    assert not figure.missed[0]
    assert figure.missed[1:].all()
    assert (figure.needed[1:] == 160).all()
    assert figure.capped == STEPS - 1
    assert "19 of the 20 accuracies it never reached" in figure.sentence
    expected = [math.log(5 / figure.needed_random[0])] + [math.log(160 / n) for n in figure.needed_random[1:]]
    assert figure.value == pytest.approx(1 - math.exp(np.mean(expected)))


def test_one_seed_has_a_figure_and_no_interval():
    figure = saved(rising(LABELS, 2.0), rising(LABELS))
    assert np.isnan(figure.low)
    assert np.isnan(figure.high)
    assert figure.sentence == "On average it saves 50% of random's labels."


def test_no_figure_but_a_reason_where_random_never_rises():
    figure = saved(rising(LABELS), np.full((1, 6), 0.9))
    assert np.isnan(figure.value)
    assert figure.sentence == (
        "No labels-saved figure: random hardly improves after its first labels (best 90.0%), "
        "so no level can be compared."
    )


def test_no_figure_but_a_reason_where_random_stops_before_two_labels_per_class():
    figure = saved(rising(LABELS), rising(LABELS), classes=100)
    assert np.isnan(figure.value)
    assert figure.reason == ("random stops at 160 labels, before 2 per class (200); give it a larger budget")


def test_the_same_generator_gives_the_same_interval():
    rng = np.random.default_rng(6)
    values, random = rng.random((5, 6)).cumsum(axis=1) / 6, rng.random((5, 6)).cumsum(axis=1) / 6
    first, second = saved(values, random), saved(values, random)
    assert (first.low, first.high) == (second.low, second.high)
    assert first.low < first.value < first.high


def test_the_interval_holds_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(200):  # every seed's curve is shifted along ln n, so the truth is exactly one half
        speeds, random_speeds = np.exp(rng.normal(0, 0.25, (2, 20)))
        figure = saved(rising(LABELS, 2 * speeds), rising(LABELS, random_speeds), resamples=300)
        held += figure.low <= 0.5 <= figure.high
    assert 178 <= held <= 199  # a percentile bootstrap of 20 seeds covers about 93%
