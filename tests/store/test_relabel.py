"""Labelled images that are asked again: which, to whom, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from vizsla.store import Answer, ImageFile, Store
from vizsla.store.queue import REVIEW

Fill = Callable[[int], list[int]]


def doubt(store: Store, image_ids: list[int]) -> None:
    """What a trainer leaves: the labels it doubts, worst first."""
    newest = store.pulse().label_id
    store.set_setting(REVIEW, {"label_id": newest, "errors": [{"image": one} for one in image_ids]})


def asked(store: Store, annotator_id: int, n: int = 100) -> list[int]:
    return [item.image_id for item in store.claim(annotator_id, n, relabel=True)]


@pytest.fixture
def five(store: Store, fill: Fill) -> list[int]:
    """Five images that ada called cats, of which the model doubts the third, the first and the fourth."""
    ids, ada = fill(5), store.annotator("ada").id
    for image_id in ids:
        store.label(ada, Answer(image_id, "cat"))
    doubt(store, [ids[2], ids[0], ids[3]])
    return ids


def test_what_the_model_doubts_is_asked_again_worst_first_and_blindly(store: Store, five: list[int]) -> None:
    a, _, c, d, _ = five
    bob = store.annotator("bob").id
    items = store.claim(bob, 5, relabel=True)
    assert [item.image_id for item in items] == [c, a, d]
    assert {(item.source, item.suggestion) for item in items} == {("relabel", None)}
    assert not any("cat" in item.reason for item in items), "the label that stands would sway who is asked"
    assert store.claim(bob, 5) == [], "the ordinary queue has nothing left, and lends nothing from the other"
    assert store.suspects() == 3
    assert [one.image_id for one in store.upcoming(2, relabel=True)] == [c, a]


def test_no_image_is_asked_of_two_people_at_once(store: Store, five: list[int], clock: Any) -> None:
    a, _, c, d, _ = five
    ada, bob = store.annotator("ada").id, store.annotator("bob").id
    assert asked(store, ada, 2) == [c, a]
    assert asked(store, bob) == [d]
    clock.wait(50)
    store.claim(ada, 1)  # back at the ordinary queue, which keeps nothing of this one
    store.renew(bob)
    clock.wait(50)
    assert asked(store, bob) == [d, c, a], "ada's leases have run out"


def test_eight_threads_share_out_what_is_to_be_asked_again(store: Store, fill: Fill) -> None:
    ids, ada = fill(80), store.annotator("ada").id
    store.label_batch(ada, [Answer(image_id, "cat") for image_id in ids])
    doubt(store, ids)
    people = [store.annotator(f"annotator {k}").id for k in range(8)]

    def answer_all(annotator_id: int) -> list[int]:
        mine = []
        while items := store.claim(annotator_id, 3, relabel=True):
            mine.append(items[0].image_id)
            store.label(annotator_id, Answer(items[0].image_id, "dog", lease_id=items[0].lease_id))
        return mine

    with ThreadPoolExecutor(8) as pool:
        got = [image_id for mine in pool.map(answer_all, people) for image_id in mine]
    assert sorted(got) == sorted(ids)


def test_the_same_answer_confirms_and_another_one_stands_and_is_a_disagreement(
    store: Store, five: list[int]
) -> None:
    a, _, c, d, _ = five
    bob = store.annotator("bob").id
    for image_id, name in ((c, "cat"), (a, "dog")):
        [item] = store.claim(bob, 1, relabel=True)
        assert item.image_id == image_id
        store.label(bob, Answer(image_id, name, lease_id=item.lease_id))
    assert [label.source for label in store.labels(limit=2)] == ["relabel", "relabel"]
    assert store.confirmed() == {c}
    assert store.image(a).label == "dog"
    assert [(one.image_id, one.answers) for one in store.disagreements()] == [
        (a, (("ada", "cat"), ("bob", "dog")))
    ]
    assert asked(store, store.annotator("ada").id) == [d], "what was answered since is not asked again"
    doubt(store, [a, c, d])
    assert asked(store, store.annotator("ada").id) == [d], "nor when a new model doubts it still"


def test_a_second_answer_of_the_same_person_is_a_disagreement_until_that_person_decides(
    store: Store, five: list[int]
) -> None:
    ada, c = store.annotator("ada").id, five[2]
    [item] = store.claim(ada, 1, relabel=True)
    store.label(ada, Answer(c, "dog", lease_id=item.lease_id))
    [found] = store.disagreements()
    assert (found.label, found.answers) == ("dog", (("ada", "cat"), ("ada", "dog")))
    store.label(ada, Answer(c, "dog"))  # as Review does
    assert store.disagreements() == []
    assert store.confirmed() == {c}


def test_an_answer_that_names_no_lease_is_one_of_review_where_the_label_is_in_sight(
    store: Store, five: list[int]
) -> None:
    ada, c = store.annotator("ada").id, five[2]
    assert asked(store, ada, 1) == [c]
    store.label(ada, Answer(c, "dog"))
    assert store.labels(limit=1)[0].source == "al"
    assert store.disagreements() == [], "a correction"


def test_who_cannot_tell_leaves_what_stood_and_is_not_asked_once_more(store: Store, five: list[int]) -> None:
    a, _, c, d, _ = five
    bob = store.annotator("bob").id
    before = store.counts()
    [item] = store.claim(bob, 1, relabel=True)
    store.label(bob, Answer(c, status="skipped", lease_id=item.lease_id))
    assert (store.image(c).label, store.counts()) == ("cat", before)
    assert store.history(limit=1)[0].status == "skipped"
    doubt(store, [c, a, d])
    assert asked(store, bob) == [a, d]
    assert store.disagreements() == []
    assert [label.image_id for label in store.undo(bob).labels] == [c]
    assert (store.image(c).label, store.counts()) == ("cat", before)
    assert asked(store, bob) == [c, a, d]


def test_a_second_answer_that_is_taken_back_is_asked_for_again_and_the_first_stands(
    store: Store, five: list[int]
) -> None:
    a, _, c, d, _ = five
    bob = store.annotator("bob").id
    [item] = store.claim(bob, 1, relabel=True)
    store.label(bob, Answer(c, "dog", lease_id=item.lease_id))
    assert asked(store, bob, 2) == [a, d]
    store.undo(bob)
    assert store.image(c).label == "cat"
    assert asked(store, bob) == [c, a, d], "the one taken back comes first"
    store.redo(bob)
    assert store.image(c).label == "dog"
    assert asked(store, bob) == [a, d]
    store.undo(bob)
    store.label(bob, Answer(c, "dog"))  # on the page an image taken back has no lease until the next claim
    assert store.labels(limit=1)[0].source == "relabel"


def test_a_bad_image_asked_again_can_be_flagged(store: Store, five: list[int]) -> None:
    bob = store.annotator("bob").id
    [item] = store.claim(bob, 1, relabel=True)
    store.label(bob, Answer(item.image_id, status="flagged", lease_id=item.lease_id))
    assert store.image(item.image_id).status == "flagged"
    assert item.image_id not in asked(store, bob)


def test_nothing_is_asked_again_before_a_model_doubts_anything(store: Store, fill: Fill) -> None:
    ids, me = fill(3), store.annotator("me").id
    store.label(me, Answer(ids[0], "cat"))
    assert asked(store, me) == []
    assert (store.suspects(), store.upcoming(3, relabel=True)) == (0, [])


def test_an_image_that_is_gone_is_not_asked_about(store: Store, five: list[int]) -> None:
    bob = store.annotator("bob").id
    store.rescan([ImageFile(f"{i:05}.jpg", 1000 + i, i) for i in (0, 1, 4)], lambda _: None)
    assert asked(store, bob) == [five[0]]
    assert store.suspects() == 1
