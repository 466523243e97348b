import math
import random

import numpy as np
import pytest
import torch

from vizsla.functional.uncertainty import (
    bald,
    class_balanced,
    entropy,
    expected_gradient,
    least_confidence,
    margin,
    mean_std,
    powered,
    ratio,
    variation_ratio,
    vote_entropy,
)
from vizsla.strategy.base import as_probs

PROBS = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.7, 0.2]], dtype=torch.float64)
OF_ROWS = [least_confidence, margin, ratio, entropy]
OF_DRAWS = [variation_ratio, vote_entropy, mean_std, bald]
DTYPES = {torch.float16: 4e-3, torch.float32: 2e-6, torch.float64: 1e-12}


def odd_rows(rng: random.Random, n: int, c: int) -> list[list[float]]:
    """Probability rows with ties, zeros, certain ones, duplicates and one that a class dominates."""
    rows: list[list[float]] = []
    for _ in range(n):
        kind = rng.choice(["any", "ties", "certain", "dominated", "zeros", "copy", "uniform"])
        weights = [rng.random() + 0.01 for _ in range(c)]
        if kind == "ties":
            weights = [float(rng.randint(1, 2)) for _ in range(c)]
        if kind == "certain":
            weights = [0.0] * c
        if kind == "dominated":
            weights = [weight * 1e-4 for weight in weights]
        if kind in ("certain", "dominated"):
            weights[rng.randrange(c)] = 1.0
        if kind == "zeros":
            weights = [weight if i < 2 else 0.0 for i, weight in enumerate(weights)]
        if kind == "uniform":
            weights = [1.0] * c
        rows.append(rows[-1] if kind == "copy" and rows else [weight / sum(weights) for weight in weights])
    return rows


# --- the slow, obvious twins


def slow_entropy(row):
    return -sum(p * math.log(p) for p in row if p > 0)


def slow_mean(draws):
    return [sum(column) / len(draws) for column in zip(*draws, strict=True)]


def slow_votes(draws):
    votes = [row.index(max(row)) for row in draws]
    return [votes.count(y) / len(votes) for y in range(len(draws[0]))]


def slow_mean_std(draws):
    middle = slow_mean(draws)
    variances = [sum((row[y] - middle[y]) ** 2 for row in draws) / len(draws) for y in range(len(middle))]
    return sum(math.sqrt(variance) for variance in variances) / len(variances)


def slow_gradient(row, norm):
    def length(y):
        return math.sqrt(sum((p - (i == y)) ** 2 for i, p in enumerate(row)))

    return sum(p * length(y) for y, p in enumerate(row)) * norm


