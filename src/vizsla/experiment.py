"""`vizsla.compare`: seeds × strategies on labelled images, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from sklearn.model_selection import train_test_split

from vizsla.caching import explain_write_errors, write_atomically
from vizsla.curves import RULER, Comparison, LearningCurve
from vizsla.data.indexed import IndexedDataset
from vizsla.errors import BadOption, OneClass
from vizsla.functional.metrics import accuracy
from vizsla.learner import ActiveLearner, Model, check_budget
from vizsla.models.backbones import DEFAULT, Backbone, load_backbone
from vizsla.models.embed import embed
from vizsla.models.finetune import FineTunedModel, PixelSet, Schedule
from vizsla.models.frozen import Features, FrozenModel
from vizsla.models.heads import heads
from vizsla.oracle import FilenameOracle, NoisyOracle, Oracle
from vizsla.report import write
from vizsla.strategy.base import strategies as registry
from vizsla.types import Progress

TEST_SHARE = 0.3
"""Share of the images held out for testing where no test set is given."""
CEILING_AT_MOST = 20_000
"""Larger pools get no fully labelled ceiling: its fit would take longer than the comparison."""

SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}
"""Names of folders that are no classes."""

OnRound = Callable[[int, int, str], None]
"""Called with (labels done, labels in all, what is running)."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides a comparison's curves, but for which strategies and seeds are run."""

    initial: int = 20
    batch: int = 20
    budget: int = 300
    random_budget: int | None = None
    """Labels of the random run, the ruler; default twice the budget."""
    pool_size: int = 0
    backbone: str = DEFAULT
    image_size: int | None = None
    head: str = "logistic"
    fine_tune: bool = False
    stop_training: str = "validation"
    epochs: int = 10
    noise: float = 0.0
    """Share of wrong answers that the oracle gives."""

    def __post_init__(self) -> None:
        if self.batch < 1 or self.budget < 1 or self.initial < 0:
            raise BadOption("--batch and --budget must be at least 1, and --initial at least 0.")
        if self.initial > self.budget:
            raise BadOption(
                f"--initial {self.initial} is more than --budget {self.budget}. Raise the budget."
            )
        if 0 < self.pool_size < self.batch:
            raise BadOption(
                f"--pool-size {self.pool_size} cannot give a batch of {self.batch}. "
                f"Use {self.batch} or more, or 0 for the whole pool."
            )
        if not 0 <= self.noise <= 1:
            raise BadOption(f"--noise is a share of answers, 0 to 1, not {self.noise:g}.")
        _ = heads[self.head], Schedule(stop=self.stop_training, epochs=self.epochs)  # raise for wrong names

    def budget_of(self, strategy: str, pool: int) -> int:
        """Labels that the strategy's curve goes to."""
        if strategy != RULER:
            return self.budget
        return min(pool, max(self.budget, self.random_budget or 2 * self.budget))


def compare(
    data: str | Path | IndexedDataset,
    *,
    strategies: Sequence[str] = ("random", "least_confidence", "margin"),
    seeds: int = 10,
    test: str | Path | IndexedDataset | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    on_round: OnRound | None = None,
    **plan: Any,
) -> Comparison:
    """Learning curves of query strategies on images whose classes are known from their folders.

    For each seed all strategies share the split, the first labels and the training randomness. The test set
    is only ever reported on, unless `stop_training="test"` says otherwise.

    Args:    data: folder with one folder per class, or a data set. test: the same for the test set; without it
             30% of the images are held out anew for each seed.
             strategies: names; `random`, the ruler, is always run. seeds: how many.
             out: folder for curves.json, summary.csv, curves.png, report.html and the finished runs; calling
             again with the same settings goes on where it stopped. None writes nothing.
             progress: called with (images embedded, images). on_round: called with (labels, labels in all, text).
             plan: fields of `Plan`: initial, batch, budget, random_budget, pool_size, backbone, image_size,
             head, fine_tune, stop_training, epochs, noise.
    Raises:  UserError with the mend.
    """
    settings = Plan(**plan)
    names = _strategy_names(strategies)
    if seeds < 1:
        raise BadOption(f"--seeds must be at least 1, not {seeds}.")
    pool, held_out = _datasets(data, test, check=settings.fine_tune)
    check_budget(settings.budget, _pool_size(pool, held_out))
    backbone = load_backbone(settings.backbone, image_size=settings.image_size)
    arena = Arena(settings, pool, held_out, backbone, progress)
    check_budget(settings.budget, arena.pool_size)
    shelf = Shelf(Path(out) if out is not None else None, arena.fingerprint)
    with shelf.locked():
        curves = list(_run_all(arena, shelf, names, seeds, on_round))
        ceiling = shelf.number("ceiling", arena.ceiling)
        comparison = Comparison(
            tuple(curves), pool.classes, _described(settings, arena, data, seeds, ceiling)
        )
        if out is not None:
            write(comparison, Path(out))
    return comparison


