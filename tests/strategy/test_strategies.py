"""The contract that every registered strategy keeps, and the known slips of others."""

import numpy as np
import pytest
import torch

from vizsla.errors import BadArray, NotEnoughImages, UnknownName
from vizsla.strategy import View, strategies, sub_pool
from vizsla.strategy.base import as_probs, top_positions
from vizsla.testing import check_strategy, toy_view


@pytest.mark.parametrize("name", sorted(strategies))
def test_every_strategy_keeps_the_contract(name):
    check_strategy(name)


def test_the_three_of_the_seed_are_there():
    assert {"random", "least_confidence", "margin"} <= set(strategies)


@pytest.mark.parametrize(
    ("name", "slow"),
    [
        ("least_confidence", lambda row: 1 - max(row)),
        ("margin", lambda row: sorted(row)[-2] - sorted(row)[-1]),
    ],
)
def test_uncertainty_strategies_agree_with_a_plain_sort_on_200_random_pools(name, slow):
    for seed in range(200):
        view = toy_view(12, seed=seed)
        rows = view.probs.tolist()
        plain = sorted(range(12), key=lambda i: -slow(rows[i]))[:5]
        batch = strategies[name].choose(view, 5, np.random.default_rng(seed))
        assert batch.ids.tolist() == [view.ids[i] for i in plain]
        assert batch.scores.tolist() == pytest.approx([slow(rows[i]) for i in plain])


def test_positions_never_pass_for_ids():
    view = View(np.array([100, 200, 300]), torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]]))
    assert strategies["margin"].choose(view, 2, np.random.default_rng(0)).ids.tolist() == [200, 300]


def test_ties_are_broken_at_random_and_not_by_file_order():
    view = View(np.arange(10), torch.full((10, 2), 0.5))
    first = [int(strategies["margin"].choose(view, 1, np.random.default_rng(s)).ids[0]) for s in range(500)]
    counts = np.bincount(first, minlength=10)
    assert counts.min() > 25  # 50 expected of each; P(any ≤ 25) < 0.001
    assert counts.max() < 80


def test_random_picks_every_image_equally_often():
    view = View(np.arange(10))
    picks = [strategies["random"].choose(view, 3, np.random.default_rng(s)).ids for s in range(1000)]
    counts = np.bincount(np.concatenate(picks), minlength=10)
    assert abs(counts - 300).max() < 5 * np.sqrt(1000 * 0.3 * 0.7)


def test_a_sub_pool_can_hold_every_image_the_first_one_too():
    """The seed article's own slip: it drew from range(1, …), so the first image could never be picked."""
    ids = np.arange(5, 25)
    drawn = np.concatenate([sub_pool(ids, 4, np.random.default_rng(s)) for s in range(1000)])
    counts = np.bincount(drawn, minlength=25)[5:]
    assert abs(counts - 200).max() < 5 * np.sqrt(1000 * 0.2 * 0.8)


def test_a_sub_pool_has_distinct_ascending_ids_of_the_pool():
    chosen = sub_pool(np.array([3, 8, 9, 40, 77]), 3, np.random.default_rng(0))
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert set(chosen.tolist()) < {3, 8, 9, 40, 77}


@pytest.mark.parametrize("size", [0, 5, 99])
def test_a_sub_pool_of_nothing_or_of_all_is_the_pool(size):
    assert sub_pool(np.arange(5), size, np.random.default_rng(0)).tolist() == [0, 1, 2, 3, 4]


def test_top_positions_agree_with_a_full_sort_whatever_the_ties():
    rng = np.random.default_rng(3)
    for _ in range(200):
        values = rng.integers(0, 4, size=12).astype(float)
        count = int(rng.integers(0, 13))
        positions = top_positions(values, count, rng)
        assert len(set(positions.tolist())) == count
        assert values[positions].tolist() == sorted(values.tolist(), reverse=True)[:count]


def test_a_missing_part_of_the_view_is_named():
    with pytest.raises(BadArray, match="'margin' needs probs"):
        strategies["margin"].choose(View(np.arange(3)), 1, np.random.default_rng(0))


def test_a_batch_larger_than_the_view_names_both_numbers():
    with pytest.raises(NotEnoughImages, match=r"batch of 9 images, but only 3 are unlabelled"):
        strategies["random"].choose(View(np.arange(3)), 9, np.random.default_rng(0))


def test_a_misspelt_strategy_gets_a_suggestion():
    with pytest.raises(UnknownName, match=r"no strategy named 'margn'\. Did you mean 'margin'"):
        strategies["margn"]


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        ([[0.5, 0.6]], "row 0 is not a probability row: it sums to 1.1"),
        ([[0.5, 0.5], [1.5, -0.5]], "row 1 .* smallest entry is -0.5"),
        ([[float("nan"), 1.0]], "row 0"),
        ([0.5, 0.5], "shape"),
        ([[1.0]], "classes ≥ 2"),
        ([[2.0, -1.0, 3.0]], "not logits"),
    ],
)
def test_what_is_no_probability_row_is_refused(probs, message):
    with pytest.raises(BadArray, match=message):
        as_probs(np.array(probs))


def test_float16_softmax_rows_are_accepted():
    logits = torch.randn(200, 100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(as_probs(logits.softmax(1).half()), logits.softmax(1).half())
