"""Classes change their names; labels do not."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import update

from vizsla.errors import BadOption, NoLabel
from vizsla.store import Answer, Store, classes
from vizsla.store.database import Database
from vizsla.store.schema import classes as table

Fill = Callable[[int], list[int]]


def named(store: Store) -> dict[str, int]:
    return {one.name: one.position for one in store.classes()}


def test_classes_get_their_keys_in_the_order_they_are_added(store: Store) -> None:
    store.add_classes(["cat", "dog"])
    store.add_classes(["emu", " dog ", "ape"])
    assert named(store) == {"cat": 0, "dog": 1, "emu": 2, "ape": 3}


def test_a_name_is_the_same_however_its_accents_are_encoded(store: Store) -> None:
    store.add_classes([unicodedata.normalize("NFD", "épagneul")])
    store.add_classes([unicodedata.normalize("NFC", "épagneul")])
    assert len(store.classes()) == 1


@pytest.mark.parametrize("name", ["", "  ", "a\0b"])
def test_a_name_that_cannot_be_shown_is_refused(store: Store, name: str) -> None:
    with pytest.raises(BadOption, match="no class name"):
        store.add_classes([name])


def test_a_rename_keeps_id_key_and_labels_and_late_labels_know_the_old_name(store: Store, fill: Fill) -> None:
    first, second = fill(2)
    me = store.annotator("me")
    store.label(me.id, Answer(first, "dog"))
    before = store.classes()[1]
    after = store.rename_class("dog", "hound")
    assert (after.id, after.name, after.position) == (before.id, "hound", 1)
    store.label(me.id, Answer(second, "dog"))
    assert store.counts().classes == {"cat": 0, "hound": 2}
    assert [label.label for label in store.labels()] == ["hound", "hound"]


def test_an_old_name_that_was_given_to_a_new_class_means_the_new_class(store: Store, fill: Fill) -> None:
    (image_id,) = fill(1)
    store.rename_class("dog", "hound")
    store.add_classes(["dog"])
    store.label(store.annotator("me").id, Answer(image_id, "dog"))
    assert store.counts().classes == {"cat": 0, "hound": 0, "dog": 1}


def test_a_merge_counts_as_the_other_but_every_label_keeps_what_was_answered(
    store: Store, fill: Fill
) -> None:
    a, b, c = fill(3)
    me = store.annotator("me")
    cat, dog = store.classes()
    store.add_classes(["wolf"])
    store.label(me.id, Answer(a, "cat"))
    store.label(me.id, Answer(b, "dog"))
    assert store.merge_class("cat", "dog").id == dog.id
    assert store.counts().classes == {"dog": 2, "wolf": 0}
    store.merge_class("dog", "wolf")
    store.label(me.id, Answer(c, "cat"))  # an offline page knows nothing of the merges
    assert store.counts().classes == {"wolf": 3}
    assert named(store) == {"wolf": 2}
    kept = [label.class_id for label in reversed(store.history())]
    assert kept == [cat.id, dog.id, store.classes()[0].id]
    assert {label.label for label in store.history()} == {"wolf"}


def test_the_history_of_classes_is_kept(store: Store, fill: Fill) -> None:
    fill(1)
    store.rename_class("dog", "hound")
    store.merge_class("hound", "cat")
    cat = store.classes()[0].id
    changes = [(change.change, change.name) for change in store.class_history()]
    assert changes == [("added", "cat"), ("added", "dog"), ("renamed", "hound"), ("merged", "hound")]
    assert [change.class_id == cat for change in store.class_history()] == [True, False, False, False]


def test_a_merged_name_can_be_added_anew_as_a_class_of_its_own(store: Store, fill: Fill) -> None:
    a, b = fill(2)
    me = store.annotator("me")
    store.label(me.id, Answer(a, "dog"))
    store.merge_class("dog", "cat")
    store.add_classes(["dog"])
    store.label(me.id, Answer(b, "dog"))
    assert store.counts().classes == {"cat": 1, "dog": 1}
    assert named(store) == {"cat": 0, "dog": 2}


def test_a_rename_to_a_taken_name_says_to_merge(store: Store) -> None:
    store.add_classes(["cat", "dog"])
    with pytest.raises(BadOption, match="Merge 'dog' into it"):
        store.rename_class("dog", "cat")
    with pytest.raises(BadOption, match="one class already"):
        store.merge_class("cat", "cat")


def test_an_unknown_class_gets_a_suggestion(store: Store) -> None:
    store.add_classes(["collie", "chow"])
    with pytest.raises(NoLabel, match=r"no class named 'colie'. Did you mean 'collie'\? Known: collie, chow"):
        store.rename_class("colie", "x")


def test_of_two_opposite_merges_at_one_moment_the_second_is_refused(
    store: Store, fill: Fill, overlap: Callable[..., Any], clock: Any
) -> None:
    fill(1)
    into_dog = partial(classes.merge, name="cat", into="dog", now=clock())
    into_cat = partial(classes.merge, name="dog", into="cat", now=clock())
    done, refused = overlap(into_dog, into_cat)
    assert done.name == "dog"
    with pytest.raises(BadOption, match="one class already"):
        refused.result()
    assert named(store) == {"dog": 1}


def test_a_merge_into_a_class_that_is_just_being_merged_ends_where_that_one_did(
    store: Store, overlap: Callable[..., Any], clock: Any
) -> None:
    store.add_classes(["cat", "dog", "wolf"])
    first = partial(classes.merge, name="dog", into="wolf", now=clock())
    second = partial(classes.merge, name="cat", into="dog", now=clock())
    _, then = overlap(first, second)
    assert then.result().name == "wolf"
    assert named(store) == {"wolf": 2}


def test_classes_that_were_merged_in_a_circle_count_as_the_oldest_of_them(
    store: Store, fill: Fill, address: str
) -> None:
    a, b = fill(2)
    store.add_classes(["puppy"])
    cat, dog, puppy = store.classes()
    me = store.annotator("me")
    store.label(me.id, Answer(a, "dog"))
    store.label(me.id, Answer(b, "puppy"))
    database = Database.open(address)
    for one, into in ((cat, dog), (dog, cat), (puppy, dog)):
        merged = update(table).where(table.c.id == one.id).values(merged_into=into.id)
        database.write(lambda conn, merged=merged: conn.execute(merged) and None)
    database.close()
    assert store.class_names() == dict.fromkeys([cat.id, dog.id, puppy.id], "cat")
    assert store.counts().classes == {"cat": 2}
    assert named(store) == {"cat": 0}


@pytest.mark.parametrize(
    ("name", "shown"),
    [("\ud83d dog", "\ufffd dog"), ("dog\udcff", "dog\ufffd"), ("caf\udcc3\udca9", "café")],
)
def test_a_class_name_of_odd_bytes_or_half_a_pair_can_be_shown(store: Store, name: str, shown: str) -> None:
    assert [one.name for one in store.add_classes([name])] == [shown]
    assert store.rename_class(name, "x").name == "x"
