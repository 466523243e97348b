"""Does the interval contain the truth at 30, 60, 120 checks? Many projects on real embeddings, labelled as on the page.

Each project has its own order of random checks, so its own labels, models and choices. At each number of checks its
interval is computed by the trainer's own functions, and then again `--redraws` times from as many images drawn anew
from the whole catalogue, asked of the same heads: of labelled images the guess of a head that did not know the label.
Some projects are labelled once more without checks: what they cost.
Adds a line of JSON per project to the results and skips what is there, so it can be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # `simulated` lies beside this folder
from simulated import Catalogue, Model, accuracy, catalogue, labelled, read

from vizsla.training.fit import Checks
from vizsla.training.fit import accuracy as measured

GROWTH = 0.35
"""Labels between two models, as a share of those there are: a third of the page's models, for the time they take."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("images", nargs="+", metavar="NAME=FOLDER:CHECKS", help="dogs=data/dogs/train:30,60")
    options.add_argument("--projects", type=int, default=50)
    options.add_argument("--first", type=int, default=0, help="number, and seed, of the first")
    options.add_argument("--redraws", type=int, default=20)
    options.add_argument("--paired", type=int, default=20, help="projects labelled without checks too")
    options.add_argument("--strategy", default="auto")
    options.add_argument("--axes", type=int, default=256, help="principal axes that the head reads")
    options.add_argument("--out", type=Path, default=Path("out/coverage-simulated.jsonl"))
    chosen = options.parse_args()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in chosen.out.read_text().splitlines()] if chosen.out.exists() else []
    there = {(one["data"], one["project"]) for one in done}
    sources = [source(text) for text in chosen.images]
    rng = np.random.default_rng(0)
    images = {name: catalogue(read(folder), rng, axes=chosen.axes) for name, folder, _ in sources}
    for project in range(chosen.first, chosen.first + chosen.projects):
        for name, _, wanted in sources:
            if (name, project) in there:
                continue
            run = once(images[name], wanted, chosen, project)
            with chosen.out.open("a") as file:
                file.write(json.dumps({"data": name, "project": project, **run}) + "\n")
            print(name, project, f"{run['seconds']:.1f} s", flush=True)


def source(text: str) -> tuple[str, Path, list[int]]:
    name, _, rest = text.partition("=")
    folder, _, wanted = rest.rpartition(":")
    return name, Path(folder), [int(number) for number in wanted.split(",")]


def once(images: Catalogue, wanted: list[int], chosen: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One project: its curve, its intervals; with `paired`, its curve without checks."""
    began, rng = time.process_time(), np.random.default_rng(seed)
    of = images.with_order(rng)
    way = {"strategy": chosen.strategy, "seed": seed, "growth": GROWTH}
    curve: list[tuple[int, float]] = []
    runs: list[dict[str, Any]] = []
    for model in labelled(of, **way, milestones=wanted):
        curve.append((model.labels, accuracy(of, model.fitted)))
        while wanted and len(model.checks.rows) >= wanted[0]:
            about = {"at": wanted[0], "labels": model.labels, "asked": model.asked}
            runs += [about | one for one in intervals(of, model, chosen.redraws, rng)]
            wanted = wanted[1:]
    without: list[tuple[int, float]] = []
    for model in labelled(of, **way, audit=0.0) if seed < chosen.paired else ():
        without.append((model.labels, accuracy(of, model.fitted)))
        if model.labels >= curve[-1][0]:
            break
    seconds = time.process_time() - began
    return {"curve": curve, "without": without, "runs": runs, "seconds": seconds}


def intervals(
    of: Catalogue, model: Model, redraws: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """The project's own interval, then those of images drawn anew and asked of the same heads."""
    yield interval(of, model)
    all_known = replace(model.fitted, labelled=np.arange(len(of.truth)), labels=of.truth)
    none = np.empty(0, np.int64)
    for _ in range(redraws):
        drawn = rng.choice(len(of.truth), len(model.checks.rows), replace=False)
        yield interval(of, Model(all_known, model.known, Checks(drawn, none, none)))


def interval(of: Catalogue, model: Model) -> dict[str, Any]:
    found = measured(model.fitted, model.checks)
    assert found is not None
    return {
        "checks": found.checks,
        "value": round(found.value, 5),
        "low": round(found.low, 5),
        "high": round(found.high, 5),
        "truth": round(accuracy(of, model.fitted), 5),
    }


if __name__ == "__main__":
    main()
