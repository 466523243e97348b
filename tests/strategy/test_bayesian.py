"""Draws, committees, noise and weights: agreement with plain sorts, and the known slips of others."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from vizsla import IndexedDataset, query_the_oracle
from vizsla.functional import uncertainty
from vizsla.strategy import View, bayesian, strategies
from vizsla.strategy.base import Head, Pool
from vizsla.strategy.draws import ArrayDraws, LinearDraws, dropout
from vizsla.testing import toy_view

POWER = ["power_margin", "power_entropy", "power_least_confidence", "power_ratio"]


def of_probs(rows) -> View:
    probs = torch.as_tensor(rows, dtype=torch.float64)
    return View(np.arange(len(probs)) * 3 + 5, probs)


def of_draws(array) -> View:
    draws = torch.as_tensor(array)
    return View(np.arange(len(draws)) * 3 + 5, draws=ArrayDraws(draws, np.arange(len(draws))))


def choose(name, view, n, seed=0) -> list[int]:
    """Positions chosen."""
    ids = strategies[name].choose(view, n, np.random.default_rng(seed)).ids
    return np.searchsorted(view.ids, ids).tolist()


def slow_entropy(row) -> float:
    return -sum(p * math.log(p) for p in row if p > 0)


def slow_bald(draws) -> float:
    mean = [sum(column) / len(draws) for column in zip(*draws, strict=True)]
    return slow_entropy(mean) - sum(map(slow_entropy, draws)) / len(draws)


# --- draws and committees


@pytest.mark.parametrize(
    ("name", "part", "score"),
    [
        ("bald", "draws", uncertainty.bald),
        ("mean_std", "draws", uncertainty.mean_std),
        ("variation_ratio", "draws", uncertainty.variation_ratio),
        ("query_by_committee", "committee", uncertainty.vote_entropy),
    ],
)
def test_the_batch_is_the_top_of_the_score_on_100_random_pools(name, part, score):
    for seed in range(100):
        view = toy_view(12, seed=seed)
        scores = score(getattr(view, part)(np.arange(12))).double().numpy()
        batch = strategies[name].choose(view, 5, np.random.default_rng(seed))
        assert batch.scores.tolist() == pytest.approx(sorted(scores, reverse=True)[:5])
        assert scores[np.searchsorted(view.ids, batch.ids)].tolist() == pytest.approx(batch.scores.tolist())


def test_bald_agrees_with_a_plain_sort_on_100_random_pools():
    for seed in range(100):
        array = np.random.default_rng(seed).dirichlet(np.full(3, 0.5), (12, 4))
        plain = sorted(range(12), key=lambda i: -slow_bald(array[i].tolist()))[:5]
        assert choose("bald", of_draws(array), 5) == plain


def test_bald_does_not_rank_as_entropy_does():
    """The slip of a known library: the mean over all images of the second term leaves only entropy."""
    torn, unsure = [[0.99, 0.01], [0.01, 0.99]], [[0.5, 0.5], [0.5, 0.5]]
    view = of_draws([unsure, torn, unsure, unsure])
    assert choose("bald", view, 1) == [1]
    assert choose("variation_ratio", view, 1) == [1]
    assert choose("mean_std", view, 1) == [1]


@pytest.mark.parametrize("name", ["bald", "mean_std", "variation_ratio", "batchbald", "class_balanced_bald"])
def test_draws_made_in_tiny_blocks_give_the_batch_of_draws_made_at_once(name, monkeypatch):
    view = toy_view(31)
    whole = choose(name, view, 9)
    sizes = []

    class Watched:
        k = view.draws.k

        def __call__(self, positions):
            sizes.append(len(positions))
            return view.draws(positions)

    monkeypatch.setattr("vizsla.strategy.bayesian.BLOCK_BYTES", 4 * 6 * 4 * 3)
    watched = View(view.ids, view.probs, draws=Watched())
    assert choose(name, watched, 9) == whole
    if name != "batchbald":
        assert max(sizes) == 3


def test_batchbald_looks_at_the_greatest_bald_only_where_the_pool_is_large(monkeypatch):
    array = np.random.default_rng(0).dirichlet(np.ones(3), (40, 5))
    best = choose("bald", of_draws(array), 8)
    monkeypatch.setattr("vizsla.strategy.bayesian.BATCHBALD_POOL", 8)
    assert set(choose("batchbald", of_draws(array), 8)) == set(best)
    assert len(set(choose("batchbald", of_draws(array), 12))) == 12


def test_batchbald_takes_no_copy_of_what_it_has_while_something_new_is_left():
    telling = [[0.99, 0.01], [0.99, 0.01], [0.01, 0.99], [0.01, 0.99]]
    other = [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]]
    view = of_draws([telling, telling, other])
    assert set(choose("bald", view, 2)) == {0, 1}
    assert set(choose("batchbald", view, 2)) in ({0, 2}, {1, 2})


def test_all_images_of_a_draw_lose_the_same_features():
    """Consistent dropout: with a mask for each image, the draws of two images would share nothing."""
    rows = torch.cat([torch.eye(5), 2 * torch.eye(5)])
    pool = Pool(rows, np.arange(10), np.empty(0, np.int64))
    weight = torch.stack([torch.ones(5), torch.zeros(5)])
    draws = dropout(Head(pool, weight, torch.zeros(2)), np.random.default_rng(0), k=200, rate=0.25)
    odds = draws(np.arange(10)).logit()[:, :, 0]  # 0 where the feature was dropped, else 4/3 of the logit
    dropped = odds[:5].abs() < 1e-6
    assert torch.equal(dropped, odds[5:].abs() < 1e-6)
    assert 0.15 < dropped.double().mean() < 0.35
    torch.testing.assert_close(
        odds[:5][~dropped], torch.full_like(odds[:5][~dropped], 4 / 3), rtol=1e-4, atol=0
    )
    one_by_one = torch.cat([draws(np.array([i])) for i in range(10)])
    torch.testing.assert_close(one_by_one, draws(np.arange(10)))


def test_a_query_never_puts_batch_normalisation_or_dropout_into_training(toys):
    """The slip of others: draws by model.train(), which lets batch normalisation learn from what it is asked."""
    seen = []

    class Watched(nn.BatchNorm1d):
        def forward(self, inputs):
            seen.append(self.training)
            return super().forward(inputs)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), Watched(48), nn.Dropout(0.5), nn.Linear(48, 3)).train()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def small(image):
        return torch.tensor(np.asarray(image.resize((4, 4)), np.float32) / 255)

    dataset = IndexedDataset(toys, transform=small)
    for name in ("entropy", "class_balanced_margin", "power_margin"):
        query_the_oracle(model, "cpu", dataset, 3, name, interactive=False, num_workers=0, seed=1)
    assert seen and not any(seen)
    assert [part.training for part in model] == [True, False, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_drawing_from_the_head_leaves_the_head_as_it_was():
    head = toy_view().head
    before = head.weight.clone(), head.bias.clone()
    dropout(head, np.random.default_rng(0))(np.arange(5))
    assert torch.equal(head.weight, before[0])
    assert torch.equal(head.bias, before[1])


def test_a_committee_of_one_mind_has_nothing_to_say():
    view = toy_view(20)
    members = view.committee
    alike = LinearDraws(members.pool, members.weights[:1].expand(5, -1, -1), members.biases)
    batch = strategies["query_by_committee"].choose(
        View(view.ids, committee=alike), 20, np.random.default_rng(0)
    )
    assert batch.scores.tolist() == [0] * 20


# --- power


def test_the_first_pick_of_a_power_strategy_falls_to_each_image_in_proportion_to_its_score():
    """Favouring the most certain is the slip of others: there the direction of the score was lost."""
    view = of_probs([[0.95, 0.05, 0.0], [0.8, 0.2, 0.0], [0.6, 0.3, 0.1], [0.4, 0.35, 0.25], [1.0, 0.0, 0.0]])
    scores = {
        "power_margin": [0.1, 0.4, 0.7, 0.95, 0],
        "power_least_confidence": [0.05, 0.2, 0.4, 0.6, 0],
        "power_ratio": [0.05 / 0.95, 0.25, 0.5, 0.875, 0],
        "power_entropy": [slow_entropy(row) for row in view.probs.tolist()],
    }
    for name, s in scores.items():
        times = 4000
        counts = np.bincount([choose(name, view, 1, seed)[0] for seed in range(times)], minlength=5)
        expected = times * np.array(s) / sum(s)
        assert counts[4] == 0
        chi_square = ((counts[:4] - expected[:4]) ** 2 / expected[:4]).sum()
        assert chi_square < 16.27, name  # 3 degrees of freedom, P < 0.001


def test_the_second_pick_of_a_power_strategy_is_in_proportion_among_those_left():
    view = of_probs([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
    s = np.array([0.1, 0.2, 0.4])
    pairs = [tuple(choose("power_least_confidence", view, 2, seed)) for seed in range(4000)]
    chi_square = 0.0
    for i in range(3):
        for j in {0, 1, 2} - {i}:
            expected = 4000 * s[i] / s.sum() * s[j] / (s.sum() - s[i])
            chi_square += (pairs.count((i, j)) - expected) ** 2 / expected
    assert chi_square < 20.52  # 5 degrees of freedom, P < 0.001


def test_power_bald_prefers_what_bald_prefers():
    array = np.random.default_rng(0).dirichlet(np.ones(3), (10, 5))
    s = np.array([slow_bald(draws) for draws in array.tolist()])
    counts = np.bincount(
        [choose("power_bald", of_draws(array), 1, seed)[0] for seed in range(4000)], minlength=10
    )
    assert ((counts - 4000 * s / s.sum()) ** 2 / (4000 * s / s.sum())).sum() < 27.88  # 9 degrees of freedom


@pytest.mark.parametrize("name", POWER)
def test_images_of_score_0_come_last_in_random_order_and_are_still_picked(name):
    view = of_probs([[1.0, 0.0], [0.6, 0.4], [0.0, 1.0], [0.9, 0.1], [1.0, 0.0]])
    batches = [choose(name, view, 5, seed) for seed in range(200)]
    assert all(set(batch[:2]) == {1, 3} for batch in batches)
    assert {tuple(batch[2:]) for batch in batches} == {
        (0, 2, 4), (0, 4, 2), (2, 0, 4), (2, 4, 0), (4, 0, 2), (4, 2, 0)
    }  # fmt: skip


def test_noise_comes_from_the_generator_and_not_from_a_global_one():
    view = toy_view(30)
    torch.manual_seed(0)
    first = choose("power_margin", view, 10, seed=4)
    torch.manual_seed(1)
    assert choose("power_margin", view, 10, seed=4) == first
    assert choose("power_margin", view, 10, seed=5) != first


# --- class balance, gradients, density


@pytest.mark.parametrize("name", ["margin", "entropy", "least_confidence"])
def test_class_balancing_agrees_with_a_plain_loop_on_100_random_pools(name):
    slow = {
        "margin": lambda row: 1 - sorted(row)[-1] + sorted(row)[-2],
        "entropy": slow_entropy,
        "least_confidence": lambda row: 1 - max(row),
    }[name]
    for seed in range(100):
        rows = np.random.default_rng(seed).dirichlet([3, 1, 0.4], 12).tolist()
        share = [sum(column) / 12 for column in zip(*rows, strict=True)]
        plain = sorted(range(12), key=lambda i: -slow(rows[i]) / share[rows[i].index(max(rows[i]))])[:5]
        assert choose(f"class_balanced_{name}", of_probs(rows), 5) == plain


def test_class_balancing_prefers_the_rare_class_among_equals():
    rows = [[0.7, 0.3]] * 9 + [[0.3, 0.7]]
    for name in ("margin", "entropy", "least_confidence"):
        assert choose(f"class_balanced_{name}", of_probs(rows), 1) == [9]


def test_class_balanced_bald_takes_the_mean_of_the_draws_for_the_prediction():
    common, rare = [[0.9, 0.1], [0.6, 0.4]], [[0.1, 0.9], [0.4, 0.6]]
    view = of_draws([common] * 5 + [rare])
    assert choose("class_balanced_bald", view, 1) == [5]


def test_the_expected_gradient_agrees_with_outer_products_on_100_random_pools():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        rows, probs = rng.normal(size=(12, 3)), rng.dirichlet(np.ones(4), 12)

        def slow(i, rows=rows, probs=probs):
            gradients = [np.outer(probs[i] - np.eye(4)[y], rows[i]) for y in range(4)]
            return sum(p * np.linalg.norm(g) for p, g in zip(probs[i], gradients, strict=True))

        view = View(np.arange(12), torch.from_numpy(probs), embeddings=everything(rows))
        assert choose("expected_gradient", view, 5) == sorted(range(12), key=lambda i: -slow(i))[:5]


def everything(rows) -> Pool:
    return Pool(torch.as_tensor(rows), np.arange(len(rows)), np.empty(0, np.int64))


def slow_similarity(rows, i) -> float:
    def cosine(a, b):
        lengths = math.hypot(*a) * math.hypot(*b)
        return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0

    return sum((1 + cosine(rows[i], other)) / 2 for other in rows) / len(rows)


def test_mean_similarity_agrees_with_a_loop_over_all_pairs_on_100_random_pools(monkeypatch):
    for seed in range(100):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(12, 3)) * rng.choice([0.01, 1, 100], (12, 1))
        rows[rng.integers(12)] = 0
        rows[3] = rows[4]
        got = bayesian.mean_similarity(everything(rows)).tolist()
        assert got == pytest.approx([slow_similarity(rows.tolist(), i) for i in range(12)], abs=1e-6)
    monkeypatch.setattr("vizsla.functional.rows.BLOCK_BYTES", 1)  # 64 rows at least
    long = np.random.default_rng(0).normal(size=(150, 3))
    got = bayesian.mean_similarity(everything(long)).tolist()
    assert got == pytest.approx([slow_similarity(long.tolist(), i) for i in range(150)], abs=1e-6)


def test_density_leaves_the_outlier_alone_that_entropy_takes():
    rows = [[1.0, 0.1], [1.0, 0.0], [1.0, -0.1], [-1.0, 0.0]]
    view = View(
        np.arange(4),
        torch.tensor([[0.6, 0.4], [0.8, 0.2], [0.7, 0.3], [0.5, 0.5]]),
        embeddings=everything(rows),
    )
    assert choose("entropy", view, 1) == [3]
    assert choose("density_weighted", view, 1) == [0]


def test_labelled_images_do_not_count_for_density():
    rows = [[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, 0.1], [-1.0, 0.2]]
    pool = Pool(torch.tensor(rows), np.array([0, 1, 2]), np.array([3, 4]))
    assert bayesian.mean_similarity(pool).argmin() == 2


# --- slips of others


def test_scores_are_sorted_as_numbers_and_not_as_strings():
    """As strings, 9.5e-05 would come before 0.4."""
    view = of_probs([[0.6, 0.4], [1 - 9.5e-05, 9.5e-05], [0.7, 0.3], [1 - 3e-06, 3e-06]])
    for name in ("least_confidence", "entropy", "ratio", "margin"):
        assert choose(name, view, 4) == [0, 2, 1, 3]


def test_certain_images_come_last_by_entropy_and_not_first_as_nan_would():
    view = of_probs([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]])
    for name in ("entropy", "class_balanced_entropy"):
        assert choose(name, view, 4)[:2] == [3, 1]


@pytest.mark.parametrize("name", ["margin", "entropy", "bald", "mean_std", "class_balanced_entropy"])
def test_the_same_images_are_chosen_in_whatever_order_they_come(name):
    array = np.random.default_rng(0).dirichlet(np.ones(3), (30, 5))
    order = np.random.default_rng(1).permutation(30)

    def view(draws):
        view = of_draws(draws)
        return View(view.ids, torch.from_numpy(draws.mean(axis=1)), draws=view.draws)

    assert order[choose(name, view(array[order]), 7)].tolist() == choose(name, view(array), 7)


def test_the_divergence_of_a_committee_from_its_mean_is_that_of_kullback_and_leibler():
    view = toy_view(12)
    probs = view.committee(np.arange(12)).double().numpy()
    mean = probs.mean(axis=1, keepdims=True)
    plain = (probs * np.log(probs / mean)).sum(axis=2).mean(axis=1)
    batch = strategies["query_by_committee_kl"].choose(view, 12, np.random.default_rng(0))
    assert batch.scores == pytest.approx(np.sort(plain)[::-1], abs=1e-6)
    assert batch.ids.tolist() == view.ids[np.argsort(-plain)].tolist()
