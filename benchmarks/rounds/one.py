"""One round on a pool in a file, in this process: refit with 500 labels, score all, choose 100. Prints JSON.

python benchmarks/rounds/one.py POOL.npy TRUTH.npy STRATEGY
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

import numpy as np

from vizsla import ActiveLearner, IndexedDataset
from vizsla.data.sources import Folder
from vizsla.models.backbones import Backbone
from vizsla.models.frozen import Features, FrozenModel
from vizsla.types import Embeddings

LABELS = 500
BATCH = 100
ROUNDS = 3


class Named(IndexedDataset):
    """A catalogue without files: nothing here looks at an image."""

    def __init__(self, n: int, classes: int) -> None:
        self.dir_path, self.source = "nowhere", Folder("nowhere")
        self.transform = None
        self.unreadable = {}
        self.classes = tuple(f"class{c}" for c in range(classes))
        self._hold(f"{image:07d}.jpg" for image in range(n))


class Memory:
    """The most that this process held while asked, in MB: its own, and with the pages of files that it maps."""

    def __init__(self) -> None:
        self.own = self.whole = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done,))
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(0.01):
            held = dict(
                line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line
            )
            self.own = max(self.own, int(held["RssAnon"].split()[0]) / 1024)
            self.whole = max(self.whole, int(held["VmRSS"].split()[0]) / 1024)


def main() -> None:
    pool, truths, strategy = sys.argv[1:]
    vectors, truth = np.load(pool, mmap_mode="r"), np.load(truths)
    n, classes = len(vectors), int(truth.max()) + 1
    dataset = Named(n, classes)
    rng = np.random.default_rng(0)
    backbone = Backbone("none", None, None, vectors.shape[1], "none")  # type: ignore[arg-type]  # never called
    inputs = Features(Embeddings(np.arange(n), vectors, "none"))
    learner = ActiveLearner(
        dataset, strategy=strategy, model=FrozenModel(backbone, classes), inputs=inputs, seed=0
    )
    for image in rng.choice(n, LABELS - BATCH, replace=False).tolist():
        dataset.update_label(image, int(truth[image]))
    memory = Memory()
    with memory.watched():
        started = time.perf_counter()
        learner.fit()  # finds axes and coordinates, and the neighbour graph where there is one
        learner.predict(np.arange(min(n, 1000)))
        once = time.perf_counter() - started
        rounds = [one_round(learner, truth) for _ in range(ROUNDS)]
    accuracy = float((learner.predict(dataset.pool()).argmax(axis=1) == truth[dataset.pool()]).mean())
    found = {
        "once": round(once, 3),
        "refit": [one[0] for one in rounds],
        "choose": [one[1] for one in rounds],
        "labels": len(dataset.labelled()),
        "accuracy": round(accuracy, 4),
        "own_mb": round(memory.own),
        "with_mapped_mb": round(memory.whole),
    }
    print(json.dumps(found))


def one_round(learner: ActiveLearner, truth: np.ndarray) -> tuple[float, float]:
    """Seconds to score all and choose, and to refit with what was chosen: what someone waits for between batches."""
    started = time.perf_counter()
    batch = learner.choose(BATCH)
    chosen = time.perf_counter()
    for image in batch.ids.tolist():
        learner.dataset.update_label(image, int(truth[image]))
    labelled = time.perf_counter()
    learner.fit()
    return round(time.perf_counter() - labelled, 4), round(chosen - started, 4)


if __name__ == "__main__":
    main()
