"""`/metrics` as Prometheus reads it, and the log as machines do."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from vizsla.advice import Forecast
from vizsla.project import Project
from vizsla.store import Ranked
from vizsla.web.app import create_app
from vizsla.web.door import Door

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def figures(client: TestClient) -> Figures:
    """Name and labels → value, by Prometheus's own parser."""
    reply = client.get("/metrics")
    assert (reply.status_code, reply.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


@pytest.fixture
def client(project: Project) -> Iterator[TestClient]:
    with TestClient(
        create_app(project), base_url="http://localhost:8050", raise_server_exceptions=False
    ) as one:
        yield one


def test_figures_follow_labels_leases_models_and_training(project: Project, client: TestClient) -> None:
    items = client.post("/api/queue", json={"n": 5}).json()["items"]
    for item in items[:2]:
        client.post("/api/labels", json={"item_id": item["item_id"], "label": "red", "key": str(uuid4())})
    client.post("/api/undo")
    store = project.store
    model = store.start_model(2, "blend", "toy")
    store.finish_model(model.version, {"seconds": 1.5, "label_id": 2, "forecast": asdict(Forecast())})
    store.publish_ranking(model.version, [Ranked(image.id, 1.0, "") for image in store.images()])
    store.set_setting("training", {"state": "training"})
    found = figures(client)
    said = {
        name[7:]: value
        for (name, labels), value in found.items()
        if not labels and name.startswith("vizsla_")
    }
    assert {
        status: found["vizsla_images", (("status", status),)] for status in ("unlabelled", "labelled")
    } == {
        "unlabelled": 59,
        "labelled": 1,
    }
    assert said == {
        "answers_total": 3,  # two labels and an undo
        "queue_images": 55,
        "open_leases": 4,
        "active_annotators": 1,
        "labels_to_next_model": 4,  # one that the model knew was taken back
        "model_version": 1,
        "model_labels": 2,
        "training_seconds": 1.5,
        "event_streams": 0,
        "database_up": 1,
    }
    states = {
        dict(labels)["state"]: value
        for (name, labels), value in found.items()
        if name == "vizsla_training_state"
    }
    assert states == {"training": 1, "idle": 0, "embedding": 0, "failed": 0}


def test_requests_are_counted_by_route_and_status_and_never_by_image(client: TestClient) -> None:
    for image in (1, 2, 3, 999):
        client.get(f"/api/images/{image}")
    client.get("/nowhere")
    client.get("/static/app.js")
    client.get("/api/project", headers={"Host": "evil.example"})
    found = figures(client)
    counts = {
        (dict(labels)["route"], dict(labels)["status"]): value
        for (name, labels), value in found.items()
        if name == "vizsla_request_seconds_count"
    }
    assert counts == {
        ("/api/images/{image_id}", "200"): 3,
        ("/api/images/{image_id}", "404"): 1,
        ("other", "404"): 1,
        ("/static", "200"): 1,
        ("other", "421"): 1,
    }
    slow = (
        "vizsla_request_seconds_bucket",
        (("le", "+Inf"), ("method", "GET"), ("route", "other"), ("status", "404")),
    )
    assert found[slow] == 1


def test_off_loopback_figures_need_a_token(project: Project) -> None:
    with TestClient(create_app(project, Door(host="10.0.0.1")), base_url="http://10.0.0.1") as client:
        assert client.get("/metrics").status_code == 401
        client.headers["Authorization"] = f"Bearer {project.store.new_token('prometheus')[1]}"
        assert figures(client)["vizsla_database_up", ()] == 1


@pytest.mark.parametrize("address", ["postgresql"], indirect=True)
def test_a_database_that_is_away_is_a_figure_and_no_error(
    address: str, photos: Path, postgres_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vizsla.store import postgres

    monkeypatch.setattr(postgres, "PATIENCE", 0.2)
    with (
        Project.open(address, photos) as project,
        TestClient(create_app(project), base_url="http://localhost", raise_server_exceptions=False) as client,
    ):
        assert client.get("/readyz").status_code == 200
        postgres_server.stop()
        try:
            assert figures(client)["vizsla_database_up", ()] == 0
            assert client.get("/healthz").status_code == 200
            ready = client.get("/readyz")
            assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")
        finally:
            postgres_server.start()
        assert figures(client)["vizsla_database_up", ()] == 1


def test_a_server_that_logs_for_machines_says_one_object_a_line(
    photos: Path, serve: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    server = serve(photos, "--log-format", "json", "--classes", "blue,red", command="serve")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {"Content-Type": "application/json", "X-Request-ID": "from-the-proxy"}
    connection.request("POST", "/api/queue", '{"n": 1}', headers)
    reply = connection.getresponse()
    assert reply.getheader("x-request-id") == "from-the-proxy" and json.loads(reply.read())["items"]
    connection.request("GET", "/api/images/1?secret=1", headers={"X-Request-ID": "two\\words"})
    given = connection.getresponse().getheader("x-request-id")
    assert given and given != "two\\words"
    connection.close()
    wait_until(lambda: any("training for" in line for line in server.said))
    wait_until(lambda: any(given in line for line in server.said))
    said = [json.loads(line) for line in server.said]
    assert all(one["time"].endswith("Z") and one["level"] and one["event"] for one in said)
    requests = {one["request_id"]: one for one in said if one["event"] == "request"}
    assert (
        requests["from-the-proxy"].items()
        >= {"annotator_id": 1, "method": "POST", "path": "/api/queue", "status": 200, "level": "info"}.items()
    )
    assert requests[given]["path"] == "/api/images/1" and 0 < requests[given]["ms"] < 60_000
    assert next(one for one in said if one["event"] == "listening")["address"] == server.url
