"""What goes into the store and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

State = Literal["present", "missing", "unreadable"]
Status = Literal["unlabelled", "labelled", "skipped", "flagged"]
Source = Literal["al", "random", "audit", "relabel", "bulk", "import"]
Suggestion = tuple[tuple[int, float], ...]
"""Class ids with their probabilities, likeliest first."""


@dataclass(frozen=True)
class ImageFile:
    """A file as a folder scan sees it, unopened."""

    path: str
    """Relative to the image folder, with forward slashes."""
    size: int
    """Bytes."""
    mtime_ns: int
    ctime_ns: int | None = None
    """Last change of name, content or rights; 0 where the source has no such time, None where nobody looked."""


@dataclass(frozen=True)
class Image:
    """One content in the catalogue, and the answer that stands for it."""

    id: int
    path: str | None
    """Where it lies, or lay last; None once a file of other content lies there."""
    sha256: str | None
    """None until the first decode."""
    size: int
    mtime_ns: int
    state: State
    problem: str | None
    """Why it is unreadable."""
    status: Status
    label: str | None
    """Class name as it is now, after renames and merges."""
    shuffle: int
    """Its place in a random order that is fixed once and for all."""
    ctime_ns: int | None = None
    """As `ImageFile.ctime_ns`; None until the first scan that looks at it."""


@dataclass(frozen=True)
class Rescanned:
    """What a rescan found."""

    added: int
    renamed: int
    changed: int
    """Paths whose content is another one now: each is a new image."""
    missing: int
    returned: int
    dropped: int = 0
    """Answers that count no more: their file holds another content now, or may, for it was never read."""

    @property
    def warning(self) -> str:
        """What people should know; empty where no answer was lost."""
        if not self.dropped:
            return ""
        answers, files = (
            ("answer counts", "its file holds")
            if self.dropped == 1
            else ("answers count", "their files hold")
        )
        return (
            f"{self.dropped:,} {answers} no more, for {files} another picture now, or was touched before anyone read "
            "it. If the picture turns up again, so does its answer."
        )


@dataclass(frozen=True)
class ImageClass:
    id: int
    name: str
    position: int
    """Its key on the page, from 0; never changes and is never given again."""


@dataclass(frozen=True)
class ClassChange:
    class_id: int
    change: Literal["added", "renamed", "merged"]
    name: str
    at: datetime


@dataclass(frozen=True)
class Annotator:
    id: int
    name: str
    created_at: datetime


@dataclass(frozen=True)
class Item:
    """An image leased to an annotator."""

    image_id: int
    path: str
    lease_id: str
    expires_at: datetime
    source: Source
    """How it was chosen; `audit` and `relabel` items must be shown without a suggestion."""
    reason: str
    model_version: int | None
    suggestion: tuple[tuple[str, float], ...] | None
    """Class names and probabilities, likeliest first; None where nobody may see one."""


@dataclass(frozen=True)
class Upcoming:
    """An image that will be asked for soon."""

    image_id: int
    path: str
    reason: str


@dataclass(frozen=True)
class Answer:
    """What an annotator says of one image."""

    image_id: int
    label: str | None = None
    """Class name, where the status is `labelled`. An old name of a renamed or merged class is understood."""
    status: Literal["labelled", "skipped", "flagged"] = "labelled"
    key: UUID = field(default_factory=uuid4)
    """The same key again is the same answer: nothing new is written. Another answer with it is refused."""
    lease_id: str | None = None
    source: Source | None = None
    """None: as the lease says, else `al` (in a batch `bulk`)."""
    round: int | None = None
    """None: the version of the model that ranks now, 0 before the first."""
    model_version: int | None = None
    suggestion_shown: bool | None = None
    lead_ms: int | None = None
    """Milliseconds between question and answer."""


@dataclass(frozen=True)
class Imported:
    """An answer that was given elsewhere."""

    annotator: str
    """By name; made if there is none."""
    answer: Answer
    """Its class is added if there is none; its source is `import` where it names none."""
    created_at: datetime | None = None
    """None: now."""
    suggestion: tuple[tuple[str, float], ...] = ()
    """Class names with their probabilities, likeliest first; classes that the project lacks are left out."""
    batch: UUID | None = None
    """Marks the answers that `Store.withdraw` takes back together."""


@dataclass(frozen=True)
class TakenIn:
    """What an import wrote."""

    new: int
    """Answers written."""
    known: tuple[UUID, ...]
    """Keys that were there already."""
    classes: tuple[str, ...]
    """Names of the classes that were added."""
    older: tuple[UUID, ...] = ()
    """Keys of the answers passed over, for what stands was given later."""
    replacing: tuple[UUID, ...] = ()
    """Keys of the answers without a time that took the place of another answer."""
    counts: dict[str, int] = field(default_factory=dict, compare=False)
    """Class name → answers written."""
    others: dict[str, int] = field(default_factory=dict, compare=False)
    """Skipped and flagged → answers written."""


@dataclass(frozen=True)
class Saved:
    """The acknowledgement of an answer, the same however often it is asked for."""

    label_id: int
    saved: int
    """Images with an answer once this one was written."""
    new: bool = field(compare=False)
    """False where the key was known."""


@dataclass(frozen=True)
class Label:
    """A row of the append-only table of labels."""

    id: int
    image_id: int
    path: str | None
    status: Literal["labelled", "skipped", "flagged", "undone"]
    class_id: int | None
    """As answered: renames and merges do not touch it."""
    label: str | None
    """Class name as it is now, after renames and merges."""
    annotator: str
    round: int
    source: Source
    model_version: int | None
    suggestion: Suggestion | None
    suggestion_shown: bool | None
    lead_ms: int | None
    key: UUID
    undoes: int | None
    """Id of the label that this row takes back."""
    created_at: datetime


@dataclass(frozen=True)
class Change:
    """What an undo took back or a redo gave again."""

    labels: tuple[Label, ...]
    """The answers concerned, oldest first; none where there was nothing to do."""
    saved: int
    """Images with an answer now."""


@dataclass(frozen=True)
class Counts:
    """Images that are there, by their standing answer. The four parts add up to the total."""

    total: int
    unlabelled: int
    labelled: int
    skipped: int
    flagged: int
    """With the unreadable ones that nobody has answered."""
    classes: dict[str, int]
    """Labelled images per class name, in the classes' order."""


