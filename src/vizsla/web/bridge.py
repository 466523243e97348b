"""`Bridge`: between the projects of a Label Studio and ours.

What Label Studio tells is dealt with at once where that takes no time, so that a label is on disk before it is
acknowledged. The rest waits its turn in one queue: fetching images, and asking Label Studio for all that it has,
which makes good what went by while nobody listened.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from vizsla.errors import BadOption, NoImages
from vizsla.interop import label_studio_ml as wire
from vizsla.interop.label_studio_host import Host
from vizsla.interop.label_studio_ml import Control, Event, Origin, Said
from vizsla.project import Project
from vizsla.store import Answer, Imported, Places
from vizsla.store import Task as Linked
from vizsla.web.errands import Errands
from vizsla.web.tasks import Task, Tasks

_log = logging.getLogger("vizsla")

_OFTEN_SECONDS = 60.0  # between two looks at everything: it may ask for a training with every annotation


class Bridge:
    """One per server. Close it; what still waits then is found again at the next start."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.store = project.store
        self.tasks = Tasks(project)
        self._controls: dict[str, Control] = {}
        self._hosts: dict[str, Host] = {}
        self._caught_up: dict[str, float] = {}
        self._scanned = -math.inf
        self._errands = Errands("Label Studio")
        self._later(self._scan)  # before all else, or images would be fetched that lie in the folder

    def close(self) -> None:
        self._errands.close()

    @property
    def idle(self) -> bool:
        """Whether all that was told has been taken in, and every image fetched."""
        return self._errands.idle

    # what Label Studio asks

    def setup(self, project: Any, config: str, hostname: str, token: str) -> str:
        """Get to know a project of Label Studio; returns the name of the newest predictions.

        Called very often; only the first call, or one with another token, has all tasks fetched that there are by
        now. Raises BadOption for an interface that asks for no class.
        """
        origin, host = wire.origin_of(project), Host(hostname.rstrip("/"), token)
        self._know(origin, config)
        if self._hosts.get(origin.mark) != host:
            self._hosts[origin.mark] = host
            self._caught_up.pop(origin.mark, None)
            self._later(self._catch_up, origin)
        return self.version()

    def version(self) -> str:
        """What the newest predictions are called."""
        ranking = self.store.ranking()
        return version_name(ranking.model_version if ranking else None)

    def _know(self, origin: Origin, config: str) -> Control:
        control = wire.control_of(config)
        if self._controls.get(origin.mark) != control:
            self.project.add_classes(control.choices)
            self._controls[origin.mark] = control
        return control

    def _known(self, origin: Origin) -> Control:
        if origin.mark not in self._controls:
            raise BadOption(
                f"the labelling interface of project {origin.mark} is not known yet. Send it along."
            )
        return self._controls[origin.mark]

    def predict(self, project: Any, config: str | None, tasks: Sequence[Task]) -> list[dict[str, Any]]:
        """A prediction for each task, in order. Images that are new are fetched meanwhile, for the next time."""
        origin = wire.origin_of(project)
        control = self._known(origin) if config is None else self._know(origin, config)
        image_of = self.tasks.match(origin, control, tasks)
        if None in image_of:
            self._later(self._meet, origin, tasks)
        places = self.store.places({image for image in image_of if image is not None})
        found = [
            prediction(control, task, image, places) for task, image in zip(tasks, image_of, strict=True)
        ]
        self._note_shown(origin, tasks, found)
        return found

    def _note_shown(self, origin: Origin, tasks: Sequence[Task], found: Sequence[Mapping[str, Any]]) -> None:
        """Remember who may have seen a suggestion: such labels measure no accuracy."""
        numbers = [wire.number_of(task) for task, one in zip(tasks, found, strict=True) if one["result"]]
        known = self.store.tasks(origin.mark, {number for number in numbers if number is not None})
        if fresh := {number for number, task in known.items() if not task.shown}:
            self.store.show_tasks(origin.mark, fresh)

    # what Label Studio tells

    def take(self, event: Event) -> None:
        """Take account of an event: on disk when this returns, where that is quick."""
        if event.config:
            self._know(event.origin, event.config)
        if event.action == wire.TRAIN:
            self.train(event.origin)
        elif event.deletes:
            self._soon(self._withdraw, event)
        elif event.annotations:
            self._soon(self._take, event)
        else:
            self._later(self._meet, event.origin, event.tasks)

    def train(self, origin: Origin, config: str | None = None, tasks: Sequence[Task] = ()) -> None:
        """Have a model trained on all that Label Studio knows, and on tasks that it sends along."""
        if config:
            self._know(origin, config)
        self._later(self._scan)
        self._later(self._take_tasks, origin, tasks)
        self._later(self._catch_up, origin)
        self._later(self.project.ask_for_training)

    def _take(self, event: Event, *, anyhow: bool = False) -> bool:
        """Write what annotations say. False, and nothing is written, where an image is not here yet.

        Args:   anyhow: write the others then.
        Raises: BadOption where nothing is known of the interface.
        """
        origin, control = event.origin, self._known(event.origin)
        self.tasks.match(origin, control, event.tasks)
        known = self.store.tasks(origin.mark, _numbers(one.get("task") for one in event.annotations))
        here = [one for one in event.annotations if wire.number_of(one.get("task")) in known]
        lost = len(event.annotations) - len(here)
        if lost and not anyhow:
            return False
        if lost:
            _log.warning("Label Studio told of %d annotations whose images are unknown here.", lost)
        self._write(origin, [(one, wire.said(one, control)) for one in here], known)
        return True

    def _write(
        self, origin: Origin, answers: Sequence[tuple[Task, Said]], known: Mapping[int, Linked]
    ) -> None:
        rows, void = list[Imported](), list[UUID]()
        for annotation, said in answers:
            number, task = wire.number_of(annotation), wire.number_of(annotation.get("task"))
            if number is None or task is None:
                continue
            if said.status:
                rows.append(imported(said, known[task], origin.answer(number)))
            else:
                void.append(origin.answer(number))
        new = self.store.take_answers(rows).new if rows else 0
        new += self.store.withdraw(void) if void else 0
        if new:
            self.project.note_contents({row.answer.image_id for row in rows})
            self.project.ask_for_training()

    def _withdraw(self, event: Event, *, anyhow: bool = False) -> bool:
        if self.store.withdraw(event.origin.answer(number) for number in _numbers(event.annotations)):
            self.project.ask_for_training()
        return True

    # what takes its time

    def _soon(self, work: Callable[..., bool], event: Event) -> None:
        """Do it at once, unless something told before still waits, or it turns out to take its time."""
        if not self._errands.now(partial(work, event)):
            self._later(self._in_full, work, event)

    def _later(self, work: Callable[..., object], *arguments: object) -> None:
        self._errands.later(partial(work, *arguments))

    def _in_full(self, work: Callable[..., bool], event: Event) -> None:
        self._meet(event.origin, event.tasks)
        work(event, anyhow=True)

    def _meet(self, origin: Origin, tasks: Sequence[Task]) -> None:
        if control := self._controls.get(origin.mark):
            self.tasks.meet(origin, control, self._hosts.get(origin.mark), tasks)

    def _scan(self) -> None:
        """Look at the folder, which may be empty where Label Studio has the images."""
        if time.monotonic() < self._scanned + _OFTEN_SECONDS:
            return
        self._scanned = time.monotonic()
        try:
            self.project.scan()
        except NoImages:
            if self.store.images(limit=1):
                raise

    def _catch_up(self, origin: Origin) -> None:
        """Take in all tasks that Label Studio has. Raises Unreachable."""
        host, last = self._hosts.get(origin.mark), self._caught_up.get(origin.mark, -math.inf)
        if host is None or time.monotonic() < last + _OFTEN_SECONDS:
            return
        for page in host.tasks(origin.project):
            if self._errands.closed:
                return
            self._take_tasks(origin, page)
        self._caught_up[origin.mark] = time.monotonic()

    def _take_tasks(self, origin: Origin, tasks: Sequence[Task]) -> None:
        self._meet(origin, tasks)
        annotations = [
            {**one, "task": task.get("id")} for task in tasks for one in wire.objects(task.get("annotations"))
        ]
        if annotations:
            self._take(Event("ANNOTATIONS_CREATED", origin, None, tasks, annotations), anyhow=True)


