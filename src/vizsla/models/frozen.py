"""A frozen backbone and a head on its embeddings: the default way to learn, milliseconds a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int64

from vizsla.data.indexed import IndexedDataset
from vizsla.functional.geometry import PrincipalAxes, principal_axes
from vizsla.models.backbones import Backbone
from vizsla.models.embed import embed
from vizsla.models.heads import Head, LogisticHead, heads
from vizsla.types import Embeddings, Progress


@dataclass(eq=False)
class Features:
    """The embeddings of a data set, and their coordinates on the principal axes of a pool."""

    embeddings: Embeddings
    _projected: tuple[PrincipalAxes, np.ndarray] | None = field(default=None, repr=False)

    @property
    def ids(self) -> Int64[np.ndarray, " n"]:
        """Images that have an embedding; ascending."""
        return self.embeddings.ids

    def subset(self, ids: Int64[np.ndarray, " m"]) -> Features:
        """Only these images, numbered anew."""
        return Features(self.embeddings.subset(ids))

    @cached_property
    def axes(self) -> PrincipalAxes:
        """The axes on which these images vary most; no label is needed for them."""
        return principal_axes(self.embeddings.vectors)

    def on(self, axes: PrincipalAxes, ids: Int64[np.ndarray, " m"]) -> Float[np.ndarray, "m r"]:
        """Coordinates of these images; those of all images are kept for the next call with the same axes."""
        if self._projected is None or self._projected[0] is not axes:
            self._projected = axes, axes(self.embeddings.vectors)
        return self._projected[1][self.embeddings.rows(ids)]


class FrozenModel:
    """Embeds each image once, then refits a small head whenever labels arrive.

    The head sees principal components of the pool, so unlabelled images say where features really vary.

    Args: n_classes: C, the number of outputs.
          head: name of a head in `vizsla.models.heads.heads`.
    """

    def __init__(self, backbone: Backbone, n_classes: int, *, head: str = "logistic") -> None:
        self.backbone = backbone
        self.n_classes = n_classes
        self.head_name = head
        self._head: Head = heads[head](n_classes)
        self._axes: PrincipalAxes | None = None

    def prepare(self, dataset: IndexedDataset, progress: Progress | None = None) -> Features:
        """The features of all its images, from the cache where they are known."""
        return Features(embed(dataset, self.backbone, progress=progress))

    def fit(
        self, inputs: Features, ids: Int64[np.ndarray, " l"], labels: Int64[np.ndarray, " l"], *, seed: int
    ) -> Mapping[str, float]:
        """Refit the head on all labels so far."""
        self._axes = inputs.axes
        self._head = heads[self.head_name](self.n_classes)
        self._head.fit(inputs.on(self._axes, ids), labels)
        return {}

    @property
    def linear(self) -> tuple[PrincipalAxes, Float[np.ndarray, "c r"], Float[np.ndarray, " c"]] | None:
        """Axes, weights and biases of the fitted head on coordinates of unit length; None where it has none."""
        if self._axes is None or not isinstance(self._head, LogisticHead):
            return None
        return self._axes, self._head.weights, self._head.bias

    def predict(self, inputs: Features, ids: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n c"]:
        """Class probabilities of these images, of the pool or of another data set."""
        if self._axes is None:
            raise RuntimeError("predict before the first fit")
        return self._head.predict(inputs.on(self._axes, ids))
