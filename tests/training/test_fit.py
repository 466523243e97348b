"""Fitting and ranking without a store: images are points of two classes in four dimensions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vizsla.functional.geometry import principal_axes
from vizsla.standing import labels_needed
from vizsla.training.fit import checks, fit, forecast, last_gain, rank
from vizsla.training.pool import Known, Rows


def pool(n: int, apart: float, seed: int = 0) -> tuple[Rows, np.ndarray]:
    """Two clouds of points, their middles that many standard deviations apart; and the class of each."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    vectors = (rng.normal(size=(n, 4)) + apart * np.outer(truth - 0.5, [1, 0, 0, 0])).astype(np.float16)
    axes = principal_axes(vectors)
    return Rows(np.arange(1, n + 1), rng.permutation(n), vectors, axes.directions(vectors), axes, ""), truth


def labels(rows: Rows, truth: np.ndarray, of: np.ndarray) -> Known:
    none: frozenset[int] = frozenset()
    label_of = {int(rows.ids[row]): int(truth[row]) for row in of}
    return Known(label_of, none, none, none, none, ("a", "b"), (1, 2), 0, None)


def test_the_last_third_brought_nothing_where_classes_lie_far_apart():
    rows, truth = pool(300, apart=30)
    settled = fit(rows, labels(rows, truth, np.arange(60)), about={})
    assert last_gain(rows, settled) == pytest.approx(0, abs=1e-9)
    assert forecast(rows, settled).chance_of_gain == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("graph", [False, True])
def test_the_last_gain_is_what_a_third_of_the_labels_adds_to_the_probability_of_the_guess(graph):
    """Thirty copies of one point of each of three classes; only one label speaks for the third class."""
    points = np.repeat(np.eye(3), [30, 30, 30], axis=0).astype(np.float16)
    truth = np.repeat([0, 1, 2], 30)
    axes = principal_axes(points)
    rows = Rows(np.arange(1, 91), np.arange(90), points, axes.directions(points), axes, "")
    known = labels(rows, truth, np.array([*range(12), *range(30, 42), 60]))
    fitted = fit(rows, replace(known, classes=("a", "b", "c"), class_ids=(1, 2, 3)), about={}, graph=graph)
    # two of the six models miss the only label of the third class, and guess another for its 29 other images
    probs = fitted.probs[70]
    others = 90 - 25
    assert probs.argmax() == 2
    expected = 2 / 6 * 29 / others * (probs[2] - probs[:2].max())
    assert last_gain(rows, fitted) == pytest.approx(expected, rel=1e-3)


def test_nothing_is_left_to_gain_when_all_images_have_labels():
    rows, truth = pool(60, apart=1)
    assert last_gain(rows, fit(rows, labels(rows, truth, np.arange(60)), about={})) == 0


def test_a_forecast_waits_for_ten_labels_per_class():
    rows, truth = pool(300, apart=2)
    early, ready = (fit(rows, labels(rows, truth, np.arange(n)), about={}) for n in (19, 20))
    assert forecast(rows, early).sentence == "too early to tell"
    assert forecast(rows, ready).chance_of_gain is not None


def test_at_most_a_fifth_of_the_first_150_labels_are_asked_as_random_checks_and_a_tenth_after():
    rows, truth = pool(1000, apart=2)
    queue = [(int(row), True) for row in rows.audit_order]
    answered: list[tuple[int, bool]] = []
    while len(answered) < 300:
        answered += queue[: labels_needed(len(answered))]
        known = labels(rows, truth, np.array([row for row, _ in answered]))
        since = next(n for n, (_, is_check) in enumerate(reversed(answered)) if is_check)
        known = replace(known, since_check=since)
        ranked = rank(
            rows,
            fit(rows, known, about={}),
            known,
            checks(rows, known),
            strategy="margin",
            audit=0.1,
            clusters=np.empty(0, np.int64),
            seed=0,
        )
        queue = [(int(one.image_id) - 1, one.audit) for one in ranked]
        # what will be a check is never shown with a suggestion, also while none are asked for
        assert all(one.suggestion is None for one in ranked if one.image_id - 1 in rows.audit_order[:60])
    asked = np.array([is_check for _, is_check in answered])
    assert 25 <= asked[:150].sum() <= 30  # images that were chosen and come up as checks too cost nothing
    assert 0.08 <= asked[150:].mean() <= 0.1 + 1 / len(asked[150:])
