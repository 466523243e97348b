"""Learning curves, and the comparison of strategies by them."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student_t

from vizsla.errors import BadOption, UnknownName
from vizsla.functional.metrics import (
    LabelsSaved,
    accuracy_levels,
    aulc,
    aulc_parts,
    labels_needed,
    labels_saved,
)
from vizsla.functional.verdicts import (
    FEW_SEEDS,
    Cell,
    Outcome,
    never_lose,
    outcomes,
    penalties,
    penalty_counts,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RULER = "random"
"""The strategy that all others are measured against."""
THIRDS = ("early", "middle", "late")
"""Names of the three thirds of the budget."""
BY_THIRD = ("outcome", "outcome_p", "lead", "lead_low", "lead_high", "gate")
"""What a summary row says of each third, beside `aulc`."""
COUNTS = frozenset({"labels", "classes_seen", "outliers_offered"})

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class LearningCurve:
    """What one strategy reached with one seed, round by round."""

    strategy: str
    seed: int
    points: tuple[Mapping[str, float | int], ...]
    """Ascending in `labels`; accuracy and its kin are fractions 0–1, times are seconds."""
    run: int = 0
    """Which of several runs of this strategy with this seed: the same split and first labels, other choices.
    Only random, the ruler, is worth more than one."""

    @property
    def labels(self) -> Float[np.ndarray, " t"]:
        """Label count at each point."""
        return self.values("labels")

    def values(self, metric: str = "accuracy") -> Float[np.ndarray, " t"]:
        """One figure of every point."""
        if any(metric not in point for point in self.points):
            known = sorted(set.intersection(*(set(point) for point in self.points)))
            close = difflib.get_close_matches(metric, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UnknownName(f"no metric named {metric!r}.{hint} Known: {', '.join(known)}.")
        return np.array([point[metric] for point in self.points], dtype=np.float64)

    def to_json(self) -> Json:
        """Plain values for `json.dumps`; NaN becomes null."""
        points = [{name: _plain(name, value) for name, value in point.items()} for point in self.points]
        run = {"run": int(self.run)} if self.run else {}
        return {"strategy": self.strategy, "seed": int(self.seed), **run, "points": points}

    @classmethod
    def from_json(cls, data: Json) -> LearningCurve:
        """The curve that `to_json` wrote."""
        points = ({k: math.nan if v is None else v for k, v in point.items()} for point in data["points"])
        return cls(data["strategy"], data["seed"], tuple(points), data.get("run", 0))

    def plot(self, metric: str = "accuracy") -> Figure:
        """A small figure of this one curve, for a notebook."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.add_subplot(xlabel="labels", ylabel=metric.replace("_", " "))
        axes.plot(self.labels, self.values(metric), marker="o", markersize=3)
        axes.set_title(f"{self.strategy}, seed {self.seed}", parse_math=False)
        return figure


@dataclass(frozen=True)
class Regimes:
    """Where a strategy beats random: not before `start`, between `start` and `stop`, not after `stop`."""

    first: float
    """Fewest labels at which the two were compared."""
    start: float
    stop: float
    last: float
    """Most labels at which the two were compared."""


