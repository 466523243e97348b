"""From a foreign file into a project: all that can be read, in one transaction, and a report of the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TypeVar, get_args
from uuid import UUID, uuid5

from vizsla.errors import BadOption
from vizsla.interop import tables
from vizsla.interop.base import Importer, Note, Row, Unreadable, importers
from vizsla.interop.matching import Catalogue
from vizsla.interop.outgoing import standing
from vizsla.store import Answer, Imported, Store
from vizsla.store.classes import tidy
from vizsla.store.records import Source
from vizsla.types import Progress

NO_LABEL = "has no label"
KNOWN = "is in the project already"
_STATUSES = {"labelled": "labelled", "labeled": "labelled", "skipped": "skipped", "flagged": "flagged"}
_KEYS = UUID("8f6cf0f5-54a7-5d0e-9c0e-2a1d5c0b7e11")
_EXAMPLES = 3
_STEP = 1000  # rows between two calls of `reading`

T = TypeVar("T")


@dataclass
class Reason:
    """How many rows were passed over for one reason, and where the first of them are."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        self.count += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(example)


@dataclass(frozen=True)
class Report:
    """What an import did."""

    taken: int
    """Answers written."""
    skipped: int
    """Rows passed over, for the reasons below."""
    new_classes: tuple[str, ...]
    reasons: dict[str, Reason]
    notes: tuple[str, ...] = ()
    """What looks odd in what was taken."""

    def __str__(self) -> str:
        added = f"; new classes: {_some(self.new_classes)}" if self.new_classes else ""
        lines = [f"{self.taken} labels imported, {self.skipped} rows passed over{added}"]
        for reason, about in self.reasons.items():
            more = ", …" if about.count > len(about.examples) else ""
            lines.append(f"  {about.count} × {reason}: {', '.join(about.examples)}{more}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def _some(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def import_labels(
    store: Store,
    format: str,
    path: str | Path,
    *,
    annotator: str = "import",
    columns: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    reading: Callable[[int], None] | None = None,
    splits: bool = True,
) -> Report:
    """Take in the labels of a file or folder; of one image the latest stands, before all that stood so far.

    The same answer a second time, also one that stands in the project already, is passed over.

    Args:    annotator: who gave the answers that name nobody.
             columns: our column → what it is called in the file, where its name does not tell.
             progress: called with (done, total) while they are written; all of it is one transaction.
             reading: called with the number of rows so far, while they are read.
             splits: of class folders: those called train, test and the like are no classes, where all are called so.
    Raises:  UserError where the file is not of that format; then, and after any failure, nothing has changed.
    """
    read = _reader(store, format, splits=splits)
    if not annotator.strip() or "\0" in annotator:
        raise BadOption(f"{annotator!r} is no name for an annotator. Give it at least one visible letter.")
    gathered = _Gathered(Catalogue(store), annotator)
    gathered.take(_counted(_rows(read, Path(path), columns or {}), reading))
    rows = gathered.without(_standing_keys(store) if gathered.found else set())
    done = store.import_labels(rows, progress)
    for key in done.known:  # imported before, and overruled since
        gathered.pass_over(KNOWN, gathered.path(key))
    skipped = sum(reason.count for reason in gathered.reasons.values())
    alike = [
        f"the classes {_some(names)} differ only in capitals; merge them if they are one"
        for names in _twins(one.name for one in store.classes())
        if not set(done.classes).isdisjoint(names)
    ]
    alike += tables.several_classes(done.classes, [one.name for one in store.classes()])
    return Report(done.new, skipped, done.classes, gathered.reasons, tuple(alike + gathered.notes()))


def _reader(store: Store, format: str, *, splits: bool) -> Importer:
    """The importer, told what it wants to know."""
    read = importers[format]
    told = {"splits": splits, "known": {change.name for change in store.class_history()}}
    return partial(
        read, **{name: value for name, value in told.items() if name in signature(read).parameters}
    )


def _rows(read: Importer, path: Path, columns: Mapping[str, str]) -> Iterable[Row | Unreadable | Note]:
    tables.check_columns(read, columns)
    return read(path, columns=columns) if columns else read(path)


def _counted(rows: Iterable[T], reading: Callable[[int], None] | None) -> Iterator[T]:
    for number, row in enumerate(rows, 1):
        yield row
        if reading and not number % _STEP:
            reading(number)


