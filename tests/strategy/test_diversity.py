"""Strategies by where images lie, through `vizsla.select`: rules, what is invariant, and slips seen elsewhere."""

import numpy as np
import pytest
import torch

import vizsla
from vizsla.strategy import strategies
from vizsla.strategy.base import Pool, View

NAMES = ("coreset", "kmeans", "typiclust", "probcover", "badge", "cluster_margin")


def pool(n=60, d=5, c=3, seed=0, groups=6):
    """Rows in groups, probabilities, some labels."""
    rng = np.random.default_rng(seed)
    rows = 6 * rng.normal(size=(groups, d))[rng.integers(groups, size=n)] + rng.normal(size=(n, d))
    probs = rng.dirichlet(np.ones(c), n)
    labelled = rng.permutation(n)[:7]
    return {
        "embeddings": rows.astype(np.float32),
        "probs": probs.astype(np.float32),
        "labelled": labelled,
        "labels": np.arange(7) % c,
    }


def chosen(name, n=8, seed=0, **given):
    return vizsla.select(name, n=n, seed=seed, **given).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_images_are_distinct_unlabelled_and_as_many_as_asked_for_up_to_all(name):
    for seed in range(20):
        given = pool(n=int(np.random.default_rng(seed).integers(9, 40)), seed=seed)
        left = set(range(len(given["probs"]))) - set(given["labelled"].tolist())
        for n in (1, 2, len(left)):
            picks = chosen(name, n, seed, **given)
            assert len(picks) == len(set(picks)) == n
            assert set(picks) <= left


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_repeated_rows_zero_rows_sure_rows_and_one_class_are_no_error(name, kind):
    rng = np.random.default_rng(0)
    for rows, probs in (
        (np.zeros((30, 4)), np.full((30, 2), 0.5)),
        (np.repeat(rng.normal(size=(3, 4)), 10, axis=0), np.tile([1.0, 0.0], (30, 1))),
        (rng.normal(size=(30, 4)), np.eye(2)[rng.integers(2, size=30)]),
    ):
        for labelled in ([], [0], list(range(25))):
            given = {"embeddings": rows.astype(kind), "probs": probs, "labelled": labelled}
            given["labels"] = np.zeros(len(labelled), int)
            n = 30 - len(labelled)
            assert sorted(chosen(name, n, **given)) == sorted(set(range(30)) - set(labelled))
            assert len(set(chosen(name, 5, **given))) == 5


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_and_nothing_else(name):
    """Seen elsewhere: a seed that never reaches k-means, or a global generator that is seeded anew."""
    given = pool(n=200)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    first = chosen(name, 12, 3, **given)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert chosen(name, 12, 3, **given) == first
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", ["coreset", "badge"])
def test_the_order_of_the_rows_does_not_matter_where_chance_has_no_part(name):
    for seed in range(30):
        given = pool(seed=seed)
        order = np.random.default_rng(seed).permutation(60)
        place = np.argsort(order)
        moved = {
            "embeddings": given["embeddings"][order],
            "probs": given["probs"][order],
            "labelled": place[given["labelled"]],
            "labels": given["labels"],
        }
        n = 20 if name == "coreset" else 1
        assert [int(order[row]) for row in chosen(name, n, **moved)] == chosen(name, n, **given)


@pytest.mark.parametrize("name", ["coreset", "kmeans", "typiclust", "badge", "cluster_margin"])
def test_scaling_all_rows_by_a_power_of_two_changes_nothing(name):
    given = pool(n=150)
    scaled = given | {"embeddings": given["embeddings"] * 4}
    assert chosen(name, 10, **scaled) == chosen(name, 10, **given)


@pytest.mark.parametrize("name", ["coreset", "kmeans", "typiclust", "probcover"])
def test_a_pool_given_twice_gives_no_image_and_its_copy(name):
    given = pool(n=50, groups=50)
    twice = {
        "embeddings": np.concatenate([given["embeddings"]] * 2),
        "labelled": given["labelled"],
        "labels": given["labels"],
    }
    picks = chosen(name, 6, **twice)
    assert len({row % 50 for row in picks}) == 6


def test_k_center_takes_the_farthest_image_from_the_labelled_ones_by_hand():
    rows = np.array([[0.0], [1.0], [10.0], [4.0], [9.5]])
    assert chosen("coreset", 3, embeddings=rows, labelled=[0]) == [2, 3, 1]


def test_k_center_finds_the_right_rows_whatever_comes_before_them():
    """Seen elsewhere: positions among the unlabelled used as rows of the whole pool."""
    rows = np.arange(12.0)[:, None]
    rows[11] = 100
    assert chosen("coreset", 1, embeddings=rows, labelled=[0, 1, 2, 3]) == [11]
    assert chosen("coreset", 2, embeddings=rows, labelled=[11, 6]) == [0, 10]


def test_k_center_works_with_nothing_labelled_and_gives_each_row_once_when_all_are_asked_for():
    """Seen elsewhere: a crash without labels, and repeats when more is asked for than there is."""
    rows = np.repeat(np.eye(3), 3, axis=0)
    assert sorted(chosen("coreset", 9, embeddings=rows)) == list(range(9))


