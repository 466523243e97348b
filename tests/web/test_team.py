"""Eight people at once on one project, through the real server."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from uuid import uuid4

import pytest
from PIL import Image

from vizsla.store import Store

PEOPLE = 8
PAUSE = 0.15  # seconds between two answers of a person; hardly anybody is quicker


class Person(threading.Thread):
    """Asks for images and answers them, as fast as a very quick person."""

    def __init__(self, port: int, labels: int) -> None:
        super().__init__()
        self.port, self.labels = port, labels
        self.acknowledged: dict[int, int] = {}
        self.cookie = ""
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            while len(self.acknowledged) < self.labels:
                items = self.call("/api/queue", {"n": 5})["items"]
                if not items:  # the folder is being scanned; the page waits too
                    threading.Event().wait(PAUSE)
                for item in items[: self.labels - len(self.acknowledged)]:
                    body = {
                        "item_id": item["item_id"],
                        "label": "cat",
                        "key": str(uuid4()),
                        "lease_id": item["lease_id"],
                    }
                    reply = self.call("/api/labels", body)
                    assert item["item_id"] not in self.acknowledged
                    self.acknowledged[item["item_id"]] = reply["label_id"]
                    threading.Event().wait(PAUSE)
        except BaseException as error:
            self.failure = error
        finally:
            self.connection.close()

    def call(self, path: str, body: dict) -> dict:
        headers = {"Content-Type": "application/json"} | ({"Cookie": self.cookie} if self.cookie else {})
        self.connection.request("POST", path, json.dumps(body), headers)
        reply = self.connection.getresponse()
        content = json.loads(reply.read())
        assert reply.status in (200, 201), content
        if cookie := reply.getheader("set-cookie"):
            self.cookie = cookie.partition(";")[0]
        return content


@pytest.mark.parametrize(
    ("labels", "total"), [(160, 2000), pytest.param(2000, 20_000, marks=pytest.mark.full)]
)
def test_eight_people_label_none_twice_none_lost(labels, total, tmp_path, address, serve):
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (8, 8)).save(images / "00000.png")
    content = (images / "00000.png").read_bytes()
    for n in range(1, total):
        (images / f"{n:05}.png").write_bytes(content)
    server = serve(images, "--classes", "cat,dog", "--no-trainer", project=address)
    people = [Person(server.port, labels // PEOPLE) for _ in range(PEOPLE)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert [person.failure for person in people] == [None] * PEOPLE
    given = Counter(image_id for person in people for image_id in person.acknowledged)
    assert (len(given), max(given.values())) == (labels, 1)
    with Store.open(address) as store:
        kept = {label.id for label in store.labels()}
        assert {label_id for person in people for label_id in person.acknowledged.values()} == kept
        assert store.counts().total == total
