"""kill −9 at random moments: what was acknowledged is there, and work goes on. `KILLS` says how often."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from tests.preloaded import children_of

from vizsla.store import Answer, Store

KILLS = int(os.environ.get("VIZSLA_KILLS", "3"))


class Labeller(threading.Thread):
    """Labels without a pause and remembers what was acknowledged; tries again with the same key after a crash."""

    def __init__(self, server) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.stop = threading.Event()
        self.acknowledged: dict[str, int] = {}
        self.cookie = ""

    def run(self) -> None:
        waiting: list[dict] = []
        while not self.stop.is_set():
            with suppress(OSError, http.client.HTTPException, ValueError, KeyError):
                waiting = waiting or [
                    {"item_id": item["item_id"], "label": random.choice(["blue", "red"]), "key": str(uuid4())}
                    for item in self.call("/api/queue", {"n": 3})["items"]
                ]
                while waiting and not self.stop.is_set():
                    self.acknowledged[waiting[0]["key"]] = self.call("/api/labels", waiting[0])["label_id"]
                    waiting.pop(0)
                if not waiting:
                    self.call("/api/undo", {})  # so that images do not run out
            time.sleep(0.01)

    def call(self, path: str, body: dict) -> dict:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            headers = {"Content-Type": "application/json"} | ({"Cookie": self.cookie} if self.cookie else {})
            connection.request("POST", path, json.dumps(body), headers)
            reply = connection.getresponse()
            if cookie := reply.getheader("set-cookie"):
                self.cookie = cookie.partition(";")[0]
            return json.loads(reply.read())
        finally:
            connection.close()


@pytest.mark.skipif(os.name == "nt", reason="POSIX only: there is no kill −9")
@pytest.mark.parametrize("victim", ["server", "trainer", "both"])
def test_kill_9_loses_nothing_that_was_acknowledged(victim, breeds, tmp_path, serve, wait_until):
    server = serve(breeds)
    labeller = Labeller(server)
    labeller.start()
    random.seed(f"{victim}")
    for _ in range(max(1, KILLS // 3)):
        time.sleep(1.5 + 3 * random.random())
        children = children_of(server.process.pid)
        if victim != "server":
            for child in children:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        if victim != "trainer":
            server.kill()
            wait_until(
                lambda gone=children: not any(alive(child) for child in gone)
            )  # it ends with the server
            server.restart()
        known = len(labeller.acknowledged)
        wait_until(lambda before=known: len(labeller.acknowledged) > before + 10)  # work goes on
    labeller.stop.set()
    labeller.join(30)
    with Store.open(tmp_path / "project") as store:
        kept = {str(label.key): label.id for label in store.history()}
        before = len([model for model in store.models() if model.state == "ready"])
        me = store.annotator("afterwards").id
        for item in store.claim(me, 20):
            store.label(me, Answer(item.image_id, "green"))
        wait_until(
            lambda: len([m for m in store.models() if m.state == "ready"]) > before, 60
        )  # it still learns
    assert labeller.acknowledged.items() <= kept.items()


def alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process_id}/stat").read_text().split()[2] != "Z"