def _twins(names: Iterable[str]) -> list[list[str]]:
    """Names that are the same where capitals do not count."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.casefold(), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


class _Gathered:
    """The answers of a file, and why its other rows are none."""

    def __init__(self, catalogue: Catalogue, annotator: str) -> None:
        self.found: dict[UUID, Imported] = {}
        self.reasons: dict[str, Reason] = {}
        self._catalogue = catalogue
        self._annotator = annotator
        self._of_image: dict[int, list[UUID]] = {}
        self._overruled = Reason()
        self._notes: list[str] = []

    def pass_over(self, reason: str, example: str) -> None:
        self.reasons.setdefault(reason, Reason()).add(example)

    def take(self, rows: Iterable[Row | Unreadable | Note]) -> None:
        for row in rows:
            if isinstance(row, Note):
                self._notes.append(row.text)
            elif isinstance(row, Unreadable):
                self.pass_over(row.reason, row.where)
            elif problem := self._take(row):
                self.pass_over(problem, _example(row))

    def _take(self, row: Row) -> str | None:
        """Gather the row's answer, or say why it has none."""
        status = _STATUSES.get(row.status or "labelled")
        if row.status not in _STATUSES and row.status not in ("", "undone", "unlabelled", "unlabeled"):
            return "has a status that is none of labelled, skipped, flagged"
        if row.status != "undone" and (
            status is None or (status == "labelled" and not (row.label or "").strip())
        ):
            return NO_LABEL
        if "\0" in (row.label or "") + (row.annotator or ""):
            return "has a NUL character in a name"
        image_id = self._catalogue.find(row)
        if isinstance(image_id, str):
            return image_id
        if status is None:  # undone: it takes back what earlier rows said
            for key in self._of_image.pop(image_id, []):
                del self.found[key]
            return None
        one = self._imported(row, image_id, status)
        if one.answer.key in self.found:
            return "is in the file twice"
        self.found[one.answer.key] = one
        earlier = self._of_image.setdefault(image_id, [])
        if earlier and _contradict(self.found[earlier[-1]], one):
            self._overruled.add(self.path(one.answer.key))
        earlier.append(one.answer.key)
        return None

    def notes(self) -> list[str]:
        """What was odd, and images of which the file says two things without saying which is newer."""
        about = self._overruled
        more = ", …" if about.count > len(about.examples) else ""
        told = f"{about.count} × named twice with different labels, the last of which stands: "
        return [*self._notes, *([told + ", ".join(about.examples) + more] if about.count else [])]

    def _imported(self, row: Row, image_id: int, status: str) -> Imported:
        label = tidy(row.label or "") if status == "labelled" else None
        who = row.annotator if row.annotator and row.annotator.strip() else self._annotator
        answer = Answer(
            image_id,
            label,
            status,  # type: ignore[arg-type]
            key=_key(image_id, status, label, who, row.labelled_at),
            source=row.source if row.source in get_args(Source) else "import",  # type: ignore[arg-type]
            round=row.round,
            model_version=row.model_version,
            suggestion_shown=row.suggestion_shown,
            lead_ms=row.lead_ms,
        )
        hint = ((row.suggestion.strip(), row.suggestion_prob or 0.0),) if row.suggestion else ()
        return Imported(who, answer, row.labelled_at, hint)

    def without(self, known: set[UUID]) -> list[Imported]:
        """The answers that are new, oldest first; those without a time are given now, in the file's order."""
        for key in self.found:
            if key in known:
                self.pass_over(KNOWN, self.path(key))
        end = datetime.max.replace(tzinfo=UTC)
        fresh = [one for key, one in self.found.items() if key not in known]
        return sorted(fresh, key=lambda one: one.created_at or end)

    def path(self, key: UUID) -> str:
        """The path of the image that the answer is about."""
        return self._catalogue.images[self.found[key].answer.image_id].path or ""


def _contradict(one: Imported, other: Imported) -> bool:
    """Whether two answers of an image differ, and nothing says which is newer."""
    told = (one.answer.status, one.answer.label) != (other.answer.status, other.answer.label)
    return told and one.created_at is None and other.created_at is None


def _example(row: Row) -> str:
    name = row.file_name or row.sha256 or "?"
    return f"{name} ({row.where})" if row.where else name


def _key(image_id: int, status: str, label: str | None, who: str, when: datetime | None) -> UUID:
    """The same for the same answer, so that importing a file twice adds nothing."""
    told = [image_id, status, label, who, when.astimezone(UTC).isoformat() if when else None]
    return uuid5(_KEYS, json.dumps(told))


def _standing_keys(store: Store) -> set[UUID]:
    """The keys that what stands now would have as an import, and those that it has."""
    keys: set[UUID] = set()
    for label, _ in standing(store):
        keys |= {
            label.key,
            _key(label.image_id, label.status, label.label, label.annotator, label.created_at),
        }
    return keys
