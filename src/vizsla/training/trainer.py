"""`Trainer`: the one process of a project that loads torch. Embeds, fits, ranks, publishes, and says so.

It keeps nothing that cannot be found again: kill it at any moment, and the next one goes on.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int64

from vizsla import advice, logs
from vizsla.engine import Engine
from vizsla.errors import DatabaseAway, Unreachable, VizslaError
from vizsla.models.backbones import load_backbone
from vizsla.models.bundle import Bundle
from vizsla.models.elsewhere import Order
from vizsla.models.embed import vector_store
from vizsla.models.frozen import GRAPH_AT_MOST
from vizsla.models.runtime import cores
from vizsla.project import ANSWERED, CATALOGUE, REQUEST, Project
from vizsla.standing import labels_needed, news, snapshots
from vizsla.store import Model, Pulse
from vizsla.store.overview import TRAINING
from vizsla.store.queue import NEAREST, REVIEW
from vizsla.training import review
from vizsla.training.ahead import Ahead
from vizsla.training.due import Moment, is_due
from vizsla.training.fit import Fitted, accuracy, checks, cold, confusion, find_clusters, fit, forecast, rank
from vizsla.training.pool import Known, Pool, Rows, known
from vizsla.training.provenance import provenance
from vizsla.training.shown import show_head

HEAD = "blend"
GRAPH_OF_PART = 5_000
_CHUNK = 32 * cores()  # images embedded between two looks at the labels
_LOOK_SECONDS = 60.0  # until the catalogue is looked at though no scan said so
_SETTLE_SECONDS = 0.3  # a burst of labels is over when none has come for so long …
_BURST_SECONDS = 2.0  # … or when it has lasted for so long
_STOP_SET = 2000  # images on which successive models are compared
_SAID_SECONDS = 0.5
_AWAY_SECONDS = 30.0  # until a server that did not answer is asked again


class Trainer:
    """Everything that happens behind the person who labels. Call `step` until the cows come home.

    Args: engine: embeds the images; default: this process. Fitting and ranking are done here.
    """

    def __init__(self, project: Project, engine: Engine | None = None) -> None:
        self.project = project
        self.engine = engine
        self.store = project.store
        self.settings = project.settings
        self._judged: tuple[int, ...] | None = None  # what was found to be no reason to train
        self._answered = self.store.setting(ANSWERED)
        self._catalogue: object = None
        self._looked = -math.inf
        self._said: dict[str, Any] = {}
        self._said_at = -math.inf
        self._clusters: tuple[str, Int64[np.ndarray, " n"]] = ("", np.empty(0, np.int64))
        self._failed_at: int | None = (
            None  # the newest answer when something failed; a few more, and it is tried again
        )
        self._again_at = math.inf  # when it is tried again all the same
        self._cold_of = ""  # pool of the order published without a model

    @cached_property
    def pool(self) -> Pool:
        """The images; loading the backbone takes seconds, so not before it is needed."""
        self._say("embedding", done=0, total=0)
        wanted = self.settings
        backbone = load_backbone(wanted.backbone, image_size=wanted.image_size, precision=wanted.precision)
        ahead = None
        if self.engine:
            address = self.project.source.address
            order = Order(address, wanted.backbone, wanted.image_size, wanted.precision, backbone.key)
            ahead = Ahead(self.engine, order)
        return Pool(self.project, backbone, vector_store(backbone), ahead)

    def close(self) -> None:
        """Give up what the engine does for it."""
        if "pool" in vars(self) and self.pool.ahead:
            self.pool.ahead.close()

    def step(self) -> bool:
        """Do the next thing there is to do; false where there was nothing."""
        try:
            return self._step()
        except (KeyboardInterrupt, SystemExit, DatabaseAway):
            raise  # where the database is away nothing can be said; a trainer begins anew when it is back
        except Exception as error:
            self._fail(error)
            return True

    def _step(self) -> bool:
        request, pulse = self.store.setting(REQUEST), self.store.pulse()
        asked = request != self._answered
        if self._failed_at is not None:
            enough = pulse.label_id >= self._failed_at + labels_needed(0) or time.monotonic() > self._again_at
            if not asked and not enough:
                return False
            self._failed_at = None
        self._look()
        if self._is_nearly_embedded():
            self._embed()
            return True
        due = self._is_due(pulse, asked=asked)
        if due:
            self._await_calm()
            self.train()
        if asked and (due or not self.pool.todo):
            self._answer(request)
        if due:
            return True
        if self.pool.todo:
            self._embed()
            return True
        if self._is_cold(pulse):
            self._publish_cold()
            return True
        self._say("idle")
        return False

    def _look(self) -> None:
        """Look at the catalogue again where a scan has changed it."""
        edition = self.store.setting(CATALOGUE)
        if edition == self._catalogue and time.monotonic() < self._looked + _LOOK_SECONDS:
            return
        self.pool.refresh()
        self._catalogue, self._looked = edition, time.monotonic()

    def _is_nearly_embedded(self) -> bool:
        """Whether one piece is left to embed here: a model of the pool without it would be made anew right after."""
        return not self.pool.ahead and 0 < len(self.pool.todo) <= _CHUNK

    def _embed(self) -> None:
        total = len(self.pool) + len(self.pool.todo)
        self._say("embedding", done=len(self.pool), total=total)
        self.pool.go_on(_CHUNK)

    # when

    def _is_due(self, pulse: Pulse, *, asked: bool) -> bool:
        """Whether to train now. What was looked at once is not looked at again."""
        seen = (pulse.label_id, pulse.class_change, self.pool.changes, bool(self.pool.todo))
        if len(self.pool) < 2 or (seen == self._judged and not asked):
            return False
        self._judged = seen
        last, ranking = self.store.model(), self.store.ranking()
        moment = Moment(
            last,
            ranking.model_version if ranking else None,
            news(self.store, last),
            [(one.id, one.name) for one in self.store.classes()],
            self.pool.backbone.key,
            None if self.pool.todo else self.pool.rows().digest,
        )
        return is_due(moment, asked=asked) and len(self._known().used) > 1

    def _answer(self, request: object) -> None:
        """Let whoever asked for a training know that it is done, or that nothing was new."""
        self._answered = request
        self.store.set_setting(ANSWERED, request)

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
        began = time.monotonic()
        try:
            about = {"version": model.version, "head": HEAD}
            about |= provenance(self.project, self.pool.backbone, answers, len(rows.ids))
            fitted = fit(rows, answers, about=about, graph=self._affords_graph(rows))
            self.store.keep_artifact(model.version, fitted.bundle.to_bytes())
            metrics = self._metrics(rows, fitted, answers, before)
            metrics["seconds"] = round(time.monotonic() - began, 3)
            model = self.store.finish_model(model.version, metrics)
            self._publish(model, rows, fitted, answers)
        except BaseException as error:
            self.store.fail_model(model.version, _reason(error))
            raise
        logs.tell("model", version=model.version, labels=model.labels_used, seconds=metrics["seconds"])
        self._review(model, rows, fitted, answers)  # what goes wrong here does not undo the model
        show_head(self.project, model, rows, fitted)
        return model

    def _affords_graph(self, rows: Rows) -> bool:
        """While images are still being embedded a graph lasts for one model only, so it must be quick to make."""
        return len(rows.ids) <= (GRAPH_OF_PART if self.pool.todo else GRAPH_AT_MOST)

    def _model_before(self) -> Bundle | None:
        """The model to compare the new one with; none where it looked at the images through other eyes."""
        last = self.store.model()
        if last is None or last.backbone_key != self.pool.backbone.key:
            return None
        content = self.store.artifact(last.version)
        return Bundle.from_bytes(content) if content else None

    def _metrics(self, rows: Rows, fitted: Fitted, answers: Known, before: Bundle | None) -> dict[str, Any]:
        found = checks(rows, answers)
        measured = accuracy(fitted, found)
        fixed = rows.audit_order[:_STOP_SET]
        now = np.array(fitted.bundle.classes)[fitted.bundle.predict_coordinates(rows.points[fixed]).argmax(1)]
        past = snapshots(self.store.models())
        agreed = None
        if before is not None and advice.comparison_due(past, len(answers.label_of)):
            then = np.array(before.classes)[before.predict(rows.vectors[fixed]).argmax(axis=1)]
            agreed = advice.kappa(then, now)
        return {
            "accuracy": asdict(measured) if measured else None,
            "open_checks": len(found.open),
            "kappa": agreed,
            "predicted_classes": len(np.unique(now)),
            "temperature": fitted.bundle.temperature,
            "forecast": asdict(forecast(rows, fitted)),
            "pool": rows.digest,
            "classes": answers.used,
            "label_id": answers.newest,
        }

    def _publish(self, model: Model, rows: Rows, fitted: Fitted, answers: Known) -> None:
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

    def _review(self, model: Model, rows: Rows, fitted: Fitted, answers: Known) -> None:
        """What is only looked at now and then, so after the ranking, for which people wait."""
        alike = review.near_duplicates(rows, answers)
        found = {"errors": review.label_errors(fitted, rows, answers), "duplicates": alike.pairs}
        self.store.set_setting(NEAREST, alike.nearest)
        self.store.set_setting(REVIEW, {"version": model.version, "label_id": answers.newest, **found})
        self.store.set_setting("confusion", confusion(fitted) | {"version": model.version})

    def _clustered(self, rows: Rows) -> Int64[np.ndarray, " n"]:
        if self._clusters[0] != rows.digest:
            k = min(40, max(8, 2 * len(self.store.classes())))
            self._clusters = rows.digest, find_clusters(rows.points, k)
        return self._clusters[1]

    def _is_cold(self, pulse: Pulse) -> bool:
        """Whether there is no model yet, and images have come since an order was last published."""
        return pulse.model_version == 0 and len(self.pool) > 1 and self._cold_of != self.pool.rows().digest

    def _publish_cold(self) -> None:
        rows = self.pool.rows()
        order = cold(
            rows,
            known(self.project),
            self._clustered(rows),
            strategy=self.settings.strategy,
            audit=self.settings.audit,
        )
        self.store.publish_ranking(None, order)
        self._cold_of = rows.digest

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
        self._again_at = time.monotonic() + _AWAY_SECONDS if isinstance(error, Unreachable) else math.inf
        self._judged, self._said = None, {}
        self._answer(self.store.setting(REQUEST))  # or it would be tried again at once, for ever
        self._say("failed", error=_reason(error))


def _reason(error: BaseException) -> str:
    """What went wrong, in one line, for the page."""
    said = " ".join(str(error).split()) or "no reason given"
    return said if isinstance(error, VizslaError) else f"{type(error).__name__}: {said}"
