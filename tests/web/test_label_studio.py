"""The machine-learning backend that a Label Studio attaches: what it is asked and told, and what it makes of that."""

from __future__ import annotations

import base64
import io
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from vizsla.data.fetched import PREFIX
from vizsla.interop.label_studio import label_studio_config
from vizsla.project import REQUEST, Project
from vizsla.testing import TOY_BACKBONE
from vizsla.training.trainer import Trainer
from vizsla.web import tasks as fetching
from vizsla.web.bridge import Bridge
from vizsla.web.door import Door
from vizsla.web.label_studio import create_backend

CONFIG = label_studio_config(["blue", "green", "red"])
UID = "1.1795409547"
PROJECT = {"id": 1, "created_at": "2026-11-23T04:52:27.167274Z", "label_config": CONFIG}
JSON = {"Content-Type": "application/json"}
TOKEN = "0123456789abcdef0123456789abcdef01234567"


class Studio:
    """What a Label Studio sends. Task n is about the n-th photo, by the name that an upload gets."""

    def __init__(self, project: Project, client: TestClient) -> None:
        self.project, self.client = project, client
        self.names = sorted(image.path or "" for image in project.store.images())

    def task(self, n: int) -> dict[str, Any]:
        return {"id": n + 1, "data": {"image": f"/data/upload/1/1a2b3c4d-{self.names[n]}"}, "project": 1}

    def tasks(self) -> list[dict[str, Any]]:
        return [self.task(n) for n in range(len(self.names))]

    def truth(self, n: int) -> str:
        return self.names[n].rpartition("-")[2].partition(".")[0]

    def setup(self, host: str = "http://127.0.0.1:1", **more: Any) -> Any:
        body = {
            "project": UID,
            "schema": CONFIG,
            "hostname": host,
            "access_token": TOKEN,
            "extra_params": None,
        }
        return self.client.post("/setup", json=body | more)

    def predict(self, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        body = {"tasks": tasks, "project": UID, "label_config": CONFIG, "params": {"context": None}}
        reply = self.client.post("/predict", json=body)
        assert reply.status_code == 200, reply.text
        found: list[dict[str, Any]] = reply.json()["results"]
        return found

    def tell(self, action: str, **more: Any) -> Any:
        return self.client.post("/webhook", json={"action": action, "project": PROJECT, **more})

    def annotate(self, n: int, name: str | None = None, *, id: int | None = None, **more: Any) -> Any:
        annotation = answer(name or self.truth(n), id=id or n + 101, task=n + 1) | more
        return self.tell("ANNOTATION_CREATED", annotation=annotation)

    def labels(self) -> dict[str, str | None]:
        return {label.path or "": label.label for label in self.project.store.labels()}


def answer(name: str, **more: Any) -> dict[str, Any]:
    """An annotation."""
    result = [{"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": [name]}}]
    return {"result": result, "was_cancelled": False, "completed_by": 1, "lead_time": 3.5, **more}


def chosen(prediction: dict[str, Any]) -> str | None:
    [result] = prediction["result"] or [None]
    return result and result["value"]["choices"][0]


def settle(project: Project) -> None:
    """Have a trainer do what there is to do."""
    trainer = Trainer(project)
    for _ in range(300):
        if not trainer.step():
            return
    raise AssertionError("the trainer never comes to rest")


def quiet(client: TestClient) -> bool:
    """Whether the backend has nothing left to do."""
    bridge: Bridge = client.app.state.bridge  # type: ignore[attr-defined]
    return bridge.idle


@pytest.fixture
def attach(project: Project, wait_until: Callable[..., None]) -> Iterator[Callable[..., TestClient]]:
    """Backends of the project, each in this process."""
    opened: list[TestClient] = []

    def make(door: Door | None = None, host: str = "localhost:9090") -> TestClient:
        client = TestClient(
            create_backend(project, door), base_url=f"http://{host}", raise_server_exceptions=False
        )
        client.__enter__()
        opened.append(client)
        wait_until(lambda: quiet(client))  # it has looked at the folder
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def studio(project: Project, attach: Callable[..., TestClient]) -> Studio:
    return Studio(project, attach())


