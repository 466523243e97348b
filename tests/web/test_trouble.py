"""What the API answers while the disk is full or another process holds the database."""

import sqlite3
from pathlib import Path
from uuid import uuid4

CALLS = [
    ("post", "/api/labels/batch", lambda item: [said(item)]),
    ("post", "/api/classes", lambda item: {"name": "a class of a long name" * 20}),
    ("post", "/api/undo", lambda item: {"key": str(uuid4())}),
    ("post", "/api/queue", lambda item: {"n": 100}),
    ("post", "/api/train", lambda item: None),
]


def said(item):
    return {"item_id": item["item_id"], "label": "red", "status": "labelled", "key": str(uuid4())}


def pragma(project, name, value):
    project.store._db.write(lambda conn: conn.exec_driver_sql(f"PRAGMA {name}={value}").scalar())


def fill(project, client, item):
    """Leave no page free: then SQLite says what it says on a full disk. Returns the answers that were taken."""
    pages = project.store._db.write(lambda conn: conn.exec_driver_sql("PRAGMA page_count").scalar())
    pragma(project, "max_page_count", pages)
    taken = []
    while True:
        body = said(item)
        reply = client.post("/api/labels", json=body)
        if reply.status_code != 201:
            return reply, taken
        taken.append(body["key"])


def test_a_full_disk_is_a_507_that_names_the_file_and_nothing_acknowledged_is_lost(project, client):
    item, *_ = client.post("/api/queue", json={"n": 1}).json()["items"]
    refused, taken = fill(project, client, item)
    assert (refused.status_code, refused.headers["retry-after"]) == (507, "10")
    assert refused.json()["detail"].startswith(f"no space left for {project.store.name}: ")
    replies = [client.post("/api/classes", json={"name": f"{n} {'x' * 400}"}).status_code for n in range(40)]
    assert set(replies) <= {201, 507} and replies[-1] == 507
    assert client.post("/api/labels/batch", json=[said(item) for _ in range(200)]).status_code == 507
    assert client.get("/api/project").status_code == client.get("/api/labels").status_code == 200
    assert client.get("/api/export/csv").status_code == 200
    pragma(project, "max_page_count", 1_000_000)
    body = said(item)
    assert client.post("/api/labels", json=body).status_code == 201
    kept = {str(label.key) for label in project.store.history()}
    assert kept == {*taken, body["key"]}


def test_a_database_that_another_process_holds_is_a_503_worth_asking_again(project, client):
    item, *_ = client.post("/api/queue", json={"n": 1}).json()["items"]
    pragma(project, "busy_timeout", 10)
    writer = sqlite3.connect(project.store.name, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    for method, path, body in [("post", "/api/labels", said), *CALLS]:
        reply = getattr(client, method)(path, json=body(item))
        assert (reply.status_code, reply.headers.get("retry-after")) == (503, "1"), path
        assert "was held by another process" in reply.json()["detail"]
    assert client.get("/api/project").status_code == 200
    writer.execute("ROLLBACK")
    writer.close()
    assert client.post("/api/labels", json=said(item)).status_code == 201


def test_a_damaged_database_is_a_503_that_names_the_doctor(project, client):
    file = Path(project.store.name)
    whole = file.read_bytes()
    item, *_ = client.post("/api/queue", json={"n": 1}).json()["items"]
    raw = sqlite3.connect(file, isolation_level=None)
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    file.write_bytes(b"\xa5" * len(whole))
    reply = client.post("/api/labels", json=said(item))
    assert (reply.status_code, "retry-after" in reply.headers) == (503, False)
    assert "vizsla doctor --project" in reply.json()["detail"]
