"""The page's budgets, asserted loosely; `pytest -s` prints what was measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

from vizsla.store import Answer, ImageFile, Ranked, Store

WORKER = Path(__file__).with_name("worker.py")
N = {"sqlite": 100_000, "postgresql": 20_000}  # filling PostgreSQL takes half a minute else
LOOSE = 10  # times the budget: other work shares the machine that tests run on


def p95(call: Callable[[int], Any], n: int, threads: int = 1) -> float:
    """95th percentile of the milliseconds that call(0 … n−1) take."""

    def timed(k: int) -> float:
        start = perf_counter()
        call(k)
        return (perf_counter() - start) * 1000

    with ThreadPoolExecutor(threads) as pool:
        return sorted(pool.map(timed, range(n)))[int(n * 0.95)]


def test_a_large_project_stays_within_the_budgets(address: str, record_property: Callable[..., None]) -> None:
    kind = "postgresql" if "://" in address else "sqlite"
    n = N[kind]
    with Store.open(address) as store:
        start = perf_counter()
        assert store.add_images(ImageFile(f"{i}.jpg", i, i) for i in range(n)) == n
        adding = perf_counter() - start
        store.add_classes(["cat", "dog"])
        people = [store.annotator(f"annotator {k}").id for k in range(8)]
        ids = [image.id for image in store.images()]
        start = perf_counter()
        store.publish_ranking(None, [Ranked(image_id, 1.0, "unsure") for image_id in ids[:20_000]])
        publishing = perf_counter() - start
        store.label_batch(people[0], [Answer(image_id, "dog") for image_id in ids[:5000]])
        rest = iter(ids[5000:])

        def claim(k: int) -> None:
            store.release(people[k % 8])
            store.claim(people[k % 8], 5)

        def label(k: int) -> None:
            store.label(people[k % 8], Answer(next(rest), "cat"))

        acts: dict[str, tuple[float, float]] = {
            "label": (50, p95(label, 100)),
            "label, 8 threads": (50, p95(label, 400, threads=8)),
            "release and claim 5": (100, p95(claim, 60)),
            "undo": (100, p95(lambda k: store.undo(people[k % 8]), 60)),
            "counts": (200, p95(lambda k: store.counts(), 30)),
        }
        trainer = subprocess.Popen(
            [sys.executable, WORKER, "publish_forever", address], stdout=subprocess.PIPE
        )
        assert trainer.stdout is not None
        try:
            trainer.stdout.readline()
            acts["label while another process publishes"] = (100, p95(label, 200))
            acts["claim while another process publishes"] = (200, p95(claim, 40))
        finally:
            trainer.kill()
            trainer.communicate()
    print(f"\n{kind}: {n} images added in {adding:.1f} s, 20,000 ranked in {publishing:.1f} s; p95 ms:")
    for name, (budget, measured) in acts.items():
        print(f"  {name:40} {measured:7.1f}   of {budget}")
        record_property(name, measured)
    slow = {name: measured for name, (budget, measured) in acts.items() if measured > LOOSE * budget}
    assert slow == {}
