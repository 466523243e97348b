"""Labels: appended once, taken back and given again."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from vizsla.errors import BadOption, KeyTaken, NoLabel, UnknownName
from vizsla.store import Answer, Change, Ranked, Store

Fill = Callable[[int], list[int]]


def standing(store: Store) -> dict[int, tuple[str, str | None]]:
    return {label.image_id: (label.status, label.label) for label in store.labels()}


def image_ids(change: Change) -> list[int]:
    return [label.image_id for label in change.labels]


def test_a_label_keeps_everything_that_was_said(store: Store, fill: Fill, clock: Any) -> None:
    (image_id,) = fill(1)
    cat, dog = store.classes()
    model = store.start_model(20, "logistic", "lite0")
    suggestion = ((dog.id, 0.75), (cat.id, 0.25))
    store.publish_ranking(model.version, [Ranked(image_id, 1.0, "unsure", suggestion=suggestion)])
    ada = store.annotator("ada")
    (item,) = store.claim(ada.id)
    key = uuid4()
    saved = store.label(
        ada.id,
        Answer(image_id, "cat", key=key, lease_id=item.lease_id, suggestion_shown=True, lead_ms=812),
    )
    (label,) = store.labels()
    assert (label.id, label.image_id, label.path) == (saved.label_id, image_id, "00000.jpg")
    assert (label.status, label.class_id, label.label) == ("labelled", cat.id, "cat")
    assert (label.annotator, label.source, label.round, label.model_version) == ("ada", "al", 1, 1)
    assert (label.suggestion, label.suggestion_shown, label.lead_ms) == (suggestion, True, 812)
    assert (label.key, label.undoes, label.created_at) == (key, None, clock())


def test_the_source_is_what_the_lease_says(store: Store, fill: Fill) -> None:
    a, b, c, d = fill(4)
    store.publish_ranking(None, [Ranked(a, 1.0, "", audit=True), Ranked(b, 0.5, "")])
    me = store.annotator("me")
    items = store.claim(me.id, 3)
    (shuffled,) = {item.image_id for item in items} - {a, b}
    grid = Answer(a, "cat")
    late = Answer(({c, d} - {shuffled}).pop(), "cat")
    for item in items[1:]:
        store.label(me.id, Answer(item.image_id, "cat"))
    store.label(me.id, late)
    store.label_batch(me.id, [grid])
    sources = {label.image_id: label.source for label in store.labels()}
    assert sources == {b: "random", shuffled: "random", late.image_id: "al", a: "bulk"}
    store.undo(me.id)
    (item,) = store.claim(me.id)
    store.label(me.id, Answer(item.image_id, "cat", source="import"))
    assert store.labels()[0].source == "import"


def test_an_audit_item_is_labelled_as_one(store: Store, fill: Fill, clock: Any) -> None:
    (a,) = fill(1)
    store.publish_ranking(None, [Ranked(a, 1.0, "random check", audit=True)])
    me = store.annotator("me")
    store.claim(me.id)
    clock.wait(3600)  # a late answer, after the lease has run out
    store.label(me.id, Answer(a, "cat"))
    assert [label.source for label in store.labels()] == ["audit"]


def test_the_newest_answer_of_an_image_stands(store: Store, fill: Fill) -> None:
    a, b = fill(2)
    ada, bob = store.annotator("ada"), store.annotator("bob")
    saved = [
        store.label(ada.id, Answer(a, "cat")).saved,
        store.label(bob.id, Answer(b, status="skipped")).saved,
        store.label(bob.id, Answer(a, "dog")).saved,
    ]
    assert saved == [1, 2, 2]
    assert standing(store) == {a: ("labelled", "dog"), b: ("skipped", None)}
    assert [label.label for label in store.history()] == ["dog", None, "cat"]
    assert [label.label for label in store.history(annotator_id=ada.id)] == ["cat"]


def test_labels_come_in_pages_newest_first(store: Store, fill: Fill) -> None:
    ids = fill(7)
    me = store.annotator("me")
    store.label_batch(me.id, [Answer(image_id, "cat") for image_id in ids])
    first = store.labels(limit=4)
    assert [label.image_id for label in first] == ids[:2:-1]
    assert [label.image_id for label in store.labels(before=first[-1].id)] == ids[2::-1]
    assert store.history(limit=4) == first


def test_the_same_key_again_is_the_same_answer_and_nothing_new(store: Store, fill: Fill) -> None:
    a, b = fill(2)
    me = store.annotator("me")
    answer = Answer(a, "cat")
    first = store.label(me.id, answer)
    store.label(me.id, Answer(b, "dog"))
    again = store.label(me.id, answer)
    assert again == first and (first.new, again.new) == (True, False)
    assert store.label_batch(me.id, [answer, answer]) == [first, first]
    assert len(store.history()) == 2


def test_twenty_threads_that_send_one_answer_write_one_row(store: Store, fill: Fill) -> None:
    (image_id,) = fill(1)
    me = store.annotator("me")
    answer = Answer(image_id, "cat", key=UUID(int=7))
    with ThreadPoolExecutor(20) as pool:
        saved = list(pool.map(lambda _: store.label(me.id, answer), range(20)))
    assert len(set(saved)) == 1
    assert sum(one.new for one in saved) == 1
    assert len(store.history()) == 1


def test_of_twenty_threads_with_one_key_for_twenty_answers_one_is_told_that_it_is_kept(
    store: Store, fill: Fill
) -> None:
    ids = fill(20)
    me = store.annotator("me")

    def label(image_id: int) -> int | None:
        try:
            store.label(me.id, Answer(image_id, "cat", key=UUID(int=7)))
        except KeyTaken:
            return None
        return image_id

    with ThreadPoolExecutor(20) as pool:
        kept = [image_id for image_id in pool.map(label, ids) if image_id]
    assert kept == [label.image_id for label in store.history()] and len(kept) == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda a, b, key: Answer(b, "cat", key=key),
        lambda a, b, key: Answer(a, "dog", key=key),
        lambda a, b, key: Answer(a, status="skipped", key=key),
        lambda a, b, key: Answer(a, "emu", key=key),
    ],
    ids=["another image", "another label", "another status", "no class"],
)
def test_a_key_that_comes_with_another_answer_is_refused_and_nothing_is_written(
    store: Store, fill: Fill, other: Callable[[int, int, UUID], Answer]
) -> None:
    a, b = fill(2)
    me, key = store.annotator("me").id, uuid4()
    first = store.label(me, Answer(a, "cat", key=key))
    with pytest.raises(KeyTaken, match=rf"{key} names another answer already, of image {a} \(cat\)"):
        store.label(me, other(a, b, key))
    with pytest.raises(KeyTaken):
        store.label_batch(me, [Answer(b, "dog"), other(a, b, key)])
    assert store.label(me, Answer(a, "cat", key=key)) == first
    assert [label.id for label in store.history()] == [first.label_id]


def test_two_answers_of_a_batch_with_one_key_are_refused_but_one_sent_twice_is_one(
    store: Store, fill: Fill
) -> None:
    a, b = fill(2)
    me, key = store.annotator("me").id, uuid4()
    with pytest.raises(KeyTaken, match="another answer of the same batch"):
        store.label_batch(me, [Answer(a, "cat", key=key), Answer(b, "cat", key=key)])
    assert store.history() == []
    first, again = store.label_batch(me, [Answer(a, "cat", key=key), Answer(a, " cat", key=key)])
    assert first == again and len(store.history()) == 1


def test_an_answer_that_is_sent_again_after_its_class_was_renamed_or_merged_is_the_same(
    store: Store, fill: Fill
) -> None:
    a, b = fill(2)
    me = store.annotator("me").id
    answers = [Answer(a, "cat"), Answer(b, "dog")]
    first = store.label_batch(me, answers)
    store.rename_class("cat", "feline")
    store.merge_class("dog", "feline")
    assert store.label_batch(me, answers) == first
    assert [one.new for one in store.label_batch(me, answers)] == [False, False]


def test_a_key_of_an_answer_takes_nothing_back_and_one_of_an_undo_answers_nothing(
    store: Store, fill: Fill
) -> None:
    a, b = fill(2)
    me, you = store.annotator("me").id, store.annotator("you").id
    of_answer, of_undo, of_redo = uuid4(), uuid4(), uuid4()
    store.label(me, Answer(a, "cat", key=of_answer))
    store.label(you, Answer(b, "cat"))
    for step in (store.undo, store.redo):
        with pytest.raises(KeyTaken, match="Make a new key"):
            step(me, of_answer)
    store.undo(me, of_undo)
    with pytest.raises(KeyTaken):
        store.undo(you, of_undo)
    with pytest.raises(KeyTaken):
        store.redo(me, of_undo)
    with pytest.raises(KeyTaken, match="taken back"):
        store.label(me, Answer(a, "cat", key=of_undo))
    store.redo(me, of_redo)
    with pytest.raises(KeyTaken):
        store.undo(me, of_redo)
    assert standing(store) == {a: ("labelled", "cat"), b: ("labelled", "cat")}


def test_twenty_threads_that_answer_one_image_leave_the_newest_row_standing(store: Store, fill: Fill) -> None:
    (image_id,) = fill(1)
    me = store.annotator("me")
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda k: store.label(me.id, Answer(image_id, ["cat", "dog"][k % 2])), range(60)))
    assert len(store.history()) == 60
    assert store.labels() == store.history(limit=1)


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (Answer(1, "emu"), NoLabel, "no class named 'emu'"),
        (Answer(99, "cat"), UnknownName, "no image has the id 99"),
        (Answer(1), BadOption, "needs a label"),
        (Answer(1, "cat", status="skipped"), BadOption, "takes no label"),
        (Answer(1, status="undone"), BadOption, "none of labelled, skipped, flagged"),  # type: ignore[arg-type]
    ],
)
def test_a_batch_with_one_bad_answer_writes_nothing(
    store: Store, fill: Fill, bad: Answer, error: type[Exception], words: str
) -> None:
    ids = fill(3)
    me = store.annotator("me")
    with pytest.raises(error, match=words):
        store.label_batch(me.id, [Answer(ids[1], "cat"), bad, Answer(ids[2], "dog")])
    assert store.history() == []
    assert store.counts().unlabelled == 3


def test_a_batch_is_acknowledged_in_its_order(store: Store, fill: Fill) -> None:
    ids = fill(1200)
    me = store.annotator("me")
    known = Answer(ids[0], "cat")
    first = store.label(me.id, known)
    batch = [Answer(image_id, "dog") for image_id in reversed(ids[1:])]
    saved = store.label_batch(me.id, [known, *batch, Answer(ids[5], "cat")])
    assert saved[0] == first
    assert [one.saved for one in saved] == [*range(1, 1201), 1200]
    ids_of_rows = {label.id: label.image_id for label in store.history()}
    assert [ids_of_rows[one.label_id] for one in saved[1:-1]] == ids[:0:-1]
    assert store.counts().classes == {"cat": 2, "dog": 1198}


def test_five_undos_and_five_redos_across_a_retrain(store: Store, fill: Fill) -> None:
    ids = fill(6)
    me, other = store.annotator("me"), store.annotator("other")
    for image_id in ids[:5]:
        store.label(me.id, Answer(image_id, "cat"))
    store.label(other.id, Answer(ids[5], "dog"))
    model = store.start_model(6, "logistic", "lite0")
    store.finish_model(model.version, {})
    store.publish_ranking(model.version, [])
    before = standing(store)

    assert [image_ids(store.undo(me.id)) for _ in range(6)] == [*([i] for i in reversed(ids[:5])), []]
    assert standing(store) == {ids[5]: ("labelled", "dog")}
    assert [image_ids(store.redo(me.id)) for _ in range(6)] == [*([i] for i in ids[:5]), []]
    assert standing(store) == before
    assert [label.status for label in store.history()].count("undone") == 5
    assert len(store.history()) == 16, "nothing was changed or removed"


def test_the_undone_image_is_shown_next_and_to_nobody_else(store: Store, fill: Fill) -> None:
    ids = fill(5)
    me, other = store.annotator("me"), store.annotator("other")
    items = store.claim(me.id, 3)
    for item in items[:2]:
        store.label(me.id, Answer(item.image_id, "cat"))
    store.undo(me.id)
    store.undo(me.id)
    expected = [item.image_id for item in items]
    assert [item.image_id for item in store.claim(me.id, 3)] == expected
    assert {item.image_id for item in store.claim(other.id, 5)} == set(ids) - set(expected)


def test_undoing_a_correction_brings_back_what_stood_before(store: Store, fill: Fill) -> None:
    (a,) = fill(1)
    ada, bob = store.annotator("ada"), store.annotator("bob")
    store.label(ada.id, Answer(a, "cat"))
    store.label(bob.id, Answer(a, "dog"))
    assert store.undo(ada.id).labels == (), "another answer stands, so nothing on the page would change"
    change = store.undo(bob.id)
    assert [(label.label, label.annotator) for label in change.labels] == [("dog", "bob")]
    assert change.saved == 1
    (label,) = store.labels()
    assert (label.label, label.annotator) == ("cat", "ada")


def test_a_new_answer_ends_what_can_be_redone(store: Store, fill: Fill) -> None:
    a, b = fill(2)
    me = store.annotator("me")
    store.label(me.id, Answer(a, "cat"))
    store.undo(me.id)
    store.label(me.id, Answer(b, "dog"))
    assert store.redo(me.id).labels == ()
    assert standing(store) == {b: ("labelled", "dog")}


def test_one_undo_takes_back_a_whole_batch_and_one_redo_gives_it_again(store: Store, fill: Fill) -> None:
    ids = fill(5)
    me = store.annotator("me")
    store.label(me.id, Answer(ids[0], "dog"))
    store.label_batch(me.id, [Answer(image_id, "cat") for image_id in ids])
    full = standing(store)
    for _ in range(2):
        assert image_ids(store.undo(me.id)) == ids
        assert standing(store) == {ids[0]: ("labelled", "dog")}
        assert image_ids(store.redo(me.id)) == ids
        assert standing(store) == full


def test_of_a_large_batch_that_was_undone_the_oldest_hundred_are_shown_first(
    store: Store, fill: Fill
) -> None:
    ids = fill(260)
    me, other = store.annotator("me"), store.annotator("other")
    order = random.Random(0).sample(ids, 250)
    store.label_batch(other.id, [Answer(image_id, "dog") for image_id in order[:20]])
    store.label_batch(me.id, [Answer(image_id, "cat") for image_id in order])
    assert image_ids(store.undo(me.id)) == order
    assert standing(store) == dict.fromkeys(order[:20], ("labelled", "dog"))
    assert [item.image_id for item in store.claim(me.id, 80)] == order[20:100]
    assert {item.image_id for item in store.claim(other.id, 300)} == {*ids} - {*order[:100]}


def test_a_batch_of_5000_is_undone_by_one_undo(store: Store, fill: Fill) -> None:
    ids = fill(5000)
    me = store.annotator("me")
    store.label_batch(me.id, [Answer(image_id, "cat") for image_id in ids])
    assert len(store.undo(me.id).labels) == 5000
    assert store.counts().unlabelled == 5000


def test_imported_labels_are_not_undone(store: Store, fill: Fill) -> None:
    ids = fill(2)
    me = store.annotator("me")
    store.label(me.id, Answer(ids[0], "cat"))
    store.label_batch(me.id, [Answer(ids[1], "cat", source="import", round=3)])
    assert image_ids(store.undo(me.id)) == ids[:1]
    assert [(label.source, label.round) for label in store.labels()] == [("import", 3)]


def test_an_undo_or_redo_sent_twice_with_its_key_happens_once(store: Store, fill: Fill) -> None:
    ids = fill(4)
    me = store.annotator("me")
    for image_id in ids[:2]:
        store.label(me.id, Answer(image_id, "cat"))
    store.label_batch(me.id, [Answer(image_id, "dog") for image_id in ids[2:]])
    for act in (store.undo, store.redo):
        key = uuid4()
        first = act(me.id, key)
        assert image_ids(first) == ids[2:]
        assert act(me.id, key) == first


def test_two_undos_at_the_same_moment_take_back_two_answers(store: Store, fill: Fill) -> None:
    ids = fill(40)
    me = store.annotator("me")
    for image_id in ids:
        store.label(me.id, Answer(image_id, "cat"))
    with ThreadPoolExecutor(8) as pool:
        changes = list(pool.map(lambda _: store.undo(me.id), range(20)))
    assert sorted(image_id for change in changes for image_id in image_ids(change)) == ids[20:]
    assert sorted(standing(store)) == ids[:20]


@dataclass
class Row:
    image_id: int
    annotator: int
    status: str
    label: str | None
    group: int
    undoes: int | None = None
    redoes: int | None = None


class Twin:
    """The same rules, slow and obvious: every question is answered by reading all rows."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def group(self) -> int:
        return len(self.rows)

    def standing_row(self, image_id: int) -> int | None:
        void = {row.undoes for row in self.rows}
        alive = [n for n, row in enumerate(self.rows) if row.status != "undone" and n not in void]
        return max((n for n in alive if self.rows[n].image_id == image_id), default=None)

    def undo(self, annotator: int) -> None:
        mine = [n for n, row in enumerate(self.rows) if row.annotator == annotator and row.status != "undone"]
        stand = [n for n in mine if self.standing_row(self.rows[n].image_id) == n]
        group = self.group()
        for n in [n for n in stand if self.rows[n].group == self.rows[stand[-1]].group]:
            self.rows.append(Row(self.rows[n].image_id, annotator, "undone", None, group, undoes=n))

    def redo(self, annotator: int) -> None:
        redone = {row.redoes for row in self.rows}
        mine = [n for n, row in enumerate(self.rows) if row.annotator == annotator]
        plain = max(
            (n for n in mine if self.rows[n].undoes is None and self.rows[n].redoes is None), default=-1
        )
        open_ones = [n for n in mine if self.rows[n].undoes is not None and n not in redone]
        group = self.group()
        if open_ones and open_ones[-1] > plain:
            for n in [n for n in open_ones if self.rows[n].group == self.rows[open_ones[-1]].group]:
                first = self.rows[self.rows[n].undoes or 0]
                self.rows.append(Row(first.image_id, annotator, first.status, first.label, group, redoes=n))

    def standing(self) -> dict[int, tuple[str, str | None]]:
        rows = {row.image_id: self.standing_row(row.image_id) for row in self.rows}
        return {i: (self.rows[n].status, self.rows[n].label) for i, n in rows.items() if n is not None}


