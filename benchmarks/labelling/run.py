"""Plays the person: labels class folders through the HTTP API of a real server, and measures calls and accuracy."""

from __future__ import annotations

import argparse
import csv
import http.client
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

from vizsla.data.folders import folder_classes, scan


class Page:
    """What the page asks the server, with how long each call took and whether a training ran meanwhile."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.cookie = ""
        self.waits: list[tuple[str, float, bool]] = []
        self.training = False

    def call(self, name: str, method: str, path: str, body: object = None) -> bytes:
        headers = {"Cookie": self.cookie} if self.cookie else {}
        began = time.perf_counter()
        self.connection.request(
            method, path, body and json.dumps(body), headers | {"Content-Type": "application/json"}
        )
        reply = self.connection.getresponse()
        content = reply.read()
        self.waits.append((name, 1000 * (time.perf_counter() - began), self.training))
        if cookie := reply.getheader("set-cookie"):
            self.cookie = cookie.partition(";")[0]
        assert reply.status < 400, content
        return content

    def look(self) -> dict:
        found: dict = json.loads(self.call("project", "GET", "/api/project"))
        self.training = found["training"]["state"] == "training"
        return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("train", type=Path)
    options.add_argument("test", type=Path)
    options.add_argument("--labels", type=int, default=150)
    options.add_argument("--pause", type=float, default=0.5, help="seconds a person takes for an image")
    options.add_argument("--out", type=Path, default=Path("out/labelling.json"))
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = play(chosen.train, chosen.test, Path(home) / "project", chosen.labels, chosen.pause)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(found, indent=1))
    print(json.dumps({key: value for key, value in found.items() if key != "calls"}, indent=1))
    for name, times in found["calls"].items():
        print(f"{name:16} " + "  ".join(f"{kind} {value:6.1f} ms" for kind, value in times.items()))


def play(train: Path, test: Path, project: Path, labels: int, pause: float) -> dict:
    """Label until there are so many labels; what came of it."""
    classes = folder_classes(scan(train))
    assert classes is not None
    command = [
        sys.executable,
        "-m",
        "vizsla",
        "label",
        str(train),
        "--project",
        str(project),
        "--port",
        "0",
        "--no-browser",
    ]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    assert server.stdout is not None
    try:
        url = next(word for line in server.stdout for word in line.split() if word.startswith("http://"))
        page = Page(int(url.rstrip("/").rpartition(":")[2]))
        given = 0
        while given < labels:
            for item in json.loads(page.call("queue", "POST", "/api/queue", {"n": 5}))["items"][
                : labels - given
            ]:
                page.call("image", "GET", item["image_url"])
                time.sleep(pause)
                name = classes.names[classes.labels[item["file_name"].split("/")[0]]]
                body = {
                    "item_id": item["item_id"],
                    "label": name,
                    "key": str(uuid4()),
                    "lease_id": item["lease_id"],
                }
                body |= {
                    "model_version": item["model_version"],
                    "suggestion_shown": item["suggestion"] is not None,
                }
                page.call("label", "POST", "/api/labels", body)
                given += 1
                if given % 25 == 0:
                    page.call("undo", "POST", "/api/undo", {})
                    page.call("redo", "POST", "/api/redo", {})
                    page.call("grid", "GET", "/api/grid?limit=60")
                    page.call("review", "GET", "/api/review")
                    page.call("curve", "GET", "/api/curve")
                page.look()
        page.call("train", "POST", "/api/train")
        while (now := page.look())["model"] is None or now["model"]["labels"] < labels:
            time.sleep(0.2)
        model = project.with_name("model.safetensors")
        model.write_bytes(page.call("export", "GET", "/api/export/model"))
    finally:
        server.kill()
    return {
        "labels": labels,
        "test_accuracy": accuracy(model, test),
        "shown": now["accuracy"],
        "model": now["model"],
        "advice": now["advice"],
        "calls": summary(page.waits),
    }


def accuracy(model: Path, test: Path) -> float:
    """Of the exported model on class folders, through `vizsla predict`."""
    classes = folder_classes(scan(test))
    assert classes is not None
    command = [sys.executable, "-m", "vizsla", "predict", str(model), str(test)]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = list(csv.DictReader(io.StringIO(table)))
    return sum(
        row["label"] == classes.names[classes.labels[row["file_name"].split("/")[0]]] for row in rows
    ) / len(rows)


def summary(waits: list[tuple[str, float, bool]]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of each call, and the latter while a training ran."""
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(name for name, _, _ in waits):
        times = sorted(wait for which, wait, _ in waits if which == name)
        busy = sorted(wait for which, wait, training in waits if which == name and training)
        found[name] = {"p50": times[len(times) // 2], "p95": times[int(0.95 * len(times))], "n": len(times)}
        if busy:
            found[name] |= {"p95 training": busy[int(0.95 * len(busy))], "n training": len(busy)}
    return found


if __name__ == "__main__":
    main()
