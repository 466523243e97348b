"""A comparison written down: `curves.json`, `summary.csv`, `curves.png`, `report.html`, a table to print."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import platform
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from vizsla.caching import write_atomically
from vizsla.curves import RULER, THIRDS, Comparison
from vizsla.functional.verdicts import FEW_SEEDS, MOST_SEEDS, Cell, Outcome

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from rich.console import Console

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "ece")
PACKAGES = ("vizsla", "torch", "timm", "scikit-learn", "numpy", "scipy", "matplotlib")


@dataclass(frozen=True)
class Theme:
    """Colours of a plot; the lines are Okabe and Ito's, which colour-blind readers can tell apart."""

    surface: str
    ink: str
    faint: str
    random: str
    lines: tuple[str, ...]


LIGHT = Theme(
    "#ffffff",
    "#1f2328",
    "#d8dce1",
    "#7d848c",
    ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9"),
)
DARK = Theme(
    "#15181c",
    "#e6e8eb",
    "#3a4048",
    "#9aa1a9",
    ("#56B4E9", "#F0803C", "#2BBF96", "#E39AC4", "#E0B040", "#9BB8FF"),
)
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)))
"""Once all colours are used, the next strategies reuse them dashed, then dotted."""
WIDE, NARROW = (9.6, 5.4), (4.4, 5.4)


def write(comparison: Comparison, out: Path) -> dict[str, Path]:
    """Write curves.json, summary.csv, curves.png and report.html to a folder, each whole or not at all.

    Returns: where each lies, by file name.
    """
    contents: dict[str, str | bytes] = {
        "curves.json": json.dumps(comparison.to_json(), indent=1, allow_nan=False) + "\n",
        "summary.csv": summary_csv(comparison),
        "curves.png": render(draw(comparison), "png"),
        "report.html": html(comparison),
    }
    for name, content in contents.items():
        write_atomically(out / name, content)
    return {name: out / name for name in contents}


def summary_csv(comparison: Comparison) -> str:
    """`Comparison.summary()` as CSV; empty where there is no figure."""
    rows = comparison.summary()
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if _missing(value) else value for name, value in row.items()})
    return text.getvalue()


# Words ------------------------------------------------------------------------------------------------


