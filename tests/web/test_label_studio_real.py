"""A real Label Studio with our backend attached. It lives in an environment of its own: scripts/peers label-studio."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from vizsla.interop.label_studio_ml import control_of, prediction
from vizsla.project import Project
from vizsla.testing import toy_images

HOME = Path(__file__).resolve().parents[2] / ".venv-label-studio"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
CONFIG = """<View><Image name="photo" value="$image"/><Choices name="colour" toName="photo" choice="single">
<Choice value="blue"/><Choice value="green"/><Choice value="red"/></Choices></View>"""
TITLE = "Vizsla"
SDK = """
import json, sys
from label_studio_sdk.label_interface import LabelInterface
given = json.load(sys.stdin)
interface = LabelInterface(given["config"])
print(json.dumps([interface.validate_prediction(one, return_errors=True) for one in given["predictions"]]))
"""


class LabelStudio:
    """A server on loopback, asked through its HTTP API."""

    def __init__(self, folder: Path) -> None:
        self.program = HOME / "bin" / "label-studio"
        assert self.program.exists(), f"there is no {self.program}. Run: scripts/peers label-studio"
        self.folder, self.log = folder, folder / "log"
        self.made = HOME / "fresh.sqlite3"  # making its tables takes longest, so they are kept
        folder.mkdir()
        if self.made.exists():
            shutil.copy(self.made, folder / "label_studio.sqlite3")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.start(port)
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Token {TOKEN}"}, timeout=30
        )

    def start(self, port: int) -> None:
        command = [self.program, "start", "-b", "--internal-host", "127.0.0.1", "-p", port]
        command += ["--username", "a@b.co", "--password", "only-for-this-test", "--user-token", TOKEN]
        command += ["--enable-legacy-api-token", "--skip-long-migrations"]
        own = {
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.folder),
            "HOME": str(self.folder),
            "SSRF_PROTECTION_ENABLED": "0",  # or it would not call a backend on loopback
            "ML_BLOCK_LOCAL_IP": "0",
            "COLLECT_ANALYTICS": "0",
            "LATEST_VERSION_CHECK": "0",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*map(str, command)],
                cwd=self.folder,
                env=kept | own,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def await_health(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if self.http.get("/health").status_code == 200:
                    self._keep_tables()
                    return
            time.sleep(0.25)
        raise AssertionError(
            f"Label Studio did not start within {seconds} s:\n{self.log.read_text()[-3000:]}"
        )

    def _keep_tables(self) -> None:
        if not self.made.exists():
            half = self.made.with_suffix(f".{os.getpid()}")
            tables = self.folder / "label_studio.sqlite3"
            with closing(sqlite3.connect(tables)) as here, closing(sqlite3.connect(half)) as there:
                here.backup(there)
            half.replace(self.made)

    def stop(self) -> None:
        self.http.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def call(self, method: str, path: str, **more: Any) -> Any:
        reply = self.http.request(method, path, **more)
        assert reply.status_code < 300, f"{method} {path}: {reply.status_code} {reply.text[:500]}"
        return reply.json() if reply.content else None

    def upload(self, project: int, photos: list[Path]) -> None:
        files = [(photo.stem, (photo.name, photo.read_bytes(), "image/png")) for photo in photos]
        self.call("POST", f"/api/projects/{project}/import", files=files)

    def tasks(self, project: int) -> dict[str, dict[str, Any]]:
        """By the file name that was uploaded."""
        found = self.call("GET", "/api/tasks", params={"project": project, "fields": "all", "page_size": 100})
        return {task["data"]["image"].partition("-")[2]: task for task in found["tasks"]}

    def annotate(self, task: int, name: str) -> int:
        number: int = self.call("POST", f"/api/tasks/{task}/annotations", json=said(name))["id"]
        return number

    def fetch_predictions(self, project: int) -> None:
        """What the action Batch Predictions of its Data Manager does."""
        chosen = {
            "selectedItems": {"all": True, "excluded": []},
            "filters": {"conjunction": "and", "items": []},
        }
        path = f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}"
        self.call("POST", path, json={"project": project, "ordering": [], **chosen})


def said(name: str) -> dict[str, Any]:
    result = {"from_name": "colour", "to_name": "photo", "type": "choices", "value": {"choices": [name]}}
    return {"result": [result], "lead_time": 2.5}


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[LabelStudio]:
    running = LabelStudio(tmp_path / "label-studio")
    try:
        running.await_health(120)
        yield running
    finally:
        running.stop()


@pytest.mark.slow
def test_its_own_sdk_finds_our_predictions_in_keeping_with_the_interface() -> None:
    config = CONFIG.replace('"green"', '"green" alias="verde"')
    control = control_of(config)
    likely = [("no such class", 0.5), ("verde", 0.3), ("blue", 0.2)]
    ours = [prediction(control, suggestion, 0.25, "vizsla-3", "vizsla-7") for suggestion in (likely, None)]
    wrong = json.loads(json.dumps(ours[0]).replace("verde", "green"))
    given = json.dumps({"config": config, "predictions": [*ours, wrong]})
    checked = subprocess.run(
        [HOME / "bin" / "python", "-c", SDK], input=given, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    first, second, third = json.loads(checked.stdout)
    assert (first, second) == ([], []) and "Invalid value" in third[0]


def test_labels_given_in_label_studio_train_our_model_and_its_predictions_appear_there(
    studio: LabelStudio, tmp_path: Path, serve: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    made, ours, photos = toy_images(tmp_path / "made", per_class=8), tmp_path / "ours", tmp_path / "photos"
    ours.mkdir()
    photos.mkdir()
    for n, file in enumerate(sorted(made.rglob("*.png"))):
        file.rename(photos / f"{file.parent.name}{n:02}.png")
    names = sorted(photo.name for photo in photos.iterdir())
    for name in names[::2]:  # the others lie with Label Studio only
        shutil.copy(photos / name, ours)

    project = studio.call("POST", "/api/projects", json={"title": "toys", "label_config": CONFIG})["id"]
    studio.upload(project, [photos / name for name in names])
    task = {name: one["id"] for name, one in studio.tasks(project).items()}
    assert sorted(task) == names
    studio.annotate(task[names[0]], truth(names[0]))  # before the backend is there

    backend = serve(ours, "--label-studio", "--audit", "0", command="serve")
    attached = {"url": f"http://127.0.0.1:{backend.port}", "project": project, "title": TITLE}
    assert studio.call("POST", "/api/ml", json=attached)["readable_state"] == "Connected"
    with Project.open(tmp_path / "project") as opened:
        store = opened.store
        wait_until(lambda: len(store.images(state="present")) == 24 and store.labels(), 30)

        given = {
            name: studio.annotate(task[name], truth(name))
            for name in (*names[1:3], *names[8:11], *names[16:19])
        }
        wrong = studio.annotate(task[names[3]], "red")
        studio.call("PATCH", f"/api/annotations/{given[names[9]]}", json=said("red"))
        studio.call("PATCH", f"/api/annotations/{given[names[9]]}", json=said("green"))
        studio.call("DELETE", f"/api/annotations/{wrong}")
        labelled = {names[0], *given}
        assert {found(label.path): label.label for label in store.labels()} == {n: truth(n) for n in labelled}

        def settled() -> bool:
            model, ranking = store.model(), store.ranking()
            known = (
                model is not None and model.labels_used == 9 and store.setting("training")["state"] == "idle"
            )
            return bool(known and model and ranking and ranking.model_version == model.version)

        wait_until(settled, 60)
        version = f"vizsla-{store.ranking().model_version}"  # type: ignore[union-attr]
        studio.fetch_predictions(project)
        [model] = studio.call("GET", "/api/ml", params={"project": project})
        assert model["model_version"] == version
        studio.call("PATCH", f"/api/projects/{project}", json={"model_version": version})
        seen = {name: one for name, one in studio.tasks(project).items() if name not in labelled}
        for one in seen.values():
            [newest] = [each for each in one["predictions"] if each["model_version"] == version]
            assert newest["score"] == one["predictions_score"]
        right = [truth(name) == chosen(one, version) for name, one in seen.items()]
        assert (len(right), sum(right) >= 13) == (15, True)

        # its own sorting is our order
        order = [found(item.path) for item in store.upcoming(15)]
        assert sorted(seen, key=lambda name: seen[name]["predictions_score"]) == order
        studio.call("PATCH", f"/api/projects/{project}", json={"sampling": "Uncertainty sampling"})
        assert studio.call("GET", f"/api/projects/{project}/next")["id"] == task[order[0]]

        # one more label is a new version, and whoever is handed the next task sees it
        studio.call("PATCH", f"/api/projects/{project}", json={"model_version": TITLE})
        studio.annotate(task[order[0]], truth(order[0]))
        wait_until(lambda: store.model().labels_used == 10, 30)  # type: ignore[union-attr]
        wait_until(lambda: store.ranking().model_version == store.model().version)  # type: ignore[union-attr]
        after = f"vizsla-{store.ranking().model_version}"  # type: ignore[union-attr]
        one = studio.call("GET", f"/api/projects/{project}/next")
        assert after != version and chosen(one, after) in ("blue", "green", "red")


def truth(name: str) -> str:
    return name[:-6]


def found(path: str | None) -> str:
    """The name of a photo, wherever it lies with us."""
    return Path(path or "").name


def chosen(task: dict[str, Any], version: str) -> str:
    [prediction] = [one for one in task["predictions"] if one["model_version"] == version]
    name: str = prediction["result"][0]["value"]["choices"][0]
    return name