@pytest.mark.parametrize("seed", range(2))
def test_the_store_agrees_with_a_slow_obvious_twin_through_100_random_acts(
    store: Store, fill: Fill, seed: int
) -> None:
    ids, rng, twin = fill(6), random.Random(seed), Twin()
    people = [store.annotator(name).id for name in ("ada", "bob", "cyd")]
    for _ in range(100):
        who = rng.choice(people)
        act = rng.choice(["label", "label", "skip", "batch", "undo", "undo", "undo", "redo", "redo"])
        if act in ("undo", "redo"):
            getattr(store, act)(who)
            getattr(twin, act)(who)
        else:
            chosen = rng.sample(ids, 3 if act == "batch" else 1)
            status, label = ("skipped", None) if act == "skip" else ("labelled", rng.choice(["cat", "dog"]))
            answers = [Answer(image_id, label, status=status) for image_id in chosen]  # type: ignore[arg-type]
            store.label_batch(who, answers) if act == "batch" else store.label(who, answers[0])
            group = twin.group()
            twin.rows += [Row(image_id, who, status, label, group) for image_id in chosen]
        expected = twin.standing()
        assert standing(store) == expected
        assert len(store.history()) == len(twin.rows)
        counts = store.counts()
        answers_of = [status for status, _ in expected.values()]
        assert (counts.labelled, counts.skipped) == (
            answers_of.count("labelled"),
            answers_of.count("skipped"),
        )
        assert sum(counts.classes.values()) == counts.labelled
        assert counts.unlabelled == 6 - len(expected)
