"""A trained head as bytes, and back: what `predict` needs beside the backbone, and nothing that loads torch."""

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
_TENSORS = ("centre", "axes", "weights", "bias")


@dataclass(frozen=True, eq=False)
class Bundle:
    """Features in, class probabilities out: principal axes, a linear head on unit rows, a temperature."""

    classes: tuple[str, ...]
    axes: PrincipalAxes
    weights: Float[np.ndarray, "c r"]
    bias: Float[np.ndarray, " c"]
    temperature: float
    about: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from: version, labels, backbone, metrics."""

    def predict(self, vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n c"]:
        """Calibrated class probabilities of backbone features."""
        return self.predict_coordinates(self.axes(vectors))

    def predict_coordinates(self, rows: Float[np.ndarray, "n r"]) -> Float[np.ndarray, "n c"]:
        """The same, of features that are on the axes already."""
        probs = np.empty((len(rows), len(self.bias)), np.float32)
        for start in range(0, len(rows), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            logits = (unit_rows(rows[part]) @ self.weights.T + self.bias) / self.temperature
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            probs[part] = odds / odds.sum(axis=1, keepdims=True)
        return probs

    def to_bytes(self) -> bytes:
        """A safetensors file with the rest as JSON in its header."""
        tensors = {
            "centre": self.axes.centre,
            "axes": self.axes.axes,
            "weights": self.weights,
            "bias": self.bias,
        }
        about = {"classes": list(self.classes), "temperature": self.temperature, **self.about}
        whole = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}
        return save(whole, {"vizsla": json.dumps(about, ensure_ascii=False)})

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Raises: BadWeights for anything else than what `to_bytes` wrote."""
        try:
            tensors = load(content)
            size = int.from_bytes(content[:8], "little")
            about = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["vizsla"])
            centre, axes, weights, bias = (tensors[name] for name in _TENSORS)
            classes, temperature = tuple(about.pop("classes")), float(about.pop("temperature"))
        except (SafetensorError, ValueError, KeyError, TypeError):
            raise BadWeights(
                "this is no model that Vizsla wrote. Export one with: vizsla export model."
            ) from None
        return cls(classes, PrincipalAxes(centre, axes), weights, bias, temperature, about)
