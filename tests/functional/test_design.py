"""BAIT by rank-one updates against a twin that inverts A for every candidate."""

import numpy as np
import pytest
import torch

from vizsla.functional import design, rows
from vizsla.functional.coverage import k_center
from vizsla.functional.design import bait, doubt, minimise_trace, weighted_design
from vizsla.functional.spaces import Points


def pools(count=300):
    """Small pools with repeated and zero rows, sure and unsure rows, every float type, few or many labels."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(2, 13)), int(rng.integers(1, 5))
        points = rng.normal(size=(n, d)).astype([np.float16, np.float32, np.float64][seed % 3])
        weights = rng.uniform(0, 0.25, n)
        if seed % 2:
            points[0] = points[-1]
            weights[0] = weights[-1]
        if seed % 5 == 0:
            points[n // 2] = 0
            weights[rng.random(n) < 0.4] = 0
        order = rng.permutation(n)
        cut = [0, n - 1, int(rng.integers(0, n))][seed % 3]
        yield points, np.sort(order[cut:]), np.sort(order[:cut]), weights, rng


def ours(points, candidates, labelled, weights, k, rng):
    known = torch.from_numpy(weights[labelled])
    return bait(
        torch.from_numpy(points), candidates, labelled, torch.from_numpy(weights[candidates]), known, k, rng
    )


def head_inputs(points, members):
    """Centred on the members, of unit length, with a one for the bias."""
    centred = points.astype(np.float64) - points[members].astype(np.float64).mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 1e-6)
    return np.hstack([unit, np.ones((len(points), 1))])


class Twin:
    """tr(A⁻¹F) from the formulas, A inverted each time."""

    def __init__(self, points, candidates, labelled, weights):
        inputs = head_inputs(points, np.concatenate([candidates, labelled]))
        parts = weights[:, None, None] * inputs[:, :, None] * inputs[:, None, :]
        self.parts = parts[candidates]
        self.known = np.eye(inputs.shape[1]) / 30 + parts[labelled].sum(axis=0)
        self.pool = self.parts.mean(axis=0)

    def trace(self, chosen):
        return np.trace(np.linalg.inv(self.known + self.parts[list(chosen)].sum(axis=0)) @ self.pool)

    def greedy(self, k):
        n, chosen, gains = len(self.parts), [], {}
        while len(chosen) < min(2 * k, n):
            left = [i for i in range(n) if i not in chosen]
            best = min(left, key=lambda i: self.trace([*chosen, i]))
            gains[best] = self.trace(chosen) - self.trace([*chosen, best])
            chosen.append(best)
        while len(chosen) > k:
            left = [self.trace([j for j in chosen if j != i]) for i in chosen]
            del chosen[max(i for i in range(len(chosen)) if left[i] <= min(left) * (1 + 1e-12))]
        return chosen, [gains[i] for i in chosen]


def test_bait_agrees_with_a_twin_that_inverts_the_information_for_each_candidate():
    for points, candidates, labelled, weights, rng in pools():
        twin = Twin(points, candidates, labelled, weights)
        for k in {1, 3, len(candidates)} - {3 if len(candidates) < 3 else 0}:
            picks, scores = ours(points, candidates, labelled, weights, k, rng)
            plain, gains = twin.greedy(k)
            assert len(set(picks.tolist())) == k
            assert twin.trace(picks) == pytest.approx(twin.trace(plain), rel=1e-4, abs=1e-9)
            assert scores == pytest.approx(gains, rel=2e-3, abs=1e-6 + 1e-4 * max(gains))


def test_a_hundred_updates_leave_the_same_picks_as_inverting_in_float64():
    rng = np.random.default_rng(1)
    points, weights = rng.normal(size=(400, 12)), rng.uniform(0.05, 0.25, 400)
    candidates, labelled = np.arange(5, 400), np.arange(5)
    twin = Twin(points, candidates, labelled, weights)
    picks, scores = ours(points, candidates, labelled, weights, 50, rng)
    inverse, chosen, gains = np.linalg.inv(twin.known), [], []
    for _ in range(100):
        spread = inverse @ twin.pool @ inverse
        each = np.einsum("nij,ji->n", twin.parts, spread) / (1 + np.einsum("nij,ji->n", twin.parts, inverse))
        each[chosen] = -1
        chosen.append(int(each.argmax()))
        gains.append(each.max())
        inverse = np.linalg.inv(twin.known + twin.parts[chosen].sum(axis=0))
    kept = list(chosen)
    while len(kept) > 50:
        kept.remove(min(kept, key=lambda i: twin.trace([j for j in kept if j != i])))
    assert picks.tolist() == kept
    assert scores == pytest.approx([gains[chosen.index(i)] for i in kept], rel=1e-3)


def test_exact_values_are_taken_when_the_best_gain_has_worn_away(monkeypatch):
    """After a pick that leaves a millionth of the trace, updates in float32 would be noise."""
    calls = []
    whole = design._Design.refresh
    monkeypatch.setattr(design._Design, "refresh", lambda self: (calls.append(1), whole(self)))
    points = torch.tensor([[1000.0, 0.0], [0.0, 0.02], [0.0, 0.01], [0.0, 0.0]])
    information = torch.eye(2, dtype=torch.float64) * 0.03
    picks, scores = minimise_trace(points, information, 2, np.random.default_rng(0))
    assert picks.tolist() == [0, 1]
    assert len(calls) > 1
    b = 0.0004 / 0.03 * (0.0005 / 4) / 0.03
    assert scores[1] == pytest.approx(b / (1 + 0.0004 / 0.03), rel=1e-5)


def test_nobody_in_doubt_means_random_picks():
    counts = np.zeros(6)
    for seed in range(600):
        rng = np.random.default_rng(seed)
        picks, scores = ours(np.eye(6), np.arange(6), np.empty(0, np.int64), np.zeros(6), 2, rng)
        counts[picks] += 1
        assert scores.tolist() == [0, 0]
    assert abs(counts - 200).max() < 5 * np.sqrt(600 * 2 / 9)


def test_equal_rows_are_picked_equally_often():
    points, weights = np.array([[1.0, 0], [1, 0], [1, 0], [-1, 0]]), np.array([0.25, 0.25, 0.25, 0.01])
    nothing = np.empty(0, np.int64)
    firsts = [
        ours(points, np.arange(4), nothing, weights, 1, np.random.default_rng(s))[0][0] for s in range(300)
    ]
    counts = np.bincount(firsts, minlength=4)
    assert counts[3] == 0
    assert abs(counts[:3] - 100).max() < 5 * np.sqrt(300 * 2 / 9)


def big(n=300, d=5):
    rng = np.random.default_rng(4)
    return rng.normal(size=(n, d)), rng.uniform(0.01, 0.25, n)


def picks_of(points, weights, k=8, labelled=(0, 1)):
    known = np.array(labelled, np.int64)
    candidates = np.setdiff1d(np.arange(len(points)), known)
    return candidates[ours(points, candidates, known, weights, k, np.random.default_rng(0))[0]].tolist()


def test_neither_moving_nor_scaling_the_pool_changes_the_picks():
    points, weights = big()
    assert picks_of(points * 7 + 3, weights) == picks_of(points, weights)


def test_the_order_of_rows_does_not_matter():
    points, weights = big()
    order = np.concatenate([[0, 1], 2 + np.random.default_rng(5).permutation(298)])
    assert [order[i] for i in picks_of(points[order], weights[order])] == picks_of(points, weights)


def test_read_in_blocks_it_picks_the_same(monkeypatch):
    points, weights = big()
    whole = picks_of(points, weights)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 1)
    assert picks_of(points, weights) == whole


def test_rows_twice_in_the_pool_leave_the_first_pick():
    points, weights = big()
    twice = picks_of(np.vstack([points, points[2:]]), np.concatenate([weights, weights[2:]]), k=1)
    once = picks_of(points, weights, k=1)
    assert [i if i < 300 else i - 298 for i in twice] == once


def test_more_features_than_axes_change_nothing_while_the_rows_span_few_of_them():
    points, weights = big()
    turned = points @ np.linalg.qr(np.random.default_rng(6).normal(size=(300, 5)))[0].T
    assert picks_of(turned, weights) == picks_of(points, weights)


def test_a_labelled_row_in_doubt_covers_what_is_like_it_and_a_sure_one_does_not():
    points = np.array([[1.0, 0], [1, 0.01], [-1, 0]])
    candidates, labelled = np.array([1, 2]), np.array([0])
    doubts = torch.tensor([0.25, 0.2])
    for known, first in ((0.25, 1), (0.0, 0)):
        chosen = bait(
            torch.from_numpy(points),
            candidates,
            labelled,
            doubts,
            torch.tensor([known]),
            1,
            np.random.default_rng(0),
        )
        assert chosen[0].tolist() == [first]


def test_doubt_is_the_variance_of_the_most_likely_class_in_every_float_type():
    for dtype in (torch.float16, torch.float32, torch.float64):
        probs = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.25, 0.75, 0]], dtype=dtype)
        assert doubt(probs).tolist() == [0, 0.25, 0.1875]


# --- weighted design


class WeightedTwin:
    """Σ_j u_j h_jᵀA⁻¹h_j / n from the formula, A inverted each time."""

    def __init__(self, points, candidates, labelled, worth):
        inputs = head_inputs(points, np.concatenate([candidates, labelled]))
        self.inputs, self.worth = inputs[candidates], worth
        self.known = np.eye(inputs.shape[1]) / 30 + 0.2 * inputs[labelled].T @ inputs[labelled]

    def left(self, chosen):
        some = self.inputs[list(chosen)]
        inverse = np.linalg.inv(self.known + 0.2 * some.T @ some)
        return (
            0.2 * self.worth @ np.einsum("nm,mk,nk->n", self.inputs, inverse, self.inputs) / len(self.worth)
        )


def test_each_pick_of_the_weighted_design_leaves_as_little_doubt_as_the_best_of_all_candidates():
    for points, candidates, labelled, weights, rng in pools():
        worth = 4 * weights[candidates]
        twin = WeightedTwin(points, candidates, labelled, worth)
        picks, scores = weighted_design(
            torch.from_numpy(points), candidates, labelled, torch.from_numpy(worth), len(candidates), rng
        )
        assert sorted(picks.tolist()) == list(range(len(candidates)))
        for step, (pick, score) in enumerate(zip(picks, scores, strict=True)):
            before = picks[:step].tolist()
            least = min(twin.left([*before, i]) for i in range(len(candidates)) if i not in before)
            now, was = twin.left([*before, pick]), twin.left(before)
            assert now == pytest.approx(least, rel=1e-4, abs=1e-6)
            assert score == pytest.approx(was - now, rel=1e-3, abs=1e-6)


def test_a_sure_image_amid_doubtful_ones_is_asked_first_which_bait_would_never_ask():
    around = np.array([[1.0, 0.3], [1.0, 0.0], [1.0, -0.3], [-1.5, 0.5], [-1.5, -0.5]])
    worth = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0])  # the second lies between the two in doubt
    everything = np.arange(5), np.empty(0, np.int64)
    rows, rng = torch.from_numpy(around), np.random.default_rng(0)
    assert weighted_design(rows, *everything, worth, 1, rng)[0].tolist() == [1]
    assert bait(rows, *everything, worth / 4, torch.empty(0), 2, rng)[0].tolist() != [1]
    assert 1 not in bait(rows, *everything, worth / 4, torch.empty(0), 2, rng)[0]


def test_an_outlier_is_asked_late_where_k_center_asks_it_at_once():
    rng = np.random.default_rng(0)
    crowd = rng.normal(size=(200, 8)) @ np.diag([3, 3, 3, 0.1, 0.1, 0.1, 0.0, 0.0]) + [4, 0, 0, 0, 0, 0, 0, 0]
    rows = torch.from_numpy(np.vstack([crowd, np.eye(8)[7] * 20]))
    picks = weighted_design(rows, np.arange(201), np.empty(0, np.int64), torch.ones(201), 10, rng)[0]
    assert 200 not in picks
    assert 200 in k_center(Points(rows), np.full(201, np.inf), 2, rng)[0]
