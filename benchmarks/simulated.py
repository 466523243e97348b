"""Labelling projects in memory, with real images' embeddings: what trainer and page do, without store and clock.

N images of the catalogue, C classes. Used by coverage/ and stopping/.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Int64

from vizsla.data.indexed import IndexedDataset
from vizsla.functional.geometry import principal_axes
from vizsla.models.backbones import load_backbone
from vizsla.models.embed import embed
from vizsla.standing import labels_needed
from vizsla.store import Ranked
from vizsla.training.fit import Checks, Fitted, checks, cold, fit, rank
from vizsla.training.pool import Known, Rows

NO_CLUSTERS = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Images:
    """A data set with all its labels."""

    vectors: Float16[np.ndarray, "N d"]
    labels: Int64[np.ndarray, " N"]
    classes: tuple[str, ...]


def read(folder: Path, backbone: str = "efficientnet_lite0") -> Images:
    """Embed class folders; from vizsla's cache where that was done before."""
    dataset = IndexedDataset(folder, test=True, check=False)
    found = embed(dataset, load_backbone(backbone))
    return Images(np.asarray(found.vectors), dataset.labels[found.ids], dataset.classes)


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Images as a project has them, in its own order of random checks, and their true classes."""

    rows: Rows
    truth: Int64[np.ndarray, " N"]
    classes: tuple[str, ...]

    def with_order(self, rng: np.random.Generator) -> Catalogue:
        """The same images, their random checks in another order."""
        rows = replace(self.rows, audit_order=rng.permutation(len(self.truth)).astype(np.int64))
        vars(rows).update(points=self.rows.points, graph=self.rows.graph)  # found once for all
        return replace(self, rows=rows)


def catalogue(
    images: Images,
    rng: np.random.Generator,
    *,
    classes: int | None = None,
    size: int | None = None,
    axes: int = 256,
) -> Catalogue:
    """A catalogue of that many random images of that many random classes; by default of all."""
    kept = np.sort(rng.permutation(len(images.classes))[:classes])
    rows = np.flatnonzero(np.isin(images.labels, kept))
    rows = np.sort(rng.permutation(rows)[:size])
    vectors = images.vectors[rows]
    few = principal_axes(vectors, axes)(
        vectors
    )  # strategies look at them too: else `auto` finds axes every time
    found = principal_axes(few, axes)
    ids, order = np.arange(1, len(rows) + 1), rng.permutation(len(rows)).astype(np.int64)
    return Catalogue(
        Rows(ids, order, few.astype(np.float16), found.directions(few), found, ""),
        np.searchsorted(kept, images.labels[rows]),
        tuple(images.classes[n] for n in kept),
    )


@dataclass(frozen=True, eq=False)
class Model:
    """A model of a project, at the moment at which it is trained."""

    fitted: Fitted
    known: Known
    checks: Checks
    asked: int = 0
    """Images asked for as random checks, the first of all included: what the checks cost."""

    @property
    def labels(self) -> int:
        return len(self.known.label_of)


def accuracy(of: Catalogue, fitted: Fitted) -> float:
    """The true accuracy on the whole catalogue; of labelled images by heads that did not know their label."""
    return float(np.mean(fitted.linear_probs.argmax(axis=1) == of.truth))


def known(of: Catalogue, rows: Int64[np.ndarray, " l"]) -> Known:
    """These rows labelled, none with a suggestion in sight."""
    numbers = tuple(range(len(of.classes)))
    label_of = {int(of.rows.ids[row]): int(of.truth[row]) for row in rows}
    none: frozenset[int] = frozenset()
    return Known(label_of, none, none, none, none, of.classes, numbers, 0, None)


def labelled(
    of: Catalogue,
    *,
    strategy: str,
    audit: float = 0.1,
    seed: int = 0,
    growth: float = 0.1,
    milestones: Sequence[int] = (),
) -> Iterator[Model]:
    """Label the catalogue to its end, in the order that the page would show; gives each model.

    Args: audit: share of random checks, as in the settings: of the first 30 checks it is a fifth, 0 is none at all.
          growth: labels between two models, as a share of those there are; the page's own is a tenth, at least 5.
          milestones: train as soon as there are so many checks, too; the last ends it.
    """
    answers, wanted, asked = known(of, NO_CLUSTERS), labels_needed(0), 0
    queue = queued(of, cold(of.rows, answers, NO_CLUSTERS, strategy=strategy, audit=audit))
    ahead = list(milestones)
    while True:
        answers = answer(of, answers, queue[:wanted])
        asked += sum(is_check for _, is_check, _ in queue[:wanted])
        if len(answers.used) < 2:
            queue = queue[wanted:]
            continue
        found = checks(of.rows, answers)
        fitted = fit(of.rows, answers, about={}, seed=seed)
        yield Model(fitted, answers, found, asked)
        ahead = [m for m in ahead if m > len(found.rows)]
        if (milestones and not ahead) or len(answers.label_of) == len(of.truth):
            return
        ranked = rank(
            of.rows, fitted, answers, found, strategy=strategy, audit=audit, clusters=NO_CLUSTERS, seed=seed
        )
        queue = queued(of, ranked)
        wanted = max(labels_needed(0), math.ceil(len(answers.label_of) * growth))
        if ahead:
            wanted = min(wanted, until(of, answers, queue, ahead[0]))


def queued(of: Catalogue, ranked: Sequence[Ranked]) -> list[tuple[int, bool, bool]]:
    """Row, whether it is a random check, whether a suggestion is shown, in the order in which they are asked."""
    rows = of.rows.of([one.image_id for one in ranked])
    return [(int(row), one.audit, one.suggestion is not None) for row, one in zip(rows, ranked, strict=True)]


def answer(of: Catalogue, before: Known, asked: list[tuple[int, bool, bool]]) -> Known:
    """The truth about these images: row, whether it is a random check, whether a suggestion was shown."""
    label_of, shown, since = dict(before.label_of), set(before.shown), before.since_check
    for row, is_check, suggested in asked:
        image = int(of.rows.ids[row])
        label_of[image] = int(of.truth[row])
        shown |= {image} if suggested else set()
        since = 0 if is_check else None if since is None else since + 1
    return replace(before, label_of=label_of, shown=frozenset(shown), since_check=since)


def until(of: Catalogue, before: Known, queue: list[tuple[int, bool, bool]], checks: int) -> int:
    """How many images of the queue must be answered until there are so many checks."""
    done = set(of.rows.of(list(before.label_of)).tolist())
    target = set(of.rows.audit_order[:checks].tolist()) - done
    for place, (row, *_) in enumerate(queue):
        target.discard(row)
        if not target:
            return place + 1
    return len(queue)
