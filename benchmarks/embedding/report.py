"""Writes the table of README.md (between its two marks) and speed.png from the results of run.py."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
MARKS = ("<!-- table from report.py -->", "<!-- end of table -->")
SHOWN = {"plain": "(a) plain loop", "vizsla": "ours", "vizsla_int8": "ours, int8"}

Speeds = dict[tuple[str, str], list[float]]
"""Data set and way → images per second, run by run."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("results", type=Path, nargs="?", default=HERE / "2cores-lite0.jsonl")
    speeds = read(options.parse_args().results)
    readme = HERE / "README.md"
    head, rest = readme.read_text().split(MARKS[0])
    readme.write_text(f"{head}{MARKS[0]}\n\n{table(speeds)}\n\n{MARKS[1]}{rest.split(MARKS[1])[1]}")
    plot(speeds, HERE / "speed.png")


def read(results: Path) -> Speeds:
    speeds: Speeds = defaultdict(list)
    for row in map(json.loads, results.read_text().splitlines()):
        speeds[row["data"], row["way"]].append(row["images"] / row["seconds"])
    return speeds


def table(speeds: Speeds) -> str:
    lines = [
        "| images per second | (a) plain loop | ours | ours, int8 | (b) network alone | in int8 | (c) decoding alone "
        "| ours / (a) | int8 / (a) | ours / (1/(1/b + 1/c)) | int8 likewise |",
        "| --- " * 11 + "|",
    ]
    for data in dict.fromkeys(data for data, _ in speeds):
        at = {way: float(np.median(found)) for (name, way), found in speeds.items() if name == data}
        cells = [at[way] for way in ("plain", "vizsla", "vizsla_int8", "model", "model_int8", "decode")]
        limit = 1 / (1 / at["model"] + 1 / at["decode"])
        limit_int8 = 1 / (1 / at["model_int8"] + 1 / at["decode"])
        ratios = [f"{paired(speeds, data, way):.1f}×" for way in ("vizsla", "vizsla_int8")]
        shares = [f"{at['vizsla'] / limit:.0%}", f"{at['vizsla_int8'] / limit_int8:.0%}"]
        shown = [f"{cell:,.0f}" if cell >= 10 else f"{cell:.1f}" for cell in cells]
        lines.append(f"| {' | '.join([data, *shown, *ratios, *shares])} |")
    return "\n".join(lines)


def paired(speeds: Speeds, data: str, way: str) -> float:
    """Median over runs that came one after the other."""
    both = zip(speeds[data, way], speeds[data, "plain"], strict=False)
    return float(np.median([ours / theirs for ours, theirs in both]))


def plot(speeds: Speeds, path: Path) -> None:
    sets = list(dict.fromkeys(data for data, _ in speeds))
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    for place, (way, name) in enumerate(SHOWN.items()):
        heights = [float(np.median(speeds[data, way])) for data in sets]
        bars = axes.barh(np.arange(len(sets)) + 0.27 * (place - 1), heights, 0.25, label=name)
        axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    axes.set_yticks(range(len(sets)), sets)
    axes.invert_yaxis()
    axes.set_xlabel("images per second, from files to features")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
