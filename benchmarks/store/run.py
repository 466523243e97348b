"""How long do the page's calls take in a large project, on SQLite and on PostgreSQL?

    python benchmarks/store/run.py [--images 100000] [--out FILE.json]

Prints the table of README.md: milliseconds at the 95th percentile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.postgres import Postgres

from vizsla.store import Answer, ImageFile, Ranked, Store

PEOPLE = 8
RANKED = 20_000
BATCH = 5000
BUDGETS = {
    "label": 50,
    "label, 8 threads": 50,
    "release and claim 5": 100,
    "undo": 100,
    "counts": 200,
    "undo a batch of 5,000": 1000,
    "label while another process publishes": 100,
    "claim while another process publishes": 200,
}
"""Milliseconds that a call may take."""


def main() -> None:
    if sys.argv[1:2] == ["publish"]:
        return publish_forever(sys.argv[2])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Postgres() as server:
        addresses = {"SQLite": f"{folder}/project", "PostgreSQL": server.address}
        found = {name: measured(address, given.images) for name, address in addresses.items()}
    print(f"| p95, ms | budget | {' | '.join(found)} |\n| --- | --- |{' --- |' * len(found)}")
    for act, budget in BUDGETS.items():
        print(f"| {act} | {budget} | {' | '.join(f'{column[act]:.1f}' for column in found.values())} |")
    if given.out:
        about = {"images": given.images, "cores": len(os.sched_getaffinity(0))}
        given.out.write_text(json.dumps(about | {"p95_ms": found}, indent=1) + "\n")


def p95(call: Callable[[int], Any], n: int, threads: int = 1) -> float:
    """95th percentile of the milliseconds that call(0 … n−1) take."""

    def timed(k: int) -> float:
        start = perf_counter()
        call(k)
        return (perf_counter() - start) * 1000

    with ThreadPoolExecutor(threads) as pool:
        return sorted(pool.map(timed, range(n)))[int(n * 0.95)]


def measured(address: str, n: int) -> dict[str, float]:
    """Milliseconds of each act in a project of n images."""
    with Store.open(address) as store:
        store.add_images(ImageFile(f"{i}.jpg", i, i) for i in range(n))
        store.add_classes(["cat", "dog"])
        people = [store.annotator(f"annotator {k}").id for k in range(PEOPLE)]
        ids = [image.id for image in store.images()]
        store.publish_ranking(None, [Ranked(image_id, 1.0, "unsure") for image_id in ids[:RANKED]])
        rest = iter(ids[BATCH:])

        def undo_batch(_: int) -> None:
            store.undo(people[0])

        def claim(k: int) -> None:
            store.release(people[k % PEOPLE])
            store.claim(people[k % PEOPLE], 5)

        def label(k: int) -> None:
            store.label(people[k % PEOPLE], Answer(next(rest), "cat"))

        store.label_batch(people[0], [Answer(image_id, "dog") for image_id in ids[:BATCH]])
        acts = {"undo a batch of 5,000": p95(undo_batch, 1)}
        store.label_batch(people[0], [Answer(image_id, "dog") for image_id in ids[:BATCH]])
        acts["label"] = p95(label, 100)
        acts["label, 8 threads"] = p95(label, 400, threads=PEOPLE)
        acts["release and claim 5"] = p95(claim, 60)
        acts["undo"] = p95(lambda k: store.undo(people[k % PEOPLE]), 60)
        acts["counts"] = p95(lambda k: store.counts(), 30)
        command = [sys.executable, __file__, "publish", address]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as trainer:
            assert trainer.stdout is not None
            trainer.stdout.readline()
            acts["label while another process publishes"] = p95(label, 200)
            acts["claim while another process publishes"] = p95(claim, 40)
            trainer.kill()
    return acts


def publish_forever(address: str) -> None:
    """Publish one ranking after another, as a trainer would."""
    with Store.open(address) as store:
        rows = [Ranked(image.id, 1.0, "unsure: cat or dog") for image in store.images(limit=RANKED)]
        print("publishing", flush=True)
        while True:
            store.publish_ranking(None, rows)


if __name__ == "__main__":
    main()
