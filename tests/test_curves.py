"""Learning curves and comparisons with answers known by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from vizsla.curves import THIRDS, Comparison, LearningCurve, Regimes
from vizsla.errors import BadOption, UnknownName
from vizsla.functional.verdicts import never_lose, outcomes, passes

CLASSES = tuple(f"class {i}" for i in range(10))
LABELS = (5, 10, 20, 40, 80, 160)


def curve(strategy: str, values, seed: int = 0, labels=LABELS, run: int = 0) -> LearningCurve:
    points = (
        {"labels": int(n), "accuracy": float(a), "seconds": 0.5} for n, a in zip(labels, values, strict=True)
    )
    return LearningCurve(strategy, seed, tuple(points), run)


def rising(labels=LABELS, speed: float = 1.0) -> np.ndarray:
    """A curve linear in ln n: `speed` 2 reaches everything with half the labels."""
    return 0.2 + 0.1 * np.log(speed * np.array(labels))


def compare(*curves: LearningCurve, **settings) -> Comparison:
    return Comparison(curves, CLASSES, settings)


def half(seeds: int, jitter: float = 0.0) -> Comparison:
    """A strategy that needs half of random's labels, with every seed's curves shifted apart alike."""
    curves = []
    for seed in range(seeds):
        shift = jitter * (seed - (seeds - 1) / 2)
        curves += [curve("margin", rising(speed=2) + shift, seed), curve("random", rising() + shift, seed)]
    return compare(*curves)


# One curve ----------------------------------------------------------------------------------------------


def test_a_curve_survives_json_with_its_types():
    point = {"labels": 20.0, "accuracy": np.float64(0.5), "classes_seen": 4.0, "nll": math.nan}
    text = json.dumps(LearningCurve("margin", 3, (point,)).to_json(), allow_nan=False)
    assert text == (
        '{"strategy": "margin", "seed": 3, "points": '
        '[{"labels": 20, "accuracy": 0.5, "classes_seen": 4, "nll": null}]}'
    )
    again = LearningCurve.from_json(json.loads(text))
    assert (again.strategy, again.seed) == ("margin", 3)
    assert again.labels.tolist() == [20]
    assert math.isnan(again.values("nll")[0])


def test_a_further_run_says_so_in_json_and_curves_written_before_there_were_runs_are_first_runs():
    data = curve("random", rising(), run=2).to_json()
    assert list(data) == ["strategy", "seed", "run", "points"]
    assert LearningCurve.from_json(data).run == 2
    assert LearningCurve.from_json({"strategy": "random", "seed": 0, "points": []}).run == 0


def test_an_unknown_metric_gets_a_suggestion():
    with pytest.raises(UnknownName, match=r"no metric named 'acuracy'\. Did you mean 'accuracy'\?"):
        curve("random", rising()).values("acuracy")


def test_plot_draws_the_points_of_the_curve():
    (line,) = curve("random", rising()).plot().axes[0].get_lines()
    np.testing.assert_allclose(line.get_xydata(), np.column_stack([LABELS, rising()]))


# Many curves --------------------------------------------------------------------------------------------


def test_random_comes_first_and_the_rest_keep_their_order():
    names = ("margin", "badge", "random", "alpha")
    assert compare(*(curve(name, rising()) for name in names)).strategies == (
        "random",
        "margin",
        "badge",
        "alpha",
    )


def test_only_label_counts_that_all_seeds_share_are_averaged_and_never_zero_labels():
    comparison = compare(
        curve("random", [0.1, 0.2, 0.4, 0.6], seed=0, labels=(0, 10, 20, 30)),
        curve("random", [0.1, 0.4, 0.5, 0.8], seed=1, labels=(0, 10, 25, 30)),
    )
    labels, values = comparison.matrix("random")
    assert labels.tolist() == [10, 30]
    assert values.tolist() == [[0.2, 0.6], [0.4, 0.8]]
    assert comparison.mean("random")[1] == pytest.approx([0.3, 0.7])


def test_band_is_the_t_interval_by_hand():
    comparison = compare(curve("random", [0.4], 0, (10,)), curve("random", [0.6], 1, (10,)))
    band = comparison.band("random")
    assert band is not None
    half_width = 12.7062 * 0.1  # t(.975, 1 degree) × s/√2, s = √.02
    assert [band[0][0], band[1][0]] == pytest.approx([0.5 - half_width, 0.5 + half_width], abs=1e-4)
    assert half(1).band("random") is None


def test_a_strategy_that_needs_half_the_labels_saves_half():
    comparison = half(10, jitter=0.01)
    assert comparison.saved("margin").value == pytest.approx(0.5)
    assert comparison.saved("random").value == 0
    assert comparison.best == "margin"


def test_savings_use_only_the_seeds_that_both_have_run():
    lucky = curve("margin", rising(speed=8), seed=9)  # no random run of seed 9 to hold against it
    comparison = Comparison((*half(2).curves, lucky), CLASSES)
    assert comparison.saved("margin").value == pytest.approx(0.5)
    assert "50% fewer" in comparison.headline()


def test_without_a_shared_seed_there_is_a_reason_and_no_figure():
    comparison = compare(curve("random", rising(), seed=0), curve("margin", rising(), seed=1))
    assert comparison.saved("margin").reason == "random was not run with the same seeds"
    assert comparison.regimes("margin") is None
    assert comparison.headline().startswith("margin reached 70.8% accuracy with 160 labels")


# Regimes ------------------------------------------------------------------------------------------------


def test_regimes_are_the_longest_stretch_ahead_of_random():
    lead = np.array([0.0, 0.1, -0.1, 0.1, 0.1, -0.1])
    comparison = compare(curve("random", rising()), curve("margin", rising() + lead))
    assert comparison.regimes("margin") == Regimes(first=5.0, start=40.0, stop=80.0, last=160.0)


def test_a_lead_within_its_standard_error_does_not_pay():
    leads = (np.array([0.0, 0.3, 0.3, 0.1, 0.1, 0.0]), np.array([0.0, -0.2, -0.2, 0.1, 0.1, 0.0]))
    pairs = [
        (curve("random", rising(), s), curve("margin", rising() + lead, s)) for s, lead in enumerate(leads)
    ]
    comparison = compare(*pairs[0], *pairs[1])  # at 10 and 20 the mean lead is .05, its error .25
    assert comparison.regimes("margin") == Regimes(first=5.0, start=40.0, stop=80.0, last=160.0)


def test_regimes_pair_seeds_so_that_luck_common_to_both_cancels():
    curves = []
    for seed, luck in enumerate((-0.2, 0.0, 0.2)):
        curves += [curve("random", rising() + luck, seed), curve("margin", rising() + luck + 0.01, seed)]
    assert compare(*curves).regimes("margin") == Regimes(first=5.0, start=5.0, stop=160.0, last=160.0)


def test_a_single_point_ahead_or_random_itself_has_no_regime():
    lead = np.array([0.0, 0.0, 0.1, 0.0, 0.0, 0.0])
    comparison = compare(curve("random", rising()), curve("margin", rising() + lead))
    assert comparison.regimes("margin") is None
    assert comparison.regimes("random") is None


# By thirds of the budget --------------------------------------------------------------------------------

EVEN = tuple(range(20, 301, 20))


def noisy(rng: np.random.Generator, labels=EVEN, spread: float = 0.015) -> np.ndarray:
    """One run's accuracies: a true curve shared by all, and luck that fades as labels come in."""
    n = np.array(labels)
    return 0.95 - 1.6 * n**-0.65 + spread * np.sqrt(20 / n) * rng.normal(size=len(n))


