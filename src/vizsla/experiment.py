"""`vizsla.compare`: seeds × strategies on labelled images, resumable."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vizsla.arena import Arena, classes_of, draw
from vizsla.caching import alone_in, write_atomically
from vizsla.curves import RULER, Comparison, LearningCurve
from vizsla.dashboards import Curve, Dashboard, checked, dashboard
from vizsla.data.indexed import IndexedDataset
from vizsla.data.splits import training_split
from vizsla.engine import Engine
from vizsla.errors import BadOption
from vizsla.learner import check_budget
from vizsla.models.backbones import load_backbone
from vizsla.plan import Plan
from vizsla.report import write
from vizsla.strategy.base import strategies as registry
from vizsla.types import Progress

OnRound = Callable[[int, int, str], None]
"""Called with (labels done, labels in all, what is running)."""


def compare(
    data: str | Path | IndexedDataset,
    *,
    strategies: Sequence[str] = ("random", "margin", "auto"),
    seeds: int = 10,
    random_runs: int = 1,
    test: str | Path | IndexedDataset | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    on_round: OnRound | None = None,
    log: Sequence[str] = (),
    engine: Engine | None = None,
    splits: bool = True,
    **plan: Any,
) -> Comparison:
    """Learning curves of query strategies on images whose classes are known from their folders.

    For each seed all strategies share the split, the stress, the first labels and the training randomness. The
    test set is only ever reported on, unless `stop_training="test"` says otherwise.

    Args:    data: folder with one folder per class, or a data set. test: the same for the test set; without it
             30% of the images are held out anew for each seed.
             strategies: names; `random`, the ruler, is always run. seeds: how many.
             random_runs: independent runs of random per seed, from the same first labels. Their mean is the ruler
             of the never-lose gate, which the last run must pass too; all other figures read the first.
             out: folder for curves.json, summary.csv, curves.png, report.html and the finished runs; calling
             again with the same settings goes on where it stopped. None writes nothing.
             progress: called with (images embedded, images). on_round: called with (labels, labels in all, text).
             log: dashboards to show each curve on as it grows, such as `tensorboard:DIR`; see `vizsla.dashboards`.
             engine: a started one, to have runs side by side; they are the same runs. Default: one after the other.
             splits: as of `IndexedDataset`.
             plan: fields of `Plan`: initial, batch, budget, random_budget, pool_size, backbone, image_size, precision,
             head, fine_tune, stop_training, epochs, noise, long_tail, outliers, duplicates.
    Raises:  UserError with the mend.
    """
    settings = Plan(**plan)
    names = _strategy_names(strategies)
    events = Path(out or ".") / "tensorboard"
    dashboards = [dashboard(spec, events) for spec in checked(log)]
    if seeds < 1:
        raise BadOption(f"--seeds must be at least 1, not {seeds}.")
    if random_runs < 1:
        raise BadOption(f"--random-runs must be at least 1, not {random_runs}.")
    pool, held_out = _datasets(data, test, check=settings.fine_tune, splits=splits)
    _check_before_embedding(settings, pool, held_out)
    backbone = load_backbone(settings.backbone, image_size=settings.image_size, precision=settings.precision)
    arena = Arena(settings, pool, held_out, backbone, progress)
    check_budget(settings.budget, min(arena.pool_size(seed) for seed in range(seeds)))
    fingerprint = arena.fingerprint
    shelf = Shelf(Path(out) if out is not None else None, fingerprint)
    repeated = [*((RULER, run) for run in range(random_runs)), *((name, 0) for name in names[1:])]
    with shelf.locked():
        named = partial(_curve, dashboards, _title(data), fingerprint)
        if engine is None:
            curves = list(_run_all(arena, shelf, repeated, seeds, on_round, named))
        else:
            curves = _run_on(engine, arena, shelf, repeated, seeds, on_round, named)
        ceiling = shelf.number("ceiling", arena.ceiling)
        comparison = Comparison(
            tuple(curves), pool.classes, _described(settings, arena, pool, seeds, ceiling)
        )
        if out is not None:
            write(comparison, Path(out))
    return comparison


def _run_all(
    arena: Arena,
    shelf: Shelf,
    runs: Sequence[tuple[str, int]],
    seeds: int,
    on_round: OnRound | None,
    shown: Callable[[str, int, int], Curve],
) -> Iterator[LearningCurve]:
    """The curves of each seed, of (strategy, repetition) one after the other."""
    pools = [arena.pool_size(seed) for seed in range(seeds)]
    total, done = sum(arena.plan.budget_of(name, pool) for pool in pools for name, _ in runs), 0
    for seed, pool in enumerate(pools):
        for name, repetition in runs:
            again = f" run {repetition + 1}" if repetition else ""
            text = f"{name}{again}, seed {seed + 1} of {seeds}"
            tell = _Rounds(on_round, done, total, text, shown(name, seed, repetition))
            curve = shelf.curve(name, seed, repetition, partial(arena.run, name, seed, repetition, tell))
            tell.close(curve)
            yield curve
            done += arena.plan.budget_of(name, pool)
            if on_round:
                on_round(done, total, text)


class _Rounds:
    """Hears of each round of one curve, and passes it on to the progress bar and the dashboards."""

    def __init__(self, on_round: OnRound | None, before: int, total: int, text: str, shown: Curve) -> None:
        self._on_round, self._before, self._total, self._text = on_round, before, total, text
        self._shown = shown
        self._round = 0

    def __call__(self, point: Mapping[str, float]) -> None:
        if self._on_round:
            self._on_round(self._before + int(point["labels"]), self._total, self._text)
        self._show(point)

    def _show(self, point: Mapping[str, float]) -> None:
        self._round += 1
        self._shown.log(int(point["labels"]), scalars_of(point) | {"al_round": self._round})

    def close(self, curve: LearningCurve) -> None:
        """At the end; a curve that was found on disk is shown whole."""
        if not self._round:
            for point in curve.points:
                self._show(point)
        self._shown.close()


def scalars_of(point: Mapping[str, float]) -> dict[str, float | None]:
    """What dashboards show of a point of a learning curve."""
    return {
        "train_loss": point.get("train_loss"),
        "val_loss": point.get("nll"),
        "val_acc": point.get("accuracy"),
        "val_macro_f1": point.get("macro_f1"),
        "al_n_labels": point["labels"],
    }


def _curve(
    dashboards: Sequence[Dashboard],
    title: str,
    fingerprint: dict[str, Any],
    strategy: str,
    seed: int,
    repetition: int,
) -> Curve:
    """Where one strategy's curve of one seed is shown."""
    again = f"-run-{repetition + 1}" if repetition else ""
    name = f"{title}/{strategy}/seed-{seed}{again}"
    about = fingerprint | {"strategy": strategy, "seed": seed, "run": repetition}
    key = hashlib.sha256(json.dumps([title, about], sort_keys=True).encode()).hexdigest()[:16]
    return Curve(dashboards, name, key, about, anew=True)