# asked


def test_it_says_that_it_lives_and_offers_no_page(studio):
    for path in ("/", "/health"):
        reply = studio.client.get(path)
        assert reply.json() == {"status": "UP", "model_class": "Vizsla"}
        assert "set-cookie" not in reply.headers


def test_setup_brings_the_classes_in_the_order_of_the_interface_and_tells_the_version(project, studio):
    config = label_studio_config(["red", "a & b", "blue"])
    for _ in range(3):
        assert studio.setup(schema=config).json() == {"model_version": "vizsla-0"}
    assert [one.name for one in project.store.classes()] == ["blue", "green", "red", "a & b"]
    assert studio.client.get("/versions").json() == {"versions": ["vizsla-0"]}


def test_an_interface_that_asks_for_no_class_is_refused_and_the_reason_is_logged(studio, caplog):
    reply = studio.setup(schema="<View></View>")
    assert reply.status_code == 422 and "asks for no class" in reply.json()["detail"]
    assert "asks for no class" in caplog.text  # Label Studio shows its user only the status
    assert studio.client.post("/setup", content="{", headers=JSON).status_code == 400
    assert studio.client.post("/setup", json={"project": UID}).status_code == 422


def test_without_a_model_each_task_gets_its_place_and_no_class_and_a_stranger_gets_neither(project, studio):
    settle(project)
    stranger = {"id": 99, "data": {"image": "/data/upload/1/1a2b3c4d-nowhere.png"}}
    found = studio.predict([studio.task(3), stranger, studio.task(7)])
    assert [one["result"] for one in found] == [[], [], []]
    assert {one["model_version"] for one in found} == {"vizsla-0"}
    order = [item.path for item in project.store.upcoming(60)]
    assert [one["score"] for one in found] == [
        round(order.index(studio.names[3]) / 60, 6),
        None,
        round(order.index(studio.names[7]) / 60, 6),
    ]


def test_rising_scores_are_the_order_in_which_labels_help_most_and_classes_those_of_the_page(project, studio):
    project.change(audit=0)  # with random checks, these would get no class
    studio.predict(studio.tasks())
    for n in range(0, 60, 3):
        assert studio.annotate(n).status_code == 201
    settle(project)
    shuffled = random.Random(0).sample(range(60), 60)
    found = dict(zip(shuffled, studio.predict([studio.task(n) for n in shuffled]), strict=True))
    asked = [n for n in shuffled if n % 3]
    by_score = sorted(asked, key=lambda n: found[n]["score"])
    assert [studio.names[n] for n in by_score] == [item.path for item in project.store.upcoming(40)]
    shown = {item.path: item.suggestion for item in project.store.claim(project.store.annotator("me").id, 40)}
    for n in asked:
        name, prob = shown[studio.names[n]][0]
        assert (chosen(found[n]), found[n]["result"][0]["score"]) == (name, prob)
    assert sum(chosen(found[n]) == studio.truth(n) for n in asked) >= 36
    assert all((found[n]["result"], found[n]["score"]) == ([], 1.0) for n in range(0, 60, 3))
    version = f"vizsla-{project.store.model().version}"
    assert (
        {one["model_version"] for one in found.values()}
        == {version}
        == {studio.setup().json()["model_version"]}
    )


def test_what_is_to_measure_the_model_is_predicted_without_a_class(project, studio):
    studio.predict(studio.tasks())
    for n in range(0, 30, 3):
        studio.annotate(n)
    settle(project)
    found = studio.predict(studio.tasks())
    checks = {item.path for item in project.store.upcoming(60) if item.reason == "random check"}
    assert checks
    for name, one in zip(studio.names, found, strict=True):
        if name in checks:
            assert one["result"] == [] and one["score"] < 1
    assert any(one["result"] for one in found)