def ten_seeds(runs: int = 1, behind: float = 0.0, seeds: int = 10) -> Comparison:
    """Random and a strategy that is truly `behind` it, with that many runs of random per seed."""
    rng = np.random.default_rng(9)
    curves = []
    for seed in range(seeds):
        split = rng.normal(0, 0.01)  # shared by all that run on this seed's test set
        curves += [curve("random", noisy(rng) + split, seed, EVEN, run) for run in range(runs)]
        curves.append(curve("margin", noisy(rng) + split - behind, seed, EVEN))
    return compare(*curves)


def test_thirds_part_the_stretch_that_all_strategies_share():
    ruler = curve("random", [0.3, 0.6, 0.6, 0.9], labels=(10, 20, 40, 80))
    comparison = compare(ruler, curve("margin", [0.4, 0.7], labels=(10, 40)))
    assert comparison.thirds.tolist() == [10, 20, 30, 40]
    assert comparison.aulc_thirds("random") == pytest.approx([0.45, 0.6, 0.6])
    assert comparison.aulc_thirds("margin") == pytest.approx([0.45, 0.55, 0.65])
    assert comparison.leads("margin") == pytest.approx(np.array([[0, -0.05, 0.05]]))


def test_thirds_of_equal_width_average_to_the_whole_area():
    comparison = ten_seeds()
    random, margin = comparison.summary()
    assert np.mean([margin[f"aulc_{third}"] for third in THIRDS]) == pytest.approx(margin["aulc"])
    assert np.mean([random[f"aulc_{third}"] for third in THIRDS]) == pytest.approx(random["aulc"])


