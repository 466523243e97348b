"""Writes the table of README.md (between its two marks) and growth.png from the results of run.py."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
MARKS = ("<!-- table from report.py -->", "<!-- end of table -->")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("results", type=Path, nargs="?", default=HERE / "2cores-1280d-10classes.jsonl")
    rows = [json.loads(line) for line in options.parse_args().results.read_text().splitlines()]
    readme = HERE / "README.md"
    head, rest = readme.read_text().split(MARKS[0])
    readme.write_text(f"{head}{MARKS[0]}\n\n{table(rows)}\n\n{MARKS[1]}{rest.split(MARKS[1])[1]}")
    plot(rows, HERE / "growth.png")


def seconds(row: dict[str, Any]) -> float:
    """A round: refit and choose."""
    return float(np.median(np.add(row["refit"], row["choose"])))


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| images | strategy | refit, s | score all and choose 100, s | round, s | once before, s | own memory, MB "
        "| with the mapped pool, MB |",
        "| --- " * 8 + "|",
    ]
    lines += [
        f"| {row['n']:,} | {row['strategy']} | {np.median(row['refit']):.2f} | {np.median(row['choose']):.2f} | "
        f"**{seconds(row):.2f}** | {row['once']:.1f} | {row['own_mb']:,} | {row['with_mapped_mb']:,} |"
        for row in rows
    ]
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        mine = sorted((row["n"], seconds(row)) for row in rows if row["strategy"] == strategy)
        axes.plot(*zip(*mine, strict=True), marker="o", label=strategy)
    sizes = np.array(sorted({row["n"] for row in rows}))
    axes.plot(sizes, 40 * sizes / sizes.max(), color="grey", lw=0.8, ls=":", label="in proportion")
    axes.set(xscale="log", yscale="log", xlabel="images", ylabel="seconds a round")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
