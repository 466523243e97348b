"""How many labels does each strategy need? Compares them on data sets, harder pools, backbones and batch sizes.

    python benchmarks/labels/run.py dogs=TRAIN:TEST cifar10=TRAIN:TEST digits=TRAIN

Each cell is one `vizsla.compare`, saved to results/ as one JSON file whose name says its conditions. Cells that are
there are not run again, and one that was cut off goes on (its runs lie under --work). report.py makes the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import vizsla

HERE = Path(__file__).parent
STRATEGIES = ["random", "auto", "margin"]
BUDGETS = {"dogs": 160, "cifar10": 160, "digits": 160}
UNTRAINED = f"module:{HERE / 'untrained.py'}:untrained"
STRESS: dict[str, dict[str, Any]] = {
    "long-tail10": {"long_tail": 10},
    "outliers20": {"outliers": 0.2},
    "noise10": {"noise": 0.1},
    "duplicates5": {"duplicates": 5},
}


@dataclass(frozen=True)
class Cell:
    """One comparison."""

    data: str
    kind: str
    """What is special about it; `plain` where nothing is."""
    plan: dict[str, Any]
    strategies: list[str] = field(default_factory=lambda: STRATEGIES)
    runs: int = 2
    """Runs of random per seed."""

    def name(self, seeds: int) -> str:
        """Its conditions, as the name of a file."""
        backbone = {"efficientnet_lite0": "lite0", "efficientnet_lite2": "lite2", UNTRAINED: "untrained"}
        plan = self.plan
        parts = (
            self.data,
            self.kind,
            backbone[plan["backbone"]],
            plan["head"],
            f"batch{plan['batch']}",
            f"{seeds}seeds",
        )
        return "-".join(parts)


def cells(data: list[str]) -> Iterator[Cell]:
    """All comparisons, the most important first."""
    usual = {"backbone": "efficientnet_lite0", "head": "blend", "initial": 0, "batch": 10}
    for name in data:
        yield Cell(name, "plain", {**usual, "budget": BUDGETS.get(name, 160)})
        yield Cell(
            name, "plain", {**usual, "budget": BUDGETS.get(name, 160), "head": "logistic"}, ["random"], 1
        )
    for kind, stress in STRESS.items():
        for name in data:
            yield Cell(
                name, kind, {**usual, **stress, "budget": 100, "random_budget": 100}, ["random", "auto"]
            )
    for name in [one for one in data if one != "digits"]:
        for backbone in (UNTRAINED, "efficientnet_lite2"):
            yield Cell(
                name,
                "plain",
                {**usual, "budget": 100, "random_budget": 100, "backbone": backbone},
                ["random", "auto"],
            )
    for name in [one for one in data if one != "cifar10"]:
        yield Cell(
            name, "plain", {**usual, "budget": 200, "random_budget": 200, "batch": 50}, ["random", "auto"]
        )
        yield Cell(
            name, "plain", {**usual, "budget": 60, "random_budget": 60, "batch": 1}, ["random", "auto"]
        )


def run(cell: Cell, train: str, test: str | None, seeds: int, work: Path) -> dict[str, Any]:
    """Compare, and keep of each curve the label counts and accuracies."""
    began, load = time.monotonic(), os.getloadavg()[0]
    folder = work / cell.name(seeds)
    found = vizsla.compare(
        train,
        test=test,
        strategies=cell.strategies,
        seeds=seeds,
        random_runs=cell.runs,
        out=folder,
        **cell.plan,
    )
    curves = [
        {
            "strategy": curve.strategy,
            "seed": curve.seed,
            "run": curve.run,
            "labels": curve.labels.astype(int).tolist(),
            "accuracy": np.round(curve.values(), 4).tolist(),
            **(
                {"outliers": [int(p["outliers_offered"]) for p in curve.points]}
                if cell.plan.get("outliers")
                else {}
            ),
        }
        for curve in found.curves
    ]
    plan = {**cell.plan, "backbone": cell.plan["backbone"].rpartition(":")[2]}
    about = {"data": cell.data, "kind": cell.kind, **plan, "seeds": seeds, "random_runs": cell.runs}
    about |= {
        "ceiling": found.settings.get("ceiling"),
        "classes": list(found.classes),
        "images": found.settings.get("images"),
    }
    about |= {
        "minutes": round((time.monotonic() - began) / 60, 1),
        "load": round(load, 1),
        "vizsla": vizsla.__version__,
    }
    return {"about": about, "curves": curves}


def main() -> None:
    """Run what is missing."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("data", nargs="+", metavar="NAME=TRAIN[:TEST]")
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--only", default="", help="cells whose name contains this")
    options.add_argument("--work", type=Path, default=Path("out/labels"))
    options.add_argument("--results", type=Path, default=HERE / "results")
    chosen = options.parse_args()
    folders = dict(one.split("=", 1) for one in chosen.data)
    chosen.results.mkdir(parents=True, exist_ok=True)
    todo = [cell for cell in cells(list(folders)) if chosen.only in cell.name(chosen.seeds)]
    for number, cell in enumerate(todo, 1):
        file = chosen.results / f"{cell.name(chosen.seeds)}.json"
        if not file.exists():
            train, _, test = folders[cell.data].partition(":")
            result = run(cell, train, test or None, chosen.seeds, chosen.work)
            file.write_text(json.dumps(result, separators=(",", ":")) + "\n")
            print(f"{number}/{len(todo)} {file.stem}: {result['about']['minutes']} min", flush=True)


if __name__ == "__main__":
    main()
