"""Answers that were given elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from vizsla.errors import BadOption, UnknownName
from vizsla.store import Answer, Imported, Store, TakenIn

Fill = Callable[[int], list[int]]
THEN = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


def test_an_imported_answer_keeps_its_person_time_and_suggestion(
    store: Store, fill: Fill, clock: Any
) -> None:
    a, b = fill(2)
    cat, dog = store.classes()
    answer = Answer(a, "cat", source="audit", round=3, model_version=2, lead_ms=7, suggestion_shown=True)
    taken = store.import_labels(
        [
            Imported("ada", answer, THEN, (("dog", 0.75), ("unheard of", 0.25))),
            Imported("bob", Answer(b, "emu")),
        ]
    )
    assert taken == TakenIn(2, (), ("emu",))
    newest, first = store.labels()
    assert (first.label, first.annotator, first.created_at) == ("cat", "ada", THEN)
    assert (first.source, first.round, first.model_version, first.lead_ms) == ("audit", 3, 2, 7)
    assert (first.suggestion, first.suggestion_shown) == (((dog.id, 0.75),), True)
    assert (newest.label, newest.annotator, newest.source, newest.round) == ("emu", "bob", "import", 0)
    assert (newest.created_at, newest.suggestion) == (clock(), None)
    assert store.class_names() == {cat.id: "cat", dog.id: "dog", newest.class_id: "emu"}


def test_a_known_key_is_passed_over_and_counts_add_up(store: Store, fill: Fill) -> None:
    ids = fill(5000)
    seen: list[tuple[int, int]] = []
    rows = [Imported("x", Answer(image_id, "cat", key=UUID(int=image_id))) for image_id in ids]
    store.import_labels(rows[:10])
    taken = store.import_labels([*rows, rows[-1]], lambda done, total: seen.append((done, total)))
    assert (taken.new, sorted(taken.known)) == (4990, [UUID(int=image_id) for image_id in ids[:10]])
    assert seen[-1] == (4990, 4990) and len(seen) == 3
    assert (store.counts().labelled, len(store.history())) == (5000, 5000)
    assert store.label(store.annotator("x").id, rows[-1].answer).saved == 5000


def test_later_rows_of_an_image_stand_and_imports_are_undone_one_by_one(store: Store, fill: Fill) -> None:
    a, b = fill(2)
    store.import_labels(
        [
            Imported("x", Answer(image_id, label, source="al"))
            for image_id in (a, b)
            for label in ("cat", "dog")
        ]
    )
    assert {label.image_id: label.label for label in store.labels()} == {a: "dog", b: "dog"}
    store.undo(store.annotator("x").id)
    assert {label.image_id: label.label for label in store.labels()} == {a: "dog", b: "cat"}


@pytest.mark.parametrize(
    ("bad", "error"), [(Answer(999_999, "cat"), UnknownName), (Answer(1, "cat", status="skipped"), BadOption)]
)
def test_one_bad_row_and_nothing_is_written(
    store: Store, fill: Fill, bad: Answer, error: type[Exception]
) -> None:
    ids = fill(2)
    with pytest.raises(error):
        store.import_labels([Imported("x", Answer(ids[0], "emu")), Imported("y", bad)])
    assert (store.history(), store.annotators()) == ([], ())
    assert [one.name for one in store.classes()] == ["cat", "dog"]


def test_hashes_are_told_of_the_images_that_have_one(store: Store, fill: Fill) -> None:
    a, b, _ = fill(3)
    store.set_hashes({a: "1" * 64, b: "2" * 64})
    assert store.hashes([b, 999_999]) == {b: "2" * 64}
    assert store.hashes(image.id for image in store.images()) == {a: "1" * 64, b: "2" * 64}
