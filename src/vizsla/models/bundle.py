"""A trained model as bytes, and back: what `predict` needs beside the network, and nothing that loads torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load, save

from vizsla.errors import BadWeights
from vizsla.functional.geometry import PrincipalAxes, unit_rows

_AT_ONCE = 16_384  # rows
_NETWORK = "network."


@dataclass(frozen=True, eq=False)
class Bundle:
    """Features in, class probabilities out: principal axes, a linear head on unit rows, a temperature."""

    classes: tuple[str, ...]
    axes: PrincipalAxes | None
    """None: the head takes the features as they are, as that of a fine-tuned network does."""
    weights: Float[np.ndarray, "c r"]
    bias: Float[np.ndarray, " c"]
    temperature: float
    about: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from: version, labels, backbone, transform, metrics."""
    network: Mapping[str, np.ndarray] = field(default_factory=dict)
    """State of the network that makes the features; empty: the weights that its name stands for."""

    def predict(self, vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n c"]:
        """Calibrated class probabilities of backbone features."""
        return self.predict_coordinates(vectors if self.axes is None else self.axes(vectors))

    def predict_coordinates(self, rows: Float[np.ndarray, "n r"]) -> Float[np.ndarray, "n c"]:
        """The same, of features that are on the axes already."""
        probs = np.empty((len(rows), len(self.bias)), np.float32)
        for start in range(0, len(rows), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            points = np.asarray(rows[part], np.float32) if self.axes is None else unit_rows(rows[part])
            logits = (points @ self.weights.T + self.bias) / self.temperature
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            probs[part] = odds / odds.sum(axis=1, keepdims=True)
        return probs

    @property
    def head(self) -> dict[str, np.ndarray]:
        """Its tensors by name, but for those of the network."""
        tensors = {"weights": self.weights, "bias": self.bias}
        if self.axes is not None:
            tensors |= {"centre": self.axes.centre, "axes": self.axes.axes}
        return {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}

    @property
    def facts(self) -> dict[str, Any]:
        """All that is no tensor, as JSON can hold it."""
        return {"classes": list(self.classes), "temperature": self.temperature, **self.about}

    @classmethod
    def of(
        cls, head: Mapping[str, np.ndarray], facts: Mapping[str, Any], network: Mapping[str, np.ndarray]
    ) -> Self:
        """What `head`, `facts` and `network` came from."""
        about = dict(facts)
        axes = PrincipalAxes(head["centre"], head["axes"]) if "axes" in head else None
        classes, temperature = tuple(about.pop("classes")), float(about.pop("temperature"))
        return cls(classes, axes, head["weights"], head["bias"], temperature, about, network)

    def to_bytes(self) -> bytes:
        """A safetensors file with the rest as JSON in its header."""
        network = {f"{_NETWORK}{name}": np.ascontiguousarray(part) for name, part in self.network.items()}
        return save(self.head | network, {"vizsla": json.dumps(self.facts, ensure_ascii=False)})

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Raises: BadWeights for anything else than what `to_bytes` wrote."""
        try:
            tensors = load(content)
            size = int.from_bytes(content[:8], "little")
            facts = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["vizsla"])
            network = {
                name.removeprefix(_NETWORK): part
                for name, part in tensors.items()
                if name.startswith(_NETWORK)
            }
            return cls.of(tensors, facts, network)
        except (SafetensorError, ValueError, KeyError, TypeError):
            raise BadWeights(
                "this is no model that Vizsla wrote. Export one with: vizsla export model."
            ) from None
