"""Greedy k-center and k-means++ seeding: the lazy forms against plain ones."""

from collections import Counter

import numpy as np
import pytest
import torch

from vizsla.functional.coverage import d2_sampling, k_center
from vizsla.functional.spaces import Points


def pools(count=300):
    """Small pools with repeated rows, ties on a grid, zero rows and every float type."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        n, d = rng.integers(3, 13), rng.integers(1, 4)
        rows = rng.integers(0, 3, (n, d)) if seed % 3 == 0 else rng.normal(size=(n, d))
        rows = rows.astype([np.float16, np.float32, np.float64][seed % 3])
        rows[rng.integers(n)] = rows[rng.integers(n)]
        order = rng.permutation(n)
        yield rows, order[: rng.integers(0, n - 1)], rng


def distance(rows, i, chosen):
    return min(np.linalg.norm(rows[i].astype(float) - rows[j].astype(float)) for j in chosen)


def lazily(rows, labelled, n, rng):
    space = Points(torch.from_numpy(rows))
    bounds = space.nearest(labelled) if len(labelled) else np.full(len(rows), np.inf)
    bounds[labelled] = -np.inf
    return k_center(space, bounds, n, rng)


def test_each_pick_is_the_farthest_from_all_that_is_labelled_or_chosen():
    for rows, labelled, rng in pools():
        left = [i for i in range(len(rows)) if i not in labelled]
        picks, scores = lazily(rows, labelled, len(left), rng)
        assert sorted(picks.tolist()) == left
        chosen = labelled.tolist()
        # Squared distances are sums in float32, of terms as large as the rows are long.
        noise = float(8 * np.finfo(np.float32).eps * (rows.astype(float) ** 2).sum(axis=1).max())
        for pick, score in zip(picks.tolist(), scores, strict=True):
            if chosen:
                best = max(distance(rows, i, chosen) for i in left)
                assert distance(rows, pick, chosen) ** 2 == pytest.approx(best**2, abs=noise, rel=1e-6)
                assert score**2 == pytest.approx(best**2, abs=noise, rel=1e-6)
            left.remove(pick)
            chosen.append(pick)


def test_the_lazy_form_picks_what_the_plain_one_does_on_a_larger_pool():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 8)) + 6 * rng.normal(size=(20, 8))[rng.integers(20, size=3000)]
    nearest = ((rows - rows[:5].mean(axis=0)) ** 2).sum(axis=1)
    nearest = np.min([((rows - rows[i]) ** 2).sum(axis=1) for i in range(5)], axis=0)
    plain = []
    for _ in range(60):
        plain.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((rows - rows[plain[-1]]) ** 2).sum(axis=1))
    assert lazily(rows, np.arange(5), 60, rng)[0].tolist() == plain


def test_k_center_looks_at_a_fraction_of_the_rows_per_pick():
    rng = np.random.default_rng(0)
    space = Points(
        torch.from_numpy(
            rng.normal(size=(5000, 16)) + 8 * rng.normal(size=(40, 16))[rng.integers(40, size=5000)]
        )
    )
    looked = Counter()
    between, nearest = space.between, space.nearest
    space.between = lambda some, others: looked.update(rows=len(some)) or between(some, others)
    space.nearest = lambda others: looked.update(rows=len(space)) or nearest(others)
    k_center(space, nearest(np.array([0])), 100, rng)
    assert looked["rows"] < 0.1 * 100 * 5000


def test_nothing_labelled_starts_anywhere_alike():
    firsts = Counter(
        int(lazily(np.arange(5.0)[:, None], np.array([], np.int64), 1, np.random.default_rng(seed))[0][0])
        for seed in range(500)
    )
    assert sorted(firsts) == [0, 1, 2, 3, 4]
    assert max(firsts.values()) < 150


def test_seeds_are_drawn_with_probability_proportional_to_squared_distance():
    """The first is given, so the second has known probabilities; then pairs, against all orders written out."""
    rows = np.array([[0.0], [1.0], [2.0], [4.0]])
    space = Points(torch.from_numpy(rows))
    draws = Counter(
        tuple(d2_sampling(space, np.ones(4), 3, np.random.default_rng(seed), first=0)[0].tolist())
        for seed in range(6000)
    )
    for (zero, one, two), count in draws.items():
        assert zero == 0
        p_one = rows[one, 0] ** 2 / 21
        near = {i: min(rows[i, 0] ** 2, (rows[i, 0] - rows[one, 0]) ** 2) for i in range(1, 4)}
        p = p_one * near[two] / sum(near.values())
        assert abs(count - 6000 * p) < 5 * np.sqrt(6000 * p * (1 - p))
    assert len(draws) == 6


def test_stale_bounds_do_not_bend_the_distribution():
    """Many picks between looks at the whole pool: far groups must be hit as often as plain sampling hits them."""
    rng = np.random.default_rng(3)
    centres = 10 * rng.normal(size=(12, 3))
    rows = centres[np.arange(240) % 12] + rng.normal(size=(240, 3))
    space = Points(torch.from_numpy(rows))

    def plain(rng):
        picks = [0]
        near = ((rows - rows[0]) ** 2).sum(axis=1)
        while len(picks) < 12:
            picks.append(int(rng.choice(240, p=near / near.sum())))
            near = np.minimum(near, ((rows - rows[picks[-1]]) ** 2).sum(axis=1))
        return picks

    def groups_hit(draw):
        return np.array(
            [len({pick % 12 for pick in draw(np.random.default_rng(seed))}) for seed in range(400)]
        )

    ours = groups_hit(lambda rng: d2_sampling(space, np.ones(240), 12, rng, first=0)[0].tolist())
    theirs = groups_hit(plain)
    error = np.sqrt(ours.var() / 400 + theirs.var() / 400)
    assert abs(ours.mean() - theirs.mean()) < 4 * error


def test_repeated_points_are_never_picked_twice_and_run_out_at_random():
    for rows, _, rng in pools():
        picks, scores = d2_sampling(
            Points(torch.from_numpy(rows)), np.ones(len(rows)), len(rows), rng, first=0
        )
        assert sorted(picks.tolist()) == list(range(len(rows)))
        assert np.isfinite(scores).all()
    same = torch.zeros(6, 2)
    seconds = Counter(
        int(d2_sampling(Points(same), np.ones(6), 2, np.random.default_rng(seed), first=0)[0][1])
        for seed in range(300)
    )
    assert sorted(seconds) == [1, 2, 3, 4, 5]


def test_points_that_may_not_be_chosen_are_not():
    rows = torch.arange(10.0)[:, None]
    allowed = (np.arange(10) % 2).astype(float)
    for seed in range(50):
        picks, _ = d2_sampling(Points(rows), allowed.copy(), 5, np.random.default_rng(seed))
        assert sorted(picks.tolist()) == [1, 3, 5, 7, 9]
