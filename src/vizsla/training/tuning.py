"""Fine-tuning at the end: the whole network on all labels, compared with the head on the frozen one.

Labels are dealt into folds. Each fold is held out once from both: a head and a network learn from the other folds
and are asked about it, so that both are judged on every label, none of which they had seen. How long to train is
settled within the other folds. The network that is kept learns from all labels, for as many epochs as was best. Every
network starts from a linear head on its features as they are, fitted to the labels it is given.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from vizsla import monitor
from vizsla.caching import write_atomically
from vizsla.data.indexed import IndexedDataset
from vizsla.errors import BadOption
from vizsla.functional.metrics import evaluate
from vizsla.functional.paired import Difference, paired_difference
from vizsla.models.backbones import Backbone, load_backbone, restored
from vizsla.models.bundle import Bundle
from vizsla.models.classifier import state_of
from vizsla.models.embed import embed, vector_store
from vizsla.models.finetune import FineTunedModel, PixelSet, Schedule
from vizsla.models.frozen import GRAPH_AT_MOST
from vizsla.models.heads import LogisticHead, fold_of
from vizsla.models.runtime import best_device
from vizsla.project import Project
from vizsla.training import kept
from vizsla.training.fit import checks, handed_over
from vizsla.training.pool import Known, Pool, Rows, known
from vizsla.training.provenance import provenance
from vizsla.training.shown import show, validated
from vizsla.types import Embeddings

FEWEST = 20
"""Labels below which nothing can be said of a fold."""
_NOTES = "fine-tuning"
_UNSEEN = -10.0  # the first bias of a class without labels

OnEpoch = Callable[[int, int, str], None]
"""Called with (epochs done, epochs in all as they are foreseen, what is running)."""


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune."""

    folds: int = 3
    epochs: int = 30
    """At most; a network stops once the loss on a fifth of its labels, held out, stops falling."""
    learning_rate: float = 0.001
    augment: bool = True
    """Show each image flipped at random, and a random part of it."""
    image_size: int | None = None
    """Side of the input in pixels; None: that of the project."""

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise BadOption(f"--folds must be at least 2, not {self.folds}.")
        if not self.learning_rate > 0:
            raise BadOption(f"--learning-rate must be above 0, such as 0.001, not {self.learning_rate:g}.")
        _ = self.schedule  # raises for what makes no sense

    @property
    def schedule(self) -> Schedule:
        """Of a network that finds out how long to train."""
        return self._schedule("validation", self.epochs)

    def exactly(self, epochs: int) -> Schedule:
        """Of the network that is kept."""
        return self._schedule("epochs", epochs)

    def _schedule(self, stop: str, epochs: int) -> Schedule:
        return Schedule(
            stop=stop,
            epochs=epochs,
            max_epochs=epochs,
            learning_rate=self.learning_rate,
            augment=self.augment,
            keep_statistics=True,
        )


