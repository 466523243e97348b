from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from vizsla.models.heads import KnnHead, LdaHead, LogisticHead, heads, softmax, span


def blobs(
    n: int, d: int, classes: list[int], *, spread: float = 0.7, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """n rows around one centre per class; every class has a row; near enough that some are mistaken."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1, (max(classes) + 1, d)) / d**0.5
    labels = np.concatenate([classes, rng.choice(classes, n - len(classes))])
    rows = 1 + centres[labels] + rng.normal(0, spread, (n, d)) / d**0.5
    return rows.astype(np.float32), labels.astype(np.int64)


def exact(rows: np.ndarray, labels: np.ndarray, asked: np.ndarray, n_classes: int, C: float) -> np.ndarray:
    """The slow, obvious twin: scikit-learn on the full unit rows in float64, to a hundred-millionth."""
    unit = [each.astype(np.float64) for each in (rows, asked)]
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in unit]
    model = LogisticRegression(C=C, max_iter=100_000, tol=1e-8).fit(unit[0], labels)
    probs = np.zeros((len(asked), n_classes))
    probs[:, model.classes_] = model.predict_proba(unit[1])
    return probs


@pytest.mark.parametrize("strength", [1.0, 30.0, 300.0])
@pytest.mark.parametrize(
    ("n", "d", "classes"),
    [
        (60, 200, [0, 1, 2, 3]),  # fewer rows than dimensions
        (120, 16, [0, 1, 2, 3]),  # more
        (40, 40, [0, 1]),  # two classes, which scikit-learn treats apart
        (30, 100, [1, 4]),  # gaps among the labels
        (50, 8, [0, 2, 4]),
        (10, 30, [0, 1, 2, 3, 4]),  # two labels a class
    ],
)
def test_probabilities_are_those_of_plain_logistic_regression_to_a_thousandth(
    n: int, d: int, classes: list[int], strength: float
) -> None:
    rows, labels = blobs(n + 50, d, classes)
    head = LogisticHead(5, inverse_strength=strength)
    head.fit(rows[:n], labels[:n])
    expected = exact(rows[:n], labels[:n], rows[n:], 5, strength)
    assert expected.max(axis=1).min() < 0.95  # else any sure head would pass
    np.testing.assert_allclose(head.predict(rows[n:]), expected, atol=1e-3)


def test_classes_never_seen_have_probability_0_and_the_others_sum_to_1() -> None:
    rows, labels = blobs(40, 20, [1, 4])
    head = LogisticHead(6)
    head.fit(rows, labels)
    probs = head.predict(rows)
    assert not probs[:, [0, 2, 3, 5]].any()
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-6)


def test_one_class_seen_has_probability_1_everywhere() -> None:
    head = LogisticHead(3)
    head.fit(blobs(5, 8, [2])[0], np.array([2] * 5))
    assert head.predict(blobs(4, 8, [0], seed=1)[0]).tolist() == [[0, 0, 1]] * 4


def test_one_label_is_enough_to_fit() -> None:
    head = LogisticHead(2)
    head.fit(np.ones((1, 4), np.float16), np.array([1]))
    assert head.predict(np.eye(4)).tolist() == [[0, 1]] * 4


def test_rows_of_zeros_get_the_probabilities_of_a_featureless_image() -> None:
    rows = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    head = LogisticHead(2)
    head.fit(rows[:2], np.array([0, 1]))
    np.testing.assert_allclose(head.predict(rows[2:]), [[0.5, 0.5]], atol=1e-4)  # by symmetry
    head.fit(np.zeros((4, 2)), np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(
        head.predict(rows[2:]), [[0.75, 0.25]], atol=1e-3
    )  # the shares, by the free bias


def test_the_length_of_a_row_makes_no_difference() -> None:
    rows, labels = blobs(40, 20, [0, 1, 2])
    head, scaled = LogisticHead(3), LogisticHead(3)
    head.fit(rows, labels)
    scaled.fit(rows * 7, labels)
    np.testing.assert_allclose(head.predict(rows), scaled.predict(rows / 3), atol=1e-3)


def test_float16_rows_give_what_their_exact_values_give_and_large_ones_do_not_overflow() -> None:
    rows, labels = blobs(60, 30, [0, 1, 2])
    half = (rows * 3000).astype(np.float16)  # whose squares are beyond float16
    head = LogisticHead(3)
    head.fit(half[:40], labels[:40])
    expected = exact(half[:40].astype(np.float64), labels[:40], half[40:].astype(np.float64), 3, 30.0)
    np.testing.assert_allclose(head.predict(half[40:]), expected, atol=1e-3)


def test_an_image_given_twice_counts_twice() -> None:
    rows, labels = blobs(40, 60, [0, 1, 2])
    twice = np.concatenate([rows[:30], rows[:30]])
    head = LogisticHead(3, inverse_strength=10)
    head.fit(twice, np.tile(labels[:30], 2))
    np.testing.assert_allclose(
        head.predict(rows[30:]), exact(rows[:30], labels[:30], rows[30:], 3, C=20), atol=1e-3
    )


def test_the_same_labels_give_the_very_same_numbers_and_a_second_fit_forgets_the_first() -> None:
    rows, labels = blobs(60, 100, [0, 1, 2, 3])
    once, again = LogisticHead(4), LogisticHead(4)
    once.fit(rows, labels)
    again.fit(rows[:10], labels[:10])
    again.fit(rows, labels)
    assert np.array_equal(once.predict(rows), again.predict(rows))


def test_the_head_is_found_by_its_name() -> None:
    rows, labels = blobs(30, 10, [0, 1])
    named, direct = heads["logistic"](2), LogisticHead(2)
    named.fit(rows, labels)
    direct.fit(rows, labels)
    assert np.array_equal(named.predict(rows), direct.predict(rows))


@pytest.mark.parametrize(("n", "d"), [(5, 12), (12, 5)])
def test_the_span_is_orthonormal_and_gives_every_row_back(n: int, d: int) -> None:
    rows = np.random.default_rng(0).normal(size=(n, d))
    axes, coordinates = span(rows)
    np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-9)
    np.testing.assert_allclose(coordinates @ axes, rows, atol=1e-9)
    np.testing.assert_allclose(np.linalg.svd(rows)[1], np.sqrt((coordinates**2).sum(axis=0))[::-1])


def test_softmax_knows_odds_infinities_and_large_numbers() -> None:
    logits = np.array([[np.log(3), 0.0, -np.inf], [1e4, 1e4, 0.0]])
    np.testing.assert_allclose(softmax(logits), [[0.75, 0.25, 0], [0.5, 0.5, 0]])


# --- the other heads


def test_discriminants_are_those_of_the_textbook_on_many_rows_per_class() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rows, labels = blobs(3000, 6, [0, 1, 2])
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    head = LdaHead(3)
    head.fit(rows[:2500], labels[:2500])
    textbook = LinearDiscriminantAnalysis(priors=[1 / 3] * 3).fit(rows[:2500], labels[:2500])
    same = head.predict(rows[2500:]).argmax(axis=1) == textbook.predict(rows[2500:])
    assert same.mean() > 0.99


def test_discriminants_do_not_collapse_as_labels_become_as_many_as_dimensions() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(5, 64))
    labels = rng.integers(0, 5, 900)
    rows = means[labels] + 1.5 * rng.normal(size=(900, 64))
    right = []
    for n in (20, 40, 64, 128, 400):
        head = LdaHead(5)
        head.fit(rows[:n], labels[:n])
        right.append((head.predict(rows[400:]).argmax(axis=1) == labels[400:]).mean())
    assert right == sorted(right)


def test_discriminants_are_no_surer_of_labels_held_out_than_they_are_right() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    rows = rng.normal(size=(600, 40)) + np.where(labels, 0.25, -0.25)[:, None]
    head = LdaHead(2)
    head.fit(rows[:120], labels[:120])
    probs = head.predict(rows[120:])
    sureness, accuracy = probs.max(axis=1).mean(), (probs.argmax(axis=1) == labels[120:]).mean()
    assert abs(sureness - accuracy) < 0.06


@pytest.mark.parametrize("name", ["lda", "knn", "blend"])
def test_every_head_takes_one_label_and_gives_no_probability_to_classes_never_seen(name: str) -> None:
    head = heads[name](4)
    head.fit(np.ones((1, 5), np.float16), np.array([2]))
    assert head.predict(np.eye(5)).tolist() == [[0, 0, 1, 0]] * 5
    rows, labels = blobs(30, 20, [1, 3])
    head.fit(rows, labels)
    probs = head.predict(rows)
    assert not probs[:, [0, 2]].any()
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    assert (probs.argmax(axis=1) == labels).mean() > 0.9


def test_the_nearest_labels_decide_by_their_cosines_cubed() -> None:
    head = KnnHead(2, neighbours=3)
    head.fit(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]]), np.array([0, 1, 1, 0]))
    votes = [0.8**3, 2 * 0.6**3]
    np.testing.assert_allclose(
        head.predict(np.array([[0.8, 0.6]])), [np.array(votes) / sum(votes)], rtol=1e-4
    )
