"""What the grid and the review show."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vizsla.errors import BadOption
from vizsla.store import Answer, Ranked, Store

Fill = Callable[[int], list[int]]


def shown(store: Store, by: str, group: str) -> list[int]:
    return [tile.image_id for tile in store.tiles(by, group)]  # type: ignore[arg-type]


def test_an_answer_that_was_taken_back_confirms_nothing(store: Store, fill: Fill) -> None:
    a, b, c = fill(3)
    ada, bob = store.annotator("ada").id, store.annotator("bob").id
    store.label(ada, Answer(a, "cat"))
    store.undo(ada)
    store.label(ada, Answer(a, "cat"))
    assert store.confirmed() == frozenset()
    store.label(ada, Answer(b, "dog"))
    store.label(bob, Answer(b, "dog"))
    assert store.confirmed() == {b}
    store.undo(bob)
    assert store.confirmed() == frozenset()
    store.redo(bob)
    assert store.confirmed() == {b}
    store.label(ada, Answer(c, "cat"))
    store.undo(ada)
    store.redo(ada)
    assert store.confirmed() == {b}, "one answer given again is no second look"


def test_random_checks_are_in_no_part_of_the_grid_until_they_are_answered(store: Store, fill: Fill) -> None:
    a, b, c = fill(3)
    cat = store.classes()[0]
    guess = ((cat.id, 0.9),)
    rows = [Ranked(a, 1.0, "", suggestion=guess, cluster=7)]
    rows += [Ranked(b, 1.0, "", suggestion=guess, cluster=7, audit=True)]
    store.publish_ranking(None, rows)
    assert shown(store, "class", "cat") == shown(store, "cluster", "7") == [a]
    assert shown(store, "status", "unlabelled") == [a, c]
    assert [group.count for group in store.groups("status")] == [2, 0, 0, 0]
    store.label(store.annotator("me").id, Answer(b, "cat"))
    assert shown(store, "status", "labelled") == [b]
    assert [group.count for group in store.groups("status")] == [2, 1, 0, 0]
    store.publish_ranking(None, [])
    store.undo(store.annotator("me").id)
    assert shown(store, "status", "unlabelled") == [a, b, c], "no check of the ranking that counts now"


def test_suggestions_are_of_unanswered_images_that_may_be_seen_with_one(store: Store, fill: Fill) -> None:
    a, b, c, d, e = fill(5)
    cat, dog = store.classes()[:2]
    rows = [Ranked(one, 1.0, "", suggestion=((cat.id, 0.75), (dog.id, 0.25))) for one in (a, b)]
    rows += [Ranked(c, 1.0, "", suggestion=((dog.id, 0.5),), audit=True), Ranked(d, 1.0, "")]
    store.publish_ranking(None, rows)
    store.label(store.annotator("me").id, Answer(b, "dog"))
    store.rename_class("cat", "feline")
    assert store.suggestions([a, b, c, d, e]) == {a: ("feline", 0.75)}
    assert store.suggestions([]) == store.suggestions([b, e]) == {}


def test_the_label_that_stands_is_found_by_its_image(store: Store, fill: Fill) -> None:
    a, b, c, d = fill(4)
    me = store.annotator("me").id
    for image_id, name in ((a, "cat"), (b, "cat"), (a, "dog"), (c, "dog")):
        store.label(me, Answer(image_id, name))
    store.undo(me)
    found = store.standing_labels([a, c, d])
    assert {image_id: (label.image_id, label.label) for image_id, label in found.items()} == {a: (a, "dog")}


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "0",
        "x:1",
        "0:x",
        "0:²",
        "0:-1",
        "0:1_0",
        f"0:{2**63}",
        "0:99999999999999999999",
        "0:" + "9" * 5000,
    ],
)
@pytest.mark.parametrize(("by", "group"), [("status", "unlabelled"), ("cluster", "7"), ("class", "cat")])
def test_a_cursor_that_nobody_gave_out_is_refused(
    store: Store, fill: Fill, cursor: str, by: str, group: str
) -> None:
    fill(1)
    with pytest.raises(BadOption, match="is no cursor"):
        store.tiles(by, group, after=cursor)  # type: ignore[arg-type]
    assert store.tiles(by, group, after=f"0.5:{2**63 - 1}") == []  # type: ignore[arg-type]


@pytest.mark.parametrize("group", ["", "²", "٣", "-1", "9" * 30, "9" * 5000, str(2**31)])
def test_a_cluster_that_cannot_be_is_refused(store: Store, group: str) -> None:
    with pytest.raises(BadOption, match="is no cluster"):
        store.tiles("cluster", group)
    assert store.tiles("cluster", str(2**31 - 1)) == []
