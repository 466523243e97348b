"""The default strategy, from no labels on."""

import numpy as np
import pytest
import torch

import vizsla
from vizsla.models.backbones import load_backbone
from vizsla.models.frozen import Features, FrozenModel
from vizsla.strategy import auto
from vizsla.testing import TOY_BACKBONE
from vizsla.types import Embeddings


def crowds(sizes, seed=0, d=20):
    """One crowd per class, each about a direction of its own; some classes are rare."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = 3 * np.eye(d)[labels] + 0.5 * rng.normal(size=(len(labels), d))
    order = rng.permutation(len(labels))
    return rows[order].astype(np.float32), labels[order]


def test_the_first_batch_has_an_image_of_every_class_where_chance_misses_some():
    rows, labels = crowds([160, 100, 100, 60, 50, 40, 40, 40])
    seen = []
    for seed in range(10):
        assert set(labels[vizsla.select("auto", embeddings=rows, n=8, seed=seed)]) == set(range(8))
        seen.append(len(set(labels[vizsla.select("random", embeddings=rows, n=8, seed=seed)])))
    assert np.mean(seen) < 6.5


def test_the_first_images_lie_in_the_midst_of_their_crowds_and_no_outlier_is_among_them():
    rows, labels = crowds([80] * 5)
    strays = 6 * np.random.default_rng(1).normal(size=(10, 20)).astype(np.float32)
    picks = vizsla.select("auto", embeddings=np.vstack([rows, strays]), n=5)
    assert set(labels[picks]) == set(range(5))  # an index error would be a stray
    middles = np.stack([rows[labels == k].mean(axis=0) for k in range(5)])
    mine = np.linalg.norm(rows[picks] - middles[labels[picks]], axis=1)
    usual = np.median(np.linalg.norm(rows - middles[labels], axis=1))
    assert (mine < usual).all()


def test_a_first_batch_of_hundreds_takes_no_more_clusters_than_are_worth_their_time(monkeypatch):
    rows, labels = crowds([50] * 6)
    monkeypatch.setattr(auto, "MIDDLES", 6)
    picks = vizsla.select("auto", embeddings=rows, n=60)
    assert len(set(picks.tolist())) == 60
    assert set(labels[picks[:6]]) == set(range(6))
    assert (np.bincount(labels[picks]) >= 5).all()


def test_without_a_model_it_covers_what_the_labelled_images_do_not():
    rows, labels = crowds([50] * 6)
    known = np.flatnonzero(labels < 3)[:9]
    picks = vizsla.select("auto", embeddings=rows, labelled=known, n=3)
    assert set(labels[picks]) == {3, 4, 5}


def test_once_the_model_is_sure_of_a_crowd_it_asks_elsewhere():
    rows, labels = crowds([150] * 4)
    probs = np.eye(4)[labels] * 0.98 + 0.005
    doubtful = labels >= 2
    probs[doubtful] = [0.0, 0.0, 0.5, 0.5]
    known = np.concatenate([np.flatnonzero(labels == k)[:2] for k in range(4)])
    given = {"embeddings": rows, "labelled": known, "n": 20}
    assert doubtful[vizsla.select("auto", probs=probs, **given)].mean() >= 0.75
    assert 0.3 <= doubtful[vizsla.select("auto", **given)].mean() <= 0.7  # half of the images are


def test_the_more_classes_have_one_label_only_the_more_it_asks_where_the_model_is_sure():
    rows, labels = crowds([150] * 4)
    probs = np.eye(20)[labels]  # as many classes as the labels have at most
    probs[labels < 2, :2] = 0.5
    known = np.concatenate([np.flatnonzero(labels == k)[:5] for k in range(4)])
    given = {"embeddings": rows, "probs": probs, "labelled": known, "n": 40}
    answers = np.repeat(np.arange(10), 2), np.append(np.zeros(13, int), np.arange(1, 8)), np.arange(20)
    sure = [(labels[vizsla.select("auto", labels=some, **given)] >= 2).mean() for some in answers]
    assert sure == sorted(sure)
    assert sure[0] < 0.25
    assert sure[2] > 0.4  # half of the images are


def test_it_makes_probabilities_where_labels_are_given_and_does_without_where_they_are_of_one_class():
    rows, labels = crowds([60] * 3)
    known = np.concatenate([np.flatnonzero(labels == k)[:3] for k in range(3)])
    with_model = vizsla.select("auto", embeddings=rows, labelled=known, labels=labels[known], n=9)
    without = vizsla.select("auto", embeddings=rows, labelled=known, n=9)
    assert with_model.tolist() != without.tolist()
    one_class = vizsla.select("auto", embeddings=rows, labelled=known, labels=np.zeros(9, int), n=9)
    assert one_class.tolist() == without.tolist()


# --- the frozen model with the blended head


@pytest.fixture
def pool():
    rows, labels = crowds([100] * 4, seed=3)
    vectors = rows.astype(np.float16)
    return Features(Embeddings(np.arange(len(rows)), vectors, "toy")), labels


def model(head: str = "blend") -> FrozenModel:
    return FrozenModel(load_backbone(TOY_BACKBONE), 4, head=head)


def test_the_pool_hears_the_blend_and_other_images_its_linear_head(pool):
    features, labels = pool
    known = np.concatenate([np.flatnonzero(labels == k)[:2] for k in range(4)])
    blended = model()
    blended.fit(features, known, labels[known], seed=0)
    others = Features(features.embeddings.subset(features.ids))  # the same images in another data set
    inside, outside = (blended.predict(seen, features.ids) for seen in (features, others))
    assert not np.allclose(inside, outside)
    assert (inside.argmax(axis=1) == outside.argmax(axis=1)).mean() > 0.97
    _, weights, bias = blended.linear
    points = others.on(features.axes, features.ids)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    logits = torch.from_numpy(unit @ weights.T + bias)
    np.testing.assert_allclose(outside, logits.softmax(dim=1).numpy(), atol=1e-5)


def test_held_out_probabilities_are_there_for_the_labels_it_was_fitted_to_and_no_others(pool):
    features, labels = pool
    known = np.sort(np.concatenate([np.flatnonzero(labels == k)[:3] for k in range(4)]))
    blended, plain = model(), model("logistic")
    for one in (blended, plain):
        one.fit(features, known, labels[known], seed=0)
    assert blended.held_out(known).shape == (12, 4)
    assert blended.held_out(known[1:]) is None
    assert plain.held_out(known) is None


@pytest.mark.parametrize("head", ["blend", "logistic", "lda", "knn"])
def test_every_head_learns_from_three_labels_a_class(pool, head):
    features, labels = pool
    known = np.sort(np.concatenate([np.flatnonzero(labels == k)[:3] for k in range(4)]))
    learnt = model(head)
    learnt.fit(features, known, labels[known], seed=0)
    assert (learnt.predict(features, features.ids).argmax(axis=1) == labels).mean() > 0.95
