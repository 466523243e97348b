"""Is the advice to stop right, and the forecast? Many small projects on real embeddings, labelled to their last image.

Each has other images, classes and random checks. At each model everything that the advice looks at is kept, so that
`report.py` can ask for the advice as the trainer would. One file per project; what is there is not run again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # `simulated` lies beside this folder
from simulated import Catalogue, Images, accuracy, catalogue, labelled, read

from vizsla import advice
from vizsla.training.fit import accuracy as measured
from vizsla.training.fit import backtests

CLASSES = (2, 3, 4, 5, 7, 10)
IMAGES = (300, 700)
"""Least and most images of a catalogue, uniform in the logarithm."""
STRATEGIES = ("margin",) * 6 + ("random",) * 3 + ("entropy",) * 2 + ("least_confidence",) * 2 + ("auto",)
"""Drawn from; auto seldom because it takes ten times as long here."""
STOP_SET = 2000
FEW_AXES = 64


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "images", nargs="+", metavar="NAME=FOLDER", help="class folders, e.g. dogs=dogs/train"
    )
    options.add_argument("--projects", type=int, default=80, help="of each data set")
    options.add_argument("--first", type=int, default=0, help="number, and seed, of the first")
    options.add_argument("--out", type=Path, default=Path("out/stopping"))
    chosen = options.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    images = {name: read(Path(folder)) for name, folder in (text.split("=", 1) for text in chosen.images)}
    for project in range(chosen.first, chosen.first + chosen.projects):
        for name in images:
            path = chosen.out / f"{name}-{project:04d}.npz"
            if path.exists():
                continue
            began = time.process_time()
            kept = once(images[name], project)
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                np.savez_compressed(file, **kept)
            part.rename(path)
            print(path.stem, kept["strategy"], f"{time.process_time() - began:.1f} s", flush=True)


def once(images: Images, seed: int) -> dict[str, Any]:
    """Label one project to its end; everything that was seen on the way, model by model."""
    rng = np.random.default_rng(seed)
    classes = int(rng.choice([c for c in CLASSES if c <= len(images.classes)]))
    size = int(np.exp(rng.uniform(*np.log(IMAGES))))
    strategy = str(rng.choice(STRATEGIES))
    of = catalogue(images, rng, classes=classes, size=size, axes=FEW_AXES)
    kept: dict[str, Any] = {"strategy": strategy, "truth": of.truth.astype(np.uint8), "classes": classes}
    models = watched(of, strategy, seed)
    kept["models"] = len(models)
    return kept | {f"{name}_{i}": value for i, model in enumerate(models) for name, value in model.items()}


def watched(of: Catalogue, strategy: str, seed: int) -> list[dict[str, Any]]:
    """What the trainer measures of each model; and its back-tests' guesses, for the forecast."""
    seen: list[dict[str, Any]] = []
    past: list[advice.Snapshot] = []
    fixed, before = of.rows.audit_order[:STOP_SET], None
    for model in labelled(of, strategy=strategy, seed=seed):
        found = measured(model.fitted, model.checks)
        now = model.fitted.bundle.predict_coordinates(of.rows.coordinates[fixed]).argmax(axis=1)
        due = before is not None and advice.comparison_due(past, model.labels)
        agreed = advice.kappa(before, now) if due else None
        past.append(advice.Snapshot(model.labels, found, agreed, len(np.unique(now))))
        before = now
        told = backtests(of.rows, model.fitted, model.checks)
        sizes, guesses = told or (np.empty(0, int), np.empty((0, len(of.truth)), int))
        seen.append(
            {
                "labels": model.labels,
                "asked": model.asked,
                "accuracy": accuracy(of, model.fitted),
                "measured": [found.value, found.low, found.high, found.checks] if found else [],
                "kappa": np.nan if agreed is None else agreed,
                "predicted": past[-1].predicted_classes,
                "checks": model.checks.rows.astype(np.uint16),
                "labelled": model.fitted.labelled.astype(np.uint16),
                "probs": model.fitted.probs.astype(np.float16),
                "sizes": sizes,
                "guesses": guesses.astype(np.uint8),
            }
        )
    return seen


if __name__ == "__main__":
    main()