def test_leads_are_over_the_mean_of_randoms_runs_and_outcomes_over_the_first():
    flat = {0: 0.5, 1: 0.6, 2: 0.7}
    curves = [curve("random", np.full(6, a), seed, run=run) for seed in range(8) for run, a in flat.items()]
    comparison = compare(*curves, *(curve("margin", np.full(6, 0.55), seed) for seed in range(8)))
    assert comparison.ruler_runs == 3
    assert comparison.leads("margin") == pytest.approx(np.full((8, 3), -0.05))
    assert comparison.leads("margin", runs=2) == pytest.approx(np.zeros((8, 3)), abs=1e-12)
    assert [outcome.word for outcome in comparison.outcomes("margin")] == ["win"] * 3
    assert [cell.verdict for cell in comparison.gate("margin")] == ["loses"] * 3


def test_further_runs_of_random_change_the_gate_alone():
    one = ten_seeds()
    rng = np.random.default_rng(10)
    more = [curve("random", noisy(rng), seed, EVEN, run) for seed in range(10) for run in range(1, 5)]
    five = compare(*one.curves, *more)
    assert five.headline() == one.headline()
    assert five.saved("margin").value == one.saved("margin").value
    assert five.outcomes("margin") == one.outcomes("margin")
    assert five.gate("margin") != one.gate("margin")


def test_random_is_judged_by_its_last_run_against_the_others():
    flat = {0: 0.5, 1: 0.6, 2: 0.7}
    comparison = compare(*(curve("random", np.full(6, a), run=run) for run, a in flat.items()))
    assert comparison.leads("random") == pytest.approx(np.full((1, 3), 0.7 - 0.55))
    assert half(3).leads("random").shape == (0, 3)  # one run has nothing to be held against


def test_a_further_run_that_was_cut_short_is_left_out():
    whole, short = curve("random", np.full(6, 0.5)), curve("random", [0.9, 0.9], labels=(5, 10), run=1)
    comparison = compare(whole, short, curve("margin", np.full(6, 0.6)))
    assert comparison.leads("margin") == pytest.approx(np.full((1, 3), 0.1))


def test_seeds_that_random_has_not_run_have_no_lead():
    comparison = Comparison((*half(2).curves, curve("margin", rising(), seed=9)), CLASSES)
    assert len(comparison.leads("margin")) == 2
    alone = compare(curve("margin", rising()))
    assert alone.leads("margin").shape == (0, 3)
    assert alone.ruler_runs == 0