# told


def test_an_annotation_is_on_disk_when_it_is_acknowledged_though_it_names_only_its_task(
    project, studio, wait_until
):
    studio.setup()
    assert studio.tell("TASKS_CREATED", tasks=studio.tasks()).status_code == 201
    wait_until(lambda: quiet(studio.client))
    reply = studio.annotate(4, "red")
    assert (reply.status_code, reply.json()) == (201, {"status": "ok"})
    [label] = project.store.labels()
    assert (label.path, label.label, label.annotator) == (studio.names[4], "red", "Label Studio 1")
    assert (label.lead_ms, label.source, label.suggestion_shown) == (3500, "import", False)


def test_an_annotation_that_brings_its_task_needs_no_word_of_it_before(project, studio):
    annotation = answer("green", id=1, task=6)
    studio.tell("ANNOTATION_CREATED", annotation=annotation, task=studio.task(5))
    assert studio.labels() == {studio.names[5]: "green"}


def test_a_change_of_mind_counts_a_repetition_does_not_and_a_deletion_takes_back(project, studio):
    studio.predict(studio.tasks())
    for _ in range(2):
        studio.annotate(2, "red", id=7)
    assert len(project.store.history()) == 1
    studio.tell("ANNOTATION_UPDATED", annotation=answer("blue", id=7, task=3))
    assert studio.labels() == {studio.names[2]: "blue"}
    assert studio.tell("ANNOTATIONS_DELETED", annotations=[{"id": 7}, {"id": 8}]).status_code == 201
    assert studio.labels() == {}
    assert [label.status for label in project.store.history()][:2] == ["undone", "undone"]


def test_an_annotation_under_an_interface_that_nobody_knows_is_not_acknowledged(studio):
    project = {"id": 1, "created_at": PROJECT["created_at"]}
    body = {"action": "ANNOTATION_CREATED", "project": project, "annotation": answer("red", id=1, task=1)}
    reply = studio.client.post("/webhook", json=body)
    assert reply.status_code == 422 and "not known yet" in reply.json()["detail"]


def test_twelve_thousand_tasks_may_come_in_one_body(project, studio):
    tasks = [studio.task(n % 60) | {"id": n, "meta": {"note": "x" * 700}} for n in range(12_000)]
    assert len(json.dumps(tasks)) > 8 * 2**20
    found = studio.predict(tasks)
    assert len(found) == 12_000 and len(project.store.tasks(UID, range(12_000))) == 12_000


def test_many_at_once_a_skip_and_an_answer_that_was_emptied(project, studio):
    studio.predict(studio.tasks())
    several = [
        answer("red", id=1, task=1),
        answer("x", id=2, task=2, was_cancelled=True),
        answer("blue", id=3, task=3),
    ]
    studio.tell("ANNOTATIONS_CREATED", annotation=several)
    studio.tell("ANNOTATION_UPDATED", annotation=answer("red", id=3, task=3, result=[]))
    status = {image.path: image.status for image in project.store.images() if image.status != "unlabelled"}
    assert status == {studio.names[0]: "labelled", studio.names[1]: "skipped"}


def test_annotations_train_a_model_and_each_further_one_another(project, studio):
    studio.predict(studio.tasks())
    for n in range(0, 60, 10):
        studio.annotate(n)
    settle(project)
    assert project.store.model().labels_used == 6
    studio.annotate(1)
    settle(project)
    assert project.store.model().labels_used == 7


@pytest.mark.parametrize("path", ["/webhook", "/train"])
def test_the_button_asks_for_a_training(project, studio, wait_until, path):
    before = project.store.setting(REQUEST)
    body = {"action": "START_TRAINING", "project": PROJECT}
    assert studio.client.post(path, json=body).status_code == 201
    wait_until(lambda: project.store.setting(REQUEST) != before)


