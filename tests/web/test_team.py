"""Eight people at once on one project, through the real server."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from time import perf_counter
from uuid import uuid4

from PIL import Image

from vizsla.store import Store

PEOPLE, LABELS = 8, 2000
PAUSE = 0.15  # seconds between two answers of a person; hardly anybody is quicker
LOOSE = 10  # times the budget: other work shares the machine that tests run on


class Person(threading.Thread):
    """Asks for images and answers them, as fast as a very quick person."""

    def __init__(self, port: int, labels: int) -> None:
        super().__init__()
        self.port, self.labels = port, labels
        self.acknowledged: dict[int, int] = {}
        self.waits: dict[str, list[float]] = {"queue": [], "label": []}
        self.cookie = ""
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            while len(self.acknowledged) < self.labels:
                items = self.call("queue", "/api/queue", {"n": 5})["items"]
                if not items:  # the folder is being scanned; the page waits too
                    threading.Event().wait(PAUSE)
                for item in items[: self.labels - len(self.acknowledged)]:
                    body = {
                        "item_id": item["item_id"],
                        "label": "cat",
                        "key": str(uuid4()),
                        "lease_id": item["lease_id"],
                    }
                    reply = self.call("label", "/api/labels", body)
                    assert item["item_id"] not in self.acknowledged
                    self.acknowledged[item["item_id"]] = reply["label_id"]
                    threading.Event().wait(PAUSE)
        except BaseException as error:
            self.failure = error
        finally:
            self.connection.close()

    def call(self, kind: str, path: str, body: dict) -> dict:
        began = perf_counter()
        headers = {"Content-Type": "application/json"} | ({"Cookie": self.cookie} if self.cookie else {})
        self.connection.request("POST", path, json.dumps(body), headers)
        reply = self.connection.getresponse()
        content = json.loads(reply.read())
        self.waits[kind].append(1000 * (perf_counter() - began))
        assert reply.status in (200, 201), content
        if cookie := reply.getheader("set-cookie"):
            self.cookie = cookie.partition(";")[0]
        return content


def p95(values):
    return sorted(values)[int(0.95 * len(values))]


def test_eight_people_label_2000_of_20000_images_none_twice_none_lost(
    tmp_path, address, serve, record_property
):
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (8, 8)).save(images / "00000.png")
    content = (images / "00000.png").read_bytes()
    for n in range(1, 20_000):
        (images / f"{n:05}.png").write_bytes(content)
    server = serve(images, "--classes", "cat,dog", "--no-trainer", project=address)
    people = [Person(server.port, LABELS // PEOPLE) for _ in range(PEOPLE)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert [person.failure for person in people] == [None] * PEOPLE
    given = Counter(image_id for person in people for image_id in person.acknowledged)
    assert (len(given), max(given.values())) == (LABELS, 1)
    with Store.open(address) as store:
        kept = {label.id for label in store.labels()}
        assert {label_id for person in people for label_id in person.acknowledged.values()} == kept
        assert store.counts().total == 20_000
    for kind, budget in {"label": 50, "queue": 100}.items():
        found = p95([wait for person in people for wait in person.waits[kind]])
        record_property(f"{kind}_p95_ms", found)
        print(f"{kind} p95 {found:.0f} ms", end=" ")
        assert found < LOOSE * budget
