"""`Trainer`: the one process of a project that loads torch. Embeds, fits, ranks, publishes, and says so.

It keeps nothing that cannot be found again: kill it at any moment, and the next one goes on.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int64

from vizsla import monitor
from vizsla.errors import VizslaError
from vizsla.models.backbones import load_backbone
from vizsla.models.embed import vector_store
from vizsla.project import CATALOGUE, REQUEST, Project
from vizsla.standing import labels_needed, snapshots
from vizsla.store import Model, Pulse
from vizsla.store.overview import TRAINING
from vizsla.training import review
from vizsla.training.bundle import Bundle
from vizsla.training.fit import Fitted, accuracy, checks, cold, confusion, find_clusters, fit, forecast, rank
from vizsla.training.pool import Known, Pool, Rows, known

HEAD = "logistic"
_CHUNK = 32 * (os.cpu_count() or 1)  # images embedded between two looks at the labels
_LOOK_SECONDS = 60.0  # until the catalogue is looked at though no scan said so
_SETTLE_SECONDS = 0.3  # a burst of labels is over when none has come for so long …
_BURST_SECONDS = 2.0  # … or when it has lasted for so long
_STOP_SET = 2000  # images on which successive models are compared
_SAID_SECONDS = 0.5


class Trainer:
    """Everything that happens behind the person who labels. Call `step` until the cows come home."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.store = project.store
        self.settings = project.settings
        self._judged: tuple[int, ...] | None = None  # what was found to be no reason to train
        self._asked = self.store.setting(REQUEST)
        self._catalogue: object = None
        self._looked = -math.inf
        self._said: dict[str, Any] = {}
        self._said_at = -math.inf
        self._clusters: tuple[int, Int64[np.ndarray, " n"]] = (0, np.empty(0, np.int64))
        self._failed_at: int | None = (
            None  # the newest answer when something failed; a few more, and it is tried again
        )
        self._cold_of = -1  # pool size of the order published without a model

    @cached_property
    def pool(self) -> Pool:
        """The images; loading the backbone takes seconds, so not before it is needed."""
        self._say("embedding", done=0, total=0)
        backbone = load_backbone(self.settings.backbone, image_size=self.settings.image_size)
        return Pool(self.project, backbone, vector_store(backbone))

    def step(self) -> bool:
        """Do the next thing there is to do; false where there was nothing."""
        try:
            return self._step()
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:
            self._fail(error)
            return True

    def _step(self) -> bool:
        asked, pulse = self._take_request(), self.store.pulse()
        if self._failed_at is not None:
            if not asked and pulse.label_id < self._failed_at + labels_needed(0):
                return False
            self._failed_at = None
        self._look()
        if self._is_due(pulse, now=asked):
            self._await_calm()
            self.train()
            return True
        if self.pool.todo:
            self._embed()
            return True
        if self._is_cold(pulse):
            self._publish_cold()
            return True
        self._say("idle")
        return False

    def _take_request(self) -> bool:
        asked = self.store.setting(REQUEST)
        fresh, self._asked = asked != self._asked, asked
        return fresh

    def _look(self) -> None:
        """Look at the catalogue again where a scan has changed it."""
        edition = self.store.setting(CATALOGUE)
        if edition == self._catalogue and time.monotonic() < self._looked + _LOOK_SECONDS:
            return
        self.pool.refresh()
        self._catalogue, self._looked = edition, time.monotonic()

    def _embed(self) -> None:
        total = len(self.pool) + len(self.pool.todo)
        self._say("embedding", done=len(self.pool), total=total)
        self.pool.embed(_CHUNK)

    # when

    def _is_due(self, pulse: Pulse, *, now: bool) -> bool:
        """Whether enough is new; `now`: whether anything is."""
        seen = (pulse.label_id, pulse.class_change, len(self.pool), len(self.pool.todo) == 0)
        if len(self.pool) < 2 or (seen == self._judged and not now):
            return False
        self._judged = seen
        answers = self._known()
        if len(answers.names) < 2:
            return False
        last, ranking = self.store.model(), self.store.ranking()
        if last is None:
            return len(answers.label_of) >= (2 if now else labels_needed(0))
        if ranking is None or ranking.model_version != last.version:
            return True  # the trainer before was killed in between
        if not set(last.metrics["classes"]) <= set(answers.classes):
            return True  # one was renamed or merged
        if last.metrics["pool"] != len(self.pool) and not self.pool.todo:
            return True
        news = answers.news(last.metrics["label_id"], last.labels_used)
        return news >= (1 if now else labels_needed(last.labels_used))

    def _known(self) -> Known:
        """The labels to learn from, once the images that have one are embedded."""
        answers = known(self.project)
        self._embed_labelled(answers)
        return answers.of(self.pool.rows())

    def _embed_labelled(self, answers: Known) -> None:
        """Embed images that were labelled before their turn."""
        waiting = [image for image in self.pool.todo if image.id in answers.label_of]
        if waiting:
            others = [image for image in self.pool.todo if image.id not in answers.label_of]
            self.pool.todo = waiting + others
            self.pool.embed(len(waiting))

    def _await_calm(self) -> None:
        """Let a burst of labels end: a bulk of them is one piece of news."""
        began = changed = time.monotonic()
        newest = self.store.pulse().label_id
        while (now := time.monotonic()) < min(changed + _SETTLE_SECONDS, began + _BURST_SECONDS):
            time.sleep(0.05)
            if (label_id := self.store.pulse().label_id) != newest:
                newest, changed = label_id, now

    # what

    def train(self) -> Model:
        """Fit, measure, rank and publish one model. Whatever goes wrong, the one before stays."""
        answers, rows = self._known(), self.pool.rows()
        before = self._model_before()
        model = self.store.start_model(len(answers.label_of), HEAD, self.pool.backbone.key)
        self._say("training", version=model.version)
        try:
            about = {"version": model.version, "labels": len(answers.label_of), "head": HEAD}
            about |= {"backbone": self.settings.backbone, "image_size": self.settings.image_size}
            fitted = fit(rows, answers, about=about | {"backbone_key": self.pool.backbone.key})
            self.store.keep_artifact(model.version, fitted.bundle.to_bytes())
            model = self.store.finish_model(model.version, self._metrics(rows, fitted, answers, before))
            self._publish(model, rows, fitted, answers)
        except BaseException as error:
            self.store.fail_model(model.version, _reason(error))
            raise
        return model

    def _model_before(self) -> Bundle | None:
        last = self.store.model()
        content = self.store.artifact(last.version) if last else None
        return Bundle.from_bytes(content) if content else None

    def _metrics(self, rows: Rows, fitted: Fitted, answers: Known, before: Bundle | None) -> dict[str, Any]:
        found = checks(rows, answers)
        measured = accuracy(fitted, found)
        fixed = rows.audit_order[:_STOP_SET]
        now = np.array(fitted.bundle.classes)[
            fitted.bundle.predict_coordinates(rows.coordinates[fixed]).argmax(1)
        ]
        past = snapshots(self.store.models())
        agreed = None
        if before is not None and monitor.comparison_due(past, len(answers.label_of)):
            then = np.array(before.classes)[before.predict(rows.vectors[fixed]).argmax(axis=1)]
            agreed = monitor.kappa(then, now)
        return {
            "accuracy": asdict(measured) if measured else None,
            "open_checks": len(found.open),
            "kappa": agreed,
            "predicted_classes": len(np.unique(now)),
            "temperature": fitted.bundle.temperature,
            "forecast": asdict(forecast(rows, fitted, found)),
            "pool": len(rows.ids),
            "classes": answers.names,
            "label_id": answers.newest,
        }

    def _publish(self, model: Model, rows: Rows, fitted: Fitted, answers: Known) -> None:
        """The order first, for people wait for it; then what is only looked at now and then."""
        order = rank(
            rows,
            fitted,
            answers,
            checks(rows, answers),
            strategy=self.settings.strategy,
            audit=self.settings.audit,
            clusters=self._clustered(rows),
            seed=model.version,
        )
        self.store.publish_ranking(model.version, order)
        found = {
            "errors": review.label_errors(fitted, rows, answers),
            "duplicates": review.near_duplicates(rows, answers),
        }
        self.store.set_setting("review", {"version": model.version, "label_id": answers.newest, **found})
        self.store.set_setting("confusion", confusion(fitted) | {"version": model.version})

    def _clustered(self, rows: Rows) -> Int64[np.ndarray, " n"]:
        if self._clusters[0] != len(rows.ids):
            k = min(40, max(8, 2 * len(self.store.classes())))
            self._clusters = len(rows.ids), find_clusters(rows.coordinates, k)
        return self._clusters[1]

    def _is_cold(self, pulse: Pulse) -> bool:
        """Whether there is no model yet, and images have come since an order was last published."""
        return pulse.model_version == 0 and len(self.pool) > 1 and self._cold_of != len(self.pool)

    def _publish_cold(self) -> None:
        rows = self.pool.rows()
        self.store.publish_ranking(None, cold(rows, known(self.project), self._clustered(rows)))
        self._cold_of = len(self.pool)

    # saying so

    def _say(self, state: str, **more: Any) -> None:
        said = {"state": state, **more}
        same_kind = self._said.get("state") == state
        if said == self._said or (same_kind and time.monotonic() < self._said_at + _SAID_SECONDS):
            return
        self.store.set_setting(TRAINING, said)
        self._said, self._said_at = said, time.monotonic()

    def _fail(self, error: Exception) -> None:
        self._failed_at = self.store.pulse().label_id
        self._judged, self._said = None, {}
        self._say("failed", error=_reason(error))


def _reason(error: BaseException) -> str:
    """What went wrong, in one line, for the page."""
    said = " ".join(str(error).split()) or "no reason given"
    return said if isinstance(error, VizslaError) else f"{type(error).__name__}: {said}"
