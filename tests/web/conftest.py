"""The API of a real project, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from vizsla.project import Project
from vizsla.web.app import create_app
from vizsla.web.door import Door


@pytest.fixture
def client_of(project: Project) -> Iterator[Callable[..., TestClient]]:
    """Clients with a cookie jar each, of one server."""
    opened: list[TestClient] = []

    def make(door: Door | None = None, host: str = "localhost:8050") -> TestClient:
        client = TestClient(
            create_app(project, door), base_url=f"http://{host}", raise_server_exceptions=False
        )
        client.__enter__()
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(client_of: Callable[..., TestClient]) -> TestClient:
    return client_of()


def answer(item: dict, label: str | None = "red", **more: object) -> dict:
    """An answer to an item of the queue."""
    return {"item_id": item["item_id"], "label": label, "status": "labelled", "key": str(uuid4()), **more}


@pytest.fixture(name="answer")
def answer_fixture() -> Callable[..., dict]:
    return answer