SLOW = {
    least_confidence: lambda row: 1 - max(row),
    margin: lambda row: sorted(row)[-2] - sorted(row)[-1],
    ratio: lambda row: sorted(row)[-2] / sorted(row)[-1],
    entropy: slow_entropy,
    variation_ratio: lambda draws: 1 - max(slow_votes(draws)),
    vote_entropy: lambda draws: slow_entropy(slow_votes(draws)),
    mean_std: slow_mean_std,
    bald: lambda draws: slow_entropy(slow_mean(draws)) - sum(map(slow_entropy, draws)) / len(draws),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("score", OF_ROWS)
def test_scores_of_rows_agree_with_their_definition_on_200_random_pools(score, dtype):
    for seed in range(200):
        rng = random.Random(seed)
        rows = torch.tensor(odd_rows(rng, rng.randint(1, 12), rng.randint(2, 7))).double().to(dtype)
        got = score(rows).tolist()
        assert got == pytest.approx([SLOW[score](row) for row in rows.tolist()], abs=DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("score", OF_DRAWS)
def test_scores_of_draws_agree_with_their_definition_on_200_random_pools(score, dtype):
    for seed in range(200):
        rng = random.Random(seed)
        k, c = rng.randint(1, 6), rng.randint(2, 5)
        draws = torch.tensor([odd_rows(rng, k, c) for _ in range(rng.randint(1, 12))]).double().to(dtype)
        got = score(draws).tolist()
        assert got == pytest.approx([SLOW[score](one) for one in draws.tolist()], abs=DTYPES[dtype])


def test_the_expected_gradient_agrees_with_its_definition_on_200_random_pools():
    for seed in range(200):
        rng = random.Random(seed)
        rows = odd_rows(rng, rng.randint(1, 12), rng.randint(2, 7))
        norms = [rng.choice([0.0, 1.0, 10 * rng.random()]) for _ in rows]
        got = expected_gradient(
            torch.tensor(rows, dtype=torch.float64), torch.tensor(norms, dtype=torch.float64)
        )
        wanted = [slow_gradient(row, norm) for row, norm in zip(rows, norms, strict=True)]
        assert got.tolist() == pytest.approx(wanted, abs=1e-9)


def test_class_balancing_agrees_with_its_definition_on_200_random_pools():
    for seed in range(200):
        rng = random.Random(seed)
        rows = odd_rows(rng, rng.randint(1, 12), rng.randint(2, 7))
        scores = [rng.random() for _ in rows]
        share = slow_mean(rows)
        got = class_balanced(
            torch.tensor(scores, dtype=torch.float64), torch.tensor(rows, dtype=torch.float64)
        )
        wanted = [s / share[row.index(max(row))] for s, row in zip(scores, rows, strict=True)]
        assert got.tolist() == pytest.approx(wanted)


# --- known answers


def test_least_confidence_of_a_worked_example():
    assert least_confidence(PROBS).tolist() == pytest.approx([0.5, 0.3])


def test_margin_of_a_worked_example():
    assert margin(PROBS).tolist() == pytest.approx([-0.2, -0.5])


def test_entropy_of_a_worked_example():
    assert entropy(PROBS).tolist() == pytest.approx([1.0296530, 0.8018186], abs=1e-7)


def test_bald_of_a_worked_example():
    draws = torch.tensor([[[0.1, 0.5, 0.4], [0.3, 0.3, 0.4]]], dtype=torch.float64)
    assert bald(draws).tolist() == pytest.approx([0.038796], abs=1e-6)


def test_bald_is_ln_c_when_each_draw_is_sure_of_another_class():
    for c in (2, 3, 10):
        assert bald(torch.eye(c)[None]).tolist() == pytest.approx([math.log(c)])


def test_bald_is_nothing_where_all_draws_agree_however_unsure_they_are():
    assert bald(PROBS[:, None].expand(-1, 9, -1)).tolist() == pytest.approx([0, 0], abs=1e-12)
    assert bald(torch.full((3, 1, 4), 0.25)).tolist() == [0, 0, 0]


def test_bald_takes_each_images_own_mean_entropy_or_else_it_would_rank_as_entropy_does():
    """In a known library the second term is one number for all images, so the ranking is that of entropy."""
    torn = [[0.99, 0.01], [0.01, 0.99], [0.9, 0.1]]
    unsure = [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
    draws = torch.tensor([torn, unsure])
    assert bald(draws).argmax() == 0
    assert entropy(draws.mean(dim=1)).argmax() == 1


def test_entropy_and_bald_are_numbers_where_a_probability_is_0():
    for dtype in DTYPES:
        assert entropy(torch.eye(3, dtype=dtype)).tolist() == [0, 0, 0]
        assert bald(torch.eye(3, dtype=dtype)[:, None].expand(-1, 4, -1)).tolist() == [0, 0, 0]
        assert expected_gradient(torch.eye(3, dtype=dtype), torch.ones(3)).tolist() == [0, 0, 0]


def test_a_power_score_of_0_stays_below_every_other_whatever_the_noise():
    scores = powered(torch.tensor([0.0, 1e-6, 0.3]), np.array([30.0, -3.0, -3.0]))
    assert scores[0] == 0 < scores[1] < scores[2]


# --- limits, symmetries, and what must not matter


@pytest.mark.parametrize("score", OF_ROWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_certain_image_scores_lowest_and_a_uniform_one_highest(score, dtype):
    rng = np.random.default_rng(0)
    rows = np.vstack([rng.dirichlet(np.ones(5), 50), np.eye(5)[:1], np.full((1, 5), 0.2)])
    scores = score(torch.from_numpy(rows).to(dtype)).double().numpy()
    assert scores.argmin() == 50
    assert scores[51] == pytest.approx(scores.max())


@pytest.mark.parametrize("score", OF_ROWS)
def test_scores_do_not_care_how_classes_are_ordered(score):
    rng = np.random.default_rng(1)
    rows = rng.dirichlet(np.ones(6), 30)
    shuffled = rng.permuted(rows, axis=1)
    np.testing.assert_allclose(score(rows).numpy(), score(shuffled).numpy())


@pytest.mark.parametrize("score", OF_DRAWS)
def test_scores_do_not_care_how_draws_and_classes_are_ordered(score):
    rng = np.random.default_rng(1)
    draws = rng.dirichlet(np.ones(6), (30, 7))
    shuffled = draws[:, rng.permutation(7)][:, :, rng.permutation(6)]
    np.testing.assert_allclose(score(draws).numpy(), score(shuffled).numpy(), atol=1e-12)


@pytest.mark.parametrize("score", [*OF_ROWS, *OF_DRAWS])
def test_scores_move_with_their_images_and_copies_score_alike(score):
    rng = np.random.default_rng(4)
    rows = rng.dirichlet(np.ones(4), (30, 5) if score in OF_DRAWS else 30)
    order = rng.permutation(30)
    assert score(rows[order]).tolist() == score(rows)[order].tolist()
    assert score(np.concatenate([rows, rows])).tolist() == score(rows).tolist() * 2


@pytest.mark.parametrize("score", [*OF_ROWS, *OF_DRAWS])
def test_scores_made_in_tiny_blocks_are_those_made_at_once(score, monkeypatch):
    rows = np.random.default_rng(5).dirichlet(np.ones(4), (31, 5) if score in OF_DRAWS else 31)
    whole = score(rows)
    for cells in (1, 4, 12, 40):
        monkeypatch.setattr("vizsla.functional.uncertainty.CELLS", cells)
        torch.testing.assert_close(score(rows), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("score", OF_ROWS)
def test_with_two_classes_all_scores_rank_alike(score):
    rows = np.random.default_rng(2).dirichlet(np.ones(2), 40)
    assert np.argsort(score(rows).numpy()).tolist() == np.argsort(-np.abs(rows[:, 0] - 0.5)).tolist()


@pytest.mark.parametrize("score", OF_ROWS)
def test_numpy_and_torch_give_the_same_scores_and_read_only_arrays_do(score):
    rows = PROBS.numpy().copy()
    rows.flags.writeable = False
    assert score(rows).tolist() == score(PROBS).tolist() == score(np.asfortranarray(rows)).tolist()


@pytest.mark.parametrize("score", [*OF_ROWS, *OF_DRAWS])
def test_scores_leave_their_input_as_it_was(score):
    rows = torch.rand(6, 3, 4).softmax(2) if score in OF_DRAWS else torch.rand(6, 4).softmax(1)
    before = rows.clone()
    score(rows)
    assert torch.equal(rows, before)


# --- the check of probabilities, which works on blocks of the same size


@pytest.mark.parametrize(
    "bad", [[0.5, 0.6], [1.5, -0.5], [math.nan, 1.0], [math.inf, 0.0], [math.inf, -math.inf]]
)
@pytest.mark.parametrize("row", [0, 1, 499, 999])
def test_one_bad_row_is_found_wherever_it_lies(bad, row, monkeypatch):
    monkeypatch.setattr("vizsla.functional.uncertainty.CELLS", 200)
    rows = torch.full((1000, 2), 0.5)
    rows[row] = torch.tensor(bad)
    with pytest.raises(ValueError, match=f"row {row} is not a probability row"):
        as_probs(rows)


def test_the_tolerance_of_sums_is_1e_3_and_in_half_precision_1e_2():
    as_probs(torch.tensor([[0.5, 0.5009]]))
    as_probs(torch.tensor([[0.5, 0.508]]).half())
    for rows in (torch.tensor([[0.5, 0.5011]]), torch.tensor([[0.5, 0.512]]).half()):
        with pytest.raises(ValueError, match="row 0 is not a probability row"):
            as_probs(rows)
