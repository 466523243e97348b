"""Fitting and ranking without a store: images are points of two classes in four dimensions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vizsla.functional.geometry import principal_axes
from vizsla.standing import labels_needed
from vizsla.training.fit import checks, churn, fit, forecast, rank
from vizsla.training.pool import Known, Rows


def pool(n: int, apart: float, seed: int = 0) -> tuple[Rows, np.ndarray]:
    """Two clouds of points, their middles that many standard deviations apart; and the class of each."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    vectors = (rng.normal(size=(n, 4)) + apart * np.outer(truth - 0.5, [1, 0, 0, 0])).astype(np.float16)
    axes = principal_axes(vectors)
    return Rows(np.arange(1, n + 1), rng.permutation(n), vectors, axes(vectors), axes, ""), truth


def labels(rows: Rows, truth: np.ndarray, of: np.ndarray) -> Known:
    none: frozenset[int] = frozenset()
    label_of = {int(rows.ids[row]): int(truth[row]) for row in of}
    return Known(label_of, none, none, none, none, ("a", "b"), (1, 2), 0, None)


def test_nothing_changes_where_classes_lie_far_apart_and_much_where_the_labels_are_dice():
    rows, truth = pool(300, apart=30)
    settled = fit(rows, labels(rows, truth, np.arange(60)), about={})
    assert churn(rows, settled) == 0
    found = forecast(rows, settled)
    assert found.chance_of_gain == 0
    dice = np.random.default_rng(1).integers(0, 2, 300)
    assert churn(rows, fit(rows, labels(rows, dice, np.arange(60)), about={})) > 0.1


def test_churn_is_the_share_of_images_whose_class_hangs_on_a_third_of_the_labels():
    """Thirty copies of one point of each class, and one image of a third class: only its own label speaks for it."""
    points = np.repeat(np.eye(3), [30, 30, 30], axis=0).astype(np.float16)
    truth = np.repeat([0, 1, 2], 30)
    axes = principal_axes(points)
    rows = Rows(np.arange(1, 91), np.arange(90), points, axes(points), axes, "")
    known = replace(labels(rows, truth, np.array([*range(12), *range(30, 42), 60])), classes=("a", "b", "c"))
    known = replace(known, class_ids=(1, 2, 3))
    # each of six heads misses a third of the labels; two of them the only one of the third class
    assert churn(rows, fit(rows, known, about={})) == pytest.approx(2 / 6 * 30 / 90)


def test_a_forecast_waits_for_ten_labels_per_class():
    rows, truth = pool(300, apart=2)
    early, ready = (fit(rows, labels(rows, truth, np.arange(n)), about={}) for n in (19, 20))
    assert forecast(rows, early).sentence == "too early to tell"
    assert forecast(rows, ready).chance_of_gain is not None


def test_at_most_a_fifth_of_the_first_150_labels_are_asked_as_random_checks_and_a_tenth_after():
    rows, truth = pool(2000, apart=2)
    queue = [(int(row), True) for row in rows.audit_order]
    answered: list[tuple[int, bool]] = []
    while len(answered) < 400:
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