def _title(data: str | Path | IndexedDataset) -> str:
    """The last two parts of the data's path, without what cannot be part of a folder's name."""
    folder = Path(data.dir_path if isinstance(data, IndexedDataset) else data).absolute()
    return "-".join(folder.parts[-2:]).strip("/").replace(":", "-")


def _run_on(
    engine: Engine,
    arena: Arena,
    shelf: Shelf,
    runs: Sequence[tuple[str, int]],
    seeds: int,
    on_round: OnRound | None,
    shown: Callable[[str, int, int], Curve],
) -> list[LearningCurve]:
    """The same curves in the same order, wherever and in whichever order they are run."""
    units = [(name, seed, repetition) for seed in range(seeds) for name, repetition in runs]
    labels = {unit: arena.plan.budget_of(unit[0], arena.pool_size(unit[1])) for unit in units}
    found = {unit: kept for unit in units if (kept := shelf.kept(*unit))}
    todo, done = [unit for unit in units if unit not in found], sum(labels[unit] for unit in found)
    for place, curve in engine.map_prepared(partial(_Runner, arena), todo):
        unit = todo[place]
        shelf.keep(*unit, curve)
        found[unit] = curve
        done += labels[unit]
        if on_round:
            on_round(done, sum(labels.values()), f"{len(found)} of {len(units)} runs")
    for unit, curve in found.items():
        _Rounds(None, 0, 0, "", shown(*unit)).close(curve)
    return [found[unit] for unit in units]


@dataclass(frozen=True, eq=False)
class _Runner:
    """Work for an engine: one run, with images that were embedded before."""

    arena: Arena

    def __call__(self, unit: tuple[str, int, int]) -> LearningCurve:
        return self.arena.run(*unit, lambda point: None)


