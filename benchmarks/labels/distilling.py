"""How many points does the linear head lose against the blend that taught it? On the pool's unlabelled images.

python benchmarks/labels/distilling.py dogs=FOLDER cifar10=FOLDER digits=FOLDER
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vizsla.arena import classes_of
from vizsla.data.indexed import IndexedDataset
from vizsla.learner import ActiveLearner
from vizsla.models.backbones import load_backbone
from vizsla.models.frozen import Features, FrozenModel
from vizsla.oracle import FilenameOracle

HERE = Path(__file__).parent
COUNTS = (20, 50, 100, 150)


def rows(name: str, folder: str, seeds: int) -> Iterator[dict[str, Any]]:
    """Accuracy of both at some label counts chosen by `auto`."""
    dataset, backbone = IndexedDataset(folder), load_backbone("efficientnet_lite0")
    model = FrozenModel(backbone, len(dataset.classes))
    pool = model.prepare(dataset)
    others, truth = Features(pool.embeddings), classes_of(dataset)  # the same images, as if they were new
    for seed in range(seeds):
        model = FrozenModel(backbone, len(dataset.classes))
        learner = ActiveLearner(dataset.fresh(), oracle=FilenameOracle(), seed=seed, model=model, inputs=pool)
        while (done := len(learner.dataset.labelled())) < COUNTS[-1]:
            learner.query(10)
            learner.fit()
            if (done := done + 10) in COUNTS:
                rest = np.setdiff1d(pool.ids, learner.dataset.labelled())
                blend, linear = (model.predict(seen, rest).argmax(axis=1) for seen in (pool, others))
                yield {
                    "data": name,
                    "seed": seed,
                    "labels": done,
                    "blend": round(float((blend == truth[rest]).mean()), 4),
                    "linear": round(float((linear == truth[rest]).mean()), 4),
                }


def main() -> None:
    """Every data set, from the start."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("data", nargs="+", metavar="NAME=FOLDER")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--out", type=Path, default=HERE / "results" / "distilling.json")
    chosen = options.parse_args()
    found: list[dict[str, Any]] = []
    for name, folder in (one.split("=", 1) for one in chosen.data):
        found += rows(name, folder.partition(":")[0], chosen.seeds)
        print(f"{name} done", flush=True)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps({"seeds": chosen.seeds, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