@dataclass(frozen=True)
class Ranked:
    """One image of a ranking; its rank is its place in the sequence."""

    image_id: int
    score: float
    """Higher = label sooner."""
    reason: str
    audit: bool = False
    """Drawn at random to measure accuracy: shown without a suggestion."""
    suggestion: Suggestion | None = None
    """None where nobody may see one."""
    cluster: int | None = None
    """Which group of look-alikes it belongs to."""


@dataclass(frozen=True)
class Tile:
    """An image in an overview, with what the model thinks of it."""

    image_id: int
    path: str
    status: Status
    label: str | None
    suggestion: tuple[str, float] | None
    label_id: int | None
    """The answer that stands."""
    cursor: str
    """Where the page after this tile begins."""


@dataclass(frozen=True)
class Group:
    """A part of the overview: a predicted class, a cluster or a status."""

    name: str
    count: int


@dataclass(frozen=True)
class Disagreement:
    """An image that annotators answered differently."""

    image_id: int
    path: str
    label: str | None
    """What stands."""
    answers: tuple[tuple[str, str], ...]
    """Annotator and class name, oldest first."""


@dataclass(frozen=True)
class Pulse:
    """What changes while people label and a trainer trains; two that are equal need no closer look."""

    label_id: int
    """The newest row of the table of labels."""
    edition: int
    """The ranking that claims follow; 0 before the first."""
    model_version: int
    """The newest model that is ready; 0 before the first."""
    models: int
    """The newest model of any state."""
    class_change: int
    """The newest change of classes."""
    training: Any
    """What the trainer says it does."""


@dataclass(frozen=True)
class Published:
    """The ranking that claims follow."""

    edition: int
    """Rises with every publication."""
    model_version: int | None
    published_at: datetime


@dataclass(frozen=True)
class Model:
    """A trained, failed or still training model, and where it came from."""

    version: int
    labels_used: int
    head: str
    backbone_key: str
    metrics: dict[str, Any]
    state: Literal["training", "ready", "failed"]
    error: str | None
    created_at: datetime


@dataclass(frozen=True)
class Task:
    """A task of another labelling tool."""

    image_id: int
    shown: bool
    """Whether a suggestion was handed out for it."""


@dataclass(frozen=True)
class Place:
    """Where an unanswered image stands in a ranking."""

    rank: int
    """0 = label first."""
    suggestion: tuple[tuple[str, float], ...] | None
    """Class names and probabilities, likeliest first; None where nobody may see one."""


@dataclass(frozen=True)
class Places:
    """Some images in the ranking that claims follow."""

    model_version: int | None
    """None while no model ranks."""
    size: int
    """Images in the whole ranking."""
    of: dict[int, Place]
    """By image id; those that are answered or not in the ranking are left out."""
