"""What an answer is acknowledged with: how many images are answered."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import sleep

from vizsla.store import Answer, ImageFile, Store

Fill = Callable[[int], list[int]]


def test_two_servers_in_turn_count_on_without_a_gap(store: Store, address: str, fill: Fill) -> None:
    ids = fill(10)
    with Store.open(address) as other:
        me = store.annotator("me").id
        turns = [store, other, other, store, other, store, store, other, store, other]
        saved = [each.label(me, Answer(image, "cat")).saved for each, image in zip(turns, ids, strict=True)]
    assert saved == list(range(1, 11))


def test_what_was_taken_back_or_has_gone_is_not_counted(store: Store, fill: Fill) -> None:
    a, b, c, d = fill(4)
    me = store.annotator("me").id
    assert [store.label(me, Answer(image, "cat")).saved for image in (a, b)] == [1, 2]
    store.undo(me)
    assert store.label(me, Answer(b, "dog")).saved == 2
    assert store.label(me, Answer(b, "cat")).saved == 2
    store.undo(me)
    store.redo(me)
    assert store.label(me, Answer(c, "cat")).saved == 3
    there = [ImageFile(image.path or "", image.size, image.mtime_ns) for image in store.images()]
    gone = [replace(file) for file in there if file.path != "00000.jpg"]
    store.rescan(gone, lambda path: None)
    assert store.label(me, Answer(d, "cat")).saved == 3


def test_a_second_after_a_rush_all_are_counted(store: Store, fill: Fill) -> None:
    ids = fill(41)
    me = store.annotator("me").id
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda image: store.label(me, Answer(image, "cat")), ids[:40]))
    sleep(1.1)
    assert store.label(me, Answer(ids[40], "cat")).saved == 41
