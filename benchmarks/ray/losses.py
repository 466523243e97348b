"""What a shortlist costs the strategies that weigh images against each other: accuracy beside choosing from all.

    python benchmarks/ray/losses.py TRAIN TEST --out FILE.jsonl      folders of `vizsla embed --out`, names CLASS/…

50 random labels, four batches of 50 by the strategy, from the whole pool and from a shortlist of a tenth; the same
first labels for both. Features are their 128 principal coordinates, so that it takes minutes. Accuracy is of a
logistic head on the test rows. Prints the difference and its standard error over seeds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from vizsla.engine import LocalEngine
from vizsla.functional.geometry import principal_axes
from vizsla.models.heads import LogisticHead
from vizsla.shards.choosing import select_shards
from vizsla.shards.folder import ShardFolder
from vizsla.shards.names import names_at
from vizsla.shards.pool import Shards, of_file
from vizsla.strategy.base import strategies

START, BATCH, BATCHES = 50, 50, 4
AXES = 128
STEPWISE = {"coreset", "kmeans"}


def load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    pool = ShardFolder(folder).pool()
    rows = np.concatenate([part.vectors() for part in pool.parts])
    return rows, np.array([name.partition("/")[0] for name in names_at(pool, np.arange(len(rows)))])


def accuracy(strategy: str, shortlist: int, seed: int, pool: Shards, held: dict) -> float:
    engine = LocalEngine()
    known = np.random.default_rng(seed).choice(len(pool), START, replace=False)
    for _ in range(BATCHES):
        given = {"labelled": known, "labels": held["truth"][known], "n": BATCH, "seed": seed}
        known = np.append(known, select_shards(strategy, pool, engine, shortlist=shortlist, **given))
    head = LogisticHead(held["classes"])
    head.fit(held["points"][known], held["truth"][known])
    return float((head.predict(held["test"]).argmax(axis=1) == held["test_truth"]).mean())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("train", type=Path)
    options.add_argument("test", type=Path)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--strategies", nargs="+")
    options.add_argument("--part", type=int, default=10, help="the shortlist is one image in so many")
    options.add_argument("--out", type=Path, required=True)
    chosen = options.parse_args()
    rows, names = load(chosen.train)
    test, test_names = load(chosen.test)
    classes, truth = np.unique(names, return_inverse=True)
    axes = principal_axes(rows, AXES)
    held = {
        "classes": len(classes),
        "truth": truth,
        "points": axes.directions(rows),
        "test": axes.directions(test),
        "test_truth": np.searchsorted(classes, test_names),
    }
    with tempfile.TemporaryDirectory() as scratch:
        np.save(f"{scratch}/rows.npy", axes(rows).astype(np.float16))
        compare(chosen, of_file(Path(scratch, "rows.npy"), 1000), held)


def compare(chosen: argparse.Namespace, pool: Shards, held: dict) -> None:
    joint = [name for name, rule in strategies.items() if rule.joint and name not in STEPWISE]
    for name in chosen.strategies or joint:
        pairs = [
            [accuracy(name, size, seed, pool, held) for size in (len(pool), len(pool) // chosen.part)]
            for seed in range(chosen.seeds)
        ]
        whole, short = np.mean(pairs, axis=0)
        lost = np.subtract(*np.transpose(pairs))
        row = {
            "strategy": name,
            "whole": round(float(whole), 4),
            "shortlist": round(float(short), 4),
            "lost": round(float(lost.mean()), 4),
            "error": round(float(lost.std(ddof=1) / len(lost) ** 0.5), 4),
            "seeds": chosen.seeds,
            "pool": len(pool),
            "part": chosen.part,
        }
        print(json.dumps(row), flush=True)
        with chosen.out.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
