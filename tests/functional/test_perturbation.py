"""ALFA-Mix and DropQuery against loops over every anchor and every mask."""

import numpy as np
import pytest
import torch

from vizsla.functional import perturbation, rows
from vizsla.functional.perturbation import (
    alfamix,
    dropped_flips,
    dropquery,
    flip_steps,
    one_of_each,
)


def pools(count=300):
    """Small pools and heads: repeated and zero rows, classes never seen, sure and unsure, every float type."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        n, d, c = int(rng.integers(3, 13)), int(rng.integers(1, 6)), int(rng.integers(2, 5))
        points = rng.normal(size=(n, d)).astype([np.float16, np.float32, np.float64][seed % 3])
        if seed % 2:
            points[0] = points[-1]
        if seed % 5 == 0:
            points[n // 2] = 0
        weight = (rng.normal(size=(c, d)) * [0.1, 1, 8][seed % 3]).astype(np.float32)
        bias = (rng.normal(size=c) * 0.3).astype(np.float32)
        cut = [0, n - 1, int(rng.integers(0, n))][int(rng.integers(3))]
        labels = rng.integers(0, c, cut)
        if seed % 4 == 0:  # a class never seen, or all but one
            unseen = np.arange(1 if seed % 8 == 0 else c - 1, c)
            weight[unseen], bias[unseen] = 0, -np.inf
            labels = rng.integers(0, unseen[0], cut)
        order = rng.permutation(n)
        yield points, np.sort(order[cut:]), np.sort(order[:cut]), labels, weight, bias, rng


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


def softmax(logits):
    odds = np.exp(logits - logits.max())
    return odds / odds.sum()


def lead(logits, most):
    return max(value for j, value in enumerate(logits) if j != most) - logits[most]


def moved_leads(z, anchors, weight, bias, step):
    """For each anchor: how far another class is ahead of the predicted one after the move."""
    weight, bias = weight.astype(np.float64), bias.astype(np.float64)
    logits = weight @ z + bias
    most = int(logits.argmax())
    error = softmax(logits)
    error[most] = -sum(value for j, value in enumerate(error) if j != most)
    gradient = weight.T @ error
    length = np.linalg.norm(gradient)
    if length == 0:
        return []
    return [
        lead(weight @ (z + step * np.linalg.norm(a - z) * gradient / length) + bias, most) for a in anchors
    ]


def means(points, labelled, labels):
    return [points[labelled[labels == c]].astype(np.float64).mean(axis=0) for c in np.unique(labels)]


def test_labels_flip_at_the_farthest_anchor_exactly_where_they_flip_at_any_anchor():
    checked = 0
    for points, candidates, labelled, labels, weight, bias, _ in pools():
        row, head = tensors(points)[0], tensors(weight, bias)
        steps, _ = flip_steps(row, candidates, labelled, labels, *head)
        anchors = means(points, labelled, labels)
        for step in (0.02, 0.2, 1.0, 5.0):
            for position, candidate in enumerate(candidates):
                leads = moved_leads(points[candidate].astype(np.float64), anchors, weight, bias, step)
                if any(abs(value) < 1e-4 for value in leads):
                    continue  # a tie: rounding decides
                assert (steps[position] < step) == any(value > 0 for value in leads)
                checked += len(leads)
    assert checked > 2000


def test_the_margin_is_that_of_the_head():
    for points, candidates, labelled, labels, weight, bias, _ in pools(60):
        margins = flip_steps(*tensors(points), candidates, labelled, labels, *tensors(weight, bias))[1]
        for candidate, margin in zip(candidates, margins, strict=True):
            probs = sorted(softmax(weight @ points[candidate].astype(np.float64) + bias))
            assert margin == pytest.approx(probs[-2] - probs[-1], abs=1e-4)


def test_alfamix_picks_flipping_rows_doubling_the_step_until_there_are_enough():
    enough = 0
    for points, candidates, labelled, labels, weight, bias, rng in pools():
        everything = *tensors(points), candidates, labelled, labels, *tensors(weight, bias)
        steps, margins = flip_steps(*everything)
        for k in {1, min(3, len(candidates)), len(candidates)}:
            picks, scores = alfamix(*everything, k, rng)
            assert len(set(picks.tolist())) == k
            usual = 0.2 / points.shape[1] ** 0.5
            assert scores == pytest.approx(1 / (1 + steps[picks] / usual))
            step = next((s for s in usual * 2.0 ** np.arange(9) if (steps < s).sum() >= k), usual * 2.0**8)
            flips = np.flatnonzero(steps < step)
            if len(flips) >= k:
                enough += 1
                assert set(picks.tolist()) <= set(flips.tolist())
            else:
                assert set(picks[: len(flips)].tolist()) == set(flips.tolist())
                rest = np.sort(margins[np.setdiff1d(np.arange(len(candidates)), flips)])[::-1]
                assert margins[picks[len(flips) :]].tolist() == rest[: k - len(flips)].tolist()
    assert enough > 100


def test_a_head_that_is_surer_than_float32_can_say_still_has_a_direction_to_move_in():
    points = torch.tensor([[30.0], [-30.0], [40.0]])
    steps, _ = flip_steps(
        points,
        np.array([0, 2]),
        np.array([1]),
        np.array([0]),
        torch.tensor([[-1.0], [1.0]]),
        torch.zeros(2),
    )
    assert steps == pytest.approx([30 / 60, 40 / 70])  # to the boundary at 0, from an anchor at −30


def test_nothing_flips_where_one_class_or_nothing_is_known():
    points = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    everything, nothing = np.arange(5), np.empty(0, np.int64)
    weight, bias = torch.tensor([[1.0, 0], [0, 0]]), torch.tensor([0.0, -torch.inf])
    assert np.isinf(flip_steps(points, everything[1:], everything[:1], np.array([0]), weight, bias)[0]).all()
    both = torch.tensor([[1.0, 0], [0, 1.0]])
    assert np.isinf(flip_steps(points, everything, nothing, nothing, both, torch.zeros(2))[0]).all()


def test_dropped_flips_agree_with_a_loop_over_masks():
    for points, candidates, _, _, weight, bias, rng in pools():
        masks = rng.random((3, points.shape[1])) >= 0.75
        drawn = np.stack([weight * mask / np.float32(0.25) for mask in masks]).astype(np.float32)
        biases = np.stack([bias] * 3)
        flips, margins = dropped_flips(
            *tensors(points), candidates, *tensors(weight, bias), tuple(tensors(drawn, biases))
        )
        for candidate, count, margin in zip(candidates, flips, margins, strict=True):
            z = points[candidate].astype(np.float64)
            logits = weight @ z + bias
            without = [weight @ (z * mask / 0.25) + bias for mask in masks]
            if any(abs(lead(each, int(each.argmax()))) < 1e-4 for each in [logits, *without]):
                continue
            assert count == sum(each.argmax() != logits.argmax() for each in without)
            probs = sorted(softmax(logits))
            assert margin == pytest.approx(probs[-2] - probs[-1], abs=1e-4)


def test_dropquery_picks_what_most_heads_contradict_and_then_by_flips_and_margin():
    both = set()
    for points, candidates, _, _, weight, bias, rng in pools():
        drawn = rng.normal(size=(3, *weight.shape)).astype(np.float32), np.stack([bias] * 3)
        head = *tensors(points), candidates, *tensors(weight, bias), tuple(tensors(*drawn))
        flips, margins = dropped_flips(*head)
        most = np.flatnonzero(flips >= 2)
        for k in {1, min(3, len(candidates)), len(candidates)}:
            picks, scores = dropquery(*head, k, rng)
            assert len(set(picks.tolist())) == k
            assert scores.tolist() == (flips + margins)[picks].tolist()
            both.add(len(most) > k)
            if len(most) > k:
                assert set(picks.tolist()) <= set(most.tolist())
            else:
                by_both = np.lexsort([-margins, -flips])[:k]
                assert sorted((flips + margins)[by_both]) == sorted(scores)
    assert both == {True, False}


def test_one_of_each_takes_one_row_of_every_cluster_best_first():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0], [100, 0], [0, 100]])
    points = np.repeat(centres, 10, axis=0) + rng.normal(size=(30, 2))
    eligible = np.arange(30) % 10 > 2
    scores = rng.random(30)
    picks = one_of_each(
        torch.from_numpy(points), np.arange(30), eligible, scores, -scores, 3, np.random.default_rng(1)
    )
    assert sorted(picks // 10) == [0, 1, 2]
    assert eligible[picks].all()
    assert scores[picks].tolist() == sorted(scores[picks], reverse=True)
    for pick in picks:
        mine = np.flatnonzero(eligible & (np.arange(30) // 10 == pick // 10))
        away = np.linalg.norm(points[mine] - points[mine].mean(axis=0), axis=1)
        assert pick == mine[away.argmin()]


def test_of_very_many_eligible_rows_some_stand_for_all(monkeypatch):
    monkeypatch.setattr(perturbation, "_CLUSTERED", 0)
    points = np.repeat([[0.0, 0], [100, 0], [0, 100]], 200, axis=0) + np.random.default_rng(0).normal(
        size=(600, 2)
    )
    eligible = np.arange(600) % 5 > 0
    none = np.zeros(600)
    picks = one_of_each(
        torch.from_numpy(points), np.arange(600), eligible, none, none, 3, np.random.default_rng(1)
    )
    assert sorted(picks // 200) == [0, 1, 2]
    assert eligible[picks].all()


def test_one_of_each_breaks_ties_of_what_fills_up_at_random():
    points, counts = torch.zeros(5, 2), np.zeros(5)
    eligible = np.arange(5) == 0
    for seed in range(400):
        picks = one_of_each(
            points, np.arange(5), eligible, np.zeros(5), np.zeros(5), 2, np.random.default_rng(seed)
        )
        assert picks[0] == 0
        counts[picks[1]] += 1
    assert abs(counts[1:] - 100).max() < 5 * np.sqrt(400 * 3 / 16)


def test_equal_rows_that_all_flip_are_picked_once_each():
    points = torch.ones(6, 2)
    picks = one_of_each(
        points, np.arange(6), np.full(6, True), np.zeros(6), np.zeros(6), 4, np.random.default_rng(0)
    )
    assert len(set(picks.tolist())) == 4


def test_read_in_blocks_flips_are_the_same(monkeypatch):
    rng = np.random.default_rng(3)
    points, weight, bias = tensors(*(rng.normal(size=s).astype(np.float32) for s in ((300, 6), (4, 6), 4)))
    known, labels = np.arange(0, 300, 3), rng.integers(0, 4, 100)
    candidates = np.setdiff1d(np.arange(300), known)
    drawn = torch.stack([weight * 0.1, weight.flip(0)]), bias.expand(2, -1)

    def both():
        return (
            *flip_steps(points, candidates, known, labels, weight, bias),
            *dropped_flips(points, candidates, weight, bias, drawn),
        )

    whole = both()
    monkeypatch.setattr(rows, "BLOCK_BYTES", 1)
    for one, other in zip(both(), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
