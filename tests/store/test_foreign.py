"""Tasks of another labelling tool."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from vizsla.store import Answer, Imported, Place, Ranked, Store, Task

Fill = Callable[[int], list[int]]
MARK, OTHER = UUID(int=1), UUID(int=2)


def says(image_id: int, label: str | None, mark: UUID = MARK, who: str = "ada") -> Imported:
    status = "labelled" if label else "skipped"
    return Imported(who, Answer(image_id, label, status), batch=mark)


def test_tasks_of_two_origins_do_not_mix_and_a_link_may_change(store: Store, fill: Fill) -> None:
    a, b = fill(2)
    store.link_tasks("one", {7: a, 8: b})
    store.link_tasks("two", {7: b})
    store.show_tasks("one", {7})
    store.link_tasks("one", {8: a})
    assert store.tasks("one", [7, 8, 9]) == {7: Task(a, True), 8: Task(a, False)}
    assert store.tasks("two", [7]) == {7: Task(b, False)}


def test_what_was_said_before_is_left_out_and_a_change_of_mind_stands(store: Store, fill: Fill) -> None:
    [a] = fill(1)
    assert store.take_answers([says(a, "dog")]).new == 1
    assert store.take_answers([says(a, "dog")]).new == 0
    assert store.take_answers([says(a, "cat")]).new == 1
    assert store.take_answers([says(a, "dog")]).new == 1  # back again
    assert [label.label for label in store.history()] == ["dog", "cat", "dog"]
    assert store.take_answers([says(a, None)]).new == 1
    assert store.images()[0].status == "skipped"


def test_an_answer_with_the_old_name_of_a_class_says_nothing_new(store: Store, fill: Fill) -> None:
    [a] = fill(1)
    store.take_answers([says(a, "dog")])
    store.rename_class("dog", "hound")
    assert store.take_answers([says(a, "dog")]).new == 0
    assert store.labels()[0].label == "hound"


def test_a_withdrawn_answer_leaves_what_stood_before_and_nothing_a_second_time(
    store: Store, fill: Fill
) -> None:
    a, b = fill(2)
    store.label(store.annotator("me").id, Answer(a, "cat"))
    store.take_answers([says(a, "dog"), says(b, "dog", OTHER)])
    store.take_answers([says(b, "cat", OTHER)])
    assert store.withdraw([MARK]) == 1
    assert store.withdraw([OTHER]) == 2  # both that it said
    assert store.withdraw([MARK, OTHER, UUID(int=3)]) == 0
    assert {image.id: (image.status, image.label) for image in store.images()} == {
        a: ("labelled", "cat"),
        b: ("unlabelled", None),
    }
    assert store.take_answers([says(b, "dog", OTHER)]).new == 1  # given anew
    assert store.labels()[0].label == "dog"


def test_of_two_answers_to_an_image_the_other_stands_when_one_is_withdrawn(store: Store, fill: Fill) -> None:
    [a] = fill(1)
    store.take_answers([says(a, "cat", MARK, "ada")])
    store.take_answers([says(a, "dog", OTHER, "bob")])
    store.withdraw([MARK])
    assert store.labels()[0].label == "dog"
    store.withdraw([OTHER])
    assert store.labels() == []


def test_places_are_those_of_the_published_order_without_what_is_answered(store: Store, fill: Fill) -> None:
    a, b, c, d = fill(4)
    cat, dog = store.classes()
    assert store.places([a]).size == 0
    version = store.start_model(2, "x", "y").version
    ranked = [
        Ranked(c, 3.0, "", suggestion=((dog.id, 0.7), (cat.id, 0.3))),
        Ranked(a, 2.0, "", audit=True),
        Ranked(b, 1.0, "", suggestion=((cat.id, 1.0),)),
    ]
    store.publish_ranking(version, ranked)
    store.label(store.annotator("me").id, Answer(b, "cat"))
    places = store.places([a, b, c, d])
    assert (places.model_version, places.size) == (version, 3)
    assert places.of == {c: Place(0, (("dog", 0.7), ("cat", 0.3))), a: Place(1, None)}


def test_images_are_found_by_their_paths(store: Store, fill: Fill) -> None:
    a, b = fill(2)
    assert store.at(["00001.jpg", "00000.jpg", "nowhere.jpg"]) == {"00000.jpg": a, "00001.jpg": b}
