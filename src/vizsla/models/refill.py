"""A network that is being trained, in ONNX Runtime: exported once, its weights filled in whenever they change.

A fast graph has batch normalisation folded into the convolution before it, so its weights are not the network's own.
Which of them came from which is found out by exporting the network with random weights, whose values are as good as
names: what equals a weight is that weight, what equals a weight times the scale of a normalisation is that product.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from vizsla.errors import BadWeights
from vizsla.models.backbones import Backbone
from vizsla.models.runtime import Exported, OnnxRuntime, agree, export

Array = Float32[np.ndarray, "..."]
Source = tuple[str, str, str]
"""How a graph's weight is made (as it is, transposed, scaled, shifted), of which weight, by which normalisation."""

_KEPT_AS = "vizsla.sources"
_Norm = nn.modules.batchnorm._BatchNorm


class Refillable:
    """The graph of one backbone, and how to fill it."""

    def __init__(self, backbone: Backbone, cache: Path | None = None) -> None:
        self._backbone = backbone
        blank = replace(
            backbone, module=_blank(backbone.module), digest=f"blank {backbone.digest}", precision="float32"
        )
        self._exported = Exported(blank, cache, export=_export)
        self._graph: Any = None
        self._sources: dict[str, Source] = {}
        self._fails = False

    def filled(self, module: nn.Module) -> OnnxRuntime | None:
        """The network with the weights that the module has now; None where it cannot be exported or filled."""
        if self._fails:
            return None
        if self._graph is None:
            if not self._exported.make():
                self._fails = True
                return None
            self._read()
            if not agree(replace(self._backbone, module=module), self._fill(module)):
                self._fails = True
                return None
        return self._fill(module)

    def _read(self) -> None:
        import onnx

        self._graph = onnx.load(self._exported.file)
        kept = {entry.key: entry.value for entry in self._graph.metadata_props}
        self._sources = {name: tuple(source) for name, source in json.loads(kept[_KEPT_AS]).items()}

    def _fill(self, module: nn.Module) -> OnnxRuntime:
        weights = _Weights(module)
        for weight in self._graph.graph.initializer:
            if weight.name in self._sources:
                value = weights.made(self._sources[weight.name])
                weight.raw_data = np.ascontiguousarray(value, np.float32).tobytes()
        return OnnxRuntime(self._graph.SerializeToString(), self._backbone.transform.size)


def _blank(module: nn.Module) -> nn.Module:
    """A copy with other weights and statistics, no two of them alike."""
    blank = copy.deepcopy(module).cpu().float().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in blank.modules():
            if isinstance(part, _Norm) and part.running_mean is not None and part.running_var is not None:
                part.running_mean.normal_(0, 0.1, generator=generator)
                part.running_var.uniform_(0.5, 2.0, generator=generator)
                for values in part.parameters(recurse=False):
                    values.uniform_(0.5, 1.5, generator=generator)
        for values in blank.parameters():
            values.mul_(torch.empty(values.shape).uniform_(0.8, 1.25, generator=generator))
    return blank


def _export(backbone: Backbone, file: Path) -> None:
    """Export it and note in the file what each of its weights is made of."""
    import onnx

    export(backbone, file)
    graph = onnx.load(file)
    weights = _Weights(backbone.module)
    sources = {}
    for weight in graph.graph.initializer:
        value = onnx.numpy_helper.to_array(weight)
        found = (
            weights.source(weight.name.removeprefix("module."), value) if value.dtype == np.float32 else None
        )
        if found is not None:
            sources[weight.name] = found
    if not sources:
        raise BadWeights("none of the weights in its graph are those of the network")
    graph.metadata_props.add(key=_KEPT_AS, value=json.dumps(sources))
    onnx.save(graph, file)


class _Weights:
    """What a graph's weights can be made of."""

    def __init__(self, module: nn.Module) -> None:
        self._own = {
            name: values.detach().cpu().contiguous().numpy()
            for name, values in module.state_dict().items()
            if values.is_floating_point()
        }
        self._norms = dict(_norms(module))

    def made(self, source: Source) -> Array:
        how, name, norm = source
        if how == "as it is":
            return self._own[name]
        if how == "transposed":
            return self._own[name].T
        scale, shift = self._norms[norm]
        if how == "shifted":
            return shift + scale * self._own[name] if name else shift
        own = self._own[name]
        return own * scale.reshape(-1, *[1] * (own.ndim - 1))

    def source(self, name: str, value: Array) -> Source | None:
        """How to make a value; the weight of the same name is tried first. None: it is no weight."""
        for how in self._ways(name, value):
            made = self.made(how)
            if made.shape == value.shape and np.allclose(made, value, rtol=1e-3, atol=1e-6):
                return how
        return None

    def _ways(self, name: str, value: Array) -> Iterator[Source]:
        if value.size < 2:  # a constant such as an epsilon, which may equal anything
            return
        names = [other for other, own in self._own.items() if own.shape == value.shape]
        names.sort(key=lambda other: other != name)
        yield from (("as it is", other, "") for other in names)
        if value.ndim == 2:
            yield from (
                ("transposed", other, "")
                for other, own in self._own.items()
                if own.shape == value.shape[::-1]
            )
        for norm, (scale, _) in self._norms.items():
            if len(scale) != len(value):
                continue
            if value.ndim == 1:
                yield "shifted", "", norm
                yield from (("shifted", other, norm) for other in names if other.endswith("bias"))
            else:
                yield from (("scaled", other, norm) for other in names)


def _norms(module: nn.Module) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """Scale and shift that each batch normalisation applies when it is not in training."""
    for name, part in module.named_modules():
        if isinstance(part, _Norm) and part.running_mean is not None and part.running_var is not None:
            scale = 1 / torch.sqrt(part.running_var.detach() + part.eps)
            if part.weight is not None:
                scale = scale * part.weight.detach()
            shift = -part.running_mean.detach() * scale
            if part.bias is not None:
                shift = shift + part.bias.detach()
            yield name, (scale.cpu().numpy(), shift.cpu().numpy())
