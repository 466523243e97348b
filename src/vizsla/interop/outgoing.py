"""A project as the formats see it that are written: its answers and its images, counted as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vizsla.data.sources import Source
from vizsla.data.splits import SPLITS
from vizsla.interop.base import Row
from vizsla.store import Image, Label, Store
from vizsla.types import Progress

T = TypeVar("T")
_Hint = tuple[str, float, int | None]
"""Class, its probability, and the version of the model that says so."""

_PAGE = 2000


class Outgoing:
    """What is exported.

    Args:    images: where they are. labels_only: leave the images themselves out, where a format holds any.
             progress: called with (done, total) as answers or images are handed out.
    """

    def __init__(
        self, store: Store, images: Source, *, labels_only: bool = False, progress: Progress | None = None
    ) -> None:
        self.store = store
        self.images = images
        self.labels_only = labels_only
        self.missing: list[str] = []
        """Paths of the images that could not be written, for they are gone or replaced by others."""
        self._progress = progress or (lambda done, total: None)

    def answers(self) -> Iterator[tuple[Label, Row]]:
        """The answer that stands for each image, newest first."""
        counts = self.store.counts()
        yield from self._counted(standing(self.store), counts.labelled + counts.skipped + counts.flagged)

    def suggestions(self) -> Iterator[tuple[int, Row]]:
        """Id and name of every image without an answer of which the model suggests a class, with that class.

        Nothing of images that shall be answered without a suggestion.
        """
        waiting = self._counted(_waiting(self.store), self.store.counts().unlabelled)
        yield from ((image.id, row) for image, row in waiting if row.suggestion)

    def pictures(self) -> Iterator[Picture]:
        """Every image, also those without an answer, by rising id."""
        yield from self._counted(_pictures(self.store), self.store.counts().total)

    def _counted(self, things: Iterator[T], total: int) -> Iterator[T]:
        done = 0
        for done, thing in enumerate(things, 1):
            yield thing
            if not done % _PAGE:
                self._progress(done, max(total, done))
        self._progress(done, done)


@dataclass(frozen=True)
class Picture:
    """An image with what is known of it."""

    image: Image
    path: str
    """Where it lies, as `Image.path`."""
    row: Row
    """The answer that stands; of an image without one its name and what the model suggests."""


def _pictures(store: Store) -> Iterator[Picture]:
    for page in _pages(store, _PAGE):
        ids = [image.id for image in page]
        labels, hints, names = store.standing_labels(ids), _hints(store, ids), store.class_names()
        for image in page:
            if image.path is not None:
                label = labels.get(image.id)
                row = row_of(label, image.sha256, names) if label else _unanswered(image, hints)
                yield Picture(image, image.path, row)


def _waiting(store: Store) -> Iterator[tuple[Image, Row]]:
    """The images without an answer that are there."""
    for page in _pages(store, _PAGE):
        waiting = [image for image in page if image.status == "unlabelled" and image.state == "present"]
        hints = _hints(store, [image.id for image in waiting])
        yield from ((image, _unanswered(image, hints)) for image in waiting)


def _hints(store: Store, image_ids: Sequence[int]) -> dict[int, _Hint]:
    """What the model suggests for those of these images that have no answer."""
    ranking = store.ranking()
    version = ranking.model_version if ranking else None
    return {
        image_id: (name, prob, version) for image_id, (name, prob) in store.suggestions(image_ids).items()
    }


def _unanswered(image: Image, hints: Mapping[int, _Hint]) -> Row:
    name, prob, version = hints.get(image.id, (None, None, None))
    path = image.path or ""
    return Row(
        path,
        image.sha256,
        suggestion=name,
        suggestion_prob=prob,
        model_version=version,
        split=split_of(path),
    )


def pages(store: Store) -> Iterator[Image]:
    """All images by rising id, read in pages."""
    for page in _pages(store, 5000):
        yield from page


def _pages(store: Store, size: int) -> Iterator[list[Image]]:
    last = 0
    while page := store.images(after=last, limit=size):
        yield page
        last = page[-1].id


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
            yield from ((label, row_of(label, hashes.get(label.image_id), names)) for label in fresh)
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


def row_of(label: Label, sha256: str | None, names: dict[int, str]) -> Row:
    """The answer as a row. `names`: of the classes, by their ids."""
    class_id, prob = label.suggestion[0] if label.suggestion else (None, None)
    return Row(
        file_name=label.path or "",
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
        split=split_of(label.path or ""),
    )


def split_of(path: str) -> str | None:
    """The first folder, where it says which part of a data set the image belongs to.

    >>> split_of("train/cat/a.jpg"), split_of("cat/train.jpg")
    ('train', None)
    """
    first, slash, _ = path.partition("/")
    return first if slash and first.lower() in SPLITS else None
