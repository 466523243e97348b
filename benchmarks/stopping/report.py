"""Ask for the advice at every model of the projects that `run.py` labelled, as the page would; compare with the truth.

Curve: the project's true accuracy by labels, made to rise only (isotonic regression), linear between models. Plateau:
its end, when the whole catalogue is labelled. Nothing is fitted again: a changed rule is judged in seconds.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import isotonic_regression

from vizsla.advice import STOP_BELOW, Forecast, Snapshot, advise, forecast, reasons
from vizsla.monitor import Accuracy

BELOW = 0.015
"""Advised to stop so far below the plateau: a false stop."""
NEAR = (0.01, 0.005, 0.0)
"""The last point counts as gained when the curve is so close to the plateau: begun, half gained, wholly gained."""
WAIT = 1.5


@dataclass(frozen=True)
class Curve:
    """Labels and true accuracy of a project's models."""

    labels: Int[np.ndarray, " s"]
    accuracy: Float[np.ndarray, " s"]

    @property
    def plateau(self) -> float:
        return float(self.accuracy[-1])

    def first(self, level: float) -> int:
        """Labels of the first model on the curve at that level."""
        return int(self.labels[np.flatnonzero(self.accuracy >= level - 1e-9)[0]])

    def more_for_gain(self, at: int, gain: float = 0.01) -> float:
        """Labels from that model on until the curve has gained so much; inf: not in this catalogue."""
        level = self.accuracy[at] + gain
        if level > self.plateau + 1e-9:
            return np.inf
        place = int(np.flatnonzero(self.accuracy >= level - 1e-9)[0])
        (a, b), (n, m) = self.accuracy[place - 1 : place + 1], self.labels[place - 1 : place + 1]
        return float(n + (level - a) / (b - a) * (m - n) - self.labels[at])


def curve(models: list[dict[str, Any]]) -> Curve:
    truth = np.array([one["accuracy"] for one in models])
    return Curve(np.array([one["labels"] for one in models]), isotonic_regression(truth).x)


def judged(project: dict[str, Any]) -> dict[str, Any]:
    """Where the project was first advised to stop, and what each forecast was worth."""
    models = project["models"]
    true = curve(models)
    past: list[Snapshot] = []
    stop, why, told = len(models) - 1, "pool", []
    for at, model in enumerate(models[:-1]):
        found = forecast(model["labels"], project["classes"], model["last_gain"])
        past.append(snapshot(model, found))
        rules = reasons(
            past,
            found,
            target=None,
            budget=None,
            unlabelled=models[-1]["labels"] - model["labels"],
            labels=model["labels"],
        )
        said = advise(rules, found, None)
        if said is not None and said.stop and stop == len(models) - 1:
            stop, why = at, next(rule.rule for rule in rules if rule.met)
        if model["labels"] > 10 * project["classes"]:
            told.append(compared(found, true, at))
    return {
        "data": project["data"],
        "project": project["project"],
        "strategy": project["strategy"],
        "classes": project["classes"],
        "images": models[-1]["labels"],
        "plateau": true.plateau,
        "stop": int(true.labels[stop]),
        "why": why,
        "below": true.plateau - float(true.accuracy[stop]),
        "gained": [true.first(true.plateau - near) for near in NEAR],
        "forecasts": told,
    }


def snapshot(model: dict[str, Any], found: Forecast) -> Snapshot:
    measured = Accuracy(**model["measured"]) if model["measured"] else None
    seen = model["kappa"], model["predicted_classes"], found.chance_of_gain
    return Snapshot(model["labels"], measured, *seen)


