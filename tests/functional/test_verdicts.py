"""Tests on paired leads: against scipy, published tables, hand computation and simulated comparisons."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import norm, rankdata, wilcoxon
from scipy.stats import t as student_t

from vizsla.errors import BadArray
from vizsla.functional.metrics import aulc_parts
from vizsla.functional.verdicts import (
    beats,
    holm,
    never_lose,
    outcomes,
    passes,
    penalties,
    penalty_counts,
    signed_rank_p,
)

# Wilcoxon -----------------------------------------------------------------------------------------------


def test_darwins_maize_gives_the_published_p():
    """Darwin's 15 pairs of crossed and self-fertilised plants, as in scipy's documentation: W = 24, p = .041."""
    inches = np.array([6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75])
    assert signed_rank_p(inches) == pytest.approx(0.041259765625)


def test_signed_rank_agrees_with_scipys_exact_p_where_there_are_no_ties():
    rng = np.random.default_rng(0)
    for size in (3, 8, 10, 25, 40):
        leads = rng.normal(0.3, 1, size)
        assert signed_rank_p(leads) == pytest.approx(wilcoxon(leads, method="exact").pvalue)


def test_signed_rank_with_ties_and_zeros_agrees_with_trying_every_sign():
    rng = np.random.default_rng(1)
    for _ in range(20):
        leads = rng.integers(-3, 4, 9) / 100  # points of accuracy: ties and zeros are the rule
        kept = leads[leads != 0]
        ranks = rankdata(np.abs(np.rint(100 * kept)))
        sums = [np.dot(ranks, signs) for signs in itertools.product((0, 1), repeat=len(kept))]
        found = ranks[kept > 0].sum()
        tail = min(np.mean(np.array(sums) <= found), np.mean(np.array(sums) >= found))
        assert signed_rank_p(leads) == pytest.approx(min(1, 2 * tail))


def test_leads_that_differ_by_rounding_errors_are_ties_and_those_of_nothing_are_zero():
    assert signed_rank_p(np.array([0.3 - 0.2, 0.1, 0.1])) == signed_rank_p(np.array([0.1, 0.1, 0.1])) == 0.25
    assert signed_rank_p(np.array([0.1 + 0.2 - 0.3, 0.0])) == 1


# Holm ---------------------------------------------------------------------------------------------------


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1, 1])  # never above 1, never out of order
    assert holm(np.array([0.04])) == pytest.approx([0.04])


# Win, tie, loss -----------------------------------------------------------------------------------------


def test_a_win_a_tie_and_a_loss_by_hand():
    """Ten leads all up: p = 2/1024, and Holm's factors 3 and 2 for the two smallest."""
    up = np.arange(1, 11) / 100
    mixed = up * np.tile([1, -1], 5)
    win, tie, loss = outcomes(np.column_stack([up, mixed, -up]))
    assert (win.word, tie.word, loss.word) == ("win", "tie", "loss")
    assert win.p == loss.p == pytest.approx(6 / 1024)
    assert tie.p == pytest.approx(wilcoxon(mixed, method="exact").pvalue)


def test_few_blocks_are_never_a_tie():
    found = outcomes(np.full((7, 3), 0.1))
    assert [outcome.word for outcome in found] == ["too few seeds to tell"] * 3
    assert all(math.isnan(outcome.p) for outcome in found)
    assert [outcome.word for outcome in outcomes(np.zeros((8, 3)))] == ["tie"] * 3


def test_blocks_of_several_data_sets_pool_where_each_alone_is_too_small():
    one = np.full((4, 3), 0.01)
    assert {outcome.word for outcome in outcomes(one)} == {"too few seeds to tell"}
    assert {outcome.word for outcome in outcomes(np.concatenate([one, one]))} == {"win"}


# The never-lose gate ------------------------------------------------------------------------------------

STEADINESS = np.array([0.02, 0.012, 0.008])
"""Standard deviation of a run's AULC in the three thirds, much like 20 to 300 labels on ten dog breeds."""
SHARED = np.linalg.cholesky(np.array([[1, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 1]]))


def simulated_leads(rng: np.random.Generator, seeds: int, *, true: float = 0.0, runs: int = 5) -> np.ndarray:
    """Leads of a strategy that is truly `true` better than random, over the mean of random runs: (seeds, 3)."""
    figures = rng.normal(size=(runs + 1, seeds, 3)) @ SHARED.T * STEADINESS
    return figures[0] + true - figures[1:].mean(axis=0)


