"""Answers that were given elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from vizsla.errors import BadOption, UnknownName
from vizsla.store import Answer, Imported, Store, TakenIn
from vizsla.store.imports import key_of

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


MARCH, APRIL, MAY = (datetime(2024, month, 1, 10, tzinfo=UTC) for month in (3, 4, 5))


def imported(image_id: int, label: str, when: datetime | None, who: str = "ada") -> Imported:
    key = key_of(image_id, "labelled", label, who, when)
    return Imported(who, Answer(image_id, label, key=key), when)


def stands(store: Store, image_id: int) -> str | None:
    """The label that stands, which the image and its newest row that counts must agree on."""
    label = store.standing_labels([image_id])[image_id].label
    assert (store.image(image_id).label, store.image(image_id).status) == (label, "labelled")
    assert store.labels()[0].label == label
    return label


def test_the_answer_given_later_stands_whichever_came_in_first(store: Store, fill: Fill) -> None:
    (image_id,) = fill(1)
    april, march = imported(image_id, "dog", APRIL), imported(image_id, "cat", MARCH)
    store.import_labels([april])
    taken = store.import_labels([march])
    assert (taken.new, taken.older, taken.counts) == (0, (march.answer.key,), {})
    assert stands(store, image_id) == "dog"
    assert store.import_labels([imported(image_id, "cat", MAY, "bob")]).new == 1
    assert stands(store, image_id) == "cat"


def test_times_are_compared_as_moments_whatever_their_offsets(store: Store, fill: Fill) -> None:
    (image_id,) = fill(1)
    east, west = timezone(timedelta(hours=9)), timezone(timedelta(hours=-8))
    store.import_labels([imported(image_id, "dog", datetime(2024, 4, 1, 10, tzinfo=east))])  # 01:00 UTC
    later = imported(image_id, "cat", datetime(2024, 3, 31, 18, tzinfo=west))  # 02:00 UTC
    assert store.import_labels([later]).new == 1
    assert stands(store, image_id) == "cat"


def test_an_answer_given_on_the_page_counts_with_its_time(store: Store, fill: Fill, clock: Any) -> None:
    (image_id,) = fill(1)
    store.label(store.annotator("me").id, Answer(image_id, "dog"))
    assert store.import_labels([imported(image_id, "cat", MAY)]).older
    assert stands(store, image_id) == "dog"
    clock.wait(60)
    assert store.import_labels([imported(image_id, "cat", clock())]).new == 1
    assert stands(store, image_id) == "cat"
    store.label(store.annotator("me").id, Answer(image_id, "dog"))
    assert stands(store, image_id) == "dog"


def test_an_older_answer_brings_neither_its_class_nor_its_person(store: Store, fill: Fill) -> None:
    (image_id,) = fill(1)
    store.import_labels([imported(image_id, "dog", APRIL)])
    store.import_labels([imported(image_id, "emu", MARCH, "bob")])
    assert [one.name for one in store.classes()] == ["cat", "dog"]
    assert [one.name for one in store.annotators()] == ["ada"]
    assert len(store.history()) == 1


def test_of_two_answers_of_one_moment_the_one_that_came_in_last_stands(store: Store, fill: Fill) -> None:
    (image_id,) = fill(1)
    store.import_labels([imported(image_id, "dog", APRIL)])
    assert store.import_labels([imported(image_id, "cat", APRIL)]).new == 1
    assert stands(store, image_id) == "cat"


def test_an_answer_without_a_time_takes_the_place_of_one_with_a_time_and_is_told(
    store: Store, fill: Fill
) -> None:
    a, b, c = fill(3)
    store.import_labels([imported(a, "dog", APRIL), imported(b, "cat", APRIL)])
    undated = [imported(image_id, "cat", None) for image_id in (a, b, c)]
    assert store.import_labels(undated).replacing == (undated[0].answer.key,)
    assert stands(store, a) == "cat"


@pytest.mark.parametrize("rename", [False, True])
def test_an_answer_with_a_time_takes_the_place_of_one_without(store: Store, fill: Fill, rename: bool) -> None:
    """Whether it was given before or after that one came in: nobody knows when that one was given."""
    (image_id,) = fill(1)
    store.import_labels([imported(image_id, "cat", None)])
    if rename:
        store.rename_class("cat", "feline")
        store.add_classes(["big cat"])
        store.merge_class("feline", "big cat")
    assert store.import_labels([imported(image_id, "dog", MARCH)]).new == 1
    assert stands(store, image_id) == "dog"


@pytest.mark.parametrize("rename", [False, True])
def test_an_answer_with_a_time_keeps_it_whatever_its_class_is_called_since(
    store: Store, fill: Fill, rename: bool
) -> None:
    (image_id,) = fill(1)
    store.import_labels([imported(image_id, "cat", APRIL)])
    if rename:
        store.rename_class("cat", "feline")
    assert store.import_labels([imported(image_id, "dog", MARCH)]).older
    assert stands(store, image_id) == ("feline" if rename else "cat")


def test_a_preview_says_what_the_import_does_and_writes_nothing(store: Store, fill: Fill) -> None:
    a, b, c = fill(3)
    store.import_labels([imported(a, "dog", APRIL)])
    rows = [imported(a, "cat", MARCH), imported(b, "emu", MAY), imported(c, "emu", None)]
    rows.append(Imported("bob", Answer(c, status="skipped")))
    before = (store.history(), store.classes(), store.annotators(), store.pulse())
    told = store.preview_import(rows)
    assert (store.history(), store.classes(), store.annotators(), store.pulse()) == before
    assert (told.new, told.counts, told.others, told.classes) == (3, {"emu": 2}, {"skipped": 1}, ("emu",))
    came = store.import_labels(rows)
    assert (came, came.counts, came.others) == (told, told.counts, told.others)


def test_a_thousand_new_classes_take_as_many_statements_as_ten(
    store: Store, fill: Fill, statements: Callable[[Callable[[], object]], int]
) -> None:
    ids = fill(2000)
    few = [Imported("x", Answer(image_id, f"few {n % 10}")) for n, image_id in enumerate(ids[:1000])]
    many = [Imported("x", Answer(image_id, f"many {n}")) for n, image_id in enumerate(ids[1000:])]
    counts = [statements(lambda rows=rows: store.import_labels(rows)) for rows in (few, many)]
    assert counts[1] <= counts[0] + 10  # names are looked up some hundred at a time
    assert len(store.classes()) == 2 + 10 + 1000
    assert [one.position for one in store.classes()] == list(range(1012))
    changes = [change for change in store.class_history() if change.name.startswith("many ")]
    assert [change.name for change in changes] == [f"many {n}" for n in range(1000)]
    assert [change.class_id for change in changes] == [one.id for one in store.classes()[12:]]
