"""One round of active learning: choose → ask → record → fit; and the loop over rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int64

from vizsla.curves import LearningCurve
from vizsla.data.indexed import IndexedDataset
from vizsla.data.manifest import SUFFIXES
from vizsla.errors import BadOption, NoLabel, NotEnoughImages, UnknownName
from vizsla.functional.given import as_probs, whole
from vizsla.functional.metrics import evaluate
from vizsla.models.backbones import DEFAULT, load_backbone
from vizsla.models.frozen import Features, FrozenModel
from vizsla.models.heads import familiarity
from vizsla.oracle import CsvOracle, FilenameOracle, Oracle, TerminalOracle
from vizsla.strategy.base import Strategy, check_enough, strategies, sub_pool
from vizsla.types import Batch, Progress
from vizsla.views import Material

Ids = Int64[np.ndarray, " n"]
Predict = Callable[[IndexedDataset, np.ndarray], Any]
"""(data set, image ids) → (n, C) class probabilities, by a model that the caller trains."""


class Model(Protocol):
    """What a learner trains. `FrozenModel` and `FineTunedModel` are the two kinds."""

    n_classes: int

    def prepare(self, dataset: IndexedDataset, progress: Progress | None = None) -> Any: ...

    def fit(self, inputs: Any, ids: Ids, labels: Ids, *, seed: int) -> Mapping[str, float]: ...

    def predict(self, inputs: Any, ids: Ids) -> Float[np.ndarray, "n c"]: ...


class ActiveLearner:
    """A data set, a model, a query strategy and an oracle, and the loop that joins them.

    Args:    dataset: the pool; its mask and labels are the only record of what is labelled.
             backbone: name of the backbone whose frozen features a head learns on.
             predict: your own model instead: (data set, ids) → (n, C) probabilities. You train it.
             strategy: name of a query strategy; default: `auto`, or `margin` where a model without frozen features
             learns, which has no embeddings to show.
             oracle: `filename`, `terminal`, the path of a CSV, or an object with a `label` method.
             pool_size: look at a random sub-pool of that size in each query; 0 looks at everything.
             seed: decides every random choice, together with the round.
             repetition: another number gives other choices of the strategy, but the same first labels and training.
             model, inputs: a prepared model to use instead of making one from `backbone`.

    Nothing is read or computed before the first query that needs it.
    """

    def __init__(
        self,
        dataset: IndexedDataset,
        *,
        backbone: str = DEFAULT,
        predict: Predict | None = None,
        strategy: str | None = None,
        oracle: str | Oracle = "filename",
        pool_size: int = 0,
        seed: int = 0,
        repetition: int = 0,
        model: Model | None = None,
        inputs: Any = None,
        progress: Progress | None = None,
    ) -> None:
        if (pool_size := whole("pool_size", pool_size)) < 0:
            raise BadOption(f"a pool size of {pool_size} makes no sense. Use 0 for the whole pool.")
        self.dataset = dataset
        frozen = predict is None and (model is None or isinstance(model, FrozenModel))
        self.strategy = strategies[strategy or ("auto" if frozen else "margin")]
        self.oracle = _oracle(oracle, dataset)
        self.pool_size = pool_size
        self.seed = whole("seed", seed, 0)
        self.repetition = repetition
        self.round = 0
        self.batches: list[Batch] = []
        self._backbone = backbone
        self._own_predict = predict
        self._model = model
        self._inputs = inputs
        self._progress = progress
        self._fitted = False
        self._seconds = {"query_seconds": 0.0, "fit_seconds": 0.0}

    # --- one round

    def query(self, n: int, strategy: str | None = None) -> Batch:
        """Choose n images and have the oracle label them.

        A strategy that reads predictions chooses at random until there is a model to ask; the batch says so.

        Raises: NotEnoughImages when fewer than n are unlabelled.
        """
        started = time.perf_counter()
        batch = self.choose(n, strategy)
        self._seconds["query_seconds"] = time.perf_counter() - started
        source = "random" if batch.strategy == "random" else "al"
        before = self.dataset.labelled()
        self.oracle.label(self.dataset, batch.ids.tolist(), round=self.round, source=source)
        self._check_answers(batch.ids, before)
        self.batches.append(batch)
        self.round += 1
        return batch

    def _check_answers(self, asked: Ids, before: Ids) -> None:
        """Raise NoLabel where an oracle left an image without an answer, or gave one that nobody asked for."""
        dataset = self.dataset
        if len(left := np.intersect1d(asked, dataset.pool())):
            raise NoLabel(
                f"the oracle gave no answer for {len(left)} of {len(asked)} images, such as "
                f"{dataset.file_name(left[0])}. It must label, skip or mark as an outlier each image it is asked about."
            )
        asked_for = np.concatenate([asked, before, *(batch.ids for batch in self.batches)])
        if len(more := np.setdiff1d(dataset.labelled(), asked_for)):
            raise NoLabel(
                f"the oracle labelled {dataset.file_name(more[0])}, which it was not asked about. "
                "It is given positions in the data set, and answers for those."
            )

    def choose(self, n: int, strategy: str | None = None) -> Batch:
        """The n images to label next, without asking anyone."""
        rule, n = strategies[strategy] if strategy else self.strategy, whole("n", n, 1)
        if rule.needs and 0 < self.pool_size < n:  # for a random choice, a random sub-pool changes nothing
            raise BadOption(
                f"a sub-pool of {self.pool_size} images cannot give a batch of {n}. "
                f"Use a pool size of {n} or more, or 0 for the whole pool."
            )
        if rule.needs - {"embeddings"} and not self._can_predict:
            rule = strategies["random"]
        rng = self._rng("query", 0 if strategy else self.repetition)
        pool = self._readable_pool() if rule.needs else self.dataset.pool()
        check_enough(n, len(pool))  # before anything is predicted
        candidates = sub_pool(pool, self.pool_size, rng) if rule.needs else pool
        return rule.choose(self._material(rule, candidates).view(rule, rng, candidates), n, rng)

    def _material(self, rule: Strategy, candidates: Ids) -> Material:
        """What is known of the images, of that which the rule reads."""
        probs = None
        if "probs" in rule.reads and self._can_predict:
            probs = torch.from_numpy(np.ascontiguousarray(self.predict(candidates)))
        if rule.needs <= {"probs"}:
            return Material(np.arange(len(candidates)), np.empty(0, np.int64), candidate_probs=probs)
        if self._own_predict is not None or not isinstance(self.inputs, Features):
            raise BadOption(
                f"strategy {rule.name!r} looks at embeddings, which only a frozen backbone gives. "
                "Leave `predict` and fine-tuning out, call vizsla.select with embeddings of your own, "
                "or use a strategy that needs only probabilities, such as 'margin'."
            )
        labelled = np.intersect1d(self.dataset.labelled(), self.inputs.ids, assume_unique=True)
        material = Material(
            self.inputs.embeddings.rows(candidates),
            self.inputs.embeddings.rows(labelled),
            self.inputs.embeddings.vectors,
            self.dataset.labels[labelled],
            candidate_probs=probs,
            classes=len(self.dataset.classes) or None,
        )
        if isinstance(self.model, FrozenModel) and (held_out := self.model.held_out(labelled)) is not None:
            material.labelled_probs = torch.from_numpy(held_out)
        strange = np.intersect1d(np.flatnonzero(self.dataset.outliers), self.inputs.ids, assume_unique=True)
        if "familiar" in rule.reads and len(strange) and len(labelled):
            material.familiar = self._familiar(candidates, labelled, strange)
        fits = rule.needs & {"head", "draws", "committee"}  # others do not need the coordinates of all images
        if fits and isinstance(self.model, FrozenModel) and (linear := self.model.linear) is not None:
            axes, *weights = linear
            material.coordinates = self.inputs.on(axes, self.inputs.ids)
            material.weights = weights[0], weights[1]
        return material

    def _familiar(self, candidates: Ids, labelled: Ids, strange: Ids) -> Float[np.ndarray, " n"]:
        """Chance that each candidate is of one of the classes, by a head that tells labelled images from outliers."""
        rows, points = self.inputs.embeddings.rows, self.inputs.points
        return familiarity(*(points[rows(ids)] for ids in (candidates, labelled, strange)))

    def fit(self) -> Mapping[str, float]:
        """Train on all labels so far; returns what the model tells about it, such as epochs."""
        if self._own_predict is not None:
            raise BadOption(
                "this learner uses your own `predict`: train your model yourself, then query again."
            )
        ids = self.dataset.labelled()
        if not len(ids):
            raise NotEnoughImages("nothing is labelled yet. Call query(n) first.")
        started = time.perf_counter()
        ids = np.intersect1d(ids, self.inputs.ids, assume_unique=True)
        seed = int(self._rng("fit").integers(2**31))
        told = self.model.fit(self.inputs, ids, self.dataset.labels[ids], seed=seed)
        self._fitted = True
        self._seconds["fit_seconds"] = time.perf_counter() - started
        return told

    def predict(self, ids: Ids) -> Float[np.ndarray, "n c"]:
        """Class probabilities of images of the pool."""
        if self._own_predict is None and isinstance(self.model, FrozenModel):
            return self.model.predict(self.inputs, ids)
        own = self._own_predict
        given = self.model.predict(self.inputs, ids) if own is None else own(self.dataset, ids)
        classes = len(self.dataset.classes) or None
        probs = as_probs(given, len(ids), classes, name="what predict returned")
        return (probs if probs.dtype != torch.bfloat16 else probs.float()).cpu().numpy()

    # --- the loop

    def run(
        self,
        *,
        budget: int,
        batch: int = 20,
        initial: int | None = None,
        target: float | None = None,
        test: IndexedDataset | None = None,
        test_inputs: Any = None,
        on_round: Callable[[Mapping[str, float]], None] | None = None,
    ) -> LearningCurve:
        """Query and fit until `budget` labels are there, or the test accuracy reaches `target`.

        An image that the oracle calls an outlier costs as much as a label and counts as one.

        Args:    budget: total number of labels.
                 batch: labels per round. initial: random labels of the first round; default: `batch`,
                 chosen by the strategy.
                 test: a labelled data set that is read for reporting, and for `target`. Its classes are joined
                 with those of the pool by their names. It is not changed.
                 on_round: called with each point of the curve.
        Raises:  NoLabel where the test set has no labels, or a class that the pool has not.
        """
        self._check_budget(budget, batch, initial, target, test)
        if test is not None and (test_inputs is None or test.classes != self.dataset.classes):
            test = test.joined(self.dataset.classes)
        if test is not None and test_inputs is None:
            test_inputs = self.model.prepare(test, self._progress)
        points: list[Mapping[str, float]] = []
        while True:
            before = self.dataset.answered()
            if before < budget:
                first = initial if before == 0 and initial else None
                self.query(min(first or batch, budget - before), "random" if first else None)
            if self._only_outliers(before, budget):
                continue
            told = self.fit()
            points.append(self._point(test, test_inputs, told))
            if on_round:
                on_round(points[-1])
            reached = target is not None and points[-1]["accuracy"] >= target
            if reached or points[-1]["labels"] >= budget or points[-1]["labels"] == before:
                return LearningCurve(self.strategy.name, self.seed, tuple(points), self.repetition)

    def _only_outliers(self, before: int, budget: int) -> bool:
        """Whether nothing can be learnt yet, though answers came."""
        answered = self.dataset.answered()
        if len(self.dataset.labelled()) or answered == before:
            return False
        if answered >= budget:
            raise NotEnoughImages(
                f"all {answered} images asked about were of none of the classes. Use a larger --budget."
            )
        return True

    def _point(
        self, test: IndexedDataset | None, test_inputs: Any, told: Mapping[str, float]
    ) -> Mapping[str, float]:
        ids = self.dataset.labelled()
        point = {
            "labels": float(self.dataset.answered()),
            "classes_seen": float(len(np.unique(self.dataset.labels[ids]))),
            "outliers_offered": float(self.dataset.outliers.sum()),
        }
        if test is not None:
            known = np.intersect1d(test_inputs.ids, test.labelled(), assume_unique=True)
            point |= evaluate(self.model.predict(test_inputs, known), test.labels[known])
        return point | self._seconds | {"seconds": sum(self._seconds.values())} | dict(told)

    def _check_budget(
        self, budget: int, batch: int, initial: int | None, target: float | None, test: IndexedDataset | None
    ) -> None:
        if batch < 1 or budget < 1 or (initial is not None and initial < 0):
            raise BadOption("budget and batch must be at least 1, and initial at least 0.")
        available = len(self.dataset.pool()) + self.dataset.answered()
        check_budget(budget, available)
        if target is not None and test is None:
            raise BadOption("a target accuracy needs a test set. Give test=….")

    # --- parts, made when first needed

    @property
    def model(self) -> Model:
        """The model that learns."""
        if self._model is None:
            if len(self.dataset.classes) < 2:
                raise BadOption(
                    "the classes are not known. Make the data set with classes=('cat', 'dog', …), "
                    "or put the images into class folders."
                )
            self._model = FrozenModel(load_backbone(self._backbone), len(self.dataset.classes))
        return self._model

    @property
    def inputs(self) -> Any:
        """What the model made of the data set."""
        if self._inputs is None:
            self._inputs = self.model.prepare(self.dataset, self._progress)
        return self._inputs

    @property
    def _can_predict(self) -> bool:
        return self._fitted or self._own_predict is not None

    def _readable_pool(self) -> Ids:
        if self._own_predict is not None:
            return self.dataset.pool()
        return np.intersect1d(self.dataset.pool(), self.inputs.ids, assume_unique=True)

    def _rng(self, purpose: str, repetition: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.round, {"query": 0, "fit": 1}[purpose], repetition])


def check_budget(budget: int, available: int) -> None:
    """Raise NotEnoughImages when there are fewer images than the labels asked for."""
    if budget > available == 0:
        raise NotEnoughImages("the pool has no image that could be labelled. Add images.")
    if budget > available:
        raise NotEnoughImages(
            f"a budget of {budget} labels is more than the pool of {available} images. "
            f"Use --budget {available} or less, or add images."
        )


def _oracle(oracle: str | Oracle, dataset: IndexedDataset) -> Oracle:
    if not isinstance(oracle, str):
        return oracle
    if oracle == "filename":
        return FilenameOracle()
    if oracle == "terminal":
        return TerminalOracle(dataset.classes)
    if oracle.endswith(SUFFIXES):
        return CsvOracle(oracle)
    raise UnknownName(
        f"no oracle named {oracle!r}. Known: filename, terminal, or the path of a .csv, .jsonl or .parquet file."
    )
