"""The images of a project that can be learned from, and their features. Row = position in the pool."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float16, Int64

from vizsla.functional.geometry import PrincipalAxes, axes_that_fit, principal_axes
from vizsla.functional.graph import Graph, neighbour_graph
from vizsla.functional.rows import as_rows
from vizsla.models.backbones import Backbone
from vizsla.models.contents import Sha
from vizsla.models.elsewhere import Features
from vizsla.models.embed import Engine, VectorStore, describe, embed_files
from vizsla.project import Project
from vizsla.store import Image
from vizsla.training.ahead import Ahead

_AXES_GROWTH = 1.1  # the axes are found anew once the pool has grown by a tenth


@dataclass(frozen=True, eq=False)
class Rows:
    """What is known of n embedded images. All arrays share their order."""

    ids: Int64[np.ndarray, " n"]
    """Image ids, ascending."""
    audit_order: Int64[np.ndarray, " n"]
    """Rows in the order in which random checks are drawn."""
    vectors: Float16[np.ndarray, "n d"]
    points: Float[np.ndarray, "n r"]
    """Where a head sees the images: in which direction they lie on the principal axes of the pool."""
    axes: PrincipalAxes
    digest: str
    """Names the images: equal digests, equal rows."""

    @cached_property
    def graph(self) -> Graph:
        """Which images resemble each other; made once, in time that grows with the square of their number."""
        return neighbour_graph(as_rows(self.points))

    def of(self, image_ids: Sequence[int]) -> Int64[np.ndarray, " m"]:
        """Row of each image; those not in the pool are left out."""
        wanted = np.asarray(image_ids, np.int64)
        places = np.searchsorted(self.ids, wanted)
        there = places < len(self.ids)
        there[there] = self.ids[places[there]] == wanted[there]
        return places[there]


@dataclass(eq=False)
class Pool:
    """Follows the catalogue, has new images embedded piece by piece, and hands out the rows."""

    project: Project
    backbone: Backbone
    vectors: VectorStore
    ahead: Ahead | None = None
    """Who embeds what has no hurry; else it is done here."""
    todo: list[Image] = field(default_factory=list)
    """Images without features, the most wanted first."""
    changes: int = 0
    """How often other images came in, or features of more; each time there are other rows."""
    _row_of: dict[int, int] = field(default_factory=dict)
    _shuffle: dict[int, int] = field(default_factory=dict)
    _rows: Rows | None = None
    _axes_of: tuple[int, PrincipalAxes] | None = None

    @cached_property
    def engine(self) -> Engine:
        """What runs the backbone."""
        return Engine(self.backbone)

    def refresh(self) -> None:
        """Look at the catalogue again: images may have come, gone or changed their content."""
        images = self.project.store.images(state="present")
        shas = [bytes.fromhex(image.sha256) if image.sha256 else None for image in images]
        rows = self.vectors.find(shas, [image.path or "" for image in images])
        self._shuffle = {image.id: image.shuffle for image in images}
        row_of = {image.id: row for image, row in zip(images, rows.tolist(), strict=True) if row >= 0}
        missing = (image for image, row in zip(images, rows.tolist(), strict=True) if row < 0)
        self.todo = sorted(missing, key=lambda image: (image.status == "unlabelled", image.shuffle))
        if row_of != self._row_of:
            self._row_of, self._rows = row_of, None
            self.changes += 1

    def __len__(self) -> int:
        return len(self._row_of)

    def go_on(self, count: int) -> None:
        """Have more images embedded: what comes back from elsewhere, or else the next ones here."""
        done = self.ahead.next(self.todo) if self.ahead else None
        if done is None:
            self.embed(count)
        else:
            self._take(*done)

    def embed(self, count: int) -> None:
        """Embed the next images here."""
        batch = self.todo[:count]
        names = [image.path or "" for image in batch]
        self.project.source.expect(
            {name: (image.size, image.mtime_ns, 0) for name, image in zip(names, batch, strict=True)}
        )
        more = len(self.todo) - len(batch)
        found = embed_files(self.project.source, names, self.engine, self.vectors, more=more)
        self._note(dict(enumerate(batch)), found.shas, found.rows, found.reasons)
        del self.todo[: len(batch)]  # only now: what failed is tried again

    def _take(self, piece: Sequence[Image], found: Features) -> None:
        """Keep what was computed elsewhere as if it had been here."""
        if len(found.readable):
            describe(self.vectors, self.backbone)
            shas = [found.shas[place] or b"" for place in found.readable]
            self.vectors.append(shas, found.vectors)
        waiting = {image.id for image in self.todo}  # the others are gone meanwhile, or were in a hurry
        here = {place: image for place, image in enumerate(piece) if image.id in waiting}
        self._note(here, found.shas, self.vectors.find(found.shas), found.reasons)
        done = {image.id for image in piece}
        self.todo = [image for image in self.todo if image.id not in done]

    def _note(
        self,
        images: Mapping[int, Image],
        shas: Sequence[Sha | None],
        rows: Int64[np.ndarray, " n"],
        reasons: Mapping[int, str],
    ) -> None:
        """Note the content hashes of images, by their places, and take the unreadable ones out of the queue."""
        hashes: dict[int, str] = {}
        for place, image in images.items():
            sha, row, reason = shas[place], int(rows[place]), reasons.get(place)
            if row >= 0 and sha is not None and image.sha256 in (None, sha.hex()):
                hashes[image.id] = sha.hex()
                self._row_of[image.id] = row  # else the file was replaced: a rescan makes it a new image
            if reason is not None and sha is not None:
                # one that cannot be opened may be gone, or only away: later again
                self.project.store.set_unreadable(image.id, reason)
        self.project.store.set_hashes(hashes)
        self._rows = None
        self.changes += 1

    def rows(self) -> Rows:
        """What can be learned from now."""
        if self._rows is None:
            ids = np.array(sorted(self._row_of), np.int64)
            vectors = self.vectors.read(np.array([self._row_of[i] for i in ids.tolist()], np.int64))
            shuffle = np.array([self._shuffle[i] for i in ids.tolist()], np.int64)
            axes = self._axes(vectors)
            order = np.argsort(shuffle, kind="stable")
            digest = hashlib.sha256(ids.tobytes()).hexdigest()[:16]
            self._rows = Rows(ids, order, vectors, axes.directions(vectors), axes, digest)
        return self._rows

    def _axes(self, vectors: Float16[np.ndarray, "n d"]) -> PrincipalAxes:
        kept = self._axes_of
        if kept is None or not kept[0] <= len(vectors) <= _AXES_GROWTH * kept[0]:
            most = axes_that_fit(len(vectors), vectors.shape[1] * vectors.itemsize)
            kept = self._axes_of = len(vectors), principal_axes(vectors, most)
        return kept[1]


@dataclass(frozen=True, eq=False)
class Known:
    """The answers that stand, by image."""

    label_of: Mapping[int, int]
    """Image id → class number."""
    skipped: frozenset[int]
    flagged: frozenset[int]
    shown: frozenset[int]
    """Images whose first label was given with a suggestion in sight."""
    confirmed: frozenset[int]
    """Images whose label someone has looked at twice."""
    classes: tuple[str, ...]
    class_ids: tuple[int, ...]
    """Id of each class in the store."""
    newest: int
    """The newest answer that is taken account of."""
    since_check: int | None
    """Answers since the last random check; None before the first."""

    def of(self, rows: Rows) -> Known:
        """Only the labels of images that can be learned from."""
        there = set(rows.ids.tolist())
        label_of = {image_id: n for image_id, n in self.label_of.items() if image_id in there}
        return replace(self, label_of=label_of)

    @property
    def used(self) -> list[list[int | str]]:
        """Id and name of the classes that have labels, in the order of their keys."""
        return [[self.class_ids[n], self.classes[n]] for n in sorted(set(self.label_of.values()))]


def known(project: Project) -> Known:
    """Read the answers of a project as they stand now."""
    classes = project.store.classes()
    number = {one.name: n for n, one in enumerate(classes)}
    labels = project.store.labels()
    by_status = {
        status: frozenset(x.image_id for x in labels if x.status == status)
        for status in ("skipped", "flagged")
    }
    return Known(
        {x.image_id: number[x.label] for x in labels if x.label is not None and x.label in number},
        by_status["skipped"],
        by_status["flagged"],
        project.store.anchored(),
        project.store.confirmed(),
        tuple(one.name for one in classes),
        tuple(one.id for one in classes),
        max((x.id for x in labels), default=0),
        next((n for n, x in enumerate(labels) if x.source in ("audit", "random")), None),
    )
