"""Does the interval contain the truth at 30, 60, 120 checks? Many projects on real embeddings, labelled as on the page.

Each project has its own order of random checks, so its own labels, models and choices. At each number of checks
stated, its chosen labels are kept and the checks drawn anew, `--redraws` times; each time all heads are fitted anew
and the interval computed, by the trainer's own functions. Then it is labelled once more without checks: what they cost.
Adds a line of JSON per project to the results and skips what is there, so it can be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # `simulated` lies beside this folder
from simulated import Catalogue, Images, Model, accuracy, catalogue, known, labelled, read

from vizsla.training.fit import accuracy as measured
from vizsla.training.fit import checks, fit


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("images", nargs="+", metavar="NAME=FOLDER:CHECKS", help="dogs=data/dogs/train:30,60")
    options.add_argument("--projects", type=int, default=50)
    options.add_argument("--redraws", type=int, default=20)
    options.add_argument("--strategy", default="margin")
    options.add_argument("--axes", type=int, default=256, help="principal axes that the head reads")
    options.add_argument("--out", type=Path, default=Path("out/coverage-simulated.jsonl"))
    chosen = options.parse_args()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in chosen.out.read_text().splitlines()] if chosen.out.exists() else []
    there = {(one["data"], one["project"]) for one in done}
    sources = [source(text) for text in chosen.images]
    images = {name: read(folder) for name, folder, _ in sources}
    for project in range(chosen.projects):
        for name, _, wanted in sources:
            if (name, project) in there:
                continue
            run = once(images[name], wanted, chosen.redraws, chosen.strategy, chosen.axes, project)
            with chosen.out.open("a") as file:
                file.write(json.dumps({"data": name, "project": project, **run}) + "\n")
            print(name, project, f"{run['seconds']:.1f} s", flush=True)


def source(text: str) -> tuple[str, Path, list[int]]:
    name, _, rest = text.partition("=")
    folder, _, wanted = rest.rpartition(":")
    return name, Path(folder), [int(number) for number in wanted.split(",")]


def once(
    images: Images, wanted: list[int], redraws: int, strategy: str, axes: int, seed: int
) -> dict[str, Any]:
    """One project: its curve with and without checks, and its intervals."""
    began, rng = time.process_time(), np.random.default_rng(seed)
    of = catalogue(images, rng, axes=axes)
    curve: list[tuple[int, float]] = []
    runs: list[dict[str, Any]] = []
    for model in labelled(of, strategy=strategy, seed=seed, growth=0.25, milestones=wanted):
        curve.append((model.labels, accuracy(of, model.fitted)))
        while wanted and len(model.checks.rows) >= wanted[0]:
            runs += [
                {"at": wanted[0], "labels": model.labels, "asked": model.asked, **one}
                for one in intervals(of, model, redraws, rng)
            ]
            wanted = wanted[1:]
    without: list[tuple[int, float]] = []
    for model in labelled(of, strategy=strategy, seed=seed, growth=0.25, audit=0.0):
        without.append((model.labels, accuracy(of, model.fitted)))
        if model.labels >= curve[-1][0]:
            break
    seconds = time.process_time() - began
    return {"curve": curve, "without": without, "runs": runs, "seconds": seconds}


def intervals(
    of: Catalogue, model: Model, redraws: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """The project's own interval, then those of checks drawn anew beside the labels that were chosen."""
    yield interval(of, model)
    chosen = np.setdiff1d(model.fitted.labelled, model.checks.rows)
    m = len(model.checks.rows)
    for _ in range(redraws):
        again = of.with_order(rng)
        answers = known(again, np.union1d(chosen, again.rows.audit_order[:m]))
        fitted = fit(again.rows, answers, about={}, seed=0)
        yield interval(again, Model(fitted, answers, checks(again.rows, answers)))


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