def version_name(model_version: int | None) -> str:
    """What Label Studio calls our predictions; `vizsla-0` while there is no model."""
    return f"vizsla-{model_version or 0}"


def prediction(control: Control, task: Task, image: int | None, places: Places) -> dict[str, Any]:
    """What is said of one task.

    The score is the image's place in our order, 0 for the most useful, because Label Studio's sampling takes low
    scores first; 1 for what has an answer. There is none for an image that is not here.
    """
    place = places.of.get(image or 0)
    score = None if image is None else 1.0 if place is None else round(place.rank / places.size, 6)
    suggestion = place.suggestion if place else None
    key = f"vizsla-{task.get('id', 'task')}"
    return wire.prediction(control, suggestion, score, version_name(places.model_version), key)


def imported(said: Said, task: Linked, mark: UUID) -> Imported:
    """An annotation as the store takes it."""
    shown = task.shown or said.from_suggestion
    answer = Answer(
        task.image_id,
        said.label,
        said.status,  # type: ignore[arg-type]
        source="import",
        suggestion_shown=shown,
        lead_ms=said.lead_ms,
    )
    return Imported(said.annotator, answer, said.at, batch=mark)


def _numbers(things: Any) -> set[int]:
    return {number for thing in things if (number := wire.number_of(thing)) is not None}
