"""Features for whoever keeps them on another machine: what is asked of a worker, and what it hands back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Float16, Int64

from vizsla.data.sources import Stamp, source_of
from vizsla.errors import BadWeights
from vizsla.models.backbones import load_backbone
from vizsla.models.contents import Sha
from vizsla.models.embed import Engine, VectorStore, embed_files


@dataclass(frozen=True)
class Order:
    """Where images are, and through which network they are looked at."""

    source: str
    """Its address."""
    backbone: str
    image_size: int | None
    precision: str
    key: str
    """Of the features: network, weights, transform, precision."""


@dataclass(frozen=True, eq=False)
class Features:
    """What was found of n images, of which m can be read."""

    shas: list[Sha | None]
    """Content of each of the n; None for a file that could not be opened."""
    readable: Int64[np.ndarray, " m"]
    """Places among the n, ascending."""
    vectors: Float16[np.ndarray, "m d"]
    reasons: dict[int, str]
    """Place → why that image has no features."""


class Embedder:
    """Does an order, some images at a time, with a network that is loaded once. Keeps nothing.

    Args:   more: images to come, which decide whether preparing a faster runtime pays.
    Raises: BadWeights where this machine has another network.
    """

    def __init__(self, order: Order, more: int) -> None:
        self.source = source_of(order.source)
        network = load_backbone(order.backbone, image_size=order.image_size, precision=order.precision)
        if network.key != order.key:
            raise BadWeights(
                f"backbone {order.backbone} is another network on this machine than where the work was planned. "
                "Install the same versions of Vizsla and of the weights everywhere."
            )
        self._engine = Engine(network)
        self._more = more

    def __call__(self, names: Sequence[str], stamps: Mapping[str, Stamp] | None = None) -> Features:
        """Args: stamps: those that are known, where asking for them would cost a question over the network."""
        self._more = max(0, self._more - len(names))
        self.source.expect(stamps or {})
        network = self._engine.backbone
        with TemporaryDirectory() as scratch:
            store = VectorStore(Path(scratch) / network.key, network.dim)
            found = embed_files(self.source, names, self._engine, store, more=self._more)
            readable = np.flatnonzero(found.rows >= 0)
            vectors = np.array(store.read(found.rows[readable]))
        return Features(found.shas, readable, vectors, found.reasons)