def test_the_old_way_to_train_brings_whole_tasks(project, studio, wait_until):
    tasks = [studio.task(n) | {"annotations": [answer(studio.truth(n), id=n + 1)]} for n in range(6)]
    body = {"annotations": tasks, "project": UID, "label_config": CONFIG, "params": {}}
    assert studio.client.post("/train", json=body).status_code == 201
    wait_until(lambda: len(studio.labels()) == 6)
    assert studio.labels() == {studio.names[n]: studio.truth(n) for n in range(6)}


def test_an_event_that_concerns_nobody_here_is_unknown(studio):
    for action in ("PROJECT_UPDATED", "TASKS_DELETED", "made up", None):
        reply = studio.tell(action)
        assert (reply.status_code, reply.json()) == (200, {"status": "Unknown event"})
    assert studio.client.post("/webhook", json={"action": "START_TRAINING"}).status_code == 422
    assert studio.client.post("/webhook", json=[1]).status_code == 422


def test_a_label_given_with_a_suggestion_in_sight_measures_nothing(project, studio):
    project.change(audit=0)
    studio.predict(studio.tasks())
    for n in range(0, 60, 10):
        studio.annotate(n)
    settle(project)
    assert chosen(studio.predict([studio.task(11)])[0]) is not None
    studio.annotate(11)
    studio.annotate(12, parent_prediction=5)
    studio.annotate(13)
    shown = {label.path: label.suggestion_shown for label in project.store.labels()}
    assert [shown[studio.names[n]] for n in (0, 11, 12, 13)] == [False, True, True, False]


def test_what_was_told_is_known_after_a_restart(project, studio, attach):
    studio.predict([studio.task(4)])
    again = Studio(project, attach())
    again.annotate(4, "red")
    assert again.labels() == {studio.names[4]: "red"}


# images from elsewhere


def picture(colour: tuple[int, int, int]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), colour, np.uint8)).save(out, "PNG")
    return out.getvalue()


def with_tasks(site: Any, tasks: list[dict[str, Any]]) -> None:
    """Have a website list these tasks as Label Studio does."""
    found = {"tasks": tasks, "total": len(tasks)}
    site.pages["/api/tasks?project=1&fields=all&page=1&page_size=100"] = json.dumps(found).encode()


def test_an_image_that_is_not_here_is_fetched_joins_the_pool_and_takes_its_label(
    project, studio, websites, wait_until
):
    site = websites()
    site.pages["/data/upload/1/0a0b0c0d-new.png"] = picture((200, 10, 10))
    stranger = {"id": 99, "data": {"image": "/data/upload/1/0a0b0c0d-new.png"}}
    with_tasks(site, [])
    studio.setup(site.address)
    wait_until(lambda: quiet(studio.client))
    annotation = answer("red", id=1, task=99)
    studio.tell("ANNOTATION_CREATED", annotation=annotation, task=stranger)
    wait_until(lambda: len(studio.labels()) == 1)
    [(path, label)] = studio.labels().items()
    assert label == "red" and Path(path).name == "new.png"
    assert path.startswith(PREFIX) and project.source.read(path) == picture((200, 10, 10))
    assert set(site.asked) == {(where, f"Token {TOKEN}") for where, _ in site.asked}
    assert project.scan().missing == 0  # a look at the folder does not lose it
    settle(project)
    [fetched] = [image for image in project.store.images(state="present") if image.path == path]
    assert fetched.sha256 is not None  # the trainer has read it


@pytest.mark.parametrize("read_before", [False, True])
def test_an_image_that_lies_here_under_another_name_is_known_by_its_content(
    read_before, project, studio, websites, wait_until
):
    if read_before:
        settle(project)  # which notes the contents
    site = websites()
    site.pages["/data/upload/1/0a0b0c0d-holiday.png"] = project.source.read(studio.names[8])
    with_tasks(site, [{"id": 99, "data": {"image": "/data/upload/1/0a0b0c0d-holiday.png"}}])
    studio.setup(site.address)
    wait_until(lambda: project.store.tasks(UID, [99]))
    assert project.store.image(project.store.tasks(UID, [99])[99].image_id).path == studio.names[8]
    assert len(project.store.images()) == 60


