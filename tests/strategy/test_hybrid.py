"""Hybrid strategies through `select` and through views."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vizsla import select
from vizsla.functional.perturbation import dropped_flips, flip_steps
from vizsla.strategy import View, strategies
from vizsla.strategy.base import Head, Pool

NAMES = ["alfamix", "bait", "dropquery", "maxherding", "uherding"]
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 120)
ROWS = (RNG.normal(size=(120, 6)) + 2 * np.eye(6)[LABELS]).astype(np.float32)
PROBS = RNG.dirichlet(np.ones(3) * 0.5, 120)
KNOWN = np.arange(0, 120, 8)


def chosen(name, rows=ROWS, known=KNOWN, n=10, probs=PROBS, labels=LABELS, seed=0):
    return select(
        name, embeddings=rows, probs=probs, labelled=known, labels=labels[known], n=n, seed=seed
    ).tolist()


def view(name="", unseen=False):
    """Twelve candidates with ids 100, 110, …, six labelled rows, and a head."""
    rng = np.random.default_rng(5)
    rows = torch.from_numpy(rng.normal(size=(18, 4)).astype(np.float32))
    weight = torch.from_numpy(rng.normal(size=(3, 4)).astype(np.float32))
    bias = torch.zeros(3)
    if unseen:
        weight[2], bias[2] = 0, -torch.inf
    pool = Pool(rows, np.arange(6, 18), np.arange(6))
    probs = (rows[6:] @ weight.T + bias).softmax(dim=1)
    return View(
        np.arange(12) * 10 + 100,
        probs,
        name,
        pool,
        np.array([0, 1, 0, 1, 0, 1]),
        head=Head(pool, weight, bias),
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_has_distinct_unlabelled_rows_the_same_ones_again(name):
    for n in (1, 10, 105):
        picks = chosen(name, n=n)
        assert len(set(picks)) == n
        assert not set(picks) & set(KNOWN.tolist())
        assert chosen(name, n=n) == picks


@pytest.mark.parametrize("name", NAMES)
def test_scaling_all_embeddings_changes_nothing(name):
    assert chosen(name, rows=ROWS * 4) == chosen(name)


@pytest.mark.parametrize("name", ["bait", "maxherding", "uherding"])
def test_listing_the_images_in_another_order_picks_the_same_ones(name):
    order = np.random.default_rng(7).permutation(120)
    where = np.argsort(order)
    picks = chosen(name, ROWS[order], where[KNOWN], probs=PROBS[order], labels=LABELS[order])
    assert sorted(order[picks]) == sorted(chosen(name))


@pytest.mark.parametrize("name", ["bait", "maxherding", "uherding"])
def test_nothing_labelled_is_enough_to_start_from(name):
    assert len(set(chosen(name, known=np.empty(0, np.int64)))) == 10


@pytest.mark.parametrize("name", NAMES)
def test_everything_labelled_but_the_batch_leaves_just_that(name):
    assert sorted(chosen(name, known=np.arange(117), n=3)) == [117, 118, 119]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types_do(name, dtype):
    picks = chosen(name, rows=ROWS.astype(dtype), probs=PROBS.astype(dtype))
    assert len(set(picks)) == 10
    if dtype == np.float64:
        assert picks == chosen(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_pool_of_one_image_many_times_is_survived(name):
    rows = np.vstack([ROWS[:10], np.repeat(ROWS[10:11], 30, axis=0), np.zeros((2, 6), np.float32)])
    picks = chosen(name, rows, np.arange(10), n=30, probs=PROBS[:42])
    assert len(set(picks)) == 30


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unseen", [False, True])
def test_ids_and_finite_scores_come_back_also_with_a_class_never_seen(name, unseen):
    batch = strategies[name].choose(view(name, unseen), 12, np.random.default_rng(0))
    assert sorted(batch.ids.tolist()) == list(range(100, 220, 10))
    assert np.isfinite(batch.scores).all()


def test_bait_and_uherding_want_nothing_from_what_the_model_is_sure_of():
    probs = np.tile([1.0, 0, 0], (120, 1))
    probs[60:70] = [0.5, 0.5, 0]
    first = chosen("bait", n=3, probs=probs)
    assert set(first) <= set(range(60, 70))
    near = chosen("uherding", n=1, probs=probs)[0]
    unit = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    unsure = np.setdiff1d(np.arange(60, 70), KNOWN)
    closeness = (unit @ unit[unsure].T).mean(axis=1)
    assert (closeness > closeness[near]).mean() < 0.5


def test_maxherding_ignores_the_probabilities():
    assert chosen("maxherding", probs=PROBS) == chosen("maxherding", probs=PROBS[::-1].copy())
    assert chosen("uherding", probs=PROBS) != chosen("uherding", probs=PROBS[::-1].copy())


def test_bait_takes_labelled_probabilities_of_other_models_where_there_are_some():
    """Sure ones leave nothing covered, unsure ones do."""
    plain, rule = view("bait"), strategies["bait"]
    sure = replace(plain, labelled_probs=torch.eye(3)[plain.labels])
    even = replace(plain, labelled_probs=torch.full((6, 3), 1 / 3))
    scores = [rule.choose(each, 1, np.random.default_rng(0)).scores[0] for each in (sure, plain, even)]
    assert scores[0] > 2 * scores[1]
    assert scores[0] > 2 * scores[2]
    assert scores[1] != scores[2]


def test_alfamix_picks_what_flips_in_the_head_of_the_view():
    seen = view("alfamix")
    head = seen.head
    steps, _ = flip_steps(
        head.pool.rows, head.pool.candidates, head.pool.labelled, seen.labels, head.weight, head.bias
    )
    step = next(s for s in 0.1 * 2.0 ** np.arange(9) if (steps < s).sum() >= 3)
    batch = strategies["alfamix"].choose(seen, 3, np.random.default_rng(0))
    assert (steps[(batch.ids - 100) // 10] < step).all()


def test_dropquery_drops_three_quarters_of_the_features_three_times():
    seen = view("dropquery")
    head, rng = seen.head, np.random.default_rng(3)
    kept = torch.from_numpy(rng.random((3, 1, 4)) >= 0.75)
    drawn = head.weight * kept / 0.25, head.bias.expand(3, -1)
    flips, margins = dropped_flips(head.pool.rows, head.pool.candidates, head.weight, head.bias, drawn)
    batch = strategies["dropquery"].choose(seen, 12, np.random.default_rng(3))
    assert batch.scores == pytest.approx((flips + margins)[(batch.ids - 100) // 10])
    assert sorted(batch.scores, reverse=True) == batch.scores.tolist()