def _missing(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _percent(value: float, digits: int = 0) -> str:
    rounded = round(value, digits + 2) + 0.0  # + 0.0 turns −0 into 0
    return "–" if math.isnan(value) else f"{rounded:.{digits}%}".replace("-", "−")


def _count(value: float | int) -> str:
    return "–" if math.isnan(value) else "never" if math.isinf(value) else f"{value:,.0f}"


def _seconds(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f} s" if value < 10 else f"{value:,.0f} s"


def _saved(row: Mapping[str, Any]) -> str:
    """The labels saved of a summary row; the dagger marks levels never reached."""
    if row["strategy"] == RULER:
        return "–"
    dagger = "†" if row["levels_never_reached"] and not math.isnan(row["labels_saved"]) else ""
    return _percent(row["labels_saved"]) + dagger


def _saved_interval(row: Mapping[str, Any]) -> str:
    if row["strategy"] == RULER or math.isnan(row["labels_saved_low"]):
        return ""
    return f"{_percent(row['labels_saved_low'])} to {_percent(row['labels_saved_high'])}"


def _points(lead: float) -> str:
    """A lead in points of accuracy, with its sign."""
    points = round(100 * lead, 1) + 0.0
    return "–" if math.isnan(lead) else f"{points:+.1f}".replace("-", "−").replace("+0.0", "0.0")


def _p(p: float) -> str:
    return "" if math.isnan(p) else " (p < .001)" if p < 0.001 else f" (p {p:.2g})".replace("0.", ".")


def columns(comparison: Comparison) -> dict[str, list[str]]:
    """The cells of the table that people read, by heading, a cell per strategy."""
    rows = comparison.summary()
    table = {"strategy": [row["strategy"] for row in rows]}
    if RULER in comparison.strategies:
        table["labels saved"] = [_saved(row) for row in rows]
        table["95% interval"] = [_saved_interval(row) for row in rows]
    if comparison.level is not None:
        table[f"labels to {_percent(comparison.level, 1)}"] = [_count(row["labels_to_level"]) for row in rows]
    for name, labels in zip(("first", "middle", "last"), comparison.milestones, strict=True):
        table[f"at {labels:,.0f}"] = [_percent(row[f"accuracy_{name}"], 1) for row in rows]
    return table


def regimes_sentence(comparison: Comparison) -> str:
    """Where the best strategy pays, in words; empty where it cannot be asked."""
    best = comparison.best
    if best is None or RULER not in comparison.strategies:
        return ""
    regimes = comparison.regimes(best)
    if regimes is None:
        return f"There is no stretch of label counts where {best} is clearly ahead of random."
    if (regimes.start, regimes.stop) == (regimes.first, regimes.last):
        return f"{best} is ahead of random at every label count compared."
    stretch = f"from {regimes.start:,.0f} to {regimes.stop:,.0f} labels"
    return f"{best} pays {stretch}; elsewhere it is not clearly ahead of random."


def gate_sentence(comparison: Comparison, strategy: str) -> str:
    """What the never-lose gate says of a strategy, in words; empty where there is nothing to measure against."""
    seeds = len(comparison.leads(strategy))
    if not seeds:
        return ""
    cells = dict(zip(THIRDS, comparison.gate(strategy), strict=True))
    if seeds < FEW_SEEDS:
        return f"Whether {strategy} ever loses to random: too few seeds to tell."
    loses = [third for third, cell in cells.items() if cell.verdict == "loses"]
    if loses:
        return f"{strategy} loses to random in the {_parts(cells, loses)}."
    behind = [third for third, cell in cells.items() if cell.behind]
    if behind:
        return (
            f"{strategy} does not get through the never-lose gate: it is behind random on average, perhaps by "
            f"chance, in the {_parts(cells, behind)}.{_more(cells.values(), seeds)}"
        )
    open_cells = [third for third, cell in cells.items() if cell.verdict == "undecided"]
    if open_cells:
        return (
            f"{strategy} is nowhere seen to lose to random, but could be a point or more behind in the "
            f"{_parts(cells, open_cells)}.{_more(cells.values(), seeds)}"
        )
    return f"{strategy} is safe: in every third of the budget it is surely less than one point behind random."


def _parts(cells: Mapping[str, Cell], thirds: Sequence[str]) -> str:
    *first, last = (f"{third} third ({_points(cells[third].lead)} points)" for third in thirds)
    return f"{', the '.join(first)} and the {last}" if first else last


def _more(cells: Iterable[Cell], seeds: int) -> str:
    wanted = max(cell.seeds for cell in cells)
    if seeds >= MOST_SEEDS:
        return ""
    return f" About {wanted} seeds would tell." if wanted > seeds else " A few more seeds would tell."


def print_table(comparison: Comparison, console: Console) -> None:
    """Print a short table, the headline and, with enough seeds, what the never-lose gate says of the best."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    cells = columns(comparison)
    for name in cells:
        table.add_column(Text(name), justify="left" if name == "strategy" else "right")
    for row, strategy in zip(zip(*cells.values(), strict=True), comparison.strategies, strict=True):
        style = "bold" if strategy == comparison.best else "dim" if strategy == RULER else ""
        table.add_row(*map(Text, row), style=style)
    console.print(table)
    console.print()
    console.print(Text(comparison.headline()))
    safety = gate_sentence(comparison, comparison.best) if comparison.best else ""
    if safety and len(comparison.seeds) >= FEW_SEEDS:
        console.print(Text(safety))


# The plot ---------------------------------------------------------------------------------------------


WIDE_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Microsoft YaHei", "Hiragino Sans", "Arial Unicode MS")
"""Fonts that know the scripts which matplotlib's own does not, on Linux, Windows and macOS."""


def draw(comparison: Comparison, theme: Theme = LIGHT, size: tuple[float, float] = WIDE) -> Figure:
    """Mean accuracy against labels with 95% bands, and the three regimes of the best strategy."""
    with _any_script():
        return _draw(comparison, theme, size)


@contextmanager
def _any_script() -> Iterator[None]:
    """Names in any script: in the fonts that are installed, and else as boxes without a word about it."""
    from matplotlib import rc_context
    from matplotlib.font_manager import get_font_names

    installed = set(get_font_names())
    fonts = ["DejaVu Sans", *(name for name in WIDE_FONTS if name in installed)]
    with rc_context({"font.family": fonts}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _draw(comparison: Comparison, theme: Theme, size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    narrow = size[0] < 6
    figure = Figure(
        figsize=size, facecolor=theme.surface, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    )
    axes = figure.add_subplot(facecolor=theme.surface)
    lines = {name: _draw_curve(axes, comparison, name, theme) for name in comparison.strategies}
    end = comparison.milestones[-1]
    order = sorted(lines, key=lambda name: -np.interp(end, *comparison.mean(name)))
    entries = {name: lines[name] for name in order}
    ceiling = comparison.settings.get("ceiling")
    if ceiling is not None:
        line = axes.axhline(ceiling, color=theme.ink, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        entries = {f"all labelled, {ceiling:.1%}": line} | entries
    _dress(axes, comparison, theme, narrow)
    axes.yaxis.set_major_formatter(lambda value, _: f"{round(100 * value, 3):g}%")
    axes.xaxis.set_major_locator(MaxNLocator(5 if narrow else 10, integer=True))
    _legend(axes, entries, theme, narrow)
    _mark_regimes(figure, axes, comparison, theme)
    return figure


def _colour(comparison: Comparison, strategy: str, theme: Theme) -> tuple[str, Any]:
    if strategy == RULER:
        return theme.random, "-"
    index = [name for name in comparison.strategies if name != RULER].index(strategy)
    lap, place = divmod(index, len(theme.lines))
    return theme.lines[place], DASHES[lap % len(DASHES)]


def _draw_curve(axes: Axes, comparison: Comparison, strategy: str, theme: Theme) -> Artist:
    colour, dashes = _colour(comparison, strategy, theme)
    labels, mean = comparison.mean(strategy)
    band = comparison.band(strategy)
    if band is not None:
        low, high = np.clip(band, 0, 1)
        axes.fill_between(labels, low, high, color=colour, alpha=0.14, linewidth=0, zorder=2)
    first = strategy == comparison.best
    marker = "o" if len(labels) <= 40 else None
    (line,) = axes.plot(labels, mean, color=colour, linestyle=dashes, linewidth=2.6 if first else 1.7,
                        marker=marker, markersize=3, zorder=4 if first else 3)  # fmt: skip
    return line


def _dress(axes: Axes, comparison: Comparison, theme: Theme, narrow: bool) -> None:
    settings = comparison.settings
    title = " · ".join(str(settings[key]) for key in ("data", "backbone") if settings.get(key))
    most, size = (42, 10) if narrow else (78, 13)
    axes.set_title(_fit(title, most), loc="left", color=theme.ink, fontsize=size, pad=10, parse_math=False)
    seeds = len(comparison.seeds)
    note = f"mean of {seeds} seeds, bands: 95% interval" if seeds > 1 else "1 seed"
    axes.set_ylabel("test accuracy", color=theme.ink)
    axes.set_xlabel(f"labels{chr(10) if narrow else ' '}({note})", color=theme.ink)
    axes.grid(axis="y", color=theme.faint, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.ink, length=0, labelsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.faint)


def _fit(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _legend(axes: Axes, entries: Mapping[str, Artist], theme: Theme, narrow: bool) -> None:
    """Names beside the plot, best last accuracy on top; under the plot where that is narrow."""
    lines, names, look = list(entries.values()), list(entries), {"frameon": False, "labelcolor": theme.ink}
    if narrow:
        legend = axes.figure.legend(lines, names, loc="outside lower center", ncols=2, fontsize=9, **look)
    else:
        legend = axes.legend(lines, names, loc="upper left", bbox_to_anchor=(1, 1), fontsize=9.5, **look)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _mark_regimes(figure: Figure, axes: Axes, comparison: Comparison, theme: Theme) -> None:
    """Shade where the best strategy pays, and write before / where it pays / after under the axis."""
    from matplotlib.transforms import ScaledTranslation

    best = comparison.best
    regimes = comparison.regimes(best) if best else None
    if best is None or regimes is None:
        return
    colour, _ = _colour(comparison, best, theme)
    axes.axvspan(regimes.start, regimes.stop, color=colour, alpha=0.07, linewidth=0, zorder=0)
    spans = [
        ("before", regimes.first, regimes.start, theme.random),
        (f"where {_fit(best, 16)} pays", regimes.start, regimes.stop, colour),
        ("after", regimes.stop, regimes.last, theme.random),
    ]
    bottom = axes.get_xaxis_transform()
    below = bottom + ScaledTranslation(0, -23 / 72, figure.dpi_scale_trans)
    words: list[Text] = []
    for word, start, stop, shade in spans:
        if stop > start:
            axes.plot([start, stop], [0, 0], color=shade, linewidth=4, transform=bottom, clip_on=False,
                      solid_capstyle="butt", zorder=4)  # fmt: skip
            words.append(axes.text((start + stop) / 2, 0, word, color=shade, transform=below, fontsize=9,
                                   ha="center", va="top", fontweight="bold", parse_math=False))  # fmt: skip
    axes.xaxis.labelpad = 27
    figure.draw_without_rendering()
    _spread(axes, words)


def _spread(axes: Axes, words: Sequence[Text], gap: float = 12) -> None:
    """Push words in a row apart, so that none covers another, and keep them within the axes."""
    boxes = [word.get_window_extent() for word in words]
    lefts = [box.x0 for box in boxes]
    for i in range(1, len(words)):
        lefts[i] = max(lefts[i], lefts[i - 1] + boxes[i - 1].width + gap)
    edge = axes.get_window_extent().x1 + gap
    for i in reversed(range(len(words))):
        lefts[i] = min(lefts[i], edge - gap - boxes[i].width)
        edge = lefts[i]
    for word, left, box in zip(words, lefts, boxes, strict=True):
        x, _ = axes.transData.inverted().transform((left + box.width / 2, 0))
        word.set_x(float(x))


def render(figure: Figure, kind: str, dpi: int = 200) -> bytes:
    """The figure as the bytes of a `png` or `svg` file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    file = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with _any_script():
        figure.savefig(file, format=kind, dpi=dpi, metadata=metadata, facecolor=figure.get_facecolor())
    return file.getvalue()


# The page ---------------------------------------------------------------------------------------------


def html(comparison: Comparison) -> str:
    """One self-contained page: nothing in it is fetched from anywhere."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((files("vizsla") / "report.html.j2").read_text(encoding="utf-8"))
    best = comparison.best
    compared = best is not None and RULER in comparison.strategies
    rows = comparison.summary()
    table = columns(comparison) | {
        "AULC": [_percent(row["aulc"], 1) for row in rows],
        "AULC, ln n": [_percent(row["aulc_log"], 1) for row in rows],
        "per round": [_seconds(row["seconds_per_round"]) for row in rows],
    }
    return template.render(
        headline=comparison.headline(),
        overall=comparison.saved(best).sentence if best and compared else "",
        regimes=regimes_sentence(comparison),
        few=len(comparison.seeds) < FEW_SEEDS,
        seeds=len(comparison.seeds),
        few_seeds=FEW_SEEDS,
        compared=compared,
        gate=gate_sentence(comparison, best) if best and compared else "",
        thirds=_thirds(comparison) if compared else [],
        runs=comparison.ruler_runs,
        penalties=_penalties(comparison),
        ceiling=comparison.settings.get("ceiling"),
        capped=any(row.get("levels_never_reached") for row in rows),
        best=best,
        table=table,
        strategies=comparison.strategies,
        plots={
            f"{shape} {tone}": _data_uri(draw(comparison, theme, size))
            for shape, size in (("wide", WIDE), ("narrow", NARROW))
            for tone, theme in (("light", LIGHT), ("dark", DARK))
        },
        level=None if comparison.level is None else _percent(comparison.level, 1),
        milestones=[_count(labels) for labels in comparison.milestones],
        settings={name: _shown(value) for name, value in comparison.settings.items()},
        classes=comparison.classes,
        versions=_versions(),
        per_seed=_per_seed(comparison),
    )


def _thirds(comparison: Comparison) -> list[list[list[str]]]:
    """For each strategy a row per third: which, AULC, lead, its bounds, win/tie/loss, the gate's verdict."""
    edges = [_count(edge) for edge in comparison.thirds]
    ranges = [f"{third}, {low}–{high}" for third, low, high in zip(THIRDS, edges, edges[1:], strict=False)]
    return [
        [
            [where, _percent(area, 1), *_against(cell, outcome)]
            for where, area, cell, outcome in zip(
                ranges,
                comparison.aulc_thirds(strategy),
                comparison.gate(strategy),
                comparison.outcomes(strategy),
                strict=True,
            )
        ]
        for strategy in comparison.strategies
    ]


def _against(cell: Cell, outcome: Outcome) -> list[str]:
    if math.isnan(cell.lead):
        return ["–"] * 4
    bounds = "–" if math.isnan(cell.low) else f"{_points(cell.low)} to {_points(cell.high)}"
    verdict = "undecided, behind" if cell.behind and cell.verdict == "undecided" else cell.verdict
    return [_points(cell.lead), bounds, outcome.word + _p(outcome.p), verdict]


def _penalties(comparison: Comparison) -> list[list[str]] | None:
    """A row of cells per strategy, and the mean of each column; None where there is no matrix."""
    matrix = comparison.penalties
    if matrix is None or len(matrix) < 2:
        return None
    rows = [["" if i == j else f"{share:.2f}" for j, share in enumerate(row)] for i, row in enumerate(matrix)]
    return [*rows, [f"{mean:.2f}" for mean in matrix.sum(axis=0) / (len(matrix) - 1)]]


def _data_uri(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(render(figure, "svg")).decode()


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _versions() -> dict[str, str]:
    """Of what made these figures; a package that is not installed is left out."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _per_seed(comparison: Comparison) -> list[list[str]]:
    """Strategy, seed, labels and the metrics at the last label count that all strategies share."""
    last = comparison.milestones[-1]
    rows = []
    for strategy in comparison.strategies:
        for seed, curve in comparison.of(strategy).items():
            point = max((p for p in curve.points if p["labels"] <= last), key=lambda p: p["labels"])
            shares = [_percent(point.get(name, math.nan), 1) for name in METRICS[:3]]
            others = [f"{point[name]:.3f}" if name in point else "–" for name in METRICS[3:]]
            rows.append([strategy, str(seed), _count(point["labels"]), *shares, *others])
    return rows
