"""Draws from the head alone."""

import numpy as np
import pytest
import torch

import vizsla
from vizsla.errors import BadOption
from vizsla.strategy.base import Head, Pool
from vizsla.strategy.draws import dropout, laplace


def head(n=30, r=4, c=3, labelled=12, seed=0):
    rng = np.random.default_rng(seed)
    rows = torch.from_numpy(rng.normal(size=(n, r)).astype(np.float32))
    weight = torch.from_numpy(rng.normal(size=(c, r)).astype(np.float32))
    pool = Pool(rows, np.arange(labelled, n), np.arange(labelled))
    return Head(pool, weight, torch.tensor([0.1, -0.2, 0.0]))


def test_a_draw_by_dropout_is_the_head_with_some_features_left_out_and_the_others_scaled_up():
    one = head()
    draws = dropout(one, np.random.default_rng(0), k=50, rate=0.25)
    kept = draws.weights / one.weight
    assert set(kept.unique().double().numpy().round(4).tolist()) == {0.0, 1.3333}
    assert torch.allclose(kept, kept[:, :1].expand_as(kept))  # one mask for all classes of a draw …
    rows = one.pool.rows[12:]
    by_hand = (rows @ draws.weights[7].T + draws.biases[7]).softmax(dim=1)
    assert torch.allclose(draws(np.arange(18))[:, 7], by_hand, atol=1e-6)  # … and for all images
    assert (kept[:, 0] == 0).float().mean() == pytest.approx(0.25, abs=0.1)


def test_draws_are_the_same_again_for_the_same_image_alone_or_among_others():
    draws = dropout(head(), np.random.default_rng(0))
    assert torch.allclose(draws(np.arange(18))[[3, 9]], draws(np.array([3, 9])), atol=1e-6)


def test_laplace_draws_have_the_covariance_of_the_inverse_hessian():
    one = head()
    labels = np.arange(12) % 3
    draws = laplace(one, labels, np.random.default_rng(0), k=20_000, decay=0.5)
    rows = np.hstack([one.pool.rows[:12].double().numpy(), np.ones((12, 1))])
    logits = rows[:, :-1] @ one.weight.double().numpy().T + one.bias.double().numpy()
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for c in range(3):
        hessian = 0.5 * np.eye(5) + sum(
            p[i, c] * (1 - p[i, c]) * np.outer(rows[i], rows[i]) for i in range(12)
        )
        drawn = np.hstack([draws.weights[:, c].numpy(), draws.biases[:, c, None].numpy()])
        assert np.cov(drawn.T) == pytest.approx(np.linalg.inv(hessian), abs=0.08)
        middle = np.append(one.weight[c].numpy(), one.bias[c].numpy())
        assert drawn.mean(axis=0) == pytest.approx(middle, abs=0.05)


def test_a_class_never_seen_stays_impossible_in_every_draw():
    one = head()
    one.weight[2], one.bias[2] = 0, -torch.inf
    for draws in (
        dropout(one, np.random.default_rng(0)),
        laplace(one, np.arange(12) % 2, np.random.default_rng(0), decay=0.1),
    ):
        probs = draws(np.arange(18))
        assert (probs[:, :, 2] == 0).all()
        assert torch.isfinite(probs).all()


def test_select_draws_as_told_and_knows_no_third_way():
    rng = np.random.default_rng(0)
    given = {"embeddings": rng.normal(size=(80, 6)), "labelled": np.arange(10), "labels": np.arange(10) % 2}
    by_dropout, by_laplace = (
        vizsla.select("variation_ratio", draws=way, n=20, **given).tolist() for way in ("dropout", "laplace")
    )
    assert by_dropout != by_laplace
    assert vizsla.select("variation_ratio", draws=None, n=20, **given).tolist() == by_dropout
    with pytest.raises(BadOption, match="'dropout' or 'laplace'"):
        vizsla.select("variation_ratio", draws="jackknife", n=2, **given)