def test_a_second_random_run_passes_the_gate_and_a_strategy_two_points_behind_does_not():
    comparison = ten_seeds(runs=6, behind=0.02, seeds=20)
    assert [cell.verdict for cell in comparison.gate("random")] == ["safe"] * 3
    assert passes(comparison.gate("random"))
    assert [cell.verdict for cell in comparison.gate("margin")] == ["loses"] * 3
    assert [outcome.word for outcome in comparison.outcomes("margin")] == ["loss"] * 3


def test_data_sets_are_pooled_as_blocks_but_pass_the_gate_one_by_one():
    """As docs/comparing.md says: four seeds of each of two data sets are eight blocks, and no gate yet."""
    sets = [ten_seeds(behind=-0.05, seeds=4), ten_seeds(behind=-0.05, seeds=4)]
    pooled = outcomes(np.concatenate([comparison.leads("margin", runs=1) for comparison in sets]))
    assert [outcome.word for outcome in pooled] == ["win"] * 3
    cells = never_lose([third for comparison in sets for third in comparison.leads("margin").T])
    assert [cell.verdict for cell in cells] == ["undecided"] * 6


def test_a_row_holds_every_figure_of_every_third_and_nothing_for_random_run_once():
    random, margin = ten_seeds(behind=0.02).summary()
    assert list(random) == list(margin)
    assert [margin[f"gate_{third}"] for third in THIRDS] == ["loses"] * 3
    assert margin["outcome_early"] == "loss"
    assert margin["lead_low_late"] < margin["lead_late"] < margin["lead_high_late"] < 0
    assert math.isnan(random["gate_early"])
    assert [row["outcome_late"] for row in half(7).summary()[1:]] == ["too few seeds to tell"]


def test_penalties_compare_the_seeds_and_counts_that_all_have_run():
    """After 1, 2, 4, 8 batches: 40, 60, 100, 180 labels, where the leads are +, 0, −, 0; random learns on to 300."""
    random = np.linspace(0.4, 0.9, 15)
    lead = np.zeros(15)
    lead[[1, 4]] = 0.02, -0.02
    pairs = [(curve("random", random, s, EVEN), curve("margin", random + lead, s, EVEN)) for s in range(8)]
    comparison = compare(*(c for pair in pairs for c in pair), curve("margin", random - 0.3, 9, EVEN))
    assert comparison.penalties is not None
    assert comparison.penalties.tolist() == [[0, 0.25], [0.25, 0]]
    assert half(7).penalties is None


# Words --------------------------------------------------------------------------------------------------


def test_headline_quotes_what_random_reaches_with_the_budget_and_counts_seeds():
    comparison = half(5)
    assert comparison.level == pytest.approx(0.2 + 0.1 * math.log(160))
    assert comparison.headline() == (
        "margin reached 70.8% accuracy with 50% fewer labels than random "
        "(80 instead of 160) (5 seeds: too few to be sure)."
    )


def test_the_quoted_level_does_not_move_when_random_alone_runs_on():
    longer = (5, 10, 20, 40, 80, 160, 320)
    points = tuple({"labels": float(n), "accuracy": 0.2 + 0.1 * math.log(n)} for n in longer)
    comparison = compare(LearningCurve("random", 0, points), curve("margin", rising(speed=2)))
    assert comparison.level == pytest.approx(0.2 + 0.1 * math.log(160))


def test_headline_of_enough_sure_seeds_has_no_doubt_and_of_unsure_ones_says_chance():
    assert half(8, jitter=0.01).headline().endswith("(80 instead of 160).")
    curves = []
    for seed, luck in enumerate([0.06] * 4 + [-0.04] * 4):
        curves += [curve("random", rising(), seed), curve("margin", rising() + luck, seed)]
    assert compare(*curves).headline().endswith("(over the whole curve, this may be chance).")


def test_headline_says_so_when_a_strategy_needs_more_never_arrives_or_does_the_same():
    random = curve("random", rising())
    early = np.array([0.5, 0.5, 0.6, 0.7, 0.7, 0.7])  # there with 40 labels, then flat
    late = np.array([0.5, 0.5, 0.5, 0.6, 0.7, 0.7])
    assert (
        "margin needed 100% more labels than random to reach 70.0%"
        in compare(curve("random", early), curve("margin", late)).headline()
    )
    assert (
        "margin reached only 40.0% accuracy with 160 labels; random reached 70.8% with 160"
        in compare(random, curve("margin", np.full(6, 0.4))).headline()
    )
    assert (
        "margin needed as many labels as random (160)"
        in compare(random, curve("margin", rising())).headline()
    )