def test_bounds_are_students_by_hand():
    leads = np.array([0.00, 0.02] * 4)  # s² = 8 × .01² / 7
    (cell,) = never_lose([leads])
    half = 1.894579 * math.sqrt(8 / 7) * 0.01 / math.sqrt(8)  # t(.95, 7 degrees) = 1.894579
    assert (cell.lead, cell.low, cell.high) == pytest.approx((0.01, 0.01 - half, 0.01 + half), abs=1e-8)
    assert cell.p == pytest.approx(student_t.cdf(0.01 / (half / 1.894579), 7), abs=1e-6)


def test_the_three_verdicts():
    noise = np.tile([-1.0, 1.0], 5)
    verdicts = [cell.verdict for cell in never_lose([noise * 0.01, noise * 0.03, noise * 0.01 - 0.02])]
    assert verdicts == ["safe", "undecided", "loses"]


def test_who_is_surely_a_little_behind_loses_though_never_a_point_behind():
    (cell,) = never_lose([np.tile([-0.003, -0.002], 5)])
    assert cell.verdict == "loses"
    assert cell.low > -0.01
    assert not cell.behind
    assert not passes([cell])


def test_all_seeds_agreeing_needs_no_spread_to_decide():
    verdicts = [cell.verdict for cell in never_lose([np.zeros(8), np.full(8, -0.001), np.full(8, 0.1)])]
    assert verdicts == ["safe", "loses", "safe"]


def test_a_mean_more_than_half_a_point_behind_closes_the_gate_even_if_chance():
    noise = np.tile([-0.05, 0.05], 5)
    (behind,), (near,) = never_lose([noise - 0.0051]), never_lose([noise - 0.0049])
    assert behind.verdict == near.verdict == "undecided"
    assert (passes([behind]), passes([near])) == (False, True)


@pytest.mark.parametrize("seeds", [0, 1, 2, 7])
def test_with_too_few_seeds_the_gate_is_undecided_whatever_they_show(seeds):
    for lead in (-0.1, 0.0, 0.1):
        (cell,) = never_lose([np.full(seeds, lead)])
        assert cell.verdict == "undecided"
        assert math.isnan(cell.p)


def test_cells_without_enough_seeds_still_count_among_the_cells_of_the_claim():
    behind = np.tile([-0.03, 0.012], 5)
    alone, beside = never_lose([behind])[0], never_lose([behind, np.zeros(3)])[0]
    assert beside.p == pytest.approx(2 * alone.p)


def test_seeds_asked_for_make_the_bound_half_a_point_wide():
    """(1.645 × 1.5 / .5)² = 24.35, for leads that scatter by one and a half points."""
    scatter = np.tile([-1, 1], 20) * 0.015 * math.sqrt(39 / 40)
    assert never_lose([scatter])[0].seeds == 25
    assert never_lose([scatter / 10])[0].seeds == 8
    assert never_lose([scatter * 10])[0].seeds == 40


def test_with_the_seeds_asked_for_an_equal_strategy_is_safe_and_passes_in_95_percent():
    rng = np.random.default_rng(11)
    cells = [never_lose([rng.normal(0, 0.015, 25)])[0] for _ in range(2000)]
    assert np.mean([cell.verdict == "safe" for cell in cells]) == pytest.approx(0.95, abs=0.025)
    assert np.mean([passes([cell]) for cell in cells]) == pytest.approx(0.95, abs=0.025)


def test_an_equal_strategy_is_called_losing_anywhere_in_at_most_5_percent_on_four_data_sets():
    rng = np.random.default_rng(2)
    lost = 0
    for _ in range(1000):
        cells = never_lose([column for _ in range(4) for column in simulated_leads(rng, 10).T])
        lost += any(cell.verdict == "loses" for cell in cells)
    assert 20 <= lost <= 60  # 5% ± 1.5 standard errors above; near 5%, or Holm would be spent for nothing


@pytest.mark.parametrize("runs", [1, 5])
def test_a_strategy_two_points_worse_loses(runs):
    rng = np.random.default_rng(3)
    found = [never_lose(list(simulated_leads(rng, 10, true=-0.02, runs=runs).T)) for _ in range(300)]
    assert np.mean([any(cell.verdict == "loses" for cell in cells) for cells in found]) > 0.98
    assert not any(passes(cells) for cells in found)


def test_a_strategy_one_point_worse_is_called_safe_in_at_most_5_percent():
    rng = np.random.default_rng(4)
    cells = [never_lose(list(simulated_leads(rng, 20, true=-0.01).T))[0] for _ in range(1000)]
    assert np.mean([cell.low > -0.01 for cell in cells]) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize(("seeds", "spread"), [(10, 0.01), (40, 0.01), (40, 0.02)])
