"""Where strategies are compared: pool, test set and models of each seed, the same for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial, reduce
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image
from sklearn.model_selection import train_test_split

from vizsla.curves import LearningCurve
from vizsla.data.duplicates import near_duplicate
from vizsla.data.indexed import IndexedDataset
from vizsla.errors import OneClass
from vizsla.functional.metrics import accuracy
from vizsla.learner import ActiveLearner, Model
from vizsla.models.backbones import Backbone, Transform
from vizsla.models.embed import embed
from vizsla.models.finetune import FineTunedModel, PixelSet, Schedule
from vizsla.models.frozen import Features, FrozenModel
from vizsla.oracle import FilenameOracle, NoisyOracle, Oracle
from vizsla.plan import Plan
from vizsla.stress import long_tail, mixed, unknown_classes
from vizsla.types import Embeddings, Progress

TEST_SHARE = 0.3
"""Share of the images held out for testing where no test set is given."""
CEILING_AT_MOST = 20_000
"""Larger pools get no fully labelled ceiling: its fit would take longer than the comparison."""

Ids = Int64[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Draw:
    """Which images are in pool and test set of one seed, and which classes nobody is told of."""

    pool: Ids
    test: Ids
    unknown: Ids


def draw(plan: Plan, truth: Ids, test_truth: Ids | None, seed: int) -> Draw:
    """What chance decides about a seed's images.

    Args:    truth: class of each image. test_truth: the same of the test set; None holds images out, which
             then are counted as `truth` counts them.
    Returns: ids, ascending. Stress of one kind never changes what another draws.
    """
    pool, test = (
        _held_out(truth, seed) if test_truth is None else (np.arange(len(truth)), np.arange(len(test_truth)))
    )
    unknown, outliers = np.empty(0, np.int64), np.empty(0, np.int64)
    for_classes, for_tail, for_mixture = (np.random.default_rng([seed, 0, use]) for use in (2, 3, 4))
    if plan.outliers:
        unknown = unknown_classes(np.unique(truth), plan.outliers, for_classes)
        strange = np.isin(truth[pool], unknown)
        pool, outliers = pool[~strange], pool[strange]
        test = test[~np.isin((truth if test_truth is None else test_truth)[test], unknown)]
    if plan.long_tail > 1:
        pool = pool[long_tail(truth[pool], plan.long_tail, for_tail)]
    if plan.outliers:
        pool = mixed(pool, outliers, plan.outliers, for_mixture)
    return Draw(pool, test, unknown)


def _held_out(truth: Ids, seed: int) -> tuple[Ids, Ids]:
    ids = np.arange(len(truth))
    classes, sizes = np.unique(truth, return_counts=True)
    stratify = truth if sizes.min() >= 2 and TEST_SHARE * len(ids) >= len(classes) else None
    pool, test = train_test_split(ids, test_size=TEST_SHARE, random_state=seed, stratify=stratify)
    return np.sort(pool), np.sort(test)


def classes_of(dataset: IndexedDataset) -> Ids:
    """The class that the folder of each image says."""
    return np.array([dataset.folder_label(image) for image in range(len(dataset))], np.int64)


@dataclass(frozen=True)
class DuplicateTransform(Transform):
    """The same way into the network for a near-duplicate of the image."""

    copy: int = 1
    recipe: int = 1
    """Raised whenever near-duplicates are made in another way: cached features are known by it."""

    def pixels(self, image: Image.Image) -> UInt8[np.ndarray, "3 s s"]:
        """Change the image, then resize and crop."""
        return super().pixels(near_duplicate(image.convert("RGB"), self.copy))


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
        self._backbone = backbone
        self._pool, self._pool_inputs = self._prepared(pool, progress, plan.duplicates)
        self._drawn: dict[int, Draw] = {}
        self._last_split: tuple[int, Split] | None = None
        self._test: IndexedDataset | None = None
        self._test_inputs: Any = None
        if test is not None:
            self._test, self._test_inputs = self._prepared(test, progress)
        self._truth = classes_of(self._pool)
        if len(np.unique(self._truth)) < 2:
            raise OneClass(
                f"only one class of {pool.dir_path} has readable images. Add images of another class."
            )

    def _prepared(
        self, dataset: IndexedDataset, progress: Progress | None, copies: int = 1
    ) -> tuple[IndexedDataset, Any]:
        """The readable part of a data set and what the model made of it, numbered alike.

        With several copies, those of image i are the inputs i · copies, i · copies + 1, …; the first is the image.
        """
        inputs: Features | PixelSet = (
            PixelSet(dataset, self._backbone.transform)
            if self.plan.fine_tune
            else Features(self._embedded(dataset, copies, progress))
        )
        readable = inputs.ids[::copies] // copies
        part = dataset.subset(readable)
        if not dataset.unlabeled_mask.any():
            part.labels[:] = dataset.labels[readable]
            part.unlabeled_mask[:] = 0
        return part, inputs.subset(inputs.ids)

    def _embedded(self, dataset: IndexedDataset, copies: int, progress: Progress | None) -> Embeddings:
        def tell(done: int, total: int, before: int = 0) -> None:
            if progress:
                progress(before * total + done, copies * total)

        found = [embed(dataset, self._backbone, progress=tell)]
        for copy in range(1, copies):
            other = replace(self._backbone, transform=_of_duplicate(self._backbone.transform, copy))
            found.append(embed(dataset, other, progress=partial(tell, before=copy)))
        if copies == 1:
            return found[0]
        ids = reduce(np.intersect1d, (one.ids for one in found))
        vectors = np.stack([one.vectors[one.rows(ids)] for one in found], axis=1)
        return Embeddings(_copies(ids, copies), vectors.reshape(-1, vectors.shape[-1]), found[0].key)

    def pool_size(self, seed: int) -> int:
        """Images that can be labelled in each run of a seed."""
        return len(self._draw(seed).pool) * self.plan.duplicates

    @property
    def image_size(self) -> int:
        """Side of the network's input, in pixels."""
        return self._backbone.transform.size

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for finished runs to be used again."""
        sha = hashlib.sha256()
        for dataset in filter(None, (self._pool, self._test)):
            for name in map(dataset.file_name, range(len(dataset))):
                sha.update(f"{name} {dataset.source.stamp(name)[0]}\n".encode())
        about = asdict(self.plan) | {"images": sha.hexdigest()[:16], "weights": self._backbone.digest}
        if self._pool.splits or not self._pool.source.splits:  # the classes are others
            about["splits"] = list(self._pool.splits)
        return about

    def _draw(self, seed: int) -> Draw:
        if seed not in self._drawn:
            test = None if self._test is None else self._test.labels
            self._drawn[seed] = draw(self.plan, self._truth, test, seed)
        return self._drawn[seed]

    def split(self, seed: int) -> Split:
        """Pool and test set of a seed; the last one is kept, for all strategies of a seed share it."""
        always_same = self._test is not None and not self.plan.outliers and self.plan.long_tail == 1
        if self._last_split is None or (self._last_split[0] != seed and not always_same):
            self._last_split = seed, self._make_split(seed)
        return self._last_split[1]

    def _make_split(self, seed: int) -> Split:
        drawn, copies = self._draw(seed), self.plan.duplicates
        pool = self._pool.subset(np.repeat(drawn.pool, copies))
        inputs = self._pool_inputs.subset(_copies(drawn.pool, copies))
        if self._test is None:
            test, truth = self._pool.subset(drawn.test), self._truth[drawn.test]
            test_inputs = self._pool_inputs.subset(drawn.test * copies)
        else:
            test, truth = self._test.subset(drawn.test), self._test.labels[drawn.test]
            test_inputs = self._test_inputs.subset(drawn.test)
        known = np.setdiff1d(np.arange(len(self._pool.classes)), drawn.unknown)
        names = [self._pool.classes[label] for label in known]
        test = test.with_classes(names)
        for image, label in enumerate(np.searchsorted(known, truth)):
            test.update_label(image, label)
        return Split(pool.with_classes(names), inputs, test, test_inputs)

    def _model(self, seed: int, split: Split) -> Model:
        plan, n_classes = self.plan, len(split.pool.classes)
        if not plan.fine_tune:
            return FrozenModel(self._backbone, n_classes, head=plan.head)
        schedule = Schedule(stop=plan.stop_training, epochs=plan.epochs, augment=plan.augment)
        known = split.test_inputs, np.arange(len(split.test)), split.test.labels
        return FineTunedModel(self._backbone, n_classes, schedule=schedule, seed=seed, test=known)

    def run(
        self, strategy: str, seed: int, repetition: int, tell: Callable[[Mapping[str, float]], None]
    ) -> LearningCurve:
        """One strategy's curve for one seed; another repetition makes other choices from the same start."""
        split = self.split(seed)
        oracle: Oracle = FilenameOracle(outliers=self.plan.outliers > 0)
        if self.plan.noise:
            oracle = NoisyOracle(oracle, self.plan.noise, len(split.pool.classes), seed)
        learner = ActiveLearner(
            split.pool.fresh(),
            strategy=strategy,
            oracle=oracle,
            pool_size=self.plan.pool_size,
            seed=seed,
            repetition=repetition,
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
        ids = np.flatnonzero([split.pool.has_class(image) for image in range(len(split.pool))])
        if self.plan.fine_tune or len(ids) > CEILING_AT_MOST:
            return None
        model = self._model(0, split)
        model.fit(split.inputs, ids, np.array([split.pool.folder_label(i) for i in ids]), seed=0)
        return accuracy(model.predict(split.test_inputs, np.arange(len(split.test))), split.test.labels)


def _copies(ids: Ids, copies: int) -> Ids:
    """Numbers of all copies of these images, those of one image side by side."""
    return (ids[:, None] * copies + np.arange(copies)).ravel()


def _of_duplicate(plain: Transform, copy: int) -> DuplicateTransform:
    return DuplicateTransform(plain.size, plain.crop, plain.mean, plain.std, plain.bilinear, copy)
