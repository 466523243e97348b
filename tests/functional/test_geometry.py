import numpy as np
import pytest

from vizsla.functional import geometry
from vizsla.functional.geometry import principal_axes

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(200, 12)) * np.linspace(3, 0.1, 12) + RNG.normal(size=12) * 5


def test_axes_are_those_of_a_singular_value_decomposition_up_to_sign():
    _, _, right = np.linalg.svd(ROWS - ROWS.mean(axis=0), full_matrices=False)
    found = principal_axes(ROWS, most=5)
    np.testing.assert_allclose(np.abs(found.axes @ right[:5].T), np.eye(5), atol=1e-3)
    np.testing.assert_allclose(found.centre, ROWS.mean(axis=0), rtol=1e-5)


def test_all_axes_keep_every_distance():
    coordinates = principal_axes(ROWS)(ROWS)
    want = np.linalg.norm(ROWS[:, None] - ROWS[None], axis=2)
    got = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=2)
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_rows_in_a_plane_have_two_axes_and_a_single_row_has_none():
    plane = RNG.normal(size=(50, 2)) @ RNG.normal(size=(2, 9)) + 7
    assert len(principal_axes(plane).axes) == 2
    assert len(principal_axes(plane[:1]).axes) == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_reading_in_parts_changes_nothing(dtype, monkeypatch):
    rows = ROWS.astype(dtype)
    whole = principal_axes(rows)(rows)
    monkeypatch.setattr(geometry, "ROWS_AT_ONCE", 7)
    parts = principal_axes(rows)(rows)
    np.testing.assert_allclose(np.abs(parts), np.abs(whole), atol=1e-3)


def test_directions_are_the_coordinates_of_unit_length():
    axes = principal_axes(ROWS)
    coordinates = axes(ROWS)
    expected = coordinates / np.linalg.norm(coordinates, axis=1, keepdims=True)
    np.testing.assert_allclose(axes.directions(ROWS), expected, rtol=1e-5)
    assert not axes.directions(axes.centre[None]).any()  # the centre has no direction


def test_of_a_large_pool_some_rows_settle_the_axes():
    spread = np.array([8.0, 4.0, 2.0, 1.0])
    rows = (np.random.default_rng(0).normal(size=(200_000, 4)) * spread).astype(np.float16)
    found = principal_axes(rows)
    assert np.abs(np.diag(found.axes)).min() > 0.999
    np.testing.assert_allclose(found(rows).std(axis=0), spread, rtol=0.01)


def test_axes_of_the_same_rows_are_found_once_and_of_rows_that_changed_anew(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float16)
    found = []
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda scatter: found.append(scatter) or eigh(scatter))
    first = principal_axes(rows, 3)
    assert np.array_equal(principal_axes(rows.copy(), 3).axes, first.axes)
    assert len(found) == 1
    assert len(principal_axes(rows, 2).axes) == 2
    rows[0] += 1
    assert not np.array_equal(principal_axes(rows, 3).centre, first.centre)
    assert len(found) == 3
