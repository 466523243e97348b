"""Lazy herding against double loops."""

import math

import numpy as np
import pytest
import torch

from vizsla.functional import rows
from vizsla.functional.herding import bandwidth, herding


def pools(count=300):
    """Small pools with repeated rows, ties on a grid, zero rows and every float type."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(2, 13)), int(rng.integers(1, 5))
        points = rng.integers(-1, 2, (n, d)) if seed % 4 == 0 else rng.normal(size=(n, d))
        points = points.astype([np.float16, np.float32, np.float64][seed % 3])
        if seed % 2:
            points[0] = points[-1]
        if seed % 7 == 0:
            points[n // 2] = 0
        weights = np.ones(n) if seed % 2 else rng.random(n) * (rng.random(n) < 0.7)
        order = rng.permutation(n)
        cut = [0, n - 1, int(rng.integers(0, n))][seed % 3]
        yield points, np.sort(order[cut:]), np.sort(order[:cut]), weights, rng


def unit(row):
    length = math.sqrt(sum(float(x) ** 2 for x in row))
    return [float(x) / length if length else 0.0 for x in row]


def distance(one, other):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))


def plain_bandwidth(points, candidates, labelled):
    points = [unit(row) for row in points]
    among = [distance(points[i], points[j]) for i in labelled for j in labelled if i < j]
    among = [away for away in among if away > 0.1]
    if among:
        return min(among)
    if len(candidates) < 2:
        return 1.0
    far = []
    for i in candidates:
        near = sorted(distance(points[i], points[j]) for j in candidates if j != i)
        far.append(near[:20][-1])
    return max(sorted(far)[(len(far) - 1) // 2], 0.1)


def plain_gains(points, candidates, covering, weights, sigma):
    """Σ_j u_j [k(i,j) − max_l k(l,j)]₊ / n for every candidate i, in two loops."""
    points = [unit(row) for row in points]

    def kernel(i, j):
        return math.exp(-(distance(points[i], points[j]) ** 2) / sigma**2)

    gains = []
    for i in candidates:
        total = 0.0
        for j in candidates:
            covered = max((kernel(m, j) for m in covering), default=0.0)
            total += weights[j] * max(kernel(i, j) - covered, 0.0)
        gains.append(total / len(candidates))
    return gains


def ours(points, candidates, labelled, weights, k, rng, **options):
    chosen = torch.from_numpy(weights[candidates])
    return herding(torch.from_numpy(points), candidates, labelled, chosen, k, rng, **options)


def test_every_pick_of_herding_adds_as_much_as_the_best_of_a_double_loop():
    for points, candidates, labelled, weights, rng in pools():
        sigma = plain_bandwidth(points, candidates, labelled)
        picks, scores = ours(points, candidates, labelled, weights, len(candidates), rng)
        assert sorted(picks.tolist()) == list(range(len(candidates)))
        covering = labelled.tolist()
        left = set(range(len(candidates)))
        for pick, score in zip(picks.tolist(), scores, strict=True):
            gains = plain_gains(points, candidates, covering, weights, sigma)
            assert score == pytest.approx(gains[pick], abs=2e-5)
            assert gains[pick] >= max(gains[i] for i in left) - 2e-5
            left.remove(pick)
            covering.append(int(candidates[pick]))


def test_the_bandwidth_agrees_with_plain_loops():
    for points, candidates, labelled, _, rng in pools():
        found = bandwidth(torch.from_numpy(points), candidates, labelled, rng)
        assert found == pytest.approx(plain_bandwidth(points, candidates, labelled), rel=1e-3)


def test_the_bandwidth_is_the_distance_to_the_twentieth_neighbour_where_there_are_more():
    rng = np.random.default_rng(0)
    points, everything = rng.normal(size=(60, 3)), np.arange(60)
    nothing = np.empty(0, np.int64)
    found = bandwidth(torch.from_numpy(points), everything, nothing, rng)
    assert found == pytest.approx(plain_bandwidth(points, everything, nothing), rel=1e-4)


def test_a_near_duplicate_among_the_labelled_does_not_shrink_the_bandwidth():
    angles = np.array([0.0, 1e-4, 1.0, 2.5])
    points = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    found = bandwidth(points, np.array([3]), np.array([0, 1, 2]), np.random.default_rng(0))
    assert found == pytest.approx(2 * np.sin((1 - 1e-4) / 2), rel=1e-4)


def test_coverage_is_summed_over_what_is_covered_and_not_over_what_covers():
    """A known slip: reduced over the wrong axis, each candidate is scored by how well others cover it, times
    its own weight. The hub that is near to all of the unsure rim, but sure itself, would get 0."""
    around = np.arange(6) * np.pi / 3
    rim = np.stack([np.cos(around) * 0.5, np.sin(around) * 0.5, np.full(6, 0.85)], axis=1)
    points = np.vstack([rim, [[0, 0, 1.0]], [[0.0, 0, -1]]])
    weights = np.array([1.0] * 6 + [0.0, 0.5])
    everything, nothing = np.arange(8), np.empty(0, np.int64)
    sigma = plain_bandwidth(points, everything, nothing)
    rows_ = np.array([unit(row) for row in points])
    kernel = np.exp(-(((rows_[:, None] - rows_[None]) ** 2).sum(axis=2)) / sigma**2)
    assert (kernel * weights[None, :]).sum(axis=1).argmax() == 6
    assert (kernel * weights[:, None]).sum(axis=1).argmax() != 6
    picks, _ = ours(points, everything, nothing, weights, 1, np.random.default_rng(0))
    assert picks.tolist() == [6]


def test_only_the_drawn_references_count():
    rng = np.random.default_rng(8)
    points, weights, everything = rng.normal(size=(12, 3)), np.ones(12), np.arange(2, 12)
    labelled = np.array([0, 1])
    for seed in range(50):
        drawn = np.sort(np.random.default_rng(seed).choice(10, 4, replace=False))
        few = np.zeros(12)
        few[everything[drawn]] = 1
        sigma = plain_bandwidth(points, everything, labelled)
        gains = plain_gains(points, everything, [0, 1], few, sigma)
        picks, scores = ours(
            points, everything, labelled, weights, 1, np.random.default_rng(seed), references=4
        )
        assert scores[0] == pytest.approx(max(gains) * 10 / 4, rel=1e-4)
        assert gains[picks[0]] == pytest.approx(max(gains), rel=1e-4)


def test_what_is_covered_already_is_filled_up_at_random_with_score_0():
    points = np.ones((6, 2))
    counts = np.zeros(6)
    for seed in range(300):
        picks, scores = ours(
            points, np.arange(1, 6), np.array([0]), np.ones(6), 2, np.random.default_rng(seed)
        )
        counts[picks] += 1
        assert scores.tolist() == [0, 0]
    assert abs(counts[:5] - 120).max() < 5 * np.sqrt(300 * 0.4 * 0.6)


def test_equal_rows_are_picked_equally_often():
    points = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    nothing = np.empty(0, np.int64)
    firsts = [
        ours(points, np.arange(4), nothing, np.ones(4), 1, np.random.default_rng(s))[0][0] for s in range(300)
    ]
    counts = np.bincount(firsts, minlength=4)
    assert counts[3] == 0
    assert abs(counts[:3] - 100).max() < 5 * np.sqrt(300 * 2 / 9)


def big(n=400, d=5):
    rng = np.random.default_rng(4)
    return rng.normal(size=(n, d)), rng.uniform(0.1, 1, n)


def chosen(points, weights, k=40, labelled=(0, 1)):
    known = np.array(labelled, np.int64)
    candidates = np.setdiff1d(np.arange(len(points)), known)
    picks, scores = ours(points, candidates, known, weights, k, np.random.default_rng(0))
    return candidates[picks].tolist(), scores


def test_lazy_picks_are_those_of_evaluating_every_candidate_every_time():
    points, weights = big()
    picks, scores = chosen(points, weights)
    sigma = plain_bandwidth(points, range(2, 400), [0, 1])
    rows_ = points / np.linalg.norm(points, axis=1, keepdims=True)
    kernel = np.exp(-(((rows_[:, None] - rows_[None, 2:]) ** 2).sum(axis=2)) / sigma**2)
    covered = kernel[:2].max(axis=0)
    for pick, score in zip(picks, scores, strict=True):
        gains = np.maximum(kernel - covered, 0) @ weights[2:] / 398
        assert pick == gains.argmax()
        assert score == pytest.approx(gains.max(), rel=1e-3)
        covered = np.maximum(covered, kernel[pick])


def test_scores_never_rise():
    assert (np.diff(chosen(*big(), k=398)[1]) <= 1e-9).all()


def test_scaling_rows_changes_nothing_for_they_are_made_unit_length():
    points, weights = big()
    scaled = points * np.random.default_rng(0).choice([0.25, 2.0, 8.0], size=(400, 1))
    assert chosen(scaled, weights)[0] == chosen(points, weights)[0]


def test_the_order_of_rows_does_not_matter():
    points, weights = big()
    order = np.concatenate([[0, 1], 2 + np.random.default_rng(5).permutation(398)])
    assert [order[i] for i in chosen(points[order], weights[order])[0]] == chosen(points, weights)[0]


def test_rows_twice_in_the_pool_leave_the_picks_and_scores():
    points, weights = big()
    twice, scores = chosen(np.vstack([points, points[2:]]), np.concatenate([weights, weights[2:]]))
    once, expected = chosen(points, weights)
    assert [i if i < 400 else i - 398 for i in twice] == once
    assert scores == pytest.approx(expected, rel=1e-4)


def test_read_in_blocks_it_picks_the_same(monkeypatch):
    points, weights = big()
    whole = chosen(points, weights)[0]
    monkeypatch.setattr(rows, "BLOCK_BYTES", 1)
    assert chosen(points, weights)[0] == whole
