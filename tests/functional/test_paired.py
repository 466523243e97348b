"""Two classifiers on the same images."""

import numpy as np
import pytest
from scipy.stats import binomtest

from vizsla.errors import BadArray
from vizsla.functional.paired import paired_difference


def of(both: int, first: int, second: int, neither: int):
    """Verdicts with these counts."""
    cells = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, first, second, neither], axis=0)
    return paired_difference(cells[:, 0] == 1, cells[:, 1] == 1)


def test_the_difference_is_that_of_the_two_accuracies():
    found = of(60, 20, 5, 15)
    assert found.value == pytest.approx(0.80 - 0.65)
    assert found.images == 100


def test_turned_round_everything_changes_its_sign():
    found, turned = of(60, 20, 5, 15), of(60, 5, 20, 15)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_it_agrees_with_the_plain_interval_where_there_are_many_images():
    a, b, n = 1200, 1000, 10_000
    found = of(7000, a, b, n - 7000 - a - b)
    half = 1.96 * np.sqrt(a + b - (a - b) ** 2 / n) / n
    assert (found.low, found.high) == pytest.approx(((a - b) / n - half, (a - b) / n + half), abs=2e-4)


def test_the_interval_holds_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    for n, cells in ((40, [0.7, 0.12, 0.06, 0.12]), (200, [0.85, 0.06, 0.05, 0.04])):
        truth = cells[1] - cells[2]
        held = 0
        for _ in range(2000):
            found = of(*rng.multinomial(n, cells))
            held += found.low <= truth <= found.high
        assert binomtest(held, 2000, 0.95).pvalue > 1e-4 or held / 2000 > 0.95


def test_two_that_never_differ_are_not_said_to_be_surely_equal():
    found = of(20, 0, 0, 0)
    assert found.value == 0
    assert found.low < -0.05 < 0.05 < found.high
    assert found.may_be_chance
    assert not of(60, 20, 1, 19).may_be_chance


def test_what_is_no_pair_is_refused():
    with pytest.raises(BadArray, match="no pairs"):
        paired_difference(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(BadArray, match="no pairs"):
        paired_difference(np.ones(0, bool), np.ones(0, bool))
