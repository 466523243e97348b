"""Distances in the space of rows and of loss gradients, against the same written down in full."""

import numpy as np
import pytest
import torch

from vizsla.functional import rows as blocked
from vizsla.functional.spaces import Gradients, Points


def cases():
    """Random rows and probabilities with repeats, zero rows and sure rows, of every float type."""
    for seed in range(150):
        rng = np.random.default_rng(seed)
        n, d, c = rng.integers(2, 13), rng.integers(1, 6), rng.integers(2, 5)
        rows = rng.normal(size=(n, d)).astype([np.float16, np.float32, np.float64][seed % 3])
        probs = rng.dirichlet(np.ones(c), n).astype(np.float32)
        rows[rng.integers(n)] = rows[rng.integers(n)]
        rows[rng.integers(n)] = 0
        probs[rng.integers(n)] = np.eye(c)[rng.integers(c)]
        yield torch.from_numpy(rows), torch.from_numpy(probs), rng


def plain(points, some, others):
    return np.array([[np.sum((points[i] - points[j]) ** 2) for j in others] for i in some])


def written_down(rows, probs):
    """Every gradient as a vector of c·d numbers."""
    h, p = rows.double().numpy(), probs.numpy()
    error = (p - np.eye(p.shape[1], dtype=np.float32)[p.argmax(axis=1)]).astype(float)
    return (error[:, :, None] * h[:, None, :]).reshape(len(h), -1)


def test_distances_are_those_of_the_rows_and_of_the_gradients_written_down():
    for rows, probs, rng in cases():
        some, others = (rng.integers(len(rows), size=3) for _ in range(2))
        for space, points in (
            (Points(rows), rows.double().numpy()),
            (Gradients(rows, probs), written_down(rows, probs)),
        ):
            exact = plain(points, some, others)
            assert space.between(some, others) == pytest.approx(exact, abs=1e-9)
            everywhere = plain(points, range(len(rows)), others).min(axis=1)
            assert space.nearest(others) == pytest.approx(everywhere, abs=1e-4)
            assert space.lengths() == pytest.approx((points**2).sum(axis=1), rel=1e-5, abs=1e-9)


def test_equal_rows_are_at_distance_zero_exactly():
    rows = torch.from_numpy(
        np.random.default_rng(0).normal(1000, 1, (1, 64)).astype(np.float32).repeat(5, axis=0)
    )
    probs = torch.tensor([[0.7, 0.2, 0.1]]).repeat(5, 1)
    for space in (Points(rows), Gradients(rows, probs)):
        assert (space.between(np.arange(5), np.arange(5)) == 0).all()


def test_a_sure_row_has_no_gradient():
    space = Gradients(torch.ones(2, 3), torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    assert space.lengths().tolist() == [0.0, 1.5]  # |(−½, ½)|² · |(1, 1, 1)|²


def test_reading_in_small_blocks_changes_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    rows = torch.from_numpy(rng.normal(size=(500, 7)).astype(np.float32))
    probs = torch.from_numpy(rng.dirichlet(np.ones(3), 500).astype(np.float32))
    others = np.array([3, 77, 401])
    whole = [space.nearest(others) for space in (Points(rows), Gradients(rows, probs))]
    monkeypatch.setattr(blocked, "BLOCK_BYTES", 4 * 7 * 64)
    parts = [space.nearest(others) for space in (Points(rows), Gradients(rows, probs))]
    for one, other in zip(whole, parts, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