def _run_all(
    arena: Arena, shelf: Shelf, names: Sequence[str], seeds: int, on_round: OnRound | None
) -> Iterator[LearningCurve]:
    budgets = {name: arena.plan.budget_of(name, arena.pool_size) for name in names}
    total, done = seeds * sum(budgets.values()), 0
    for seed in range(seeds):
        for name in names:
            text = f"{name}, seed {seed + 1} of {seeds}"

            def tell(point: Mapping[str, float], before: int = done, text: str = text) -> None:
                if on_round:
                    on_round(before + int(point["labels"]), total, text)

            yield shelf.curve(name, seed, partial(arena.run, name, seed, tell))
            done += budgets[name]
            if on_round:
                on_round(done, total, text)


@dataclass(frozen=True, eq=False)
class Split:
    """Pool and test set of one seed, all readable, and what models see of them."""

    pool: IndexedDataset
    inputs: Any
    test: IndexedDataset
    test_inputs: Any


class Arena:
    """The images, embedded once, in which every strategy runs."""

    def __init__(
        self,
        plan: Plan,
        pool: IndexedDataset,
        test: IndexedDataset | None,
        backbone: Backbone,
        progress: Progress | None,
    ) -> None:
        self.plan = plan
        self.classes = pool.classes
        self._backbone = backbone
        self._pool, self._pool_inputs = self._prepared(pool, progress)
        self._last_split: tuple[int, Split] | None = None
        self._test: IndexedDataset | None = None
        self._test_inputs: Any = None
        if test is not None:
            self._test, self._test_inputs = self._prepared(test, progress)
        self._truth = np.array([self._pool.folder_label(i) for i in range(len(self._pool))])
        if len(np.unique(self._truth)) < 2:
            raise OneClass(
                f"only one class of {pool.dir_path} has readable images. Add images of another class."
            )

    def _prepared(self, dataset: IndexedDataset, progress: Progress | None) -> tuple[IndexedDataset, Any]:
        """The readable part of a data set and what the model made of it, numbered alike."""
        inputs: Features | PixelSet = (
            PixelSet(dataset, self._backbone.transform)
            if self.plan.fine_tune
            else Features(embed(dataset, self._backbone, progress=progress))
        )
        readable = inputs.ids
        part = dataset.subset(readable)
        if not dataset.unlabeled_mask.any():
            part.labels[:] = dataset.labels[readable]
            part.unlabeled_mask[:] = 0
        return part, inputs.subset(readable)

    @property
    def pool_size(self) -> int:
        """Images that can be labelled in each run."""
        return len(self._truth) if self._test is not None else len(self._split_ids(0)[0])

    @property
    def image_size(self) -> int:
        """Side of the network's input, in pixels."""
        return self._backbone.transform.size

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for finished runs to be used again."""
        sha = hashlib.sha256()
        for dataset in filter(None, (self._pool, self._test)):
            for image, path in enumerate(dataset.image_filenames):
                sha.update(f"{dataset.file_name(image)} {Path(path).stat().st_size}\n".encode())
        return asdict(self.plan) | {"images": sha.hexdigest()[:16], "weights": self._backbone.digest}

    def _split_ids(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        ids = np.arange(len(self._truth))
        smallest = np.unique(self._truth, return_counts=True)[1].min()
        stratify = self._truth if smallest >= 2 and TEST_SHARE * len(ids) >= len(self.classes) else None
        pool, test = train_test_split(ids, test_size=TEST_SHARE, random_state=seed, stratify=stratify)
        return np.sort(pool), np.sort(test)

    def split(self, seed: int) -> Split:
        """Pool and test set of a seed; the last one is kept, for all strategies of a seed share it."""
        if self._last_split is None or (self._test is None and self._last_split[0] != seed):
            self._last_split = seed, self._make_split(seed)
        return self._last_split[1]

    def _make_split(self, seed: int) -> Split:
        if self._test is not None:
            return Split(self._pool, self._pool_inputs, self._test, self._test_inputs)
        pool, test = self._split_ids(seed)
        test_set = self._pool.subset(test)
        for image, label in enumerate(self._truth[test]):
            test_set.update_label(image, label)
        inputs = self._pool_inputs
        return Split(self._pool.subset(pool), inputs.subset(pool), test_set, inputs.subset(test))

    def _model(self, seed: int, split: Split) -> Model:
        plan, n_classes = self.plan, len(self.classes)
        if not plan.fine_tune:
            return FrozenModel(self._backbone, n_classes, head=plan.head)
        schedule = Schedule(stop=plan.stop_training, epochs=plan.epochs)
        known = split.test_inputs, np.arange(len(split.test)), split.test.labels
        return FineTunedModel(self._backbone, n_classes, schedule=schedule, seed=seed, test=known)

    def run(self, strategy: str, seed: int, tell: Callable[[Mapping[str, float]], None]) -> LearningCurve:
        """One strategy's curve for one seed."""
        split = self.split(seed)
        oracle: Oracle = FilenameOracle()
        if self.plan.noise:
            oracle = NoisyOracle(oracle, self.plan.noise, len(self.classes), seed)
        learner = ActiveLearner(
            split.pool.fresh(),
            strategy=strategy,
            oracle=oracle,
            pool_size=self.plan.pool_size,
            seed=seed,
            model=self._model(seed, split),
            inputs=split.inputs,
        )
        return learner.run(
            budget=self.plan.budget_of(strategy, len(split.pool)),
            batch=self.plan.batch,
            initial=self.plan.initial,
            test=split.test,
            test_inputs=split.test_inputs,
            on_round=tell,
        )

    def ceiling(self) -> float | None:
        """Test accuracy with every image labelled, for the first seed; None where that is not worth its time."""
        split = self.split(0)
        ids = np.arange(len(split.pool))
        if self.plan.fine_tune or len(ids) > CEILING_AT_MOST:
            return None
        model = self._model(0, split)
        model.fit(split.inputs, ids, np.array([split.pool.folder_label(i) for i in ids]), seed=0)
        return accuracy(model.predict(split.test_inputs, np.arange(len(split.test))), split.test.labels)


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
        with explain_write_errors(self._runs):
            self._runs.mkdir(parents=True, exist_ok=True)
        self._check_settings()
        lock = FileLock(self._runs / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise BadOption(
                f"another comparison is writing to {self._runs.parent}. Wait for it, or choose another --out."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _check_settings(self) -> None:
        assert self._runs is not None
        file = self._runs / "settings.json"
        if not file.exists():
            write_atomically(file, json.dumps(self._fingerprint, indent=1))
            return
        before = json.loads(file.read_text())
        changed = [key for key in self._fingerprint if before.get(key) != self._fingerprint[key]]
        if changed:
            key = changed[0]
            raise BadOption(
                f"{self._runs.parent} holds runs of another comparison ({key} was {before.get(key)!r}, now "
                f"{self._fingerprint[key]!r}). Choose another --out, or delete that folder."
            )

    def curve(self, strategy: str, seed: int, run: Callable[[], LearningCurve]) -> LearningCurve:
        """The finished curve from disk, or a new one, kept."""
        if self._runs is None:
            return run()
        file = self._runs / f"{strategy}-{seed}.json"
        if file.exists():
            return LearningCurve.from_json(json.loads(file.read_text()))
        curve = run()
        write_atomically(file, json.dumps(curve.to_json()))
        return curve

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
    data: str | Path | IndexedDataset, test: str | Path | IndexedDataset | None, *, check: bool
) -> tuple[IndexedDataset, IndexedDataset | None]:
    """Both sets; `check` decodes every file now, where no embedding will."""
    pool = data.fresh() if isinstance(data, IndexedDataset) else IndexedDataset(data, check=check)
    if pool.classes and {name.lower() for name in pool.classes} <= SPLITS:
        raise BadOption(
            f"the folders of {pool.dir_path} are splits ({', '.join(pool.classes)}), not classes. "
            f"Give {pool.dir_path}/{pool.classes[-1]}, and the test images with --test."
        )
    for image in range(len(pool)):
        pool.folder_label(image)  # an image without a class, or a single class, is said before anything slow
    if test is None or isinstance(test, IndexedDataset):
        return pool, test
    return pool, IndexedDataset(test, test=True, classes=pool.classes, check=check)


def _pool_size(pool: IndexedDataset, test: IndexedDataset | None) -> int:
    return len(pool) if test is not None else len(pool) - round(TEST_SHARE * len(pool))


def _described(plan: Plan, arena: Arena, data: Any, seeds: int, ceiling: float | None) -> dict[str, Any]:
    folder = Path(data.dir_path if isinstance(data, IndexedDataset) else data).absolute()
    return asdict(plan) | {
        "data": "/".join(folder.parts[-2:]).removeprefix("/"),
        "random_budget": plan.budget_of(RULER, arena.pool_size),
        "image_size": arena.image_size,
        "images": arena.pool_size,
        "seeds": seeds,
        "ceiling": ceiling,
    }
