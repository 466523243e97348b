"""From a foreign file into a project: all that can be read, in one transaction, and a report of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from typing import TypeVar, get_args
from uuid import UUID

from vizsla.errors import BadOption
from vizsla.interop import tables
from vizsla.interop.base import Importer, Note, Row, Unreadable, importers
from vizsla.interop.matching import DISPUTED, SEVERAL, Catalogue, Match, together
from vizsla.interop.outgoing import pages, standing
from vizsla.store import Answer, Image, ImageFile, Imported, Store, TakenIn
from vizsla.store.classes import tidy
from vizsla.store.imports import key_of
from vizsla.store.records import Source
from vizsla.types import Progress

NO_LABEL = "has no label"
KNOWN = "is in the project already"
OLDER = "an answer that was given later stands"
_STATUSES = {"labelled": "labelled", "labeled": "labelled", "skipped": "skipped", "flagged": "flagged"}
_UNDONE = "undone"
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

    def __str__(self) -> str:
        return ", ".join(self.examples) + ", …" * (self.count > len(self.examples))


@dataclass(frozen=True)
class Report:
    """What an import did, or would do."""

    taken: int
    """Answers written."""
    skipped: int
    """Rows passed over, for the reasons below."""
    new_classes: tuple[str, ...]
    reasons: dict[str, Reason]
    notes: tuple[str, ...] = ()
    """What looks odd in what was taken."""
    counts: dict[str, int] = field(default_factory=dict)
    """Class name → answers written; the most frequent first."""
    others: dict[str, int] = field(default_factory=dict)
    """`skipped` and `flagged` → answers written."""
    dry_run: bool = False
    """Whether nothing was written, and the rest says what would have been."""

    def __str__(self) -> str:
        added = f"; new classes: {_some(self.new_classes)}" if self.new_classes else ""
        lines = [f"{self.taken} labels imported, {self.skipped} rows passed over{added}"]
        if self.dry_run:
            lines = [
                "nothing was written; the import would end so:",
                *lines,
                *(f"  {name}: {n}" for name, n in list(self.counts.items())[:_CLASSES_SHOWN]),
                *(
                    [f"  … and {more} more classes"]
                    if (more := len(self.counts) - _CLASSES_SHOWN) > 0
                    else []
                ),
                *(f"  ({status}: {n})" for status, n in self.others.items()),
            ]
        lines += [f"  {about.count} × {reason}: {about}" for reason, about in self.reasons.items()]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


_CLASSES_SHOWN = 50


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
    dry_run: bool = False,
    files: Iterable[ImageFile] | None = None,
    progress: Progress | None = None,
    reading: Callable[[int], None] | None = None,
    splits: bool = True,
) -> Report:
    """Take in the labels of a file or folder; of one image the answer stands that was given last.

    That counts across imports and for answers given in Vizsla, too. An answer without a time counts as given now,
    until one with a time comes in. The same answer a second time, also one that stands in the project already, is
    passed over.

    Args:    annotator: who gave the answers that name nobody.
             columns: our column → what it is called in the file, where its name does not tell; the label of Label
             Studio's tasks is the control that asks for it.
             dry_run: write nothing, and say what would be written.
             files: of a dry run: the image files that there are now, where some may not be in the project yet.
             progress: called with (done, total) while they are written; all of it is one transaction.
             reading: called with the number of rows so far, while they are read.
             splits: of class folders: those called train, test and the like are no classes, where all are called so.
    Raises:  UserError where the file is not of that format; then, and after any failure, nothing has changed.
    """
    known = {change.name for change in store.class_history()}
    rows = read_rows(format, path, columns, splits=splits, known=known)
    if not annotator.strip() or "\0" in annotator:
        raise BadOption(f"{annotator!r} is no name for an annotator. Give it at least one visible letter.")
    catalogue = Catalogue.of(store) if files is None else Catalogue(_with_new(pages(store), files))
    gathered = _Gathered(catalogue, annotator)
    gathered.take(_counted(rows, reading))
    fresh = gathered.without(_standing_keys(store) if gathered.found else set())
    done = store.preview_import(fresh) if dry_run else store.import_labels(fresh, progress)
    for key in done.known:  # imported before, and overruled since
        gathered.pass_over(KNOWN, gathered.path(key))
    for key in done.older:
        gathered.pass_over(OLDER, gathered.path(key))
    names = [one.name for one in store.classes()]
    names = [*names, *done.classes] if dry_run else names
    notes = _alike(done.classes, names) + tables.several_classes(done.classes, names) + gathered.notes(done)
    skipped = sum(reason.count for reason in gathered.reasons.values())
    counts = dict(Counter(done.counts).most_common())
    return Report(
        done.new, skipped, done.classes, gathered.reasons, tuple(notes), counts, done.others, dry_run
    )


def read_rows(
    format: str,
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    splits: bool = True,
    known: Collection[str] = (),
) -> Iterable[Row | Unreadable | Note]:
    """The rows of a file or folder. Args and errors as those of `import_labels`; `known`: classes that there are."""
    read: Importer = importers[format]
    tables.check_columns(read, columns or {})
    given = {"columns": columns, "splits": splits, "known": known}
    taken = {name: value for name, value in given.items() if name in signature(read).parameters}
    return read(Path(path), **taken)


def _with_new(images: Iterable[Image], files: Iterable[ImageFile]) -> Iterator[Image]:
    """The images of the project that are there, and those that the next scan will add, under ids below 0."""
    new = {file.path: file for file in files}
    for image in images:
        if image.path in new:
            del new[image.path]
            yield replace(image, state="present") if image.state == "missing" else image
    for n, file in enumerate(new.values(), 1):
        yield Image(-n, file.path, None, file.size, file.mtime_ns, "present", None, "unlabelled", None, 0)


def _alike(new: Sequence[str], names: Iterable[str]) -> list[str]:
    """A note for each group of classes that differ only in capitals, of which one is new."""
    fresh = set(new)
    return [
        f"the classes {_some(twins)} differ only in capitals; merge them if they are one"
        for twins in _twins(names)
        if not fresh.isdisjoint(twins)
    ]


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
        self._elsewhere = Reason()
        self._notes: list[str] = []

    def pass_over(self, reason: str, example: str) -> None:
        self.reasons.setdefault(reason, Reason()).add(example)

    def take(self, rows: Iterable[Row | Unreadable | Note]) -> None:
        """Read all rows, then decide: which image a row means may hang on the rows after it."""
        met: list[tuple[Row, Match] | Unreadable] = []
        for row in rows:
            if isinstance(row, Note):
                self._notes.append(row.text)
                continue
            if isinstance(row, Unreadable):
                met.append(row)
                continue
            match = self._catalogue.match(row, by_content=_problem(row) is None)
            met.append((replace(row, digest=None) if row.digest else row, match))  # it may hold the picture
        pairs = [one for one in met if not isinstance(one, Unreadable)]
        decided = iter(together(self._catalogue, pairs))
        for one in met:
            if isinstance(one, Unreadable):
                self.pass_over(one.reason, one.where)
                continue
            row, match = one
            means = next(decided)
            if problem := _problem(row) or self._take(row, means):
                self.pass_over(problem, self._example(row, match, problem))

    def _take(self, row: Row, means: Match | str) -> str | None:
        """Gather the row's answer, or say why it has none."""
        if isinstance(means, str):
            return means
        image_id = means.image_ids[0]
        if row.status == _UNDONE:  # it takes back what earlier rows said
            for key in self._of_image.pop(image_id, []):
                del self.found[key]
            return None
        one = self._imported(row, image_id, _STATUSES[row.status or "labelled"])
        if one.answer.key in self.found:
            return "is in the file twice"
        self.found[one.answer.key] = one
        earlier = self._of_image.setdefault(image_id, [])
        if earlier and _contradict(self.found[earlier[-1]], one):
            self._overruled.add(self.path(one.answer.key))
        earlier.append(one.answer.key)
        if means.elsewhere:
            self._elsewhere.add(f"{row.file_name} for {self.path(one.answer.key)}")
        return None

    def _example(self, row: Row, match: Match, problem: str) -> str:
        """The row by its name, with the images that it may mean where that is the problem."""
        example = _example(row)
        if problem in (SEVERAL, DISPUTED) and match:
            paths = [self._catalogue.images[one].path or "" for one in match.image_ids[:_EXAMPLES]]
            more = ", …" * (len(match.image_ids) > len(paths))
            example += f" → {' or '.join(paths)}{more}"
        return example

    def notes(self, done: TakenIn) -> list[str]:
        """What is odd in what was taken."""
        replacing = Reason()
        for key in done.replacing:
            replacing.add(self.path(key))
        told = {
            "named twice with different labels, the last of which stands": self._overruled,
            "taken from a row that names another folder": self._elsewhere,
            "without a time, so counted as given now, in place of another answer": replacing,
        }
        odd = [f"{about.count} × {what}: {about}" for what, about in told.items() if about.count]
        return [*self._notes, *odd]

    def _imported(self, row: Row, image_id: int, status: str) -> Imported:
        label = tidy(row.label or "") if status == "labelled" else None
        who = row.annotator if row.annotator and row.annotator.strip() else self._annotator
        answer = Answer(
            image_id,
            label,
            status,  # type: ignore[arg-type]
            key=key_of(image_id, status, label, who, row.labelled_at),
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


def _problem(row: Row) -> str | None:
    """Why the row holds no answer, whichever image it means."""
    if row.status not in ("", _UNDONE, "unlabelled", "unlabeled", *_STATUSES):
        return "has a status that is none of labelled, skipped, flagged"
    status = _STATUSES.get(row.status or "labelled")
    if row.status != _UNDONE and (status is None or (status == "labelled" and not (row.label or "").strip())):
        return NO_LABEL
    if "\0" in (row.label or "") + (row.annotator or ""):
        return "has a NUL character in a name"
    return None


def _contradict(one: Imported, other: Imported) -> bool:
    """Whether two answers of an image differ, and nothing says which is newer."""
    told = (one.answer.status, one.answer.label) != (other.answer.status, other.answer.label)
    return told and one.created_at is None and other.created_at is None


def _example(row: Row) -> str:
    name = row.file_name or row.sha256 or "?"
    return f"{name} ({row.where})" if row.where else name


def _standing_keys(store: Store) -> set[UUID]:
    """The keys that what stands now would have as an import, and those that it has."""
    keys: set[UUID] = set()
    for label, _ in standing(store):
        keys |= {
            label.key,
            key_of(label.image_id, label.status, label.label, label.annotator, label.created_at),
        }
    return keys