def compared(found: Forecast, true: Curve, at: int) -> dict[str, Any]:
    """A forecast beside the truth; a range without an end holds every gain that comes late or never."""
    needed, left = true.more_for_gain(at), int(true.labels[-1] - true.labels[at])
    if found.labels_for_one_point is not None and found.low is not None:
        kind, low, high = "about", found.low, found.high
    elif found.chance_of_gain is not None and found.chance_of_gain < STOP_BELOW:
        kind, low, high = "hardly", found.ahead, None
    else:
        return {"labels": int(true.labels[at]), "kind": "early"}
    within = low <= needed and (high is None or needed <= high)
    if not np.isfinite(needed):  # all that is known: it takes more labels than there are
        within = high is None or high >= left
    return {"labels": int(true.labels[at]), "kind": kind, "low": low, "high": high, "held": bool(within)}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of some projects; in shares of projects, each forecast weighted so that projects count alike."""
    stops = np.array([one["stop"] for one in runs])
    waits = {
        f"within {100 * near:g} points": ratio(stops / [one["gained"][place] for one in runs])
        for place, near in enumerate(NEAR)
    }
    told = [one["forecasts"] for one in runs if one["forecasts"]]
    said = [[f for f in one if f["kind"] == "about"] for one in told]
    made = [one for one in said if one]
    either = [[f for f in one if f["kind"] != "early"] for one in told]
    either = [one for one in either if one]
    closed = [f for one in made for f in one if f["high"] is not None]
    return {
        "projects": len(runs),
        "false stops": float(np.mean([one["below"] > BELOW for one in runs])),
        "advised before the end": float(np.mean([one["why"] != "pool" for one in runs])),
        "why": {why: sum(one["why"] == why for one in runs) for why in sorted({one["why"] for one in runs})},
        "labels at the stop, times those at which the last point was gained": waits,
        "about k: made in projects": len(made),
        "about k: forecasts": sum(map(len, made)),
        "about k: held, projects alike": mean_of(made, "held"),
        "about k: held, first of each project": float(np.mean([one[0]["held"] for one in made])),
        "about k: without an end": float(np.mean([f["high"] is None for one in made for f in one])),
        "about k: high over low, median": float(np.median([f["high"] / f["low"] for f in closed])),
        "about k or hardly: held, projects alike": mean_of(either, "held"),
        "too early, projects alike": float(
            np.mean([np.mean([f["kind"] == "early" for f in o]) for o in told])
        ),
        "too early in most models, projects": float(
            np.mean([np.mean([f["kind"] == "early" for f in o]) > 0.5 for o in told])
        ),
    }


def mean_of(runs: list[list[dict[str, Any]]], name: str) -> float:
    return float(np.mean([np.mean([one[name] for one in run]) for run in runs]))


def ratio(values: Float[np.ndarray, " p"]) -> dict[str, float]:
    return {
        "median": float(np.median(values)),
        "90th percentile": float(np.quantile(values, 0.9)),
        f"share over {WAIT}": float(np.mean(values > WAIT)),
    }


def plot(runs: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name in sorted({one["data"] for one in runs}):
        mine = [one for one in runs if one["data"] == name]
        waited = [one["stop"] / one["gained"][1] for one in mine]
        axes.scatter(waited, [100 * one["below"] for one in mine], s=14, alpha=0.7, label=name)
    axes.axhline(100 * BELOW, color="grey", lw=0.8)
    axes.axvline(WAIT, color="grey", lw=0.8)
    axes.set(
        xscale="log",
        xlabel="labels at the advice to stop, times those at which the curve is within half a point of its plateau",
        ylabel="points below the plateau",
        title=f"Advice to stop in {len(runs)} projects: too early above the line, late to the right of it",
    )
    axes.xaxis.label.set_size(8)
    axes.title.set_size(10)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "folder", type=Path, nargs="?", default=Path("out/stopping"), help="what run.py wrote"
    )
    chosen = options.parse_args()
    projects = [json.loads(path.read_text()) for path in sorted(chosen.folder.glob("*-*.json"))]
    runs = [judged(project) for project in projects]
    sets = sorted({one["data"] for one in runs})
    found = {"all": summary(runs)} | {name: summary([r for r in runs if r["data"] == name]) for name in sets}
    print(json.dumps(found, indent=1))
    (chosen.folder / "summary.json").write_text(json.dumps(found, indent=1) + "\n")
    lines = [json.dumps(one) for one in runs]
    (chosen.folder / "judged.jsonl").write_text("\n".join(lines) + "\n")
    plot(runs, chosen.folder / "stops.png")


if __name__ == "__main__":
    main()
