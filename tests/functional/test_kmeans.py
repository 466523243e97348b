"""k-means against scikit-learn and plain loops."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from vizsla.functional import rows as blocked
from vizsla.functional.kmeans import kmeans, nearest_unpicked


def blobs(n=600, d=6, k=10, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    return (8 * rng.normal(size=(k, d))[rng.integers(k, size=n)] + spread * rng.normal(size=(n, d))).astype(
        np.float32
    )


def cost(rows, found):
    return sum(
        ((rows[i] - found.centroids[label].numpy()) ** 2).sum() for i, label in enumerate(found.labels)
    )


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_the_cost_is_that_of_scikit_learn_over_ten_starts(kind):
    rows = blobs(spread=3.0).astype(kind)
    ours = [kmeans(torch.from_numpy(rows), 10, np.random.default_rng(seed)).cost for seed in range(10)]
    theirs = [KMeans(10, n_init=1, random_state=seed).fit(rows.astype(float)).inertia_ for seed in range(10)]
    assert np.mean(ours) < 1.05 * np.mean(theirs)
    assert min(ours) == pytest.approx(min(theirs), rel=0.01)


def test_each_row_has_the_label_of_its_nearest_centroid_and_the_cost_is_right():
    rows = blobs()
    found = kmeans(torch.from_numpy(rows), 10, np.random.default_rng(1))
    assert len(np.unique(found.labels)) == 10
    assert found.cost == pytest.approx(cost(rows, found), rel=0.02)  # the last step still moved centroids


def test_rows_left_out_move_no_centroid_but_get_a_label():
    rows = blobs()
    mask = np.arange(len(rows)) % 3 > 0
    whole = np.where(mask[:, None], rows, 1e6).astype(np.float32)
    found = kmeans(torch.from_numpy(whole), 10, np.random.default_rng(1), mask=mask)
    assert found.centroids.abs().max() < 100
    assert len(found.labels) == len(rows)


def test_more_clusters_than_distinct_rows_and_equal_rows_are_no_error():
    for rows in (np.zeros((7, 3), np.float32), np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)):
        found = kmeans(torch.from_numpy(rows), 9, np.random.default_rng(0))
        assert found.centroids.shape == (9, 3)
        assert found.cost == pytest.approx(0, abs=1e-5)
        assert torch.isfinite(found.centroids).all()


def test_the_generator_decides_and_nothing_else():
    rows = torch.from_numpy(blobs(spread=4.0))
    one, two, other = (kmeans(rows, 12, np.random.default_rng(seed)).labels for seed in (5, 5, 6))
    assert (one == two).all()
    assert (one != other).any()


def test_small_blocks_give_the_same_clusters(monkeypatch):
    rows = torch.from_numpy(blobs())
    whole = kmeans(rows, 10, np.random.default_rng(1)).labels
    monkeypatch.setattr(blocked, "BLOCK_BYTES", 4 * 10 * 64)
    assert (kmeans(rows, 10, np.random.default_rng(1)).labels == whole).all()


def test_each_centroid_takes_its_nearest_free_row_in_turn():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n = rng.integers(4, 30)
        rows = rng.normal(size=(n, 2)).astype(np.float32)
        rows[rng.integers(n)] = rows[rng.integers(n)]
        mask = rng.random(n) < 0.8
        mask[:2] = True
        k = int(rng.integers(1, mask.sum() + 1))
        centroids = np.repeat(rng.normal(size=(1, 2)), k, axis=0) if seed % 2 else rng.normal(size=(k, 2))
        centroids = centroids.astype(np.float32)
        got = nearest_unpicked(torch.from_numpy(rows), torch.from_numpy(centroids), mask=mask)
        free = set(np.flatnonzero(mask).tolist())
        for centroid, row in zip(centroids, got.tolist(), strict=True):
            assert row in free
            away = {i: np.linalg.norm(rows[i] - centroid) for i in free}
            assert away[row] == pytest.approx(min(away.values()), abs=1e-3)
            free.remove(row)