def test_headline_admits_when_the_quoted_level_flatters():
    # ahead at the quoted level (70.8%), but far behind on the way there
    behind = rising(speed=0.1)
    behind[-2:] = 0.71
    headline = compare(curve("random", rising()), curve("margin", behind)).headline()
    assert "fewer labels than random" in headline
    assert "; averaged over all levels, " in headline
    assert "% more (1 seed" in headline


def test_headline_of_several_strategies_says_that_the_best_was_picked():
    comparison = Comparison((*half(3).curves, *(curve("badge", rising(), s) for s in range(3))), CLASSES)
    assert comparison.headline().startswith("margin, the best of 2 strategies, reached")
    assert comparison.headline("badge").startswith("badge needed as many labels")


def test_without_random_summary_and_headline_still_work():
    comparison = compare(curve("margin", rising()), curve("badge", rising() + 0.1))
    assert [row["strategy"] for row in comparison.summary()] == ["margin", "badge"]
    assert "labels_saved" not in comparison.summary()[0]
    assert comparison.best == "badge"
    assert comparison.level is None
    headline = comparison.headline()
    assert headline.startswith("badge, the best of 2 strategies, reached 80.8% accuracy with 160 labels (1")


def test_random_alone_is_its_own_headline():
    assert compare(curve("random", rising())).headline() == (
        "random reached 70.8% accuracy with 160 labels (1 seed: too few to be sure)."
    )


# Rows ---------------------------------------------------------------------------------------------------


def test_areas_and_accuracies_stop_where_the_shortest_strategy_stops():
    flat = curve("margin", [0.5, 0.5, 0.5], labels=(10, 20, 30))
    ruler = curve("random", [0.3, 0.3, 0.3, 0.9], labels=(10, 20, 30, 60))
    random, margin = compare(flat, ruler).summary()
    assert random["aulc"] == pytest.approx(0.3)
    assert random["aulc_log"] == pytest.approx(0.3)
    assert [margin[f"labels_{name}"] for name in ("first", "middle", "last")] == [10, 20, 30]
    assert random["accuracy_last"] == pytest.approx(0.3)
    assert margin["aulc"] == pytest.approx(0.5)
    assert margin["seconds_per_round"] == 0.5


def test_summary_counts_labels_to_the_same_level_for_every_strategy():
    random, margin = half(2).summary()
    assert random["level"] == margin["level"]
    assert margin["labels_to_level"] == pytest.approx(random["labels_to_level"] / 2)


def test_a_comparison_survives_json():
    comparison = half(3, jitter=0.01)
    again = Comparison.from_json(json.loads(json.dumps(comparison.to_json())), CLASSES)
    assert again.curves == comparison.curves
    assert again.headline() == comparison.headline()


def test_nothing_to_compare_a_curve_twice_and_unknown_names_are_explained():
    with pytest.raises(BadOption, match="no learning curve has a point yet"):
        compare(LearningCurve("random", 0, ()))
    with pytest.raises(BadOption, match="two curves are of strategy 'random' and seed 0"):
        compare(curve("random", rising()), curve("random", rising()))
    with pytest.raises(BadOption, match="two curves are of strategy 'random' and seed 0, run 1"):
        compare(curve("random", rising()), *[curve("random", rising(), run=1)] * 2)
    with pytest.raises(BadOption, match="the seeds of 'random' share no label count"):
        compare(curve("random", [0.1], 0, (10,)), curve("random", [0.1], 1, (11,)))
    with pytest.raises(UnknownName, match=r"no curve of 'bald' here\. Known: random"):
        compare(curve("random", rising())).saved("bald")
