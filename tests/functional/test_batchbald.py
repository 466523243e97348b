import itertools
import math

import numpy as np
import pytest
import torch

from vizsla.functional.batchbald import Configurations, batchbald
from vizsla.functional.uncertainty import bald


def the_example() -> torch.Tensor:
    """Four variables of four classes under 20 draws, from one row to another in equal steps."""
    first = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.1, 0.7]])
    last = np.array([[0.3, 0.3, 0.2, 0.2], [0.2, 0.3, 0.3, 0.2], [0.2, 0.2, 0.3, 0.3], [0.3, 0.2, 0.2, 0.3]])
    step = np.linspace(0, 1, 20)[None, :, None]
    return torch.from_numpy(first[:, None] * (1 - step) + last[:, None] * step)


JOINT = [0.030715639666, 0.059619586272, 0.086910705147, 0.112753045325]


def pick(draws, n, seed=0, **options):
    def some(positions):
        return draws[torch.from_numpy(positions)]

    return batchbald(some, bald(draws), n, np.random.default_rng(seed), **options)


def slow_information(draws) -> float:
    """Mutual information of the labels of all these images and the draw, by listing every labelling."""
    images, k, c = draws.shape
    tables = draws.tolist()
    joint = 0.0
    for labels in itertools.product(range(c), repeat=images):
        likely = [math.prod(tables[i][j][y] for i, y in enumerate(labels)) for j in range(k)]
        mean = sum(likely) / k
        joint -= mean * math.log(mean) if mean > 0 else 0.0
    each = -sum(p * math.log(p) for image in tables for row in image for p in row if p > 0) / k
    return joint - each


def random_draws(seed: int) -> torch.Tensor:
    """Few images under few draws, with certain rows, zeros and duplicates."""
    rng = np.random.default_rng(seed)
    n, k, c = rng.integers(3, 7), rng.integers(1, 5), rng.integers(2, 4)
    draws = rng.dirichlet(np.full(c, rng.choice([0.3, 1.0, 3.0])), (n, k))
    if seed % 3 == 0:
        draws[rng.integers(n)] = draws[0]
    if seed % 4 == 0:
        draws[rng.integers(n), rng.integers(k)] = np.eye(c)[rng.integers(c)]
    if seed % 5 == 0:
        draws[rng.integers(n)] = np.eye(c)[rng.integers(c, size=k)]
    return torch.from_numpy(draws)


def test_the_joint_scores_of_the_worked_example():
    assert pick(the_example(), 4)[1].tolist() == pytest.approx(JOINT, abs=1e-11)


def test_the_joint_scores_of_the_worked_example_from_samples_are_near():
    joint = pick(the_example(), 4, exact=1, sampled=100_000)[1]
    assert joint.tolist() == pytest.approx(JOINT, abs=4e-4)


def test_joint_scores_agree_with_listing_every_labelling_on_200_random_pools():
    for seed in range(200):
        draws = random_draws(seed)
        chosen, joint = pick(draws, 3, seed)
        assert len(set(chosen.tolist())) == 3
        for size in (1, 2, 3):
            assert joint[size - 1] == pytest.approx(slow_information(draws[chosen[:size]]), abs=1e-9)


def test_every_pick_is_the_best_that_listing_finds_on_200_random_pools():
    for seed in range(200):
        draws = random_draws(seed)
        chosen = pick(draws, 3, seed)[0].tolist()
        for size in (0, 1, 2):
            rest = [i for i in range(len(draws)) if i not in chosen[:size]]
            best = max(slow_information(draws[[*chosen[:size], i]]) for i in rest)
            assert slow_information(draws[chosen[: size + 1]]) == pytest.approx(best, abs=1e-9)


def test_what_an_image_adds_is_the_same_from_samples_as_from_all_labellings():
    rng = np.random.default_rng(1)
    draws = torch.from_numpy(rng.dirichlet(np.ones(3), (12, 6)))
    state = Configurations.of_nothing(draws[:1])
    for image in draws[:4]:
        state = state.after(image, 10_000, rng)
    sampled = Configurations.drawn(draws[:4], 100_000, rng)
    torch.testing.assert_close(sampled.adds(draws), state.adds(draws), rtol=0, atol=0.004)


def test_long_batches_add_nothing_negative_and_never_exceed_the_logarithm_of_the_draws():
    draws = torch.from_numpy(np.random.default_rng(2).dirichlet(np.full(4, 0.2), (60, 5)))
    chosen, joint = pick(draws, 60, sampled=300)
    assert sorted(chosen.tolist()) == list(range(60))
    assert (np.diff(joint) >= 0).all()
    assert joint[-1] == pytest.approx(math.log(5), abs=0.05)


def test_a_copy_of_a_picked_image_comes_after_one_that_tells_something_new():
    """What BALD by itself gets wrong: its two best are copies of each other."""
    telling = torch.tensor([[0.99, 0.01], [0.99, 0.01], [0.01, 0.99], [0.01, 0.99]])
    other = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]])
    draws = torch.stack([telling, telling, other])
    assert bald(draws).argsort(descending=True)[:2].sort().values.tolist() == [0, 1]
    assert set(pick(draws, 2)[0].tolist()) in ({0, 2}, {1, 2})


def test_one_draw_or_draws_that_agree_tell_nothing():
    assert pick(torch.full((4, 1, 3), 1 / 3), 3)[1].tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert pick(torch.eye(3)[:, None].expand(-1, 4, -1), 3)[1].tolist() == pytest.approx([0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_lower_precision_gives_nearly_the_joint_scores_of_the_worked_example(dtype):
    joint = pick(the_example().to(dtype), 4)[1]
    assert joint.tolist() == pytest.approx(JOINT, abs=5e-4 if dtype == torch.float16 else 1e-6)


def test_the_order_of_the_images_does_not_matter():
    draws = torch.from_numpy(np.random.default_rng(3).dirichlet(np.ones(3), (12, 4)))
    order = np.random.default_rng(0).permutation(12)
    plain, moved = pick(draws, 5)[0], pick(draws[order], 5)[0]
    assert order[moved].tolist() == plain.tolist()


def test_one_image_at_a_time_is_picked_as_from_all_at_once(monkeypatch):
    draws = torch.from_numpy(np.random.default_rng(3).dirichlet(np.ones(3), (12, 4)))
    whole = pick(draws, 6)
    monkeypatch.setattr("vizsla.functional.batchbald.AT_ONCE", 1)
    single = pick(draws, 6)
    assert single[0].tolist() == whole[0].tolist()
    assert single[1].tolist() == pytest.approx(whole[1].tolist(), abs=1e-12)
