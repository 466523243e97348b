"""What features in int8 lose against float32, measured on some of the images themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from vizsla.data.indexed import IndexedDataset
from vizsla.models.backbones import PRECISIONS, Backbone
from vizsla.models.embed import embed
from vizsla.models.heads import out_of_fold
from vizsla.models.int8 import cosines
from vizsla.types import Progress

MEASURED = 500
"""Images at most that it is measured on."""


@dataclass(frozen=True)
class Likeness:
    """Features in int8 beside those in float32."""

    images: int
    cosine: float
    """Mean over the images."""
    accuracy: tuple[float, float] | None = None
    """In float32 and in int8, of a linear head on the labels of class folders, each image held out once."""

    @property
    def sentence(self) -> str:
        """The loss in words.

        >>> Likeness(500, 0.9953, (0.962, 0.958)).sentence
        'int8 on 500 of these images: 95.8% right where float32 gets 96.2%, features at a cosine of 0.995'
        """
        shown = (
            ""
            if self.accuracy is None
            else "{1:.1%} right where float32 gets {0:.1%}, ".format(*self.accuracy)
        )
        return f"int8 on {self.images:,} of these images: {shown}features at a cosine of {self.cosine:.3f}"


def likeness(
    dataset: IndexedDataset,
    backbone: Backbone,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Likeness:
    """Compute evenly spaced images in both precisions; the labels are those of class folders, if there are two."""
    some = dataset.subset(np.unique(np.linspace(0, len(dataset) - 1, MEASURED).astype(np.int64)).tolist())
    whole, small = (
        embed(some, replace(backbone, precision=precision), cache=cache, progress=progress)
        for precision in PRECISIONS
    )
    labels = _labels(some, whole.ids)
    rights = None
    if labels is not None:
        rights = _right(whole.vectors, labels), _right(small.vectors, labels)
    return Likeness(len(whole.ids), float(cosines(whole.vectors, small.vectors).mean()), rights)


def _labels(dataset: IndexedDataset, ids: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"] | None:
    if len(dataset.classes) < 2 or not all(dataset.has_class(image) for image in ids):
        return None
    labels = np.array([dataset.folder_label(image) for image in ids], np.int64)
    return labels if (np.bincount(labels) != 1).all() and len(np.unique(labels)) > 1 else None


def _right(vectors: Float[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"]) -> float:
    points = np.asarray(vectors, np.float32)
    guess = out_of_fold(points - points.mean(axis=0), labels, int(labels.max()) + 1).argmax(axis=1)
    return float((guess == labels).mean())
