"""Is the advice to stop right, and the forecast? Many small projects on real embeddings, labelled to their last image.

Each has other images, classes and random checks. At each model everything that the advice looks at is kept, so that
`report.py` can ask for the advice as the trainer would. One file per project; what is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # `simulated` lies beside this folder
from simulated import Catalogue, Images, accuracy, catalogue, labelled, read

from vizsla import advice
from vizsla.training.fit import accuracy as measured
from vizsla.training.fit import last_gain

CLASSES = (2, 3, 4, 5, 7)
IMAGES = (80, 130)
"""Least and most images per class of a catalogue, uniform in the logarithm."""
STRATEGIES = ("auto",) * 8 + ("margin",) * 4 + ("random",) * 2
"""Drawn from: the default, the usual, and none."""
STOP_SET = 2000
FEW_AXES = 64


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "images", nargs="+", metavar="NAME=FOLDER", help="class folders, e.g. dogs=dogs/train"
    )
    options.add_argument("--projects", type=int, default=70, help="of each data set")
    options.add_argument("--first", type=int, default=0, help="number, and seed, of the first")
    options.add_argument("--out", type=Path, default=Path("out/stopping"))
    chosen = options.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    images = {name: read(Path(folder)) for name, folder in (text.split("=", 1) for text in chosen.images)}
    for project in range(chosen.first, chosen.first + chosen.projects):
        for name in images:
            path = chosen.out / f"{name}-{project:04d}.json"
            if path.exists():
                continue
            began = time.process_time()
            kept = {"data": name, "project": project, **once(images[name], project)}
            path.with_suffix(".part").write_text(json.dumps(kept | {"seconds": time.process_time() - began}))
            path.with_suffix(".part").rename(path)
            print(path.stem, kept["strategy"], f"{time.process_time() - began:.1f} s", flush=True)


def once(images: Images, seed: int) -> dict[str, Any]:
    """Label one project to its end; everything that was seen on the way, model by model."""
    rng = np.random.default_rng(seed)
    classes = int(rng.choice([c for c in CLASSES if c <= len(images.classes)]))
    size = int(classes * np.exp(rng.uniform(*np.log(IMAGES))))
    strategy = str(rng.choice(STRATEGIES))
    of = catalogue(images, rng, classes=classes, size=size, axes=FEW_AXES)
    size = len(of.truth)  # fewer where the classes have no more
    return {"strategy": strategy, "classes": classes, "images": size, "models": watched(of, strategy, seed)}


def watched(of: Catalogue, strategy: str, seed: int) -> list[dict[str, Any]]:
    """What the trainer measures of each model, and its true accuracy."""
    seen: list[dict[str, Any]] = []
    past: list[advice.Snapshot] = []
    fixed, before = of.rows.audit_order[:STOP_SET], None
    for model in labelled(of, strategy=strategy, seed=seed):
        found = measured(model.fitted, model.checks)
        now = model.fitted.bundle.predict_coordinates(of.rows.points[fixed]).argmax(axis=1)
        due = before is not None and advice.comparison_due(past, model.labels)
        agreed = advice.kappa(before, now) if due else None
        past.append(advice.Snapshot(model.labels, found, agreed, len(np.unique(now))))
        before = now
        early = model.labels < advice.LABELS_PER_CLASS * len(of.classes)
        seen.append(
            {
                "labels": model.labels,
                "asked": model.asked,
                "accuracy": accuracy(of, model.fitted),
                "measured": asdict(found) if found else None,
                "kappa": agreed,
                "predicted_classes": past[-1].predicted_classes,
                "last_gain": None if early else last_gain(of.rows, model.fitted),
            }
        )
    return seen


if __name__ == "__main__":
    main()