def test_badge_starts_with_the_least_sure_of_equal_images_not_the_surest():
    """Seen elsewhere: a slip in an index gave sure rows the largest gradient."""
    rng = np.random.default_rng(0)
    for seed in range(50):
        probs = rng.dirichlet(np.ones(4) / 2, 30)
        given = {"embeddings": np.ones((30, 3)), "probs": probs}
        error = probs - np.eye(4)[probs.argmax(axis=1)]
        assert chosen("badge", 1, seed, **given) == [int((error**2).sum(axis=1).argmax())]
        assert chosen("badge", 1, seed, **given) != [int(probs.max(axis=1).argmax())]


def test_badge_draws_by_squared_distance_and_never_the_same_row_twice():
    """Seen elsewhere: plain distances handed to k-means++, and a row picked again when points repeat.

    One row is 1 away from the first pick, one 3: drawn 1 : 9 by squares, 1 : 3 by distances.
    """
    rows = np.array([[4.0], [3.0], [1.0], [4.0]])  # one probability row: gradients lie on a line through 0
    given = {"embeddings": rows, "probs": np.tile([0.5, 0.5], (4, 1))}
    seconds = [chosen("badge", 2, seed, **given) for seed in range(800)]
    near = sum(1 in pair for pair in seconds)
    far = sum(2 in pair for pair in seconds)
    assert near + far == 800  # the copy of the first is at distance 0
    assert abs(near - 80) < 5 * np.sqrt(800 * 0.1 * 0.9)
    assert all(sorted(chosen("badge", 4, seed, **given)) == [0, 1, 2, 3] for seed in range(20))


def test_badge_never_writes_the_gradients_down():
    """20,000 × 100 classes × 64 features in float32 would be 512 MB."""
    import resource

    rng = np.random.default_rng(0)
    given = {
        "embeddings": rng.normal(size=(20_000, 64)).astype(np.float32),
        "probs": rng.dirichlet(np.ones(100), 20_000).astype(np.float32),
    }
    chosen("badge", 2, **{key: value[:500] for key, value in given.items()})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chosen("badge", 20, **given)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024


def test_probcover_takes_the_middle_of_the_largest_crowd_then_another_crowd():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(0, 0.1, (30, 2)), rng.normal(5, 0.1, (20, 2)), [[50.0, 50.0]]])
    probs = np.full((51, 3), 1 / 3)
    picks = chosen("probcover", 3, embeddings=rows, probs=probs)
    assert sorted(0 if row < 30 else 1 if row < 50 else 2 for row in picks) == [0, 1, 2]


def test_typiclust_takes_one_image_of_each_crowd_without_labels_first():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(10 * k, 0.2, (size, 2)) for k, size in enumerate((30, 20, 10, 40))])
    crowd = np.repeat(np.arange(4), (30, 20, 10, 40))
    assert sorted(crowd[chosen("typiclust", 4, embeddings=rows)]) == [0, 1, 2, 3]


def test_cluster_margin_chooses_among_the_ten_times_n_nearest_to_a_tie():
    given = pool(n=300)
    gaps = np.sort(given["probs"], axis=1)[:, -1] - np.sort(given["probs"], axis=1)[:, -2]
    gaps[given["labelled"]] = np.inf
    nearest = set(np.argsort(gaps)[:50].tolist())
    assert set(chosen("cluster_margin", 5, **given)) <= nearest


def test_rows_that_are_neither_candidates_nor_labelled_are_not_looked_at():
    """A sub-pool of most of the rows is not copied; of few it is. Either way strangers change nothing."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 3)).astype(np.float32)
    probs = torch.from_numpy(rng.dirichlet(np.ones(3), 40).astype(np.float32))
    for size in (35, 12):
        candidates = np.sort(rng.permutation(40)[:size])
        labelled = np.setdiff1d(np.arange(40), candidates)[:2]
        strange = rows.copy()
        strange[np.setdiff1d(np.arange(40), np.union1d(candidates, labelled))] = 1e3
        for name in NAMES:
            if name == "typiclust":
                continue  # its k-means may number clusters otherwise; the next line says what must hold
            picks = [
                strategies[name]
                .choose(
                    View(
                        candidates,
                        probs[torch.from_numpy(candidates)],
                        name,
                        embeddings=Pool(torch.from_numpy(array), candidates, labelled).compact(),
                    ),
                    5,
                    np.random.default_rng(1),
                )
                .ids.tolist()
                for array in (rows, strange)
            ]
            assert picks[0] == picks[1], name


def test_a_sub_pool_gives_rows_of_the_whole_pool():
    """Seen elsewhere: ranks within the sub-pool used as rows, so that other images than the chosen got labels."""
    rows = np.zeros((100, 2))
    rows[90:] = np.random.default_rng(0).normal(0, 50, (10, 2))
    for seed in range(30):
        picks = vizsla.select("coreset", embeddings=rows, labelled=[0], n=3, seed=seed, pool_size=60)
        assert (picks >= 90).sum() >= 2  # the far rows that the sub-pool holds
