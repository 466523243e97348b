"""A frozen backbone and a head on its embeddings: the default way to learn, milliseconds a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int64

from vizsla.data.indexed import IndexedDataset
from vizsla.functional.geometry import PrincipalAxes, axes_that_fit, principal_axes
from vizsla.functional.graph import Graph, neighbour_graph
from vizsla.functional.metrics import nll
from vizsla.functional.rows import as_rows
from vizsla.models.backbones import Backbone
from vizsla.models.blend import Blend, BlendHead
from vizsla.models.embed import embed
from vizsla.models.heads import Head, LinearHead, heads
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
        vectors = self.embeddings.vectors
        return principal_axes(vectors, axes_that_fit(len(vectors), vectors.shape[1] * vectors.itemsize))

    @cached_property
    def points(self) -> Float[np.ndarray, "n r"]:
        """Where a head sees the images: in which direction they lie on those axes."""
        return self.on(self.axes, self.ids)

    @cached_property
    def graph(self) -> Graph:
        """Which images resemble each other; made once, in time that grows with the square of their number."""
        return neighbour_graph(as_rows(self.points))

    def on(self, axes: PrincipalAxes, ids: Int64[np.ndarray, " m"]) -> Float[np.ndarray, "m r"]:
        """Directions of these images on the axes; those of all are kept for the next call with the same axes."""
        if self._projected is None or self._projected[0] is not axes:
            self._projected = axes, axes.directions(self.embeddings.vectors)
        found = self._projected[1]
        return found if len(ids) == len(found) else found[self.embeddings.rows(ids)]


DEFAULT_HEAD = "blend"
GRAPH_AT_MOST = 50_000
"""Images up to which a neighbour graph is made: half a minute once."""
_AT_ONCE = 16_384


class FrozenModel:
    """Embeds each image once, then refits a small head whenever labels arrive.

    The head sees principal components of the pool, so unlabelled images say where features really vary.

    Args: n_classes: C, the number of outputs.
          head: name of a head in `vizsla.models.heads.heads`.

    With the head `blend` what it predicts of the images it was fitted among is the blend's own opinion, and of all
    others that of the linear head distilled from it. Beyond 50,000 images there is no graph: it is then `logistic`.
    """

    def __init__(self, backbone: Backbone, n_classes: int, *, head: str = DEFAULT_HEAD) -> None:
        self.backbone = backbone
        self.n_classes = n_classes
        self.head_name = head
        self._head: Head = heads[head](n_classes)
        self._axes: PrincipalAxes | None = None
        self._among: Features | None = None
        self._labelled: Int64[np.ndarray, " l"] = np.empty(0, np.int64)

    def prepare(self, dataset: IndexedDataset, progress: Progress | None = None) -> Features:
        """The features of all its images, from the cache where they are known."""
        return Features(embed(dataset, self.backbone, progress=progress))

    def fit(
        self, inputs: Features, ids: Int64[np.ndarray, " l"], labels: Int64[np.ndarray, " l"], *, seed: int
    ) -> Mapping[str, float]:
        """Refit the head on all labels so far. Returns its loss on them, in nats."""
        self._axes = inputs.axes
        self._head = heads[self.head_name](self.n_classes)
        self._among = None
        if isinstance(self._head, BlendHead) and len(inputs.ids) <= GRAPH_AT_MOST:
            rows = inputs.embeddings.rows(ids)
            self._head.fit_in_pool(inputs.points, inputs.graph, rows, labels, seed=seed)
            self._among, self._labelled = inputs, ids
        else:
            self._head.fit(inputs.on(self._axes, ids), labels)
        return {"train_loss": nll(self.predict(inputs, ids), labels)} if len(ids) else {}

    def held_out(self, ids: Int64[np.ndarray, " l"]) -> Float[np.ndarray, "l c"] | None:
        """Probabilities of the images that it was fitted to, each made without its own label; None where unknown."""
        if self._among is None or not np.array_equal(ids, self._labelled):
            return None
        return self._blend.held_out

    @property
    def _blend(self) -> Blend:
        assert isinstance(self._head, BlendHead)
        assert self._head.found is not None
        return self._head.found

    @property
    def linear(self) -> tuple[PrincipalAxes, Float[np.ndarray, "c r"], Float[np.ndarray, " c"]] | None:
        """Axes, weights and biases of the fitted head on coordinates of unit length; None where it has none."""
        head = self._head.linear if isinstance(self._head, BlendHead) else self._head
        if self._axes is None or not isinstance(head, LinearHead):
            return None
        return self._axes, head.weights, head.bias

    def predict(self, inputs: Features, ids: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n c"]:
        """Class probabilities of these images, of the pool or of another data set."""
        if self._axes is None:
            raise RuntimeError("predict before the first fit")
        if inputs is self._among:
            return self._blend.probs[inputs.embeddings.rows(ids)]
        probs = [self._head.predict(inputs.on(self._axes, some)) for some in _in_parts(ids)]
        return np.concatenate(probs) if probs else np.empty((0, self.n_classes), np.float32)


def _in_parts(ids: Int64[np.ndarray, " n"]) -> list[Int64[np.ndarray, " m"]]:
    """Images piece by piece: of a million there is no room for a second copy of their coordinates."""
    return [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]
