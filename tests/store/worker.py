"""What another process does to a project: `worker.py TASK ADDRESS …`."""

from __future__ import annotations

import sys
import time
from uuid import UUID

from vizsla.store import Answer, Store


def label_all(address: str, name: str) -> None:
    """Claim and label until nothing is left; prints each image once it is labelled."""
    with Store.open(address) as store:
        me = store.annotator(name).id
        while items := store.claim(me, 3):
            for item in items:
                store.label(me, Answer(item.image_id, "dog", lease_id=item.lease_id))
                print(item.image_id)


def label_forever(address: str, first: str) -> None:
    """Label image after image, with keys that count up; prints each key once it is acknowledged."""
    with Store.open(address) as store:
        me = store.annotator("me").id
        ids = [image.id for image in store.images()]
        for number in range(int(first), sys.maxsize):
            store.label(me, Answer(ids[number % len(ids)], "cat", key=UUID(int=number)))
            print(number, flush=True)


def open_only(address: str) -> None:
    """Open a project when told to, and say which revision it has."""
    print("ready", flush=True)
    sys.stdin.readline()
    with Store.open(address) as store:
        store.add_classes(["cat", "dog"])
        print(store.annotator("me").id, [one.name for one in store.classes()])


def lead_forever(address: str) -> None:
    """Be the trainer, and say so."""
    with Store.open(address) as store, store.lead("trainer") as leading:
        while leading.held():
            print("leading", flush=True)
            time.sleep(1)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
