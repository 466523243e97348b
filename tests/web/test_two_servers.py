"""Two servers on one PostgreSQL project: one set of people, labels and news, whatever happens to the database."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, text
from tests.postgres import run_sql

from vizsla.project import Project
from vizsla.store import Answer, Store
from vizsla.testing import TOY_BACKBONE
from vizsla.web.app import create_app
from vizsla.web.door import Door

pytestmark = pytest.mark.parametrize("address", ["postgresql"], indirect=True)

HOST = "127.0.0.2"
"""A loopback address that asks for tokens, as any other would."""


class Client:
    """Someone with a token, who talks to whichever server they like."""

    def __init__(self, token: str) -> None:
        self.token = token

    def call(self, port: int, method: str, path: str, body: object = None) -> tuple[int, dict]:
        connection = http.client.HTTPConnection(HOST, port, timeout=60)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body), headers)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()


@pytest.fixture
def ada(address):
    with Store.open(address) as store:
        return Client(store.new_token("ada")[1])


@pytest.fixture
def both(address, photos):
    """Two servers in this process, each with connections of its own, as ada's browser sees them."""
    with ExitStack() as stack:
        projects = [stack.enter_context(Project.open(address, photos)) for _ in range(2)]
        projects[0].add_classes(["blue", "green", "red"])
        token = projects[0].store.new_token("ada")[1]
        projects[0].scan()
        yield [
            stack.enter_context(
                TestClient(
                    create_app(project, Door(host="10.0.0.1")),
                    base_url="http://10.0.0.1",
                    headers={"Authorization": f"Bearer {token}"},
                )
            )
            for project in projects
        ]


def test_a_token_lets_in_everywhere_and_revoked_nowhere(address, both):
    assert [client.get("/api/project").json()["annotator"] for client in both] == ["ada", "ada"]
    with Store.open(address) as store:
        store.revoke_token("ada")
    time.sleep(1.1)  # a door knows whom it let in for a second
    assert [client.get("/api/project").status_code for client in both] == [401, 401]


def test_a_queue_and_an_undo_go_on_at_the_other_server(both):
    one, two = both
    [item] = one.post("/api/queue", json={"n": 1}).json()["items"]
    assert two.post("/api/queue", json={"n": 1}).json()["items"][0]["lease_id"] == item["lease_id"]
    answer = {"item_id": item["item_id"], "label": "red", "key": str(uuid4())}
    saved = two.post("/api/labels", json=answer)
    known = one.post("/api/labels", json=answer)
    assert (saved.status_code, known.status_code, known.json()) == (201, 200, saved.json())
    assert [row["item_id"] for row in one.post("/api/undo").json()["labels"]] == [item["item_id"]]


def two_servers(address, images, serve) -> list[int]:
    """Ports of two servers of a project with three classes."""
    options = ["--classes", "blue,green,red", "--host", HOST, "--no-trainer"]
    return [serve(images, *options, project=address, command="serve").port for _ in range(2)]


def test_who_listens_to_one_server_hears_what_is_labelled_through_the_other(address, photos, serve, ada):
    one, two = two_servers(address, photos, serve)
    stream = http.client.HTTPConnection(HOST, one, timeout=20)
    stream.request("GET", "/api/events", headers={"Authorization": f"Bearer {ada.token}"})
    news = stream.getresponse()
    assert news.readline() == b": hello\n"
    [item] = ada.call(two, "POST", "/api/queue", {"n": 1})[1]["items"]
    ada.call(two, "POST", "/api/labels", {"item_id": item["item_id"], "label": "red", "key": str(uuid4())})
    lines = iter(news.readline, b"")
    assert any(line == b"event: saved\n" for line in lines)
    told = json.loads(next(lines).partition(b": ")[2])
    assert (told["saved"], told["counts"]["labelled"]) == (1, 1)
    assert [one["labelled"] for one in told["classes"]] == [0, 0, 1]
    stream.close()


class Page(threading.Thread):
    """Labels like the page: what was not acknowledged is sent again with the same key, to either server."""

    def __init__(self, client: Client, ports: list[int]) -> None:
        super().__init__(daemon=True)
        self.client, self.ports = client, ports
        self.acknowledged: dict[str, int] = {}
        self.errors: Counter[int] = Counter()
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            for item in self.until_it_works("/api/queue", {"n": 3}).get("items", []):
                answer = {"item_id": item["item_id"], "label": "red", "key": str(uuid4())}
                self.acknowledged[answer["key"]] = self.until_it_works("/api/labels", answer)["label_id"]

    def until_it_works(self, path: str, body: dict) -> dict:
        while True:
            with suppress(OSError, http.client.HTTPException):
                status, found = self.client.call(self.ports[0], "POST", path, body)
                if status in (200, 201):
                    return found
                self.errors[status] += 1
            self.ports = self.ports[::-1]
            time.sleep(0.2)


def test_a_database_that_restarts_while_people_label_through_two_servers_loses_and_doubles_nothing(
    address, breeds, serve, postgres_server, wait_until
):
    ports = two_servers(address, breeds, serve)
    with Store.open(address) as store:
        team = [
            Page(Client(store.new_token(f"annotator {n}")[1]), ports[:: 1 - 2 * (n % 2)]) for n in range(4)
        ]

    def goes_on():
        before = [len(page.acknowledged) for page in team]
        wait_until(lambda: all(len(page.acknowledged) > n for page, n in zip(team, before, strict=True)), 60)

    for page in team:
        page.start()
    goes_on()
    run_sql(address)  # every backend is terminated
    goes_on()
    postgres_server.stop("immediate")
    connection = http.client.HTTPConnection(HOST, ports[0], timeout=30)
    try:
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200  # alive, though
    finally:
        postgres_server.start()
        connection.close()
    goes_on()
    for page in team:
        page.stop.set()
    for page in team:
        page.join(30)
    acknowledged = {key: label_id for page in team for key, label_id in page.acknowledged.items()}
    with Store.open(address) as store:
        history = store.history()
    assert acknowledged.items() <= {str(label.key): label.id for label in history}.items()
    assert max(Counter(label.image_id for label in history).values()) == 1
    assert {status for page in team for status in page.errors} <= {503}


@pytest.mark.slow
def test_a_worker_that_is_killed_is_followed_by_the_one_that_waited(address, sixty_photos, wait_until):
    with Project.open(address, sixty_photos) as project:
        project.change(backbone=TOY_BACKBONE)
        project.add_classes(["blue", "green", "red"])
        project.scan()
        store = project.store
        me = store.annotator("me").id

        def label(n):
            for item in store.claim(me, n):
                store.label(me, Answer(item.image_id, item.path[4:-4]))

        def models():
            return [model.version for model in store.models() if model.state == "ready"]

        workers = {
            name: subprocess.Popen(
                [sys.executable, "-m", "vizsla", "worker", "--project", f"{address}&application_name={name}"],
                stdout=subprocess.DEVNULL,
            )
            for name in ("one", "other")
        }
        try:
            label(8)
            wait_until(models, 60)
            [leader] = leaders(address)
            workers[leader].kill()
            trained = len(models())
            label(20)
            wait_until(lambda: len(models()) > trained, 60)
            assert leaders(address) == list(workers.keys() - {leader})
        finally:
            for worker in workers.values():
                worker.kill()
                worker.wait()


def leaders(address: str) -> list[str]:
    """What the connections that hold the trainer's lock call themselves."""
    held = (
        "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = 'advisory' AND granted"
    )
    engine = create_engine(address.replace("://", "+psycopg://"))
    with engine.connect() as conn:
        found = conn.execute(text(held)).scalars().all()
    engine.dispose()
    return list(found)