class Shelf:
    """Finished runs on disk, one small file each, so that nothing is run twice."""

    def __init__(self, out: Path | None, fingerprint: dict[str, Any]) -> None:
        self._runs = out / "runs" if out is not None else None
        self._fingerprint = fingerprint

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Held while the comparison runs: two at once in one folder would only get in each other's way."""
        if self._runs is None:
            yield
            return
        self._check_settings()
        busy = f"another comparison is writing to {self._runs.parent}. Wait for it, or choose another --out."
        with alone_in(self._runs, busy):
            yield

    def _check_settings(self) -> None:
        assert self._runs is not None
        file = self._runs / "settings.json"
        if not file.exists():
            write_atomically(file, json.dumps(self._fingerprint, indent=1))
            return
        before = asdict(Plan()) | json.loads(
            file.read_text()
        )  # a setting newer than the runs was as it is by default
        changed = [key for key in self._fingerprint if before.get(key) != self._fingerprint[key]]
        if changed:
            key = changed[0]
            raise BadOption(
                f"{self._runs.parent} holds runs of another comparison ({key} was {before.get(key)!r}, now "
                f"{self._fingerprint[key]!r}). Choose another --out, or delete that folder."
            )

    def curve(
        self, strategy: str, seed: int, repetition: int, run: Callable[[], LearningCurve]
    ) -> LearningCurve:
        """The finished curve from disk, or a new one, kept."""
        kept = self.kept(strategy, seed, repetition)
        if kept is not None:
            return kept
        curve = run()
        self.keep(strategy, seed, repetition, curve)
        return curve

    def kept(self, strategy: str, seed: int, repetition: int) -> LearningCurve | None:
        """The curve of a finished run."""
        file = self._file(strategy, seed, repetition)
        return LearningCurve.from_json(json.loads(file.read_text())) if file and file.exists() else None

    def keep(self, strategy: str, seed: int, repetition: int, curve: LearningCurve) -> None:
        """Write down a finished run."""
        file = self._file(strategy, seed, repetition)
        if file:
            write_atomically(file, json.dumps(curve.to_json()))

    def _file(self, strategy: str, seed: int, repetition: int) -> Path | None:
        again = f"-run{repetition}" if repetition else ""
        return self._runs and self._runs / f"{strategy}-{seed}{again}.json"

    def number(self, name: str, make: Callable[[], float | None]) -> float | None:
        """The same for a single figure."""
        if self._runs is None:
            return make()
        file = self._runs / f"{name}.json"
        if not file.exists():
            write_atomically(file, json.dumps(make()))
        found: float | None = json.loads(file.read_text())
        return found


# ---------------------------------------------------------------- checks


def _strategy_names(names: Sequence[str]) -> list[str]:
    for name in names:
        _ = registry[name]
    if not names:
        raise BadOption(f"no strategy given. Known: {', '.join(registry)}.")
    return list(dict.fromkeys([RULER, *names]))


def _datasets(
    data: str | Path | IndexedDataset,
    test: str | Path | IndexedDataset | None,
    *,
    check: bool,
    splits: bool,
) -> tuple[IndexedDataset, IndexedDataset | None]:
    """Both sets; `check` decodes every file now, where no embedding will."""
    pool = (
        data.fresh() if isinstance(data, IndexedDataset) else IndexedDataset(data, check=check, splits=splits)
    )
    if test is None and len(pool.splits) > 1:  # else images to test on would be in the pool
        folder, part = pool.dir_path, training_split(pool.splits)
        other = next(name for name in pool.splits if name != part)
        raise BadOption(
            f"the folders of {folder} are splits ({', '.join(pool.splits)}), not classes. "
            f"Give {folder}/{part}, and the test images with --test {folder}/{other}; "
            "or, if they are classes, use --no-splits."
        )
    classes_of(pool)  # an image without a class, or a single class, is said before anything slow
    if test is None:
        return pool, None
    if not isinstance(test, IndexedDataset):
        test = IndexedDataset(test, test=True, classes=pool.classes, check=check, splits=splits)
    elif not len(test.labelled()):
        test = test.with_classes(pool.classes)
        for image in range(len(test)):
            test.label_from_filename(image)
    return pool, _labelled_part(test.joined(pool.classes))


def _labelled_part(dataset: IndexedDataset) -> IndexedDataset:
    known = dataset.labelled()
    part = dataset.subset(known)
    part.labels[:], part.unlabeled_mask[:] = dataset.labels[known], 0
    return part


def _check_before_embedding(plan: Plan, pool: IndexedDataset, test: IndexedDataset | None) -> None:
    """Raise for what cannot be done with so many images, should all be readable; embedding may take an hour."""
    images = draw(plan, classes_of(pool), None if test is None else test.labels, seed=0).pool
    check_budget(plan.budget, plan.duplicates * len(images))


def _described(
    plan: Plan, arena: Arena, pool: IndexedDataset, seeds: int, ceiling: float | None
) -> dict[str, Any]:
    parts = pool.source.address.replace(os.sep, "/").strip("/").split("/")
    return asdict(plan) | {
        "data": "/".join(parts[-2:]),
        "random_budget": plan.budget_of(RULER, arena.pool_size(0)),
        "image_size": arena.image_size,
        "images": arena.pool_size(0),
        "seeds": seeds,
        "ceiling": ceiling,
    }
