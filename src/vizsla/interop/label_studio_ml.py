"""What Label Studio and a machine-learning backend say to each other, as plain values. Nothing here does any I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid5
from xml.etree import ElementTree

from vizsla.errors import BadOption
from vizsla.interop import fields
from vizsla.interop.base import Row
from vizsla.interop.label_studio import answer_row, label_studio_config, task_row
from vizsla.store.classes import tidy

TRAIN = "START_TRAINING"
_ANSWERS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_UPDATED",
    "ANNOTATION_DELETED",
    "ANNOTATIONS_DELETED",
)
ACTIONS = frozenset({*_ANSWERS, "TASKS_CREATED", TRAIN})
"""What a webhook may tell that a backend has an ear for."""

_MARKS = UUID("6c7d0c5e-52b0-5ad1-9b61-6f0a7a1cf3f4")


@dataclass(frozen=True)
class Control:
    """The part of a labelling interface that asks for the class of an image."""

    from_name: str
    to_name: str
    variable: str
    """Key of the image among a task's data."""
    choices: tuple[str, ...]
    """As answers name them; empty where tasks bring their own."""


@lru_cache(maxsize=64)
def control_of(config: str) -> Control:
    """Find the choices that ask for an image's class in a labelling interface.

    Raises: BadOption where there are none, or where several may be ticked.

    >>> control_of(label_studio_config(["cat", "dog"]))
    Control(from_name='choice', to_name='image', variable='image', choices=('cat', 'dog'))
    """
    try:
        if "<!DOCTYPE" in config:  # entities: nothing that Label Studio writes
            raise ElementTree.ParseError("a document type is not allowed")
        view = ElementTree.fromstring(config)
    except ElementTree.ParseError as error:
        raise BadOption(
            f"the labelling interface is no XML: {error}. Save it anew in Label Studio."
        ) from None
    images = {tag.get("name"): tag.get("value", "").lstrip("$") for tag in view.iter("Image")}
    asked = [tag for tag in view.iter("Choices") if tag.get("toName") in images and tag.get("name")]
    single = next((tag for tag in asked if tag.get("choice", "single") != "multiple"), None)
    if single is None:
        why = "lets one tick several classes" if asked else "asks for no class of an image"
        raise BadOption(f"the labelling interface {why}. Vizsla needs, for instance:\n{_EXAMPLE}")
    named = (tag.get("alias") or tag.get("value") for tag in single.iter("Choice"))
    choices = tuple(dict.fromkeys(name for name in named if name and name.strip()))
    to_name = single.get("toName", "")
    return Control(single.get("name", ""), to_name, images[to_name], choices)


_EXAMPLE = label_studio_config(["cat", "dog"])


@dataclass(frozen=True)
class Origin:
    """A project of a Label Studio."""

    project: int
    mark: str
    """Its number and when it was made, which tells it from the projects of another Label Studio."""

    def answer(self, annotation: int) -> UUID:
        """What marks the answers that an annotation gave, one after another."""
        return uuid5(_MARKS, f"{self.mark}/annotation/{annotation}")


def origin_of(project: Any) -> Origin:
    """The project as any request names it: `"1.1795409547"`, or an object with `id` and `created_at`.

    >>> origin_of("1.1795409547") == origin_of({"id": 1, "created_at": "2026-11-23T04:52:27.167274Z"})
    True
    """
    made: Any = None
    if isinstance(project, Mapping):
        at = fields.moment(project.get("created_at"))
        project, made = project.get("id"), at and int(at.timestamp())
    elif isinstance(project, str):
        project, _, made = project.partition(".")
    number, when = fields.whole(project), str(made or "")
    if number is None:
        raise BadOption(f"{project!r} is no project of Label Studio. Send its number.")
    return Origin(number, f"{number}.{when}" if when.isdecimal() and len(when) < 20 else str(number))


@dataclass(frozen=True)
class Event:
    """What a webhook tells."""

    action: str
    origin: Origin
    config: str | None
    tasks: Sequence[Mapping[str, Any]]
    annotations: Sequence[Mapping[str, Any]]

    @property
    def deletes(self) -> bool:
        return self.action.endswith("_DELETED")


def event_of(body: Mapping[str, Any]) -> Event | None:
    """A webhook's body; None for an action that concerns no backend."""
    action, project = body.get("action"), body.get("project")
    if action not in ACTIONS:
        return None
    config = project.get("label_config") if isinstance(project, Mapping) else body.get("label_config")
    return Event(
        action,
        origin_of(project),
        config if isinstance(config, str) else None,
        objects(body.get("tasks")) + objects(body.get("task")),
        objects(body.get("annotation")) + objects(body.get("annotations")),
    )


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The JSON objects of a list, or the one that there is."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def number_of(thing: Any) -> int | None:
    """The id of a task or annotation, or of what refers to it by number or as an object."""
    return fields.whole(thing.get("id") if isinstance(thing, Mapping) else thing)


def image_row(task: Mapping[str, Any], control: Control) -> Row:
    """What a task says of its image: names and hash."""
    data = task.get("data")
    whole = {**task, "data": data if isinstance(data, dict) else {}}
    return task_row(whole, f"task {task.get('id', '?')}", control.variable)


def address_of(task: Mapping[str, Any], control: Control) -> str | None:
    """Where the task's image is to be fetched."""
    data = task.get("data")
    return fields.text(data.get(control.variable)) if isinstance(data, dict) else None


@dataclass(frozen=True)
class Said:
    """What an annotation says now."""

    status: str
    """`labelled`, `skipped`; empty where it says nothing of the class."""
    label: str | None
    annotator: str
    at: datetime | None
    lead_ms: int | None
    from_suggestion: bool
    """Whether it began as a copy of a prediction."""


def said(annotation: Mapping[str, Any], control: Control) -> Said:
    """Read an annotation. One with several classes says nothing that can be learned from.

    >>> said({"result": [{"from_name": "choice", "value": {"choices": ["cat"]}}], "completed_by": 3},
    ...      control_of(label_studio_config(["cat"]))).label
    'cat'
    """
    about_class = [
        one for one in objects(annotation.get("result")) if one.get("from_name") == control.from_name
    ]
    try:
        row = answer_row(Row(""), {**annotation, "result": about_class})
    except fields.SeveralClasses:
        row = Row("")
    status = row.status or ("labelled" if row.label and row.label.strip() else "")
    who = row.annotator or "?"
    return Said(
        status,
        row.label if status == "labelled" else None,
        who if "@" in who else f"Label Studio {who}",
        fields.moment(annotation.get("updated_at")) or row.labelled_at,
        row.lead_ms,
        annotation.get("parent_prediction") is not None,
    )


def prediction(
    control: Control,
    suggestion: Sequence[tuple[str, float]] | None,
    score: float | None,
    version: str,
    key: str,
) -> dict[str, Any]:
    """A prediction as Label Studio takes it: the likeliest class that its interface offers, or none.

    Args: suggestion: class names and probabilities, likeliest first.
          score: 0 = label first … 1 = label last, for Label Studio sorts by rising score.
    """
    offered = {tidy(name): name for name in control.choices}
    known = [
        (offered.get(name, name), prob) for name, prob in suggestion or () if name in offered or not offered
    ]
    result = [_choice(control, *known[0], key)] if known else []
    return {"result": result, "score": score, "model_version": version}


def _choice(control: Control, name: str, prob: float, key: str) -> dict[str, Any]:
    return {
        "id": key,
        "from_name": control.from_name,
        "to_name": control.to_name,
        "type": "choices",
        "value": {"choices": [name]},
        "score": prob,
    }
