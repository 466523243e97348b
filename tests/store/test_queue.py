"""What annotators get to see, and that nobody else does."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from vizsla.errors import BadOption
from vizsla.store import Answer, ImageFile, Ranked, Store

Fill = Callable[[int], list[int]]
WORKER = Path(__file__).with_name("worker.py")


def order(store: Store, annotator_id: int, n: int) -> list[int]:
    return [item.image_id for item in store.claim(annotator_id, n)]


def test_without_a_ranking_images_come_in_a_shuffle_that_is_the_same_in_every_project(
    store: Store, fill: Fill, tmp_path: Path
) -> None:
    fill(40)
    me = store.annotator("me")
    paths = [item.path for item in store.claim(me.id, 40)]
    assert sorted(paths) == [f"{i:05}.jpg" for i in range(40)]
    with Store.open(tmp_path / "other") as other:
        other.add_images(reversed(files(store)))
        again = [item.path for item in other.claim(other.annotator("me").id, 40)]
    assert paths == again
    rises = sum(one < two for one, two in pairwise(paths))
    assert 8 < rises < 31  # 19.5 ± 1.8 of 39 pairs rise in a random order; 39 in that of the names


def files(store: Store) -> list[ImageFile]:
    return [ImageFile(str(image.path), image.size, image.mtime_ns) for image in store.images()]


def test_claims_follow_the_ranking_and_then_the_images_it_does_not_name(store: Store, fill: Fill) -> None:
    ids = fill(6)
    cat, dog = store.classes()
    model = store.start_model(20, "logistic", "lite0")
    store.publish_ranking(
        model.version,
        [
            Ranked(ids[4], 2.0, "unsure: cat or dog", suggestion=((dog.id, 0.6), (cat.id, 0.4))),
            Ranked(ids[1], 0.5, "random check", audit=True, suggestion=((dog.id, 0.6), (cat.id, 0.4))),
            Ranked(ids[2], 1.0, "unlike anything labelled"),
        ],
    )
    me = store.annotator("me")
    items = store.claim(me.id, 5)
    assert [item.image_id for item in items[:3]] == [ids[4], ids[1], ids[2]]
    assert {item.image_id for item in items[3:]} < {ids[0], ids[3], ids[5]}
    assert [item.source for item in items] == ["al", "audit", "al", "random", "random"]
    assert items[0].reason == "unsure: cat or dog"
    assert items[0].suggestion == (("dog", 0.6), ("cat", 0.4))
    assert items[1].suggestion is None, "nobody may see one on an audit item"
    assert [item.model_version for item in items] == [model.version] * 3 + [None] * 2
    assert len({item.lease_id for item in items}) == 5


def test_a_suggestion_adds_up_what_was_merged_since(store: Store, fill: Fill) -> None:
    (image_id,) = fill(1)
    cat, dog = store.classes()
    (emu,) = store.add_classes(["emu"])
    suggestion = ((emu.id, 0.5), (cat.id, 0.25), (dog.id, 0.25))
    store.publish_ranking(None, [Ranked(image_id, 1.0, "unsure", suggestion=suggestion)])
    store.merge_class("emu", "cat")
    assert store.claim(store.annotator("me").id)[0].suggestion == (("cat", 0.75), ("dog", 0.25))


def test_a_reload_shows_the_same_images_even_after_a_new_ranking(store: Store, fill: Fill) -> None:
    ids = fill(9)
    me = store.annotator("me")
    store.publish_ranking(None, [Ranked(image_id, 1.0, "first") for image_id in ids])
    first = store.claim(me.id, 3)
    store.publish_ranking(None, [Ranked(image_id, 1.0, "second") for image_id in reversed(ids)])
    assert [i.lease_id for i in store.claim(me.id, 3)] == [i.lease_id for i in first]
    assert order(store, me.id, 5) == [*ids[:3], ids[8], ids[7]]


def test_after_a_new_ranking_a_page_may_keep_what_it_shows_and_have_the_rest_anew(
    store: Store, fill: Fill
) -> None:
    ids = fill(9)
    me = store.annotator("me")
    store.publish_ranking(None, [Ranked(image_id, 1.0, "first") for image_id in ids])
    shown = store.claim(me.id, 5)
    store.publish_ranking(None, [Ranked(image_id, 1.0, "second") for image_id in reversed(ids)])
    assert store.release(me.id, keep=[item.lease_id for item in shown[:2]]) == 3
    assert order(store, me.id, 5) == [ids[0], ids[1], ids[8], ids[7], ids[6]]


def test_a_ranking_that_breaks_off_changes_nothing(store: Store, fill: Fill) -> None:
    ids = fill(3000)
    me = store.annotator("me")
    old = store.publish_ranking(None, [Ranked(ids[7], 1.0, "first")])

    def breaks_off() -> Any:
        yield from (Ranked(image_id, 1.0, "second") for image_id in ids[:2500])
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        store.publish_ranking(None, breaks_off())
    assert store.ranking() == old
    assert order(store, me.id, 1) == [ids[7]]
    newer = store.publish_ranking(None, [Ranked(ids[8], 1.0, "third")])
    assert newer.edition > old.edition and store.ranking() == newer


def test_a_lease_expires_and_activity_renews_it(store: Store, fill: Fill, clock: Any) -> None:
    ids = fill(2)
    store.publish_ranking(None, [Ranked(image_id, 1.0, "") for image_id in ids])
    ada, bob = store.annotator("ada"), store.annotator("bob")
    assert order(store, ada.id, 1) == ids[:1]
    clock.wait(50)
    assert store.renew(ada.id) == 1
    clock.wait(50)
    assert order(store, bob.id, 2) == ids[1:], "ada's lease was renewed"
    clock.wait(59)
    assert order(store, bob.id, 2) == [ids[1], ids[0]], "ada's lease has expired"
    assert order(store, ada.id, 2) == []


def test_a_closed_browser_frees_its_images_at_once(store: Store, fill: Fill) -> None:
    ids = fill(3)
    ada, bob = store.annotator("ada"), store.annotator("bob")
    assert len(order(store, ada.id, 3)) == 3
    assert order(store, bob.id, 3) == []
    assert store.release(ada.id) == 3
    assert set(order(store, bob.id, 3)) == set(ids)


def test_an_answer_by_another_takes_an_image_out_of_the_queue(store: Store, fill: Fill) -> None:
    ids = fill(2)
    ada, bob = store.annotator("ada"), store.annotator("bob")
    (item,) = store.claim(ada.id, 1)
    store.label(bob.id, Answer(item.image_id, "cat"))
    assert order(store, ada.id, 2) == [image_id for image_id in ids if image_id != item.image_id]


def test_asking_for_no_images_is_an_error(store: Store) -> None:
    with pytest.raises(BadOption, match="at least 1"):
        store.claim(store.annotator("me").id, 0)


@pytest.mark.parametrize("ranked", [True, False])
def test_eight_threads_share_out_the_pool_without_a_double_or_a_gap(
    store: Store, fill: Fill, ranked: bool
) -> None:
    ids = fill(240)
    if ranked:
        store.publish_ranking(None, [Ranked(image_id, 1.0, "") for image_id in ids])
    people = [store.annotator(f"annotator {k}").id for k in range(8)]

    def claim_all(annotator_id: int) -> list[int]:
        mine: list[int] = []
        while items := store.claim(annotator_id, len(mine) + 3):
            if len(items) == len(mine):
                return mine
            mine = [item.image_id for item in items]
        return mine

    with ThreadPoolExecutor(8) as pool:
        got = [image_id for mine in pool.map(claim_all, people) for image_id in mine]
    assert sorted(got) == sorted(ids)


@pytest.mark.slow
def test_four_processes_serve_no_image_twice_and_leave_none_out(address: str, fill: Fill) -> None:
    ids = fill(120)
    workers = [
        subprocess.Popen(
            [sys.executable, WORKER, "label_all", address, f"annotator {k}"], stdout=subprocess.PIPE
        )
        for k in range(4)
    ]
    served = Counter(int(line) for worker in workers for line in worker.communicate()[0].split())
    assert [worker.returncode for worker in workers] == [0] * 4
    assert served == Counter(ids)


def test_a_skipped_random_check_is_asked_once_more_after_all_others(store: Store, fill: Fill) -> None:
    a, b, c = fill(3)
    model = store.start_model(20, "logistic", "lite0")
    check = Ranked(a, 0.0, "random check", audit=True)
    store.publish_ranking(model.version, [check, Ranked(b, 1.0, "unsure"), Ranked(c, 0.5, "unsure")])
    me = store.annotator("me").id
    assert order(store, me, 3) == [a, b, c]
    store.label(me, Answer(a, status="skipped"))
    store.label(me, Answer(b, status="skipped"))
    assert order(store, me, 5) == [c, a], "what was chosen and skipped stays skipped"
    assert order(store, store.annotator("other").id, 5) == []
    [_, again] = store.claim(me, 5)
    assert (again.source, again.suggestion) == ("audit", None)
    store.label(me, Answer(c, "cat"))
    store.label(me, Answer(a, status="skipped", lease_id=again.lease_id))
    assert order(store, me, 5) == []
    assert [one.image_id for one in store.upcoming(5)] == []


def test_an_answer_to_a_check_that_is_asked_again_is_one_of_a_check(store: Store, fill: Fill) -> None:
    [a] = fill(1)
    me = store.annotator("me").id
    [item] = store.claim(me)
    store.label(me, Answer(a, status="skipped", lease_id=item.lease_id))
    assert [one.image_id for one in store.upcoming(5)] == [a]
    [again] = store.claim(me)
    assert store.label(me, Answer(a, "dog", lease_id=again.lease_id)).saved == 1
    [label] = store.labels()
    assert (label.label, label.source) == ("dog", "audit")
