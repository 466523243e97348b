"""Fifty annotators, two servers and a worker on one PostgreSQL: how long do calls take, and is anything lost?"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from annotator import Annotator
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.postgres import Postgres

from vizsla.project import Project
from vizsla.store import Store
from vizsla.testing import TOY_BACKBONE

HOST = "127.0.0.2"
"""A loopback address that asks for tokens as any other would."""
CLASSES = ("blue", "green", "red", "grey")
BUDGETS = {"label": 50, "queue": 100, "counts": 200, "image": 100}
ARRIVAL = 20.3
"""Seconds within which everyone has come."""
LONGEST = 1800.0
"""Seconds after which a run is given up."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--annotators", type=int, default=50)
    options.add_argument("--labels", type=int, default=20_000)
    options.add_argument("--images", type=int, default=30_000)
    options.add_argument("--servers", type=int, default=2)
    options.add_argument(
        "--pace", type=float, default=1.0, help="seconds an annotator takes for an image; 0: none"
    )
    options.add_argument("--out", type=Path, default=Path("out/team.json"))
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as home, Postgres() as database:
        images = make(Path(home) / "images", chosen.images)
        found = play(images, database.address, chosen)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(found, indent=1))
    show(found)


def make(folder: Path, count: int) -> Path:
    """So many small pictures, no two alike, named after their class."""
    rng = np.random.default_rng(0)
    colours = np.array([[60, 60, 200], [60, 180, 60], [200, 60, 60], [128, 128, 128]])
    folder.mkdir()
    for n in range(count):
        pixels = np.clip(colours[n % 4] + rng.normal(0, 40, (24, 24, 3)) + rng.normal(0, 30, 3), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{n:06}-{CLASSES[n % 4]}.jpg")
    return folder


def play(images: Path, address: str, chosen: argparse.Namespace) -> dict:
    with Project.open(address, images) as project:
        project.change(backbone=TOY_BACKBONE)
        project.add_classes(CLASSES)
        project.scan()
        tokens = [project.store.new_token(f"annotator {n}")[1] for n in range(chosen.annotators)]
    with ExitStack() as running:
        servers = [running.enter_context(server(images, address)) for _ in range(chosen.servers)]
        ports = [port for port, _ in servers]
        worker = running.enter_context(process("worker", "--project", address, "--images", images))
        wait_until_embedded(address)
        left = iter(range(chosen.labels))
        team = [
            Annotator(HOST, ports[n % len(ports)], token, chosen.pace, lambda: next(left, None) is not None)
            for n, token in enumerate(tokens)
        ]
        parts = {"servers": [id for _, id in servers], "worker": [worker.pid], "annotators": [os.getpid()]}
        began, load, before = time.monotonic(), os.getloadavg()[0], cpu_seconds(parts)
        asyncio.run(asyncio.wait_for(together(team), LONGEST))
        seconds, after = time.monotonic() - began, cpu_seconds(parts)
    given = {key: value for one in team for key, value in one.acknowledged.items()}
    return {
        "annotators": chosen.annotators,
        "servers": chosen.servers,
        "images": chosen.images,
        "pace (s)": chosen.pace,
        "acknowledged": len(given),
        "seconds": round(seconds, 1),
        "labels/s": round(len(given) / seconds, 1),
        "cores used": {name: round((after[name] - before[name]) / seconds, 2) for name in after},
        "load before and after": [round(load, 1), round(os.getloadavg()[0], 1)],
        **honesty(address, given, Counter(image for one in team for image in one.given)),
        "news": sum(one.heard for one in team),
        "calls": summary([wait for one in team for wait in one.waits]),
    }


def cpu_seconds(parts: dict[str, list[int]]) -> dict[str, float]:
    """What each part has used of the processor, PostgreSQL (all that run here) with them."""
    postgres = [
        int(path.parts[2]) for path in Path("/proc").glob("[0-9]*/comm") if read(path).strip() == "postgres"
    ]
    return {name: sum(map(_cpu, ids)) for name, ids in (parts | {"postgres": postgres}).items()}


def _cpu(process_id: int) -> float:
    fields = read(Path(f"/proc/{process_id}/stat")).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""


async def together(team: Sequence[Annotator]) -> None:
    """They come one after another, and never in step."""
    await asyncio.gather(*(one.work(ARRIVAL * n / len(team)) for n, one in enumerate(team)))


@contextmanager
def process(*arguments: object, **options: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "vizsla", *map(str, arguments)]
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE) as started:
        try:
            yield started
        finally:
            started.kill()


@contextmanager
def server(images: Path, address: str) -> Iterator[tuple[int, int]]:
    """Yields port and process id of a server that answers."""
    with process(
        "serve", images, "--project", address, "--host", HOST, "--port", "0", "--no-trainer"
    ) as started:
        assert started.stdout is not None
        url = next(word for line in started.stdout for word in line.split() if word.startswith("http://"))
        yield int(url.rstrip("/").rpartition(":")[2]), started.pid


def wait_until_embedded(address: str) -> None:
    with Store.open(address) as store:
        while (store.setting("training") or {}).get("state") != "idle":
            time.sleep(0.5)


def honesty(address: str, given: dict[str, tuple[int, int]], handed: Counter[int]) -> dict:
    """What the database says of the acknowledged answers, and how often an image was handed to more than one."""
    with Store.open(address) as store:
        kept = {str(label.key): (label.image_id, label.id) for label in store.history()}
        models = [model for model in store.models() if model.state == "ready"]
    images = Counter(image for image, _ in kept.values())
    return {
        "lost": sum(kept.get(key) != value for key, value in given.items()),
        "kept without acknowledgement": len(kept.keys() - given.keys()),
        "labelled twice": sum(n > 1 for n in images.values()),
        "handed out twice": sum(n > 1 for n in handed.values()),
        "models": len(models),
    }


def summary(waits: list) -> dict:
    """Milliseconds by call, and the same of calls while a model trained."""
    times: dict[str, list[float]] = {}
    for wait in waits:
        times.setdefault(wait.call, []).append(wait.ms)
        if wait.training:
            times.setdefault(f"{wait.call}, training", []).append(wait.ms)
    return {
        name: {
            "n": len(ms),
            "p50": float(np.percentile(ms, 50)),
            "p95": float(np.percentile(ms, 95)),
            "max": max(ms),
        }
        for name, ms in sorted(times.items())
    }


def show(found: dict) -> None:
    for name, value in found.items():
        if name != "calls":
            print(f"{name:30} {value}")
    for name, times in found["calls"].items():
        budget = BUDGETS[name.partition(",")[0]] * (2 if "training" in name else 1)
        said = "  ".join(f"{kind} {value:8.1f}" for kind, value in times.items())
        print(f"{name:20} {said}   budget {budget}")


if __name__ == "__main__":
    main()
