"""Writes the tables of README.md (between its two marks) and curves.png from what run.py and distilling.py found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vizsla.curves import Comparison, LearningCurve
from vizsla.functional.metrics import LabelsSaved
from vizsla.functional.verdicts import Cell, never_lose, passes

HERE = Path(__file__).parent
MARKS = ("<!-- tables from report.py -->", "<!-- end of tables -->")
TARGETS = {"same head": 0.55, "system": 0.65, "against margin": 0.20}
COLOURS = {"random": "#777777", "random, regression": "#bbbbbb", "margin": "#d55e00", "auto": "#0072b2"}


@dataclass(frozen=True)
class Result:
    """One cell."""

    about: dict[str, Any]
    comparison: Comparison

    @classmethod
    def read(cls, file: Path) -> Result:
        content = json.loads(file.read_text())
        curves = [
            LearningCurve(
                one["strategy"],
                one["seed"],
                tuple(
                    {"labels": n, "accuracy": a} for n, a in zip(one["labels"], one["accuracy"], strict=True)
                ),
                one["run"],
            )
            for one in content["curves"]
        ]
        return cls(
            content["about"], Comparison(tuple(curves), tuple(content["about"]["classes"]), content["about"])
        )

    @property
    def name(self) -> str:
        about = self.about
        backbone = about["backbone"].removeprefix("efficientnet_")
        return f"{about['data']}, {about['kind']}, {backbone}, batch {about['batch']}"

    def against(self, ruler: Result, strategy: str) -> LabelsSaved:
        """Labels that `auto` saves against a strategy of this or another cell, by the formula of `compare`."""
        others = [replace(curve, strategy="random") for curve in ruler.comparison.of(strategy).values()]
        ours = list(self.comparison.of("auto").values())
        return Comparison((*others, *ours), self.comparison.classes).saved("auto")


def saved(results: list[Result]) -> Iterator[str]:
    """The table of labels saved."""
    plain = {
        (one.about["data"], one.about["head"]): one
        for one in results
        if one.about["kind"] == "plain"
        and one.about["backbone"] == "efficientnet_lite0"
        and one.about["batch"] == 10
    }
    names = [data for data, head in plain if head == "blend"]
    yield "| | seeds, labels | same head | system | against margin | margin, same head |"
    yield "| --- | --- | --- | --- | --- | --- |"
    columns: dict[str, list[float]] = {}
    for data in names:
        mine = plain[data, "blend"]
        found = {"same head": mine.comparison.saved("auto")}
        if (data, "logistic") in plain:
            found["system"] = mine.against(plain[data, "logistic"], "random")
        found["against margin"] = mine.against(mine, "margin")
        found["margin"] = mine.comparison.saved("margin")
        for column, one in found.items():
            columns.setdefault(column, []).append(one.value)
        figures = " | ".join(share(found[c]) if c in found else "" for c in (*TARGETS, "margin"))
        yield f"| {data} | {mine.about['seeds']}, {mine.about['budget']} | {figures} |"
    means = " | ".join(f"{np.mean(columns[c]):.0%}" if c in columns else "" for c in (*TARGETS, "margin"))
    yield f"| mean | | {means} |"
    yield f"| target | | {' | '.join(f'{one:.0%}' for one in TARGETS.values())} | |"


def share(one: LabelsSaved) -> str:
    return f"{one.value:.0%} ({100 * one.low:.0f} to {100 * one.high:.0f})" + ("†" if one.capped else "")


def gate(results: list[Result]) -> Iterator[str]:
    """The never-lose gate, Holm's correction over all cells of the table."""
    here = [one for one in results if "auto" in one.comparison.strategies]
    cells = never_lose([third for one in here for third in one.comparison.leads("auto").T])
    yield "| data, pool, backbone | early | middle | late | points at the last label count, auto and random |"
    yield "| --- | --- | --- | --- | --- |"
    for number, one in enumerate(here):
        thirds = " | ".join(verdict(cell) for cell in cells[3 * number : 3 * number + 3])
        yield f"| {one.name} | {thirds} | {last(one)} |"
    words = [cell.verdict for cell in cells]
    yield ""
    counts = ", ".join(f"{words.count(word)} {word}" for word in ("safe", "undecided", "loses"))
    yield (
        f"{len(cells)} cells: {counts}; {sum(cell.behind for cell in cells)} with a mean lead below −.5 points. "
        f"{'The gate lets `auto` through.' if passes(cells) else 'The gate does not let `auto` through.'}"
    )


def verdict(cell: Cell) -> str:
    return f"{cell.verdict}, {100 * cell.lead:+.1f} (from {100 * cell.low:+.1f})"


def last(one: Result) -> str:
    labels, ours = one.comparison.mean("auto")
    ruler, theirs = one.comparison.mean("random")
    return f"{labels[-1]:.0f} labels: {100 * ours[-1]:.1f}, {100 * theirs[ruler <= labels[-1]][-1]:.1f}"


def distilling() -> Iterator[str]:
    """The table of points lost by handing over a linear head."""
    file = HERE / "results" / "distilling.json"
    if not file.exists():
        return
    content = json.loads(file.read_text())
    counts = sorted({row["labels"] for row in content["rows"]})
    yield f"| {content['seeds']} seeds, lite0 | {' | '.join(f'{n} labels' for n in counts)} |"
    yield f"| --- |{' --- |' * len(counts)}"
    for data in dict.fromkeys(row["data"] for row in content["rows"]):
        figures = []
        for n in counts:
            rows = [row for row in content["rows"] if (row["data"], row["labels"]) == (data, n)]
            both = [100 * np.mean([row[part] for row in rows]) for part in ("blend", "linear")]
            figures.append(f"{both[0]:.1f} → {both[1]:.1f}" if rows else "")
        yield f"| {data} | {' | '.join(figures)} |"


def draw(results: list[Result]) -> Figure:
    """Mean curves of every cell."""
    here = [one for one in results if "auto" in one.comparison.strategies]
    wide = 4
    figure = Figure(figsize=(3.2 * wide, 2.6 * -(-len(here) // wide)), layout="constrained")
    for number, one in enumerate(here, 1):
        axes = figure.add_subplot(-(-len(here) // wide), wide, number)
        for strategy in one.comparison.strategies:
            labels, mean = one.comparison.mean(strategy)
            shown = labels <= one.about["budget"]
            axes.plot(
                labels[shown], 100 * mean[shown], color=COLOURS[strategy], label=strategy, linewidth=1.4
            )
        axes.set_title(one.name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
        if number == 1:
            axes.legend(fontsize=7, frameon=False, loc="lower right")
            axes.set_ylabel("test accuracy, %", fontsize=8)
            axes.set_xlabel("labels", fontsize=8)
    return figure


def main() -> None:
    """Tables into the README, curves beside it."""
    files = sorted(
        (HERE / "results").glob("*seeds.json"), key=lambda file: ("plain-lite0" not in file.name, file.name)
    )
    results = [Result.read(file) for file in files]
    sections = {
        "Labels saved": saved(results),
        "Never worse than random?": gate(results),
        "What handing over a linear head costs": distilling(),
    }
    tables = "\n\n".join(f"### {title}\n\n" + "\n".join(lines) for title, lines in sections.items())
    readme = HERE / "README.md"
    before, _, rest = readme.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    readme.write_text(f"{before}{MARKS[0]}\n\n{tables}\n\n{MARKS[1]}{after}")
    draw(results).savefig(HERE / "curves.png", dpi=110)


if __name__ == "__main__":
    main()
