"""A frozen backbone and a head on its embeddings: the default way to learn, milliseconds a round."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int64

from vizsla.data.indexed import IndexedDataset
from vizsla.models.backbones import Backbone
from vizsla.models.embed import embed
from vizsla.models.heads import Head, heads
from vizsla.types import Embeddings, Progress


class FrozenModel:
    """Embeds each image once, then refits a small head whenever labels arrive.

    Args: n_classes: C, the number of outputs.
          head: name of a head in `vizsla.models.heads.heads`.
    """

    def __init__(self, backbone: Backbone, n_classes: int, *, head: str = "logistic") -> None:
        self.backbone = backbone
        self.n_classes = n_classes
        self.head_name = head
        self._head: Head = heads[head](n_classes)

    def fresh(self, seed: int) -> FrozenModel:
        """The same model before its first fit; `seed` changes nothing here."""
        return FrozenModel(self.backbone, self.n_classes, head=self.head_name)

    def prepare(self, dataset: IndexedDataset, progress: Progress | None = None) -> Embeddings:
        """The features of all its images, from the cache where they are known."""
        return embed(dataset, self.backbone, progress=progress)

    def fit(
        self, inputs: Embeddings, ids: Int64[np.ndarray, " l"], labels: Int64[np.ndarray, " l"], *, seed: int
    ) -> Mapping[str, float]:
        """Refit the head on all labels so far."""
        self._head = heads[self.head_name](self.n_classes)
        self._head.fit(inputs.of(ids), labels)
        return {}

    def predict(self, inputs: Embeddings, ids: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n c"]:
        """Class probabilities of these images."""
        return self._head.predict(inputs.of(ids))