def test_a_second_random_run_passes_one_cell_as_often_as_the_normal_curve_says(seeds, spread):
    """It fails by a mean below −.5 points, or by the t-test: two ends of the same tail, so by the likelier."""
    rng = np.random.default_rng(5)
    runs = rng.normal(0, spread, (1500, 6, seeds))
    found = np.mean([passes(never_lose([run[0] - run[1:].mean(axis=0)])) for run in runs])
    error = spread * math.sqrt((1 + 1 / 5) / seeds)
    assert found == pytest.approx(1 - max(0.05, norm.cdf(-0.005 / error)), abs=0.025)


def test_a_second_random_run_passes_the_whole_gate_once_it_has_40_seeds():
    rng = np.random.default_rng(6)
    passed = [passes(never_lose(list(simulated_leads(rng, 40).T))) for _ in range(500)]
    assert 0.85 <= np.mean(passed) <= 0.95  # the early third, ± .35 points, has the mean below −.5 in 8%


# Penalties ----------------------------------------------------------------------------------------------


def test_beating_is_the_paired_t_test_of_the_paper_for_five_runs():
    """t = √5 · mean/deviation against 2.776, the published threshold."""
    spread = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])  # deviation √2.5
    just = 2.777 * math.sqrt(2.5) / math.sqrt(5)
    short = 2.775 * math.sqrt(2.5) / math.sqrt(5)
    leads = np.column_stack([spread + just, spread + short, -spread - just])
    assert beats(leads, np.zeros((5, 3))).tolist() == [True, False, False]
    assert beats(np.zeros((5, 3)), leads).tolist() == [False, False, True]


def test_the_same_lead_in_every_seed_beats_and_no_lead_or_one_seed_does_not():
    ahead = np.array([[0.7, 0.6]] * 3)
    assert beats(ahead, np.array([[0.6, 0.6]] * 3)).tolist() == [True, False]
    assert beats(ahead[:1], np.zeros((1, 2))).tolist() == [False, False]


def test_penalties_of_three_strategies_by_hand():
    luck = np.arange(10)[:, None] / 100  # common to all of a seed
    at_four_counts = np.array([[0.5, 0.6, 0.7, 0.8], [0.5, 0.5, 0.7, 0.8], [0.4, 0.5, 0.7, 0.8]])
    expected = [[0, 0.25, 0.5], [0, 0, 0.25], [0, 0, 0]]
    assert penalties(at_four_counts[:, None] + luck).tolist() == expected


def test_equal_strategies_beat_each_other_at_one_count_in_forty():
    values = np.random.default_rng(7).normal(size=(2, 10, 20_000))
    found = penalties(values)
    assert [found[0, 1], found[1, 0]] == pytest.approx([0.025, 0.025], abs=0.004)


def test_penalties_are_counted_after_1_2_4_and_8_batches_until_random_has_learned():
    labels = np.arange(20.0, 401.0, 20.0)
    assert penalty_counts(labels).tolist() == [40, 60, 100, 180, 340]
    random = np.minimum(labels, 100) / 100  # 99% of its last at 100 labels
    assert penalty_counts(labels, random).tolist() == [40, 60, 100]
    assert penalty_counts(labels, np.ones(20)).tolist() == [40]
    assert penalty_counts(np.array([20.0, 40.0, 70.0, 180.0])).tolist() == [40, 180]
    assert penalty_counts(labels[:1]).tolist() == []


# Together -----------------------------------------------------------------------------------------------


def test_simulated_learning_curves_go_through_thirds_and_gate_as_they_should():
    """Noisy curves 20 to 300 labels, scored by thirds: equal ones pass, one two points lower loses everywhere."""
    rng = np.random.default_rng(8)
    labels, edges = np.arange(20, 301, 20), np.linspace(20, 300, 4)
    true = 0.95 - 1.6 * labels**-0.65

    def areas(seeds: int, lower: float = 0.0) -> np.ndarray:
        noise = 0.02 * np.sqrt(20 / labels) * rng.normal(size=(seeds, len(labels)))
        return np.array([aulc_parts(labels, curve, edges) for curve in true + noise - lower])

    ruler = np.mean([areas(20) for _ in range(5)], axis=0)
    assert passes(never_lose(list((areas(20) - ruler).T)))
    assert [cell.verdict for cell in never_lose(list((areas(20, 0.02) - ruler).T))] == ["loses"] * 3


@pytest.mark.parametrize(("leads", "message"), [(np.array([[np.nan, 0.0]]), "NaN"), (np.zeros(8), r"\(8,\)")])
def test_leads_that_are_none_are_refused(leads, message):
    with pytest.raises(BadArray, match=message):
        outcomes(leads)