def test_what_lies_in_the_folder_is_not_fetched_however_early_label_studio_calls(
    tmp_path, photos, websites, wait_until
):
    site = websites()
    names = sorted(photo.name for photo in photos.iterdir())
    with_tasks(
        site,
        [{"id": n, "data": {"image": f"/data/upload/1/1a2b3c4d-{name}"}} for n, name in enumerate(names)],
    )
    with Project.open(tmp_path / "fresh", photos) as project:
        with TestClient(create_backend(project), base_url="http://localhost:9090") as client:
            Studio(project, client).setup(site.address)
            wait_until(lambda: len(project.store.tasks(UID, range(60))) == 60)
            wait_until(lambda: quiet(client))
        assert [path for path, _ in site.asked if path.startswith("/data/")] == []
        assert len(project.store.images()) == 60


def test_nothing_is_fetched_from_another_host_nor_what_is_no_picture_or_too_large(
    project, studio, websites, wait_until, monkeypatch, caplog
):
    site, other = websites(), websites()
    other.pages["/a.png"] = site.pages["/large.png"] = picture((1, 2, 3))
    site.pages["/page.png"] = b"<html>"
    site.replies["/away.png"] = 302, {"Location": f"{other.address}/a.png"}
    monkeypatch.setattr(fetching, "MOST_PIXELS", 255)
    uris = [
        f"{other.address}/a.png",
        "/large.png",
        "/page.png",
        "/away.png",
        "/gone.png",
        "s3://bucket/a.png",
    ]
    with_tasks(site, [{"id": n, "data": {"image": uri}} for n, uri in enumerate(uris, 200)])
    studio.setup(site.address)
    wait_until(lambda: "6 of 6 images" in caplog.text)
    assert other.asked == [] and len(project.store.images()) == 60
    assert not project.source.fetched.root.exists()


def test_what_was_annotated_before_the_backend_came_is_taken_in_once(project, studio, websites, wait_until):
    site = websites()
    with_tasks(
        site, [studio.task(n) | {"annotations": [answer(studio.truth(n), id=n + 1)]} for n in range(8)]
    )
    for _ in range(5):
        studio.setup(site.address)
    wait_until(lambda: len(studio.labels()) == 8)
    wait_until(lambda: quiet(studio.client))
    assert len([path for path, _ in site.asked if path.startswith("/api/tasks")]) == 1
    studio.setup(site.address, access_token="another")
    wait_until(lambda: len([path for path, _ in site.asked if path.startswith("/api/tasks")]) == 2)
    wait_until(lambda: quiet(studio.client))
    assert len(project.store.history()) == 8


def test_an_empty_folder_will_do_where_label_studio_has_the_images(tmp_path, photos, websites, wait_until):
    site, empty = websites(), tmp_path / "empty"
    empty.mkdir()
    names = sorted(photo.name for photo in photos.iterdir())
    for name in names:
        site.pages[f"/data/upload/1/1a2b3c4d-{name}"] = (photos / name).read_bytes()
    with_tasks(
        site,
        [{"id": n, "data": {"image": f"/data/upload/1/1a2b3c4d-{name}"}} for n, name in enumerate(names)],
    )
    with Project.open(None, empty) as project:
        project.change(backbone=TOY_BACKBONE)
        with TestClient(create_backend(project), base_url="http://localhost:9090") as client:
            Studio(project, client).setup(site.address)
            wait_until(lambda: len(project.store.images(state="present")) == 60)
            wait_until(lambda: quiet(client))
        project.scan()
        assert len(project.store.images(state="present")) == 60
        assert [one.name for one in project.store.classes()] == ["blue", "green", "red"]


# who may