@dataclass(frozen=True)
class Comparison:
    """Learning curves of several strategies, each with the same seeds.

    A seed may have several runs of random. The first is the one that is plotted, averaged and compared by labels
    saved and by wins, like against like; the never-lose gate measures against the mean of them all.
    """

    curves: tuple[LearningCurve, ...]
    classes: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    """What was run: data, backbone, head, initial, batch, budget, … and `ceiling`, the accuracy when all
    images are labelled."""

    def __post_init__(self) -> None:
        if not any(curve.points for curve in self.curves):
            raise BadOption("nothing to compare: no learning curve has a point yet. Let one run finish.")
        names = Counter((curve.strategy, curve.seed, curve.run) for curve in self.curves)
        (strategy, seed, run), times = names.most_common(1)[0]
        if times > 1:
            which = f"strategy {strategy!r} and seed {seed}{f', run {run}' if run else ''}"
            raise BadOption(f"two curves are of {which}. Leave one out.")
        for strategy in self.strategies:
            if not len(self.matrix(strategy, "labels")[0]):
                raise BadOption(
                    f"the seeds of {strategy!r} share no label count. Run all with one --initial and --batch."
                )

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names of the strategies, random first, else in the order given."""
        names = dict.fromkeys(curve.strategy for curve in self.curves if curve.points)
        return tuple(sorted(names, key=lambda name: name != RULER))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of which any strategy has a curve, ascending."""
        return tuple(sorted({curve.seed for curve in self.curves}))

    def of(self, strategy: str) -> dict[int, LearningCurve]:
        """The curves of one strategy by seed, ascending; of several runs the first."""
        return {seed: curves[0] for seed, curves in self.runs_of(strategy).items()}

    def runs_of(self, strategy: str) -> dict[int, list[LearningCurve]]:
        """All runs of one strategy by seed, both ascending."""
        found: dict[int, list[LearningCurve]] = {}
        for curve in sorted(self.curves, key=lambda curve: (curve.seed, curve.run)):
            if curve.strategy == strategy and curve.points:
                found.setdefault(curve.seed, []).append(curve)
        if not found:
            raise UnknownName(f"no curve of {strategy!r} here. Known: {', '.join(self.strategies)}.")
        return found

    def matrix(
        self, strategy: str, metric: str = "accuracy", seeds: Iterable[int] | None = None
    ) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, "s t"]]:
        """Label counts ≥ 1 that all seeds of a strategy share, and the metric there, a row per seed."""
        curves = self.of(strategy)
        rows = [curves[seed] for seed in (curves if seeds is None else seeds)]
        shared = set.intersection(*(set(row.labels) for row in rows))
        labels = np.array(sorted(n for n in shared if n >= 1), dtype=np.float64)
        return labels, np.array([row.values(metric)[np.searchsorted(row.labels, labels)] for row in rows])

    def mean(
        self, strategy: str, metric: str = "accuracy", seeds: Iterable[int] | None = None
    ) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
        """Label counts, and the mean of the metric over seeds."""
        labels, values = self.matrix(strategy, metric, seeds)
        return labels, values.mean(axis=0)

    def band(
        self, strategy: str, metric: str = "accuracy"
    ) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]] | None:
        """Lower and upper end of the 95% t-interval of that mean; None with one seed."""
        _, values = self.matrix(strategy, metric)
        seeds = len(values)
        if seeds < 2:
            return None
        half = student_t.ppf(0.975, seeds - 1) * values.std(axis=0, ddof=1) / math.sqrt(seeds)
        return values.mean(axis=0) - half, values.mean(axis=0) + half

    # Against random -------------------------------------------------------------------------------

    def _paired_seeds(self, strategy: str) -> list[int]:
        if RULER not in self.strategies:
            return []
        return sorted(self.of(strategy).keys() & self.of(RULER).keys())

    def saved(self, strategy: str) -> LabelsSaved:
        """Labels saved against random choice, over the seeds that both have run."""
        self.of(strategy)
        return self._savings[strategy]

    @cached_property
    def _savings(self) -> dict[str, LabelsSaved]:
        return {strategy: self._saved(strategy) for strategy in self.strategies}

    def _saved(self, strategy: str) -> LabelsSaved:
        seeds = self._paired_seeds(strategy)
        if not seeds:
            none = np.empty(0)
            reason = "random was not run with the same seeds"
            return LabelsSaved(np.nan, np.nan, np.nan, none, none, none, none.astype(bool), reason)
        labels, values = self.matrix(strategy, seeds=seeds)
        ruler, ruler_values = self.matrix(RULER, seeds=seeds)
        rng = np.random.default_rng(0)  # the same resampled seeds for every strategy
        return labels_saved(labels, values, ruler, ruler_values, classes=len(self.classes), rng=rng)

    @property
    def best(self) -> str | None:
        """The strategy, other than random, that saves most labels; without random, of largest area."""
        others = [name for name in self.strategies if name != RULER]
        saves = [name for name in others if not math.isnan(self.saved(name).value)]
        if saves:
            return max(saves, key=lambda name: self.saved(name).value)
        return max(others, key=self._area, default=None)

    @property
    def level(self) -> float | None:
        """The accuracy at which label counts are quoted: what random reaches with the strategies' budget."""
        if RULER not in self.strategies:
            return None
        labels, mean = self.mean(RULER)
        if np.isnan(accuracy_levels(labels, mean, classes=len(self.classes))[0]):
            return None
        _, _, budget = self.milestones
        return float(mean[labels <= budget].max())

    def needed(self, strategy: str, seeds: Iterable[int] | None = None) -> float:
        """Labels the strategy needs to reach `level`; inf if it never does, NaN where there is no level."""
        if self.level is None:
            return math.nan
        return float(labels_needed(*self.mean(strategy, seeds=seeds), np.array([self.level]))[0])

    def regimes(self, strategy: str) -> Regimes | None:
        """The longest stretch of shared label counts where it pays to use the strategy.

        It pays where the mean over seeds of accuracy minus random's accuracy of the same seed exceeds
        its own standard error (0 with one seed), at two or more label counts in a row.
        """
        seeds = self._paired_seeds(strategy)
        if not seeds or strategy == RULER:
            return None
        (labels, values), (ruler, ruler_values) = (self.matrix(s, seeds=seeds) for s in (strategy, RULER))
        shared, mine, its = np.intersect1d(labels, ruler, return_indices=True)
        difference = values[:, mine] - ruler_values[:, its]
        error = difference.std(axis=0, ddof=1) / math.sqrt(len(seeds)) if len(seeds) > 1 else 0.0
        start, stop = _longest_run(difference.mean(axis=0) - error > 0)
        if stop - start < 1:
            return None
        return Regimes(*(float(shared[index]) for index in (0, start, stop, -1)))

    # By thirds of the budget ----------------------------------------------------------------------

    @cached_property
    def thirds(self) -> Float[np.ndarray, " 4"]:
        """The label counts that part the stretch which all strategies share into three of equal width."""
        first, _, last = self.milestones
        return np.linspace(first, last, 4)

    def _areas(self, curve: LearningCurve) -> np.ndarray:
        """The mean height of a curve over each third."""
        started = curve.labels >= 1
        return aulc_parts(curve.labels[started], curve.values()[started], self.thirds)

    def aulc_thirds(self, strategy: str) -> Float[np.ndarray, " 3"]:
        """Area under the learning curve over each third, divided by its width; mean over seeds."""
        return np.mean([self._areas(curve) for curve in self.of(strategy).values()], axis=0)

    @property
    def ruler_runs(self) -> int:
        """How many runs of random every seed has at least; 0 without random."""
        return min(map(len, self.runs_of(RULER).values())) if RULER in self.strategies else 0

    def leads(self, strategy: str, *, runs: int | None = None) -> Float[np.ndarray, "s 3"]:
        """AULC of each third minus random's, a row per seed that both have run.

        Args: runs: how many of random's runs of the seed to average, the first ones; default: all.

        Random itself is measured by its last run against the others, where a seed has several: an independent
        run that the gate must let through. Several data sets: join their rows for `outcomes`, which pools them
        as blocks, and give the columns of each to `never_lose`, which judges them one by one.
        """
        ours, ruler = self.of(strategy), self.runs_of(RULER) if RULER in self.strategies else {}
        rows = []
        for seed in sorted(ours.keys() & ruler.keys()):
            first, others = ours[seed], ruler[seed]
            if strategy == RULER:
                *others, first = others
            areas = [self._areas(curve) for curve in others[:runs] if self._spans(curve)]
            if areas and self._spans(first):
                rows.append(self._areas(first) - np.mean(areas, axis=0))
        return np.array(rows).reshape(-1, 3)

    def _spans(self, curve: LearningCurve) -> bool:
        """Whether the curve covers all thirds, as the second run of a killed comparison may not."""
        started = curve.labels[curve.labels >= 1]
        return len(started) > 0 and started[0] <= self.thirds[0] and started[-1] >= self.thirds[-1]

    def outcomes(self, strategy: str) -> tuple[Outcome, ...]:
        """Win, tie or loss against random in each third, seeds being the blocks.

        Against random's first run alone: a mean of several runs is steadier than one, and where luck is lopsided
        the signed-rank test would take that for merit.
        """
        return outcomes(self.leads(strategy, runs=1))

    def gate(self, strategy: str) -> tuple[Cell, ...]:
        """The never-lose gate in each third, against the mean of random's runs."""
        return never_lose(list(self.leads(strategy).T))

    @cached_property
    def penalties(self) -> Float[np.ndarray, "a a"] | None:
        """`functional.verdicts.penalties`, in the order of `strategies`, over the seeds that all have run.

        None with fewer than 8 such seeds, or where fewer than two label counts are shared.
        """
        seeds = sorted(set.intersection(*(set(self.of(strategy)) for strategy in self.strategies)))
        if len(seeds) < FEW_SEEDS:
            return None
        curves = {strategy: self.matrix(strategy, seeds=seeds) for strategy in self.strategies}
        shared = np.array(sorted(set.intersection(*(set(labels) for labels, _ in curves.values()))))
        rows = [values[:, np.searchsorted(labels, shared)] for labels, values in curves.values()]
        counts = penalty_counts(shared, rows[0].mean(axis=0) if RULER in curves else None)
        if not len(counts):
            return None
        return penalties(np.array(rows)[..., np.searchsorted(shared, counts)])

    # In words and rows ----------------------------------------------------------------------------

    @cached_property
    def milestones(self) -> tuple[float, float, float]:
        """First, middle and last label count at which all strategies can be compared."""
        ranges = [self.matrix(strategy, "labels")[0] for strategy in self.strategies]
        first = max(labels[0] for labels in ranges)
        last = max(first, min(labels[-1] for labels in ranges))
        middle = min(ranges[0], key=lambda n: abs(n - (first + last) / 2))
        return float(first), float(min(max(middle, first), last)), float(last)

    def _shared_curve(self, strategy: str) -> tuple[np.ndarray, np.ndarray]:
        first, _, last = self.milestones
        labels, mean = self.mean(strategy)
        grid = np.unique([first, *labels[(labels > first) & (labels < last)], last])
        return grid, np.interp(grid, labels, mean)

    def _area(self, strategy: str) -> float:
        return aulc(*self._shared_curve(strategy))

    def summary(self) -> list[dict[str, Any]]:
        """A row per strategy; areas and accuracies are over the label counts that all strategies share."""
        return [self._row(strategy) for strategy in self.strategies]

    def _row(self, strategy: str) -> dict[str, Any]:
        labels, mean = self.mean(strategy)
        row: dict[str, Any] = {"strategy": strategy, "seeds": len(self.of(strategy))}
        if RULER in self.strategies:
            saved = self.saved(strategy)
            row |= {
                "labels_saved": saved.value,
                "labels_saved_low": saved.low,
                "labels_saved_high": saved.high,
            }
            row |= {"levels_never_reached": saved.capped, "level": self.level or math.nan}
            row |= {"labels_to_level": self.needed(strategy)}
        curve = self._shared_curve(strategy)
        row |= {"aulc": aulc(*curve), "aulc_log": aulc(*curve, log=True)}
        for name, count in zip(("first", "middle", "last"), self.milestones, strict=True):
            row |= {f"labels_{name}": count, f"accuracy_{name}": float(np.interp(count, labels, mean))}
        row |= self._row_by_thirds(strategy)
        points = [point for curve in self.of(strategy).values() for point in curve.points]
        seconds = [point["seconds"] for point in points if "seconds" in point]
        return row | {"seconds_per_round": float(np.mean(seconds)) if seconds else math.nan}

    def _row_by_thirds(self, strategy: str) -> dict[str, Any]:
        row: dict[str, Any] = dict(
            zip((f"aulc_{third}" for third in THIRDS), map(float, self.aulc_thirds(strategy)), strict=True)
        )
        if not len(self.leads(strategy)):
            return row | dict.fromkeys((f"{name}_{third}" for third in THIRDS for name in BY_THIRD), math.nan)
        for third, found, cell in zip(THIRDS, self.outcomes(strategy), self.gate(strategy), strict=True):
            figures = found.word, found.p, cell.lead, cell.low, cell.high, cell.verdict
            row |= {f"{name}_{third}": figure for name, figure in zip(BY_THIRD, figures, strict=True)}
        return row

    def headline(self, strategy: str | None = None) -> str:
        """The comparison in one sentence; of the best strategy where none is named."""
        name = strategy or self.best
        others = sum(other != RULER for other in self.strategies)
        subject = f"{name}, the best of {others} strategies," if strategy is None and others > 1 else name
        if name is None or self.level is None or not self._paired_seeds(name):
            shown = subject or RULER
            _, _, last = self.milestones
            reached = float(np.interp(last, *self.mean(name or RULER)))
            return f"{shown} reached {reached:.1%} accuracy with {last:,.0f} labels{self._doubt(name)}."
        seeds = self._paired_seeds(name)
        mine, random = self.needed(name, seeds), self.needed(RULER, seeds)
        if math.isinf(mine):
            labels, mean = self.mean(name, seeds=seeds)
            told = (
                f"reached only {mean.max():.1%} accuracy with {labels[-1]:,.0f} labels; "
                f"random reached {self.level:.1%} with {random:,.0f}"
            )
            return f"{subject} {told}{self._doubt(name)}."
        saved = self.saved(name).value
        against = f"; averaged over all levels, {_change(saved)}" if saved * (random - mine) < 0 else ""
        return f"{subject} {_needs(mine, random, self.level)}{against}{self._doubt(name)}."

    def _doubt(self, strategy: str | None) -> str:
        name = strategy or RULER
        seeds = len(self._paired_seeds(name) or self.of(name))
        if seeds < FEW_SEEDS:
            return f" ({seeds} seed{'s' if seeds > 1 else ''}: too few to be sure)"
        saved = self.saved(name)
        return " (over the whole curve, this may be chance)" if saved.low <= 0 <= saved.high else ""

    def to_json(self) -> list[Json]:
        """The curves as `curves.json` holds them."""
        return [curve.to_json() for curve in self.curves]

    @classmethod
    def from_json(
        cls, data: Sequence[Json], classes: Iterable[str], settings: dict[str, Any] | None = None
    ) -> Comparison:
        """The comparison whose curves `to_json` wrote."""
        return cls(tuple(map(LearningCurve.from_json, data)), tuple(classes), settings or {})


def _plain(name: str, value: float | int) -> float | int | None:
    if math.isnan(value):
        return None
    return int(value) if name in COUNTS else float(value)


def _change(saved: float) -> str:
    return f"{abs(saved):.0%} {'fewer' if saved > 0 else 'more'}"


def _needs(mine: float, random: float, level: float) -> str:
    saved = 1 - mine / random
    if round(abs(saved) * 100) == 0:
        return f"needed as many labels as random ({random:,.0f}) to reach {level:.1%} accuracy"
    counts = f"({mine:,.0f} instead of {random:,.0f})"
    if saved > 0:
        return f"reached {level:.1%} accuracy with {_change(saved)} labels than random {counts}"
    return f"needed {_change(saved)} labels than random to reach {level:.1%} accuracy {counts}"


def _longest_run(flags: np.ndarray) -> tuple[int, int]:
    """First and last position of the longest run of true flags; (0, -1) where all are false."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    starts, stops = edges[::2], edges[1::2] - 1
    if not len(starts):
        return 0, -1
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]), int(stops[longest])
