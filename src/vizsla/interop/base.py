"""What every format shares: the row, the two registries, and reading the rows of a project."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vizsla.data.sources import Source
from vizsla.registry import Registry
from vizsla.store import Label, Store

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Folders that say which part of a data set their images belong to."""

_PAGE = 2000


@dataclass(frozen=True)
class Row:
    """One answer, as files carry it."""

    file_name: str
    """Path relative to the image folder, with forward slashes; from foreign files also a URI."""
    sha256: str | None = None
    """Of the image file, in hex."""
    label: str | None = None
    """Class name, where the status is `labelled`."""
    status: str = ""
    """`labelled`, `skipped`, `flagged` or `undone`; empty: labelled, where there is a label."""
    annotator: str | None = None
    labelled_at: datetime | None = None
    lead_ms: int | None = None
    """Milliseconds between question and answer."""
    round: int | None = None
    model_version: int | None = None
    source: str | None = None
    """How the image was chosen: `al`, `random`, `audit`, `bulk` or `import`."""
    suggestion: str | None = None
    """The class that the model thought likeliest."""
    suggestion_prob: float | None = None
    suggestion_shown: bool | None = None
    split: str | None = None
    where: str = ""
    """Where in its file the row lies, for a person to find it."""
    other_names: tuple[str, ...] = ()
    """What else the image may be called, likeliest first."""
    size: int | None = None
    """Bytes of the image file, where it came along."""
    digest: Callable[[], str] | None = None
    """Computes the SHA-256 of an image file that came along."""


@dataclass(frozen=True)
class Unreadable:
    """A row that makes no sense, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Format:
    """A way to write the labels of a project."""

    name: str
    suffix: str
    """Of the file's name, with the dot."""
    media_type: str
    write: Callable[[Store, Source], Iterator[bytes]]
    """(store, images) → the file, piece by piece, so that no project is too large."""


Importer = Callable[[Path], Iterable[Row | Unreadable]]
"""Reads a file or a folder. Raises UserError where it is not of the format at all."""

formats = Registry[Format]("export format", "formats")
importers = Registry[Importer]("import format", "importers")


def standing(store: Store) -> Iterator[tuple[Label, Row]]:
    """The answer that stands for each image, in pages, newest first.

    People may go on labelling meanwhile: an image that gets another answer is neither missed nor repeated.
    """
    seen, done = _Seen(), 0
    while (newest := next((label.id for label in store.labels(limit=1)), 0)) > done:
        before = newest + 1
        while page := store.labels(before=before, limit=_PAGE):
            fresh = [label for label in page if label.id > done and seen.first_time(label.image_id)]
            names, hashes = store.class_names(), store.hashes(label.image_id for label in fresh)
            yield from ((label, _row(label, hashes.get(label.image_id), names)) for label in fresh)
            before = page[-1].id
            if before <= done:
                break
        done = newest


class _Seen:
    """Which images came already, a byte each."""

    def __init__(self) -> None:
        self._flags = bytearray(1024)

    def first_time(self, image_id: int) -> bool:
        while image_id >= len(self._flags):
            self._flags.extend(bytes(len(self._flags)))
        first, self._flags[image_id] = not self._flags[image_id], 1
        return first


def _row(label: Label, sha256: str | None, names: dict[int, str]) -> Row:
    class_id, prob = label.suggestion[0] if label.suggestion else (None, None)
    path = label.path or ""
    first, slash, _ = path.partition("/")
    return Row(
        file_name=path,
        sha256=sha256,
        label=label.label,
        status=label.status,
        annotator=label.annotator,
        labelled_at=label.created_at,
        lead_ms=label.lead_ms,
        round=label.round,
        model_version=label.model_version,
        source=label.source,
        suggestion=None if class_id is None else names.get(class_id),
        suggestion_prob=prob,
        suggestion_shown=label.suggestion_shown,
        split=first if slash and first.lower() in SPLITS else None,
    )