def test_off_loopback_nothing_is_said_to_who_has_no_token(project, attach):
    client = attach(Door(host="0.0.0.0"))
    for path in ("/", "/health", "/versions", "/openapi.json"):
        assert client.get(path).status_code == 401, path
    for path in ("/setup", "/predict", "/webhook", "/train"):
        assert client.post(path, json={}).status_code == 401, path
    _, token = project.store.new_token("label-studio")
    for scheme, given in (
        ("Bearer", token),
        ("Basic", base64.b64encode(f"anybody:{token}".encode()).decode()),
    ):
        assert client.get("/health", headers={"Authorization": f"{scheme} {given}"}).status_code == 200
    for given in (
        "x",
        base64.b64encode(b"anybody:wrong").decode(),
        base64.b64encode(token.encode()).decode(),
    ):
        assert client.get("/health", headers={"Authorization": f"Basic {given}"}).status_code == 401


def test_another_site_and_another_host_get_nothing(studio):
    assert studio.client.get("/health", headers={"Host": "evil.example.com"}).status_code == 421
    foreign = {"Origin": "https://evil.example.com"}
    assert studio.client.post("/setup", json={}, headers=foreign).status_code == 403


def test_the_command_refuses_to_take_answers_and_to_take_none(photos, vizsla_here):
    left = vizsla_here("serve", photos, "--project", photos / ".vizsla", "--label-studio", "--read-only")
    assert left.returncode == 2 and "--read-only does not go with --label-studio" in left.stderr


# as it was really sent


def test_requests_that_label_studio_really_sent_are_answered_as_it_expects(tmp_path, wait_until):
    """Recorded from Label Studio 1.23.2: two tasks, one annotated as dog, changed to cat, deleted."""
    if "VIZSLA_DATA" not in os.environ:
        pytest.skip("VIZSLA_DATA is not set: it names a folder with label-studio-1.23.2-requests.jsonl")
    recorded = Path(os.environ["VIZSLA_DATA"]) / "label-studio-1.23.2-requests.jsonl"
    images = tmp_path / "images"
    images.mkdir()
    for name, colour in (("a.jpg", (200, 0, 0)), ("b.jpg", (0, 0, 200))):
        (images / name).write_bytes(picture(colour))
    said: dict[str, list[Any]] = {}
    stood: dict[str, list[tuple[str | None, str | None]]] = {}
    with Project.open(None, images) as project:
        project.scan()
        client = TestClient(create_backend(project), base_url="http://127.0.0.1:9191")
        with client:
            step = ""
            for line in recorded.read_text().splitlines():
                sent = json.loads(line)
                step = sent.get("mark", step)
                if "mark" in sent:
                    continue
                reply = client.request(sent["m"], sent["p"], content=sent["b"], headers=sent["h"])
                wait_until(lambda: quiet(client))
                said.setdefault(step, []).append((sent["p"], reply.status_code, reply.json()))
                stood[step] = [(label.path, label.label) for label in project.store.labels()]
    up = ("/health", 200, {"status": "UP", "model_class": "Vizsla"})
    ready = ("/setup", 200, {"model_version": "vizsla-0"})
    ok, unknown = ("/webhook", 201, {"status": "ok"}), ("/webhook", 200, {"status": "Unknown event"})
    assert said["ml.create"] == [up, ready, up, ready]
    assert said["import_tasks"] == [ok]
    path, status, body = said["open task (GET /api/tasks/id?)"][2]
    assert (path, status, len(body["results"])) == ("/predict", 200, 1)
    assert set(body["results"][0]) == {"result", "score", "model_version"}
    assert said["annotation create"] == said["annotation update"] == said["annotation delete"] == [ok]
    assert said["train"] == [ok]
    assert said["project update"] == said["tasks delete"] == [unknown]
    assert said["versions"] == [("/versions", 200, {"versions": ["vizsla-0"]})]
    assert all(status < 400 for replies in said.values() for _, status, _ in replies)
    assert stood["annotation create"] == [("a.jpg", "dog")]
    assert stood["annotation update"] == [("a.jpg", "cat")]
    assert stood["annotation delete"] == []
