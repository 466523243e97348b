"""Which labels look wrong."""

from __future__ import annotations

import numpy as np
import pytest

from vizsla.errors import BadArray
from vizsla.functional.noise import suspects


def random_case(seed, n=200, c=7):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(c, 0.5), n), rng.integers(c, size=n)


def test_doubt_is_one_minus_one_or_nothing_where_the_model_is_sure_or_torn():
    probs = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    np.testing.assert_allclose(suspects(probs, np.array([0, 0, 0])), [1, -1, 0])


def test_doubt_agrees_with_a_plain_loop():
    probs, labels = random_case(0)
    slow = [
        max(p**0.5 for k, p in enumerate(row) if k != label) - row[label] ** 0.5
        for row, label in zip(probs, labels, strict=True)
    ]
    np.testing.assert_allclose(suspects(probs, labels), slow)


def test_a_label_is_doubted_exactly_where_another_class_is_likelier():
    probs, labels = random_case(1)
    np.testing.assert_array_equal(suspects(probs, labels) > 0, probs.argmax(axis=1) != labels)


def test_of_two_classes_the_order_is_that_of_self_confidence_and_of_the_margin():
    probs, labels = random_case(2, c=2)
    own = probs[np.arange(len(labels)), labels]
    np.testing.assert_array_equal(np.argsort(suspects(probs, labels)), np.argsort(-own))


def test_a_sure_other_guess_counts_and_so_does_how_unlikely_the_label_is():
    same_label = np.array([[0.2, 0.5, 0.3], [0.2, 0.4, 0.4]])  # equal to self-confidence
    same_margin = np.array([[0.1, 0.4, 0.25, 0.25], [0.35, 0.65, 0.0, 0.0]])  # equal to the margin
    for probs in (same_label, same_margin):
        surer, other = suspects(probs, np.array([0, 0]))
        assert surer > other


def test_relabelled_classes_change_nothing():
    probs, labels = random_case(3)
    order = np.random.default_rng(0).permutation(probs.shape[1])
    place = np.argsort(order)
    np.testing.assert_allclose(suspects(probs[:, order], place[labels]), suspects(probs, labels))


def test_the_probabilities_are_left_as_they_were():
    probs, labels = random_case(4)
    kept = probs.copy()
    suspects(probs, labels)
    np.testing.assert_array_equal(probs, kept)


def test_no_images_give_no_scores():
    assert suspects(np.empty((0, 3)), np.empty(0, np.int64)).shape == (0,)


@pytest.mark.parametrize("labels", [[0, 1, 3], [-1, 0, 1], [0, 1]])
def test_labels_that_cannot_be_are_refused(labels):
    with pytest.raises(BadArray):
        suspects(np.full((3, 3), 1 / 3), np.array(labels))
