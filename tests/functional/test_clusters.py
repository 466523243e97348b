"""TypiClust, ProbCover and Cluster-Margin, against plain forms of their rules."""

import numpy as np
import pytest
import torch

from vizsla.functional.clusters import cover, round_robin, typical
from vizsla.functional.neighbours import Balls, typicality


def graph_of(near):
    """A graph from a symmetric table."""
    starts = np.concatenate([[0], np.cumsum(near.sum(axis=1))])
    return Balls(
        starts.astype(np.int64), np.concatenate([np.flatnonzero(row) for row in near]).astype(np.int32)
    )


def random_graphs():
    for seed in range(400):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 13))
        near = rng.random((n, n)) < rng.choice([0.05, 0.3, 0.8])
        near |= near.T
        np.fill_diagonal(near, True)
        labelled = rng.permutation(n)[: rng.integers(0, n)]
        yield near, labelled, rng


def test_each_pick_covers_most_of_what_is_not_covered():
    for near, labelled, rng in random_graphs():
        n = len(near)
        candidate = ~np.isin(np.arange(n), labelled)
        given = []

        def any_left(chosen, candidate=candidate, given=given):
            given.append(set(chosen.tolist()))
            return next(i for i in np.flatnonzero(candidate).tolist() if i not in chosen)

        picks, scores = cover(graph_of(near), candidate, labelled, int(candidate.sum()), any_left, rng)
        covered, left = set(), set(np.flatnonzero(candidate).tolist())
        for row in labelled:
            covered |= set(np.flatnonzero(near[row]).tolist())
        for t, (pick, score) in enumerate(zip(picks.tolist(), scores, strict=True)):
            gains = {i: len(set(np.flatnonzero(near[i]).tolist()) - covered) for i in left}
            assert pick in left
            assert score == gains[pick] == max(gains.values())
            if score == 0:
                assert given.pop(0) == set(labelled.tolist()) | set(picks[:t].tolist())
            covered |= set(np.flatnonzero(near[pick]).tolist())
            left.remove(pick)


def test_a_row_covered_by_one_pick_counts_for_no_other():
    """Seen elsewhere: only the picked row's own edges were removed, so its neighbours kept counting each other."""
    near = np.eye(7, dtype=bool)
    near[:4, :4] = True  # a clique of four
    near[4, 5] = near[5, 4] = True  # a pair
    picks, scores = cover(
        graph_of(near), np.ones(7, bool), np.array([], np.int64), 3, lambda _: 0, np.random.default_rng(0)
    )
    assert scores.tolist() == [4, 2, 1]
    assert [pick < 4 for pick in picks] == [True, False, False]


def test_typical_images_come_from_clusters_with_fewest_labels_the_largest_first():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n, k = 40, int(rng.integers(1, 9))
        rows = rng.normal(size=(n, 2)).astype(np.float32)
        clusters = rng.integers(0, k, n)
        labelled = rng.random(n) < 0.3
        candidate = ~labelled & (rng.random(n) < 0.9)
        candidate[labelled.argmin()] = ~labelled[labelled.argmin()]
        count = int(candidate.sum())
        picks, scores = typical(torch.from_numpy(rows), clusters, candidate, labelled, count)
        assert sorted(picks.tolist()) == np.flatnonzero(candidate).tolist()
        there = candidate | labelled
        labels = {c: int((labelled & (clusters == c)).sum()) for c in range(k)}
        sizes = {c: int((there & (clusters == c)).sum()) for c in range(k)}
        left = set(np.flatnonzero(candidate).tolist())
        for pick, score in zip(picks.tolist(), scores, strict=True):
            open_ones = {int(clusters[i]) for i in left}
            large = {c for c in open_ones if sizes[c] > 5} or open_ones
            best = min((labels[c], -sizes[c]) for c in large)
            c = int(clusters[pick])
            assert (labels[c], -sizes[c]) == best
            members = np.flatnonzero(there & (clusters == c))
            values = dict(zip(members.tolist(), typicality(torch.from_numpy(rows[members])), strict=True))
            assert score == pytest.approx(max(values[i] for i in left if clusters[i] == c), rel=1e-3)
            labels[c] += 1
            left.remove(pick)


def test_small_clusters_wait_until_no_other_has_candidates():
    rows = torch.rand(17, 2)
    clusters = np.array([0] * 10 + [1] * 5 + [2] * 2)
    picks, _ = typical(rows, clusters, np.ones(17, bool), np.zeros(17, bool), 17)
    assert set(clusters[picks[:10]]) == {0}
    assert clusters[picks[10:12]].tolist() == [1, 2]  # then those, fewest labels first


def test_round_robin_goes_over_clusters_from_the_smallest_in_the_order_given():
    ranked = np.array([9, 8, 7, 6, 5, 4])
    clusters = np.array([0, 0, 0, 1, 2, 2])
    assert round_robin(ranked, clusters, 6).tolist() == [6, 5, 9, 4, 8, 7]
    assert round_robin(ranked, clusters, 2).tolist() == [6, 5]
