"""Writes the tables of README.md (between its two marks) and growth.png from the results of run.py."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
OURS = "vizsla"
BATCH = 100
MARKS = ("<!-- tables from report.py -->", "<!-- end of tables -->")

ONE_READ = {
    **dict.fromkeys(["random"], "nothing"),
    **dict.fromkeys(["least_confidence", "margin", "ratio", "entropy"], "probs"),
    **dict.fromkeys(
        ["bald", "power_bald", "mean_std", "variation_ratio", "query_by_committee", "batchbald"], "draws"
    ),
    **dict.fromkeys(["coreset", "kmeans", "typiclust", "probcover", "maxherding"], "embeddings"),
}
"""What must be read at least once; where a strategy is not named, embeddings and probs."""
ONE_READ_PER_PICK = {"auto", "coreset", "badge", "bait", "maxherding", "uherding", "batchbald"}
SAME_PICKS = {"least_confidence", "margin", "ratio", "entropy", "bald", "mean_std"}
SAME_ORDER = {"coreset"}
"""Rules without chance: the same rows, and for k-center, which all start from the labelled rows, in the same order."""
DIVERSE = {
    "coreset",
    "kmeans",
    "typiclust",
    "probcover",
    "badge",
    "dropquery",
    "maxherding",
    "density_weighted",
    "batchbald",
}
ONE_PASS = {"margin", "entropy", "bald"}


APART = 0.085
"""Least distance between two names in the plot, in powers of ten."""


@dataclass(frozen=True)
class Entry:
    """The runs of one library with one strategy at one setting."""

    rows: list[dict]

    @property
    def failure(self) -> str:
        """Why the last run did not end well; an older failure has been mended."""
        return self.rows[-1].get("does_not_run", "")

    @property
    def ran(self) -> list[dict]:
        return [row for row in self.rows if "seconds" in row]

    @property
    def seconds(self) -> float:
        """The middle of the repetitions, of each its quickest call."""
        return median(min(row["seconds"]) for row in self.ran)

    @property
    def peak(self) -> float:
        return max(row["peak_mb"] for row in self.ran)

    @property
    def inputs(self) -> float:
        return self.ran[0]["inputs_mb"]

    @property
    def picks(self) -> list[int]:
        return self.ran[0]["picks"]


Setting = tuple[int, int, int]
Table = dict[Setting, dict[str, dict[str, Entry]]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "results", type=Path, nargs="?", default=next(iter(sorted(HERE.glob("*.jsonl"))), None)
    )
    chosen = options.parse_args()
    rows = [json.loads(line) for line in chosen.results.read_text().splitlines()]
    machines = [row for row in rows if "library" not in row]
    table = gathered(row for row in rows if "library" in row)
    bandwidth = max(machine["copy_gb_per_s"] for machine in machines)
    parts = [conditions(machines, rows, chosen.results), limits(table)]
    parts += [comparison(setting, strategies, bandwidth) for setting, strategies in sorted(table.items())]
    parts += [failures(table), growth(table)]
    readme = HERE / "README.md"
    before, after = halves(readme.read_text())
    text = "\n\n".join(part for part in parts if part)
    readme.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after}")
    plot(table, HERE / "growth.png")


def gathered(rows: Iterable[dict]) -> Table:
    table: Table = {}
    for row in rows:
        at = table.setdefault((row["n"], row["d"], row["c"]), {}).setdefault(row["strategy"], {})
        at.setdefault(row["library"], Entry([])).rows.append(row)
    return table


def halves(text: str) -> tuple[str, str]:
    before, _, rest = text.partition(MARKS[0])
    return before, rest.partition(MARKS[1])[2]


def conditions(machines: list[dict], rows: list[dict], results: Path) -> str:
    last = machines[-1]
    loads = [row["load"] for row in rows if "seconds" in row]
    most = 1 + max(row["key"][-1] for row in rows if "library" in row)
    return (
        f"`{results.name}`, {machines[0]['date'][:10]} to {last['date'][:10]}: {last['cores']} cores of "
        f"{last['processor']}, CPython {last['python']}; {', '.join(last['ours'])}; in their own environment "
        f"{', '.join(last['peers'])}. Copy bandwidth {max(m['copy_gb_per_s'] for m in machines):.1f} GB/s. "
        f"Load average when a run began: {min(loads)} to {max(loads)}, median {median(loads):.1f}; above 1 means that "
        f"others were using the cores. At most {most} {'process' if most == 1 else 'processes'} for each number."
    )


def comparison(setting: Setting, strategies: dict[str, dict[str, Entry]], bandwidth: float) -> str:
    """One setting: a line for each strategy and peer."""
    lines = [
        "### {:,} rows × {:,} columns, {} classes".format(*setting),
        "| strategy | ours s | peer | its s | ratio | ours MB | its MB | same picks | floor ms, times it "
        "| floor per pick ms, times it |",
        "| --- | --: | --- | --: | --: | --: | --: | --- | --: | --: |",
    ]
    for strategy, libraries in sorted(strategies.items()):
        ours = libraries.get(OURS)
        peers = {name: entry for name, entry in libraries.items() if name != OURS} or {"": None}
        for place, (name, entry) in enumerate(sorted(peers.items(), key=lambda pair: rank(pair[1]))):
            cells = [strategy if not place else "", own(ours, place)]
            cells += [name or "no peer has it", *theirs(entry), ratio(ours, entry)]
            cells += [mb(ours) if not place else "", mb(entry), agreement(strategy, ours, entry)]
            cells += floors(strategy, setting, ours, bandwidth) if not place else ["", ""]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([lines[0], "", *lines[1:]])


def rank(entry: Entry | None) -> float:
    return math.inf if entry is None or entry.failure else entry.seconds


def own(ours: Entry | None, place: int) -> str:
    if place:
        return ""
    if ours is None:
        return "not measured"
    return "failed" if ours.failure else short(ours.seconds)


def theirs(entry: Entry | None) -> list[str]:
    if entry is None:
        return [""]
    return ["does not run" if entry.failure else short(entry.seconds)]


def ratio(ours: Entry | None, entry: Entry | None) -> str:
    found = times(ours, entry)
    return "" if found is None else f"{found:.3g}×"


def times(ours: Entry | None, entry: Entry | None) -> float | None:
    """How many times as long the peer takes."""
    if ours is None or entry is None or ours.failure or entry.failure:
        return None
    return entry.seconds / ours.seconds


def mb(entry: Entry | None) -> str:
    return "" if entry is None or entry.failure else f"{entry.peak:,.0f}"


def short(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"


def agreement(strategy: str, ours: Entry | None, entry: Entry | None) -> str:
    if ours is None or entry is None or ours.failure or entry.failure:
        return ""
    if strategy in SAME_ORDER:
        same = next(
            (i for i, (a, b) in enumerate(zip(ours.picks, entry.picks, strict=True)) if a != b), BATCH
        )
        return (
            "yes" if same == BATCH else f"the first {same}; {len(set(ours.picks) & set(entry.picks))} in all"
        )
    if strategy in SAME_PICKS:
        common = len(set(ours.picks) & set(entry.picks))
        return "yes" if common == BATCH else f"{common} of {BATCH}"
    return ""


def floors(strategy: str, setting: Setting, ours: Entry | None, bandwidth: float) -> list[str]:
    """One read of what the rule looks at, and one read per pick where it looks again after each."""
    n, d, c = setting
    sizes = {"nothing": 0, "probs": 4 * n * c, "draws": 80 * n * c, "embeddings": 4 * n * d}
    size = sizes.get(ONE_READ.get(strategy, ""), sizes["probs"] + sizes["embeddings"])
    seconds = size / bandwidth / 1e9
    found = []
    for floor in (seconds, seconds * BATCH if strategy in ONE_READ_PER_PICK else 0):
        known = floor and ours is not None and not ours.failure
        found.append(f"{1000 * floor:.3g}, {ours.seconds / floor:.3g}×" if known else "")
    return found


def limits(table: Table) -> str:
    """Each promise with what was measured, kept or not."""
    claims = []
    for setting, strategies in sorted(table.items()):
        place = "{:,} × {:,}, C = {}".format(*setting)
        for strategy, libraries in strategies.items():
            ours = libraries.get(OURS)
            if ours is None or ours.failure:
                continue
            peers = {name: times(ours, entry) for name, entry in libraries.items() if name != OURS}
            ran = {name: value for name, value in peers.items() if value is not None}
            if setting[:2] == (20_000, 512):
                for library, rule, least in NAMED:
                    if rule == strategy and library in ran:
                        claims.append((f"{strategy} ≥ {least}× {library}, {place}", ran[library], least))
            if ran and strategy in DIVERSE | ONE_PASS:
                library, value = min(ran.items(), key=lambda pair: pair[1])
                least = 5 if strategy in DIVERSE else 1
                claims.append((f"{strategy} ≥ {least}× the fastest peer ({library}), {place}", value, least))
    lines = ["| limit | measured | kept |", "| --- | --: | --- |"]
    lines += [
        f"| {text} | {value:.3g}× | {'yes' if value >= least else '**no**'} |"
        for text, value, least in claims
    ]
    lines += [
        f"| peak memory of {strategy} above its inputs ≤ {most:,.0f} MB, {place} | {peak:,.0f} MB "
        f"| {'yes' if peak <= most else '**no**'} |"
        for strategy, place, peak, most in memory(table)
        if peak > most
    ]
    if not memory(table):
        return ""
    kept = sum(peak <= most for *_, peak, most in memory(table))
    lines.append(
        f"| peak memory above the inputs ≤ max(256 MB, half of them), all others | {kept} runs | yes |"
    )
    return "### Limits\n\n" + "\n".join(lines)


NAMED = (
    ("scikit-activeml", "badge", 50),
    ("scikit-activeml", "coreset", 5),
    ("small-text", "coreset", 20),
)


def memory(table: Table) -> list[tuple[str, str, float, float]]:
    return [
        (strategy, "{:,} × {:,}, C = {}".format(*setting), entry.peak, max(256.0, entry.inputs / 2))
        for setting, strategies in sorted(table.items())
        for strategy, libraries in strategies.items()
        if (entry := libraries.get(OURS)) is not None and not entry.failure
    ]


def failures(table: Table) -> str:
    lines = [
        "- {:,} × {:,}, C = {}".format(*setting) + f": {library}, {strategy}: {entry.failure}"
        for setting, strategies in sorted(table.items())
        for strategy, libraries in strategies.items()
        for library, entry in libraries.items()
        if entry.failure
    ]
    return "### Does not run\n\n" + "\n".join(lines) if lines else ""


def growth(table: Table) -> str:
    """Ours alone, by number of rows."""
    series = grown(table)
    sizes = sorted({n for points in series.values() for n, _ in points})
    if len(sizes) < 2:
        return ""
    lines = ["| strategy | " + " | ".join(f"{n:,}" for n in sizes) + " |", "| --- |" + " --: |" * len(sizes)]
    for strategy, points in series.items():
        at = dict(points)
        lines.append(f"| {strategy} | " + " | ".join(short(at[n]) if n in at else "" for n in sizes) + " |")
    return (
        "### Ours by number of rows (seconds; 512 columns, 10 classes)\n\n![cost](growth.png)\n\n"
        + "\n".join(lines)
    )


def grown(table: Table) -> dict[str, list[tuple[int, float]]]:
    series: dict[str, list[tuple[int, float]]] = {}
    for (n, d, c), strategies in sorted(table.items()):
        for strategy, libraries in strategies.items():
            entry = libraries.get(OURS)
            if (d, c) == (512, 10) and entry is not None and not entry.failure:
                series.setdefault(strategy, []).append((n, entry.seconds))
    return series


def plot(table: Table, path: Path) -> None:
    series = {strategy: points for strategy, points in grown(table).items() if len(points) > 1}
    if not series:
        return
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 9), layout="constrained")
    last, edge = max(points[-1][0] for points in series.values()), -math.inf
    for strategy, points in sorted(series.items(), key=lambda item: item[1][-1][1]):
        (line,) = axes.loglog(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1)
        ends_early = points[-1][0] < last
        height = math.log10(points[-1][1]) if ends_early else max(math.log10(points[-1][1]), edge + APART)
        edge = edge if ends_early else height
        axes.annotate(
            strategy,
            points[-1],
            xytext=(points[-1][0] * (1.05 if ends_early else 1.25), 10**height),
            fontsize=8,
            va="center",
            color=line.get_color(),
            arrowprops={"arrowstyle": "-", "color": line.get_color(), "alpha": 0.4, "linewidth": 0.7},
        )
    axes.set_xlim(right=3.5 * last)
    axes.set(xlabel="rows", ylabel="seconds for a batch of 100")
    axes.grid(True, which="major", alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
