"""`Classifier`: a trained model as people use it. Image files in, calibrated class probabilities out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from vizsla.data.sources import Folder, Source
from vizsla.errors import BadWeights
from vizsla.models.backbones import PRECISIONS, Backbone, Transform, load_backbone, restored
from vizsla.models.bundle import Bundle
from vizsla.models.embed import Engine, VectorStore, embed_files, vector_store
from vizsla.models.runtime import Runtime
from vizsla.types import Progress

WEIGHTS = "model.safetensors"
"""What a bundle folder holds at least."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a model thinks of some files, in their order."""

    probs: Float32[np.ndarray, "n c"]
    """Calibrated class probabilities; NaN in the rows of files that cannot be read."""
    errors: dict[int, str] = field(default_factory=dict)
    """Place of each such file → why."""


class Classifier:
    """A head on the features of a network. Features are kept in the cache, so asking again is quick.

    Args: runtime: what runs the network; default: the fastest that pays on this machine.
          cache: folder of the cache; default `$VIZSLA_CACHE` or the platform's own.
    """

    def __init__(
        self,
        bundle: Bundle,
        backbone: Backbone,
        *,
        runtime: Runtime | None = None,
        cache: Path | None = None,
    ) -> None:
        self.bundle = bundle
        self.backbone = backbone
        self._runtime = runtime
        self._cache = cache

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the probabilities."""
        return self.bundle.classes

    @property
    def about(self) -> Mapping[str, Any]:
        """Where it comes from and how good it is."""
        return self.bundle.about

    def predict(self, files: Sequence[str | Path], progress: Progress | None = None) -> Predicted:
        """Class probabilities of image files.

        Args: progress: called with (files done, files).
        """
        return self.predict_images(Folder("."), [str(file) for file in files], progress=progress)

    def predict_images(
        self, source: Source, names: Sequence[str], *, more: int = 0, progress: Progress | None = None
    ) -> Predicted:
        """Class probabilities of images of a source.

        Args: more: images that later calls will bring, which decide whether preparing a faster runtime pays.
        """
        found = embed_files(source, names, self._engine, self._vectors, more=more, progress=progress)
        probs = np.full((len(names), len(self.classes)), np.nan, np.float32)
        there = np.flatnonzero(found.rows >= 0)
        probs[there] = self.bundle.predict(self._vectors.read(found.rows[there]))
        return Predicted(probs, found.reasons)

    @cached_property
    def _engine(self) -> Engine:
        engine = Engine(self.backbone, cache=self._cache)
        if self._runtime is not None:
            engine.runtime = self._runtime
        return engine

    @cached_property
    def _vectors(self) -> VectorStore:
        return vector_store(self.backbone, self._cache)


def load_model(path: str | Path) -> Classifier:
    """A model from a bundle folder, a .safetensors file or an .onnx file that `vizsla export` wrote.

    Raises: BadWeights for anything else, and where the network's weights are missing or other ones.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        from vizsla.models.pipeline import read_onnx

        return read_onnx(path)
    file = path / WEIGHTS if path.is_dir() else path
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadWeights(
            f"cannot read {file}: {error.strerror}. Give what vizsla export model wrote."
        ) from None
    bundle = Bundle.from_bytes(content)
    return Classifier(bundle, backbone_of(bundle))


def backbone_of(bundle: Bundle) -> Backbone:
    """The network that makes its features: with the weights that it brings, or those that its name stands for.

    Raises: BadWeights where these are not what the head was trained on.
    """
    about = bundle.about
    name, precision = str(about.get("backbone")), str(about.get("precision", PRECISIONS[0]))
    if bundle.network:
        state = {part: torch.from_numpy(values.copy()) for part, values in bundle.network.items()}
        return restored(name, state, transform_from(about["transform"]), precision)
    backbone = load_backbone(name, image_size=about.get("image_size"), precision=precision)
    if about.get("backbone_key") not in (None, backbone.key):
        raise BadWeights(
            f"this model was trained on other weights of {name} than are installed here. Train anew, "
            "or export it as a folder, which brings its weights."
        )
    return backbone


def described(backbone: Backbone) -> dict[str, Any]:
    """What `Bundle.about` holds of the network."""
    return {
        "backbone": backbone.name,
        "image_size": backbone.transform.size,
        "precision": backbone.precision,
        "backbone_key": backbone.key,
        "weights": backbone.digest,
        "transform": asdict(backbone.transform),
    }


def transform_from(kept: Mapping[str, Any]) -> Transform:
    """The transform that `described` wrote down."""
    parts: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in kept.items()}
    return Transform(**parts)


def state_of(backbone: Backbone) -> dict[str, np.ndarray]:
    """The network's weights and statistics, as `Bundle.network` holds them."""
    state = backbone.module.state_dict()
    return {name: values.detach().cpu().contiguous().numpy() for name, values in state.items()}
