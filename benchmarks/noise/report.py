"""Writes the tables of README.md (between its two marks) and noise.png from the results of run.py."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
MARKS = ("<!-- tables from report.py -->", "<!-- end of tables -->")
TUNING = 3
FEWEST = 3  # seeds of a cell that is shown
OLD, NEW = "regression self-confidence", "blend root margin"
SHOWN = (OLD, "blend self-confidence", "blend margin", NEW)
FIGURES = {"average": "average precision", "at_k": "precision@k", "at_10": "precision@10"}

Cell = tuple[str, str, str, int]
"""Data set, strategy, kind of error, labels."""
Rows = Mapping[Cell, list[dict]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("results", type=Path, nargs="?", default=HERE / "results.jsonl")
    rows = read(options.parse_args().results)
    tables = "\n\n".join([rankings(rows), cells(rows), lists(rows), worth(rows)])
    readme = HERE / "README.md"
    head, rest = readme.read_text().split(MARKS[0])
    readme.write_text(f"{head}{MARKS[0]}\n\n{tables}\n\n{MARKS[1]}{rest.split(MARKS[1])[1]}")
    plot(rows, HERE / "noise.png")


def read(file: Path) -> Rows:
    """The projects of the seeds that are reported."""
    found: dict[Cell, list[dict]] = defaultdict(list)
    for line in file.read_text().splitlines():
        one = json.loads(line)
        name, seed, strategy, kind = one["case"]
        if seed >= TUNING:
            for row in one["rows"]:
                found[name, strategy, kind, row["labels"]].append(row)
    return {cell: own for cell, own in found.items() if len(own) >= FEWEST}


def mean(rows: Iterable[dict], ranking: str, figure: str) -> float:
    return float(np.mean([row["rankings"][ranking][figure] for row in rows]))


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    return "\n".join(["| " + " | ".join(one) + " |" for one in [head, ["---"] * len(head), *rows]])


def rankings(rows: Rows) -> str:
    """Every ranking over all cells."""

    def line(ranking: str) -> list[str]:
        parts = [f"**{ranking}**" if ranking == NEW else ranking]
        for figure in FIGURES:
            every = {cell: mean(rows[cell], ranking, figure) for cell in rows}
            kinds = [np.mean([value for cell, value in every.items() if cell[2] == kind]) for kind in KINDS]
            parts += [f"{kinds[0]:.2f} / {kinds[1]:.2f}", f"{min(every.values()):.2f}"]
        return parts

    head = ["probabilities and score"]
    for name in FIGURES.values():
        head += [f"{name}, uniform / similar", "worst cell"]
    names = next(iter(rows.values()))[0]["rankings"]
    return table(head, map(line, names))


KINDS = ("uniform", "similar")


def cells(rows: Rows) -> str:
    """The ranking of before and the one of now, cell by cell, and their paired difference."""

    def line(cell: Cell) -> list[str]:
        parts = [*map(str, cell), f"{np.mean([row['planted'] for row in rows[cell]]):.0f}"]
        for figure in FIGURES:
            parts.append(f"{mean(rows[cell], OLD, figure):.2f} → {mean(rows[cell], NEW, figure):.2f}")
        gain = [row["rankings"][NEW]["average"] - row["rankings"][OLD]["average"] for row in rows[cell]]
        return [*parts, interval(gain), str(len(gain))]

    head = [
        "images",
        "chosen by",
        "errors",
        "labels",
        "planted",
        *FIGURES.values(),
        "gain in average precision",
        "seeds",
    ]
    return table(head, map(line, rows))


def interval(values: list[float], scale: float = 1.0, digits: int = 2) -> str:
    """Mean and twice its standard error."""
    found = np.array(values) * scale
    return f"{found.mean():+.{digits}f} ± {2 * found.std(ddof=1) / len(found) ** 0.5:.{digits}f}"


def lists(rows: Rows) -> str:
    """How long the list is, and how many of the errors it holds."""

    def line(cell: Cell) -> list[str]:
        parts = [*map(str, cell), f"{np.mean([row['planted'] for row in rows[cell]]):.0f}"]
        for rule in ("another guess", "confident joint"):
            size, hits = np.mean([row["listed"][rule] for row in rows[cell]], axis=0)
            parts.append(f"{hits:.0f} of {size:.0f}")
        return parts

    wanted = [cell for cell in rows if cell[3] == 200]
    head = [
        "images",
        "chosen by",
        "errors",
        "labels",
        "planted",
        "errors in the list",
        "in that of the confident joint",
    ]
    return table(head, map(line, wanted))


def worth(rows: Rows) -> str:
    """Accuracy on the test images in %, and what a tenth more answers add to it; over both ways of choosing."""
    found: dict[tuple[str, str, int], list[dict]] = defaultdict(list)
    for (name, _, kind, labels), own in rows.items():
        found[name, kind, labels] += [row["worth"] for row in own if row["worth"]]

    def line(cell: tuple[str, str, int]) -> list[str]:
        own = found[cell]
        gains = [
            interval([one[arm] - one["before"] for one in own], 100, 1) for arm in ("new", "again", "truly")
        ]
        against = interval([one["again"] - one["new"] for one in own], 100, 1)
        ends = [f"{100 * np.mean([one[arm] for one in own]):.1f}" for arm in ("before", "clean")]
        return [*map(str, cell), str(len(own)), ends[0], *gains, against, ends[1]]

    head = ["images", "errors", "labels", "projects", "accuracy, %", "new images", "asked again"]
    head += ["asked again, never wrong", "again − new", "had no answer been wrong"]
    return table(head, map(line, (cell for cell in found if len(found[cell]) > 1)))


def plot(rows: Rows, file: Path) -> None:
    names = list(dict.fromkeys(cell[0] for cell in rows))
    figure, axes = plt.subplots(2, len(names), figsize=(3.6 * len(names), 6), sharex=True, sharey=True)
    for column, name in enumerate(names):
        for line, kind in enumerate(KINDS):
            panel = axes[line][column]
            for ranking, style in zip(SHOWN, ("C7--", "C0-", "C1-", "C3-"), strict=True):
                own = [cell for cell in rows if cell[0] == name and cell[2] == kind]
                sizes = sorted({cell[3] for cell in own})
                values = [
                    np.mean([mean(rows[cell], ranking, "average") for cell in own if cell[3] == size])
                    for size in sizes
                ]
                panel.plot(sizes, values, style, marker="o", markersize=3, label=ranking)
            panel.axhline(0.1, color="0.8", linewidth=0.8)
            panel.set_title(f"{name}, {kind} errors", fontsize=10)
            panel.set_xscale("log")
            panel.set_xticks(sizes, [str(size) for size in sizes])
            panel.minorticks_off()
            panel.set_ylim(0, 1)
    axes[0][0].legend(fontsize=7, loc="lower right")
    figure.supxlabel("labels", fontsize=10)
    figure.supylabel("average precision (0.1 by chance)", fontsize=10)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
