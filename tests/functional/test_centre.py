"""Distances are the same wherever the origin lies: against the same rows about the origin, in float64."""

import numpy as np
import pytest
import torch

from vizsla.functional.centre import centre_of
from vizsla.functional.geometry import principal_axes
from vizsla.functional.given import numbers
from vizsla.functional.kmeans import kmeans, nearest_unpicked
from vizsla.functional.neighbours import balls, pure_radius, typicality
from vizsla.functional.spaces import Points

RNG = np.random.default_rng(0)
MIDDLES = RNG.normal(size=(6, 32)) / 32**0.5
TRUTH = RNG.integers(6, size=300)
ROWS = MIDDLES[TRUTH] + 0.02 * RNG.normal(size=(300, 32))
MOVED = {
    "a constant added to all": (ROWS + 1000).astype(np.float32),
    "less than nothing": (ROWS - 1000).astype(np.float32),
    "one column a large constant": np.hstack([ROWS, np.full((300, 1), 5e4)]).astype(np.float32),
    "far out, in double precision": ROWS + 1e6,
    "whole numbers": np.rint(1e6 * ROWS).astype(np.int64) + 10**9,
}


def moved(name: str) -> torch.Tensor:
    return numbers("rows", MOVED[name], "") * (1e-6 if name == "whole numbers" else 1)


@pytest.fixture(params=MOVED)
def rows(request) -> torch.Tensor:
    return moved(request.param)


def distances(places) -> np.ndarray:
    return np.linalg.norm(ROWS[:, None] - ROWS[None, places], axis=2)


def test_the_nearest_of_some_rows_is_as_far_as_about_the_origin(rows):
    away = np.sqrt(Points(rows).nearest(np.array([3, 77, 201])))
    others = np.setdiff1d(np.arange(300), [3, 77, 201])  # a row itself: the root of what rounding leaves
    assert away[others] == pytest.approx(distances([3, 77, 201]).min(axis=1)[others], abs=1e-4)


def test_distances_between_few_rows_are_those_about_the_origin(rows):
    away = np.sqrt(Points(rows).between(np.arange(300), np.array([3, 77])))
    assert away == pytest.approx(distances([3, 77]), abs=2e-4 if rows.dtype == torch.float32 else 1e-5)


def test_k_means_finds_the_six_clusters_and_their_middles(rows):
    found = kmeans(rows, 6, np.random.default_rng(0))
    assert len(np.unique(np.stack([found.labels, TRUTH]), axis=1).T) == 6
    want = sum(((ROWS[c == TRUTH] - ROWS[c == TRUTH].mean(axis=0)) ** 2).sum() for c in range(6))
    assert found.cost == pytest.approx(want, rel=1e-3)
    centres = np.stack([ROWS[c == found.labels].mean(axis=0) for c in range(6)])
    nearest = np.linalg.norm(ROWS[:, None] - centres[None], axis=2).argmin(axis=0)
    assert nearest_unpicked(rows, found.centroids).tolist() == nearest.tolist()


def test_typicality_radius_and_balls_are_those_about_the_origin(rows):
    away = distances(np.arange(300))
    near = np.sort(away, axis=1)[:, 1:21].mean(axis=1)
    assert 1 / typicality(rows) == pytest.approx(near, rel=2e-3)
    np.fill_diagonal(away, 0)
    between = np.where(TRUTH[:, None] == TRUTH[None], np.inf, away).min(axis=1)
    radius = pure_radius(rows, TRUTH.astype(np.int64), np.random.default_rng(0))
    assert radius == pytest.approx(np.sort(between)[15], abs=1e-4)
    graph = balls(rows, 0.5)
    assert [set(graph.of(i)) for i in range(300)] == [set(np.flatnonzero(row < 0.5)) for row in away]


def test_coordinates_on_the_principal_axes_keep_every_distance(rows):
    seen = rows.numpy()
    coordinates = principal_axes(seen)(seen)
    away = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=2)
    assert away == pytest.approx(distances(np.arange(300)), abs=2e-4)


def test_outliers_do_not_move_the_centre_away_from_the_rows():
    rows = torch.from_numpy(ROWS).clone()
    rows[::10] = 1e6
    assert np.linalg.norm(centre_of(rows).point.numpy() - ROWS.mean(axis=0)) < 1


def test_directions_are_seen_from_the_origin_unless_all_rows_lie_in_one_direction_from_there():
    plain = torch.from_numpy(ROWS)
    assert centre_of(plain).vantage is None
    assert centre_of(plain + 0.2).vantage is None  # its length is that of 1.1, the rows are 1 apart
    for name in MOVED:
        rows = moved(name).double()
        assert centre_of(rows).vantage == pytest.approx(rows[:300].mean(dim=0).numpy(), abs=1e-3, rel=1e-6)


def test_rows_that_are_alike_but_for_rounding_have_no_directions():
    assert centre_of(torch.full((9, 3), 0.1)).vantage is None
    assert centre_of(torch.tensor([[1000.0, 1.0], [1000.0001, 1.0]])).vantage is None


def test_no_rows_lie_at_the_origin():
    assert centre_of(torch.empty(0, 3)).point.tolist() == [0, 0, 0]
