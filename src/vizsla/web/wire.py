"""What goes over the wire, both ways. Requests are strict: `false` is no number."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from vizsla.data.names import printable

_INT32 = 2**31 - 1
INT64 = 2**63 - 1


def _encodable(text: str) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in text) or "\0" in text:
        raise ValueError("holds a character that is none")
    return text


def _whole(value: object) -> object:
    if isinstance(value, (bool, str, bytes)):
        raise ValueError("is no whole number")
    return value


def readable(file_name: str | None) -> str:
    """A file name, or other text from outside, that every JSON reader takes: see `vizsla.data.names`."""
    return printable(file_name or "")


Text = Annotated[str, Field(max_length=500), AfterValidator(_encodable)]
Name = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_encodable)]
_WHOLE = BeforeValidator(_whole)  # after the bounds, or the description would lack them
Status = Literal["labelled", "skipped", "flagged"]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """Any error: what is wrong, and how to mend it."""

    detail: str


# requests


class QueueIn(_In):
    n: Annotated[int, Field(ge=1, le=100), _WHOLE] = 5
    keep: Annotated[list[Text], Field(max_length=100)] | None = None
    """Leases to hold on to while all others are given back."""
    source: Literal["relabel"] | None = None
    """`relabel`: labelled images whose label the model doubts, to be answered once more; default: new ones."""


class AnswerIn(_In):
    item_id: Annotated[int, Field(ge=1, le=INT64), _WHOLE]
    label: Text | None = None
    status: Status = "labelled"
    key: UUID
    lease_id: Text | None = None
    model_version: Annotated[int, Field(ge=0, le=_INT32), _WHOLE] | None = None
    suggestion_shown: StrictBool | None = None
    lead_ms: Annotated[int, Field(ge=0, le=INT64), _WHOLE] | None = None


class KeyIn(_In):
    key: UUID | None = None


class NewClass(_In):
    name: Name


class ChangedClass(_In):
    """Either a new name, or the class to count it as from now on."""

    name: Name | None = None
    merge_into: Name | None = None


# answers


class ClassOut(BaseModel):
    name: str
    labelled: int
    position: int


class Counts(BaseModel):
    total: int
    unlabelled: int
    labelled: int
    skipped: int
    flagged: int


class ModelOut(BaseModel):
    version: int
    labels: int


class AccuracyOut(BaseModel):
    value: float
    low: float
    high: float
    checks: int


class ChecksOut(BaseModel):
    done: int
    needed: int


class Training(BaseModel):
    state: Literal["scanning", "embedding", "waiting", "idle", "training", "failed"]
    text: str
    labels_to_next: int
    done: int | None = None
    total: int | None = None
    error: str | None = None


class Advice(BaseModel):
    text: str
    stop: bool


class SavedNews(BaseModel):
    """What the event `saved` tells."""

    saved: int
    counts: Counts
    classes: list[ClassOut]
    advice: Advice | None
    suspects: int


class ProjectOut(BaseModel):
    id: str
    """What no other project has, whatever their names."""
    name: str
    version: str
    classes: list[ClassOut]
    counts: Counts
    model: ModelOut | None
    accuracy: AccuracyOut | None
    checks: ChecksOut
    training: Training
    advice: Advice | None
    suspects: int
    """Labelled images that are worth asking again."""
    notice: str | None
    guidelines: str
    annotator: str
    read_only: bool
    strategy: str


class Suggested(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    class_: Annotated[str, Field(alias="class")]
    prob: float


class ItemOut(BaseModel):
    item_id: int
    lease_id: str
    image_url: str
    file_name: str
    reason: str
    audit: bool
    model_version: int | None
    suggestion: list[Suggested] | None


class Items(BaseModel):
    items: list[ItemOut]


class SavedOut(BaseModel):
    label_id: int
    saved: int


class LabelOut(BaseModel):
    label_id: int
    item_id: int
    file_name: str
    label: str | None
    status: Literal["labelled", "skipped", "flagged", "undone"]
    annotator: str
    round: int
    source: str
    created_at: datetime
    thumb_url: str


class Labels(BaseModel):
    items: list[LabelOut]
    next: str | None


class ChangeOut(BaseModel):
    labels: list[LabelOut]
    saved: int


class Classes(BaseModel):
    items: list[ClassOut]
    next: None = None


class Point(BaseModel):
    version: int
    labels: int
    accuracy: float | None
    low: float | None
    high: float | None
    checks: int
    created_at: datetime


class Confusion(BaseModel):
    classes: list[str]
    counts: list[list[int]]


class Recall(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    class_: Annotated[str, Field(alias="class")]
    recall: float | None
    labels: int


class Rule(BaseModel):
    rule: str
    met: bool
    text: str


class Curve(BaseModel):
    items: list[Point]
    next: None = None
    confusion: Confusion | None
    recall: list[Recall]
    stop: list[Rule]


class Other(BaseModel):
    item_id: int
    label: str | None
    thumb_url: str


class Finding(BaseModel):
    item_id: int
    file_name: str
    thumb_url: str
    image_url: str
    label: str | None
    suggestion: Suggested | None
    score: float
    kind: Literal["errors", "duplicates", "disagreements"]
    other: Other | None
    text: str


class Findings(BaseModel):
    items: list[Finding]
    next: str | None


class TileOut(BaseModel):
    item_id: int
    file_name: str
    thumb_url: str
    image_url: str
    suggestion: Suggested | None
    label: str | None
    status: str


class GroupOut(BaseModel):
    name: str
    count: int


class Tiles(BaseModel):
    items: list[TileOut]
    next: str | None
    groups: list[GroupOut]


class State(BaseModel):
    state: str


class Health(BaseModel):
    status: Literal["ok"] = "ok"
    version: str
