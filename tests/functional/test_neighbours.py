"""Typicality, pure balls and the graph of neighbours, against double loops."""

import numpy as np
import pytest
import torch

from vizsla.functional import neighbours
from vizsla.functional.neighbours import balls, pure_radius, typicality


def some_rows(seed, most=13):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, most)
    rows = rng.normal(size=(n, 3)).astype([np.float16, np.float32, np.float64][seed % 3])
    rows[rng.integers(n)] = rows[rng.integers(n)]
    return rows, rng


def distances(rows):
    return np.linalg.norm(rows[:, None].astype(float) - rows[None].astype(float), axis=2)


def test_typicality_is_one_over_the_mean_distance_to_half_of_the_others_at_most_20():
    for seed in range(300):
        rows, _ = some_rows(seed, 60)
        n = len(rows)
        k = min(max(1, min(20, n // 2)), n - 1)
        away = distances(rows)
        for i, got in enumerate(typicality(torch.from_numpy(rows))):
            others = sorted(np.delete(away[i], i))[:k]
            assert got == pytest.approx(1 / (np.mean(others) + 1e-5) if k else 1.0, rel=0.02)


def test_equal_rows_have_a_finite_typicality():
    assert np.isfinite(typicality(torch.ones(30, 4))).all()
    assert typicality(torch.ones(1, 4)).tolist() == [1.0]


def test_the_radius_is_the_largest_at_which_95_percent_of_balls_are_pure():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(40, 2)).astype(np.float32)
        labels = (rows[:, 0] > 0.2).astype(np.int64)
        radius = pure_radius(torch.from_numpy(rows), labels, rng)
        away, other = distances(rows), labels[:, None] != labels[None]

        def purity(r, away=away, other=other):
            return np.mean([not (other[i] & (away[i] < r)).any() for i in range(40)])

        assert purity(0.999 * radius) >= 0.95
        assert purity(1.001 * radius) < 0.95


def test_one_cluster_has_no_end():
    assert pure_radius(torch.rand(9, 2), np.zeros(9, np.int64), np.random.default_rng(0)) == np.inf


@pytest.mark.parametrize("tile", [3, 2048])
def test_the_graph_holds_every_pair_within_the_radius_the_last_rows_too(monkeypatch, tile):
    monkeypatch.setattr(neighbours, "_TILE", tile)
    for seed in range(200):
        rows, rng = some_rows(seed)
        radius = float(rng.choice([0.0, 0.5, 1.5, 9.0]))
        graph = balls(torch.from_numpy(rows), radius)
        away = distances(rows)
        for i in range(len(rows)):
            near = set(np.flatnonzero(away[i] < radius - 1e-3)) | {i}
            maybe = set(np.flatnonzero(away[i] < radius + 1e-3)) | {i}
            got = graph.of(i).tolist()
            assert near <= set(got) <= maybe
            assert len(set(got)) == len(got)
