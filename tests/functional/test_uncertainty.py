import numpy as np
import pytest
import torch

from vizsla.functional import least_confidence, margin

PROBS = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.7, 0.2]], dtype=torch.float64)


def test_least_confidence_of_a_worked_example():
    assert least_confidence(PROBS).tolist() == pytest.approx([0.5, 0.3])


def test_margin_of_a_worked_example():
    assert margin(PROBS).tolist() == pytest.approx([-0.2, -0.5])


@pytest.mark.parametrize("score", [least_confidence, margin])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_certain_image_scores_lowest_and_a_uniform_one_highest(score, dtype):
    rng = np.random.default_rng(0)
    rows = np.vstack([rng.dirichlet(np.ones(5), 50), np.eye(5)[:1], np.full((1, 5), 0.2)])
    scores = score(torch.from_numpy(rows).to(dtype)).double().numpy()
    assert scores.argmin() == 50
    assert scores[51] == pytest.approx(scores.max())


@pytest.mark.parametrize("score", [least_confidence, margin])
def test_scores_do_not_care_how_classes_are_ordered(score):
    rng = np.random.default_rng(1)
    rows = rng.dirichlet(np.ones(6), 30)
    shuffled = rng.permuted(rows, axis=1)
    np.testing.assert_allclose(score(rows).numpy(), score(shuffled).numpy())


@pytest.mark.parametrize("score", [least_confidence, margin])
def test_with_two_classes_both_scores_rank_alike(score):
    rows = np.random.default_rng(2).dirichlet(np.ones(2), 40)
    assert np.argsort(score(rows).numpy()).tolist() == np.argsort(-np.abs(rows[:, 0] - 0.5)).tolist()


def test_numpy_and_torch_give_the_same_scores():
    assert margin(PROBS.numpy()).tolist() == margin(PROBS).tolist()
