"""What `simulate.py` found: how often the interval held the truth, and what the checks cost; a table and a plot."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np


def cells(projects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Coverage by data set and number of checks; of the projects' own intervals, and with those drawn anew."""
    found = []
    for data, at in sorted({(one["data"], run["at"]) for one in projects for run in one["runs"]}):
        mine = [[run for run in one["runs"] if run["at"] == at] for one in projects if one["data"] == data]
        held = [[run["low"] <= run["truth"] <= run["high"] for run in runs] for runs in mine if runs]
        every = [run for runs in mine for run in runs]
        found.append(
            {
                "data": data,
                "checks": at,
                "projects": len(held),
                "runs": len(every),
                "coverage": float(np.mean([x for one in held for x in one])),
                "coverage of the projects' own": float(np.mean([one[0] for one in held])),
                "standard error": float(np.std([np.mean(one) for one in held]) / len(held) ** 0.5),
                "truth": float(np.mean([run["truth"] for run in every])),
                "bias": float(np.mean([run["value"] - run["truth"] for run in every])),
                "width": float(np.mean([run["high"] - run["low"] for run in every])),
                "labels": float(np.mean([runs[0]["labels"] for runs in mine])),
                "asked": float(np.mean([runs[0]["asked"] for runs in mine])),
                "shares under a fifth and a tenth": all(fair(run) for runs in mine for run in runs[:1]),
            }
        )
    return found


def fair(run: dict[str, Any]) -> bool:
    """Whether no more than a fifth of the first 150 labels and a tenth of the rest were asked as checks."""
    return bool(run["asked"] <= 0.2 * min(150, run["labels"]) + max(0, run["labels"] - 150) / 10 + 1)


def costs(projects: list[dict[str, Any]]) -> dict[str, Any]:
    """Labels to the same accuracy with checks over without, on mean curves, linear in the logarithm of labels."""
    found: dict[str, Any] = {}
    for data in sorted({one["data"] for one in projects}):
        pairs = [one for one in projects if one["data"] == data and one["without"]]
        if not pairs:
            continue
        grid = np.geomspace(5, min(one["curve"][-1][0] for one in pairs), 400)
        mean = {
            way: np.mean([np.interp(np.log(grid), *on_log(one[way])) for one in pairs], axis=0)
            for way in ("curve", "without")
        }
        top = min(mean["curve"].max(), mean["without"].max())
        levels = np.linspace(mean["without"][len(grid) // 2], 0.995 * top, 20)
        ratios = [first(grid, mean["curve"], a) / first(grid, mean["without"], a) for a in levels]
        found[data] = {
            "projects": len(pairs),
            "labels, geometric mean over 20 levels": float(np.exp(np.mean(np.log(ratios)))),
            "from": float(levels[0]),
            "to": float(levels[-1]),
        }
    return found


def on_log(points: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    labels, accuracy = np.array(points, float).T
    return np.log(labels), accuracy


def first(grid: np.ndarray, accuracy: np.ndarray, level: float) -> float:
    return float(grid[np.flatnonzero(np.maximum.accumulate(accuracy) >= level)[0]])


def plot(found: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for place, one in enumerate(found):
        error = 1.96 * one["standard error"]
        axes.errorbar(place, 100 * one["coverage"], 100 * error, fmt="o", color="C0", capsize=3)
    axes.axhspan(94, 97, color="C2", alpha=0.15, label="mean must lie here")
    axes.axhline(92, color="C3", lw=0.8, label="no cell below")
    axes.set_xticks(range(len(found)), [f"{one['data']}\n{one['checks']}" for one in found])
    axes.set(ylabel="intervals that hold the truth, %", xlabel="data set, number of random checks")
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("results", type=Path, nargs="?", default=Path("out/intervals.jsonl"))
    chosen = options.parse_args()
    projects = [json.loads(line) for line in chosen.results.read_text().splitlines()]
    found = cells(projects)
    mean = float(np.mean([one["coverage"] for one in found]))
    print(json.dumps({"cells": found, "costs": costs(projects)}, indent=1))
    print(
        f"mean coverage {mean:.1%} (must: 94–97%); least cell {min(one['coverage'] for one in found):.1%} (≥ 92%)"
    )
    plot(found, chosen.results.with_suffix(".png"))


if __name__ == "__main__":
    main()