@dataclass(frozen=True)
class Verdict:
    """What came of it."""

    fine_tuned: float
    """Share of the labelled images that networks get right to which they were not shown."""
    frozen: float
    """The same of heads on the frozen network."""
    difference: Difference
    epochs: int
    """Of the network that is kept, or would be."""
    accuracy: monitor.Accuracy | None
    """Of the fine-tuned networks on random checks."""
    seconds: float

    @property
    def kept(self) -> str:
        """Which is the project's model now; the head where both are equally good, for it is the smaller one."""
        return "fine-tuned" if self.difference.value > 0 else "frozen"

    @property
    def sentence(self) -> str:
        """What was kept, and on what that rests."""
        found = self.difference
        chance = ", which may be chance" if found.value and found.may_be_chance else ""
        better = {
            True: f"Kept the fine-tuned network, trained on all labels for {self.epochs} epochs",
            False: "Kept the head on the frozen network",
        }[self.kept == "fine-tuned"]
        return f"{better}. Measured on {found.images} labelled images, each held out once from both{chance}."

    def as_facts(self) -> dict[str, Any]:
        """As a bundle and `--json` hold it."""
        found = self.difference
        return {
            "kept": self.kept,
            "images": found.images,
            "fine_tuned": self.fine_tuned,
            "frozen": self.frozen,
            "difference": found.value,
            "low": found.low,
            "high": found.high,
            "epochs": self.epochs,
            "accuracy": asdict(self.accuracy) if self.accuracy else None,
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What was found on images that were not shown in training."""

    tuned: Float[np.ndarray, "l c"]
    """Probabilities by the fine-tuned networks."""
    frozen: Int64[np.ndarray, " l"]
    """Classes by the heads."""
    epochs: tuple[int, ...]
    """Best number of each fold."""


def fine_tune(project: Project, recipe: Recipe, on_epoch: OnEpoch | None = None) -> Verdict:
    """Fine-tune the network of a project whose images are embedded and whose head is trained.

    The better of the two is the project's model from then on. Interrupted, the model stays what it was, and the same
    call goes on with the folds that are left.

    Raises: BadOption where there are too few labels.
    """
    began = time.monotonic()
    task = Task.of(project, recipe, on_epoch)
    found = task.held_out()
    epochs = max(1, round(float(np.median(found.epochs))))
    right = found.tuned.argmax(axis=1) == task.labels, found.frozen == task.labels
    verdict = Verdict(
        float(right[0].mean()),
        float(right[1].mean()),
        paired_difference(*right),
        epochs,
        task.accuracy(right[0]),
        time.monotonic() - began,
    )
    if verdict.kept == "fine-tuned":
        temperature = monitor.calibrate(found.tuned, task.labels)
        kept.keep(project, task.whole(epochs, temperature, verdict))
    else:
        kept.forget(project)
    task.forget_notes()
    if project.settings.log:
        held_out = evaluate(found.tuned, task.labels)
        version = newest.version if (newest := project.store.model()) else 0
        show(project, "fine-tuned", len(task.labels), version, validated(held_out), verdict.accuracy)
    return verdict


@dataclass(frozen=True, eq=False)
class Task:
    """The labelled images of a project, and what learns from them."""

    project: Project
    recipe: Recipe
    rows: Rows
    """Features of all images by the frozen network."""
    answers: Known
    labelled: Int64[np.ndarray, " l"]
    """Rows that have a label."""
    labels: Int64[np.ndarray, " l"]
    frozen_key: str
    backbone: Backbone
    """What is fine-tuned."""
    inputs: PixelSet
    """The labelled images, numbered in the order of `labels`."""
    features: Embeddings
    """What the network makes of them before it is trained."""
    clock: Clock

    @classmethod
    def of(cls, project: Project, recipe: Recipe, on_epoch: OnEpoch | None) -> Task:
        """Read the labels and load the network."""
        settings = project.settings
        size = settings.image_size
        frozen = load_backbone(settings.backbone, image_size=size, precision=settings.precision)
        backbone = load_backbone(settings.backbone, image_size=recipe.image_size or size)
        pool = Pool(project, frozen, vector_store(frozen))
        pool.refresh()
        rows = pool.rows()
        answers = known(project).of(rows)
        if len(answers.label_of) < FEWEST or len(answers.used) < 2:
            raise BadOption(
                f"{len(answers.label_of)} labels of {len(answers.used)} classes are too few to fine-tune on. "
                f"Label at least {FEWEST} images of two classes."
            )
        labelled = np.sort(rows.of(list(answers.label_of)))
        ids = rows.ids[labelled].tolist()
        labels = np.array([answers.label_of[image] for image in ids], np.int64)
        dataset = _images(project, ids)
        inputs, features = PixelSet(dataset, backbone.transform), embed(dataset, backbone)
        clock = Clock(recipe, on_epoch)
        return cls(
            project, recipe, rows, answers, labelled, labels, frozen.key, backbone, inputs, features, clock
        )

    def held_out(self) -> HeldOut:
        """Both kinds of model on every fold that they had not seen; from the notes where a fold is done."""
        c, fold = len(self.answers.classes), fold_of(self.labels, count=self.recipe.folds)
        tuned, frozen = np.zeros((len(self.labels), c)), np.zeros(len(self.labels), np.int64)
        epochs = []
        for number in range(self.recipe.folds):
            out = fold == number
            if not out.any():
                continue
            done = self._fold(number, out)
            tuned[out], frozen[out] = done["tuned"], done["frozen"]
            epochs.append(int(done["epochs"]))
        return HeldOut(tuned, frozen, tuple(epochs))

    def _fold(self, number: int, out: Bool[np.ndarray, " l"]) -> Mapping[str, Any]:
        file = self._notes / f"{number}.json"
        if file.exists():
            self.clock.skip(json.loads(file.read_text())["took"])
            return _read(file)
        head = handed_over(
            self.rows,
            self.labelled[~out],
            self.labels[~out],
            len(self.answers.classes),
            graph=len(self.rows.ids) <= GRAPH_AT_MOST,
        )
        model = self._network(self.recipe.schedule, np.flatnonzero(~out))
        tell = self.clock.running(f"fold {number + 1} of {self.recipe.folds}")
        told = model.fit(self.inputs, np.flatnonzero(~out), self.labels[~out], seed=number, on_epoch=tell)
        self.clock.finished()
        found = {
            "tuned": model.predict(self.inputs, np.flatnonzero(out)).tolist(),
            "frozen": head.predict(self.rows.points[self.labelled[out]]).argmax(axis=1).tolist(),
            "epochs": int(told["best_epoch"]),
            "took": int(told["epochs"]),
        }
        write_atomically(file, json.dumps(found))
        return _read(file)

    def _network(self, schedule: Schedule, ids: Int64[np.ndarray, " t"]) -> FineTunedModel:
        """One that has yet to learn, but for a head fitted to the labels of these images."""
        c = len(self.answers.classes)
        model = FineTunedModel(self.backbone, c, schedule=schedule, device=best_device())
        there = np.intersect1d(ids, self.features.ids)
        features = np.asarray(self.features.vectors[self.features.rows(there)], np.float32)
        head = LogisticHead(c)
        head.fit(features, self.labels[there])  # which sees them at length one
        length = max(float(np.linalg.norm(features, axis=1).mean()), 1e-12)
        model.start_from(head.weights / length, np.maximum(head.bias, _UNSEEN))
        return model

    def accuracy(self, right: Bool[np.ndarray, " l"]) -> monitor.Accuracy | None:
        """How often the networks are right on random checks; open ones count as wrong below and right above."""
        found = checks(self.rows, self.answers)
        even = np.ones(len(self.rows.ids))  # their confidence plays no part
        verdicts = right[np.isin(self.labelled, found.rows)]
        return monitor.audited_accuracy(even, even[: len(verdicts)], verdicts, even[: len(found.open)])

    def whole(self, epochs: int, temperature: float, verdict: Verdict) -> Bundle:
        """The network that is kept: trained on all labels."""
        everything = np.arange(len(self.labels))
        model = self._network(self.recipe.exactly(epochs), everything)
        model.fit(self.inputs, everything, self.labels, seed=0, on_epoch=self.clock.running("on all labels"))
        self.clock.finished()
        state = model.network.cpu().state_dict()
        body = {name.removeprefix("0."): part for name, part in state.items() if name.startswith("0.")}
        tuned = restored(self.backbone.name, body, self.backbone.transform)
        weights, bias = state["1.weight"].numpy(), state["1.bias"].numpy().copy()
        bias[np.setdiff1d(np.arange(len(bias)), self.labels)] = -np.inf  # of a class without labels: never
        newest = self.project.store.model()
        about: dict[str, Any] = {"version": newest.version if newest else None, "head": "fine-tuned"}
        about |= provenance(self.project, tuned, self.answers, len(self.rows.ids))
        about |= {"fine_tuning": verdict.as_facts()}
        return Bundle(self.answers.classes, None, weights, bias, temperature, about, state_of(tuned))

    @property
    def _notes(self) -> Path:
        """Where finished folds are noted; another folder for other labels, another network or another recipe."""
        sha = hashlib.sha256(repr((self.recipe, self.backbone.key, self.frozen_key)).encode())
        for part in (self.rows.ids, self.labelled, self.labels):
            sha.update(part.tobytes())
        return kept.home_of(self.project) / _NOTES / sha.hexdigest()[:16]

    def forget_notes(self) -> None:
        """Once the verdict is there."""
        shutil.rmtree(self._notes.parent, ignore_errors=True)


class Clock:
    """Counts epochs, and foresees how many there will be."""

    def __init__(self, recipe: Recipe, on_epoch: OnEpoch | None) -> None:
        self._recipe = recipe
        self._tell = on_epoch
        self._took: list[int] = []
        self._now = 0

    def running(self, what: str) -> Callable[[int, float], None]:
        """What to call after each epoch of a network."""

        def told(epoch: int, loss: float) -> None:
            self._now = epoch
            self._say(f"fine-tuning, {what}: loss {loss:.2f}")

        self._now = 0
        self._say(f"fine-tuning, {what}")
        return told

    def finished(self) -> None:
        """A network is done."""
        self._took.append(self._now)
        self._now = 0

    def skip(self, epochs: int) -> None:
        """A network was done before."""
        self._took.append(epochs)

    def _say(self, text: str) -> None:
        if self._tell is None:
            return
        each = math.ceil(np.mean(self._took)) if self._took else self._recipe.epochs
        left = self._recipe.folds - len(self._took)  # networks after this one
        done = sum(self._took) + self._now
        self._tell(done, done + max(each - self._now, 0) + left * each, text)


def _images(project: Project, ids: list[int]) -> IndexedDataset:
    """The images with these ids, in this order."""
    path_of = {image.id: image.path for image in project.store.images(state="present")}
    whole = IndexedDataset(project.source, check=False)
    return whole.subset([whole.index_of(path_of[image] or "") for image in ids])


def _read(file: Path) -> dict[str, Any]:
    return {
        name: np.array(part) if isinstance(part, list) else part
        for name, part in json.loads(file.read_text()).items()
    }
