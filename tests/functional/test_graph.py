"""The neighbour graph against plain sorting, and what spreads on it against the inverse matrix."""

import numpy as np
import torch
from scipy.sparse import csr_array

from vizsla.functional.graph import Graph, hearing, nearest, neighbour_graph, spread


def random_rows(seed, n=40, d=5):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d)).astype(np.float32)
    rows[n // 2] = rows[0]
    rows[n // 3] = 0
    return rows


def cosines(rows):
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit.astype(np.float64) @ unit.T


def test_an_edge_is_where_one_row_is_among_the_nearest_of_the_other_and_weighs_its_cosine_cubed():
    for seed in range(50):
        rows = random_rows(seed)
        rows[20] += 1  # of two equal rows the one or the other may be the fourth neighbour
        alike = cosines(rows)
        np.fill_diagonal(alike, -np.inf)
        near = np.zeros(alike.shape, bool)
        np.put_along_axis(near, np.argsort(-alike, axis=1)[:, :4], True, axis=1)
        plain = np.where(near | near.T, np.maximum(alike, 0) ** 3, 0)
        degrees = plain.sum(axis=1)
        scale = 1 / np.sqrt(np.where(degrees > 0, degrees, 1))
        graph = neighbour_graph(torch.from_numpy(rows), 4)
        lonely = 40 // 3  # its cosines are all 0, so who is near it is arbitrary, and no edge comes of it
        assert not graph.weights[[lonely]].sum()
        np.testing.assert_allclose(graph.weights.toarray(), scale[:, None] * plain * scale, atol=1e-6)


def test_the_nearest_of_other_rows_are_those_of_a_full_sort():
    rows, others = random_rows(1, 30), random_rows(2, 50)
    found, places = nearest(torch.from_numpy(rows), torch.from_numpy(others), 5)
    both = cosines(np.vstack([rows, others]))[:30, 30:]
    np.testing.assert_allclose(found, np.maximum(-np.sort(-both, axis=1)[:, :5], 0), atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(both, places, axis=1).clip(min=0), found, atol=1e-6)


def test_labels_spread_as_the_inverse_matrix_says():
    for seed in range(30):
        graph = neighbour_graph(torch.from_numpy(random_rows(seed)), 4)
        told = np.zeros((40, 3), np.float32)
        told[np.arange(6), np.arange(6) % 3] = 1
        for alpha in (0.5, 0.9):
            exact = (1 - alpha) * np.linalg.inv(np.eye(40) - alpha * graph.weights.toarray()) @ told
            np.testing.assert_allclose(spread(graph, told, alpha), exact, atol=0.005 * exact.max())


def test_who_is_alone_hears_only_what_it_is_told():
    alone = Graph(csr_array((3, 3), dtype=np.float32))
    told = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(spread(alone, told, 0.9), 0.1 * told, rtol=1e-3)


def copies_in_a_crowd(seed, copies):
    """Many nearly equal rows of each of a few: what a row is told comes back to it from its copies."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.normal(size=(240 // copies, 12)), copies, axis=0)
    return neighbour_graph(torch.from_numpy(rows + 0.02 * rng.normal(size=rows.shape)))


def test_what_is_heard_without_a_fold_is_what_the_other_labels_alone_would_say():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        graph = copies_in_a_crowd(seed, [1, 5, 20][seed % 3])
        labelled, labels = rng.permutation(240)[:30], rng.integers(0, 4, 30)
        fold = rng.permutation(np.arange(30) % [30, 7][seed % 2])
        found = hearing(graph, labelled, labels, fold, 4)
        assert found.voices.shape[1] <= 30
        exact = 0.1 * np.linalg.inv(np.eye(240) - 0.9 * graph.weights.toarray().astype(np.float64))
        told = np.eye(4)[labels]
        np.testing.assert_allclose(found.heard, exact[:, labelled] @ told, atol=2e-3)
        others = fold[:, None] != fold
        alone = np.einsum("ij,ij,jc->ic", exact[np.ix_(labelled, labelled)], others, told)
        np.testing.assert_allclose(found.unheard, alone, atol=2e-3)
        assert (found.unheard[alone < 1e-12] < 1e-9).all()  # nothing of what it was told itself leaks


def test_a_pool_of_one_image_has_a_graph_without_edges():
    assert neighbour_graph(torch.ones(1, 3)).weights.nnz == 0
