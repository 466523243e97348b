"""How long the page's calls take on a project of 100,000 images, at rest and while a model trains."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
from PIL import Image
from run import Page, summary

from vizsla.testing import TOY_BACKBONE


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=100_000)
    options.add_argument("--labels", type=int, default=400)
    options.add_argument("--pause", type=float, default=0.1)
    options.add_argument("--out", type=Path, default=Path("out/scale.json"))
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = play(make(Path(home) / "images", chosen.images), Path(home) / "project", chosen)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(found, indent=1))
    for name, value in found.items():
        if name != "calls":
            print(f"{name:24} {value:8.1f}")
    for name, times in found["calls"].items():
        print(f"{name:12} " + "  ".join(f"{kind} {value:6.1f}" for kind, value in times.items()))


def make(folder: Path, count: int) -> Path:
    """So many small pictures, no two alike."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for n in range(count):
        colour = np.array([200, 60, 60]) if n % 2 else np.array([60, 60, 200])
        pixels = np.clip(colour + rng.normal(0, 40, (24, 24, 3)) + rng.normal(0, 30, 3), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{n:06}-{'red' if n % 2 else 'blue'}.jpg")
    return folder


def play(images: Path, project: Path, chosen: argparse.Namespace) -> dict:
    command = [sys.executable, "-m", "vizsla", "label", str(images), "--project", str(project), "--port", "0"]
    command += ["--no-browser", "--classes", "blue,red", "--backbone", TOY_BACKBONE]
    began = time.monotonic()
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    assert server.stdout is not None
    try:
        url = next(word for line in server.stdout for word in line.split() if word.startswith("http://"))
        page = Page(int(url.rstrip("/").rpartition(":")[2]))
        while not (items := json.loads(page.call("first", "POST", "/api/queue", {"n": 1}))["items"]):
            time.sleep(0.02)
        page.call("first", "GET", items[0]["image_url"])
        first = time.monotonic() - began
        while page.look()["training"]["state"] not in ("waiting", "idle"):
            time.sleep(1)
        ready = time.monotonic() - began
        page.waits.clear()
        given, thumbs = 0, []
        while given < chosen.labels:
            for item in json.loads(page.call("queue", "POST", "/api/queue", {"n": 5}))["items"]:
                page.call("image", "GET", item["image_url"])
                time.sleep(chosen.pause)
                name = item["file_name"].rpartition("-")[2].partition(".")[0]
                body = {
                    "item_id": item["item_id"],
                    "label": name,
                    "key": str(uuid4()),
                    "lease_id": item["lease_id"],
                }
                page.call("label", "POST", "/api/labels", body)
                given += 1
                page.look()
                if given % 10 == 0:
                    page.call("undo", "POST", "/api/undo", {})
                    page.call("redo", "POST", "/api/redo", {})
                    tiles = json.loads(page.call("grid", "GET", "/api/grid?limit=60"))["items"]
                    if tiles and given % 50 == 0:
                        start = time.perf_counter()
                        for tile in tiles:
                            page.call("thumb", "GET", tile["thumb_url"])
                        thumbs.append(1000 * (time.perf_counter() - start))
    finally:
        server.kill()
    return {
        "first image (s)": first,
        "all embedded (s)": ready,
        "60 thumbnails (ms)": max(thumbs, default=0.0),
        "calls": summary(page.waits),
    }


if __name__ == "__main__":
    main()
