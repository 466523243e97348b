"""The whole way from pixels to calibrated probabilities as one graph, for others to run: ONNX and torch.export.

`pixels` (n, 3, s, s), 0–255 in RGB, resized and cropped → `probabilities` (n, c); from ONNX also `features` (n, d).
Features are rounded to half precision on the way, as Vizsla's own cache rounds them, so that all agree.
"""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from vizsla.caching import write_atomically
from vizsla.errors import BadOption, BadWeights
from vizsla.models.backbones import PRECISIONS, Backbone
from vizsla.models.bundle import Bundle
from vizsla.models.classifier import Classifier, described, transform_from
from vizsla.models.embed import HALF
from vizsla.models.runtime import Exported, FromPixels, OnnxRuntime, Runtime, TorchRuntime, examples, quiet

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

AGREEMENT = 1e-4
"""Largest difference to the probabilities of `vizsla predict` at which a graph is handed over."""

_HEAD = "head."
_FACTS = "vizsla"


def write_onnx(model: Classifier, out: Path, *, cache: Path | None = None) -> None:
    """Write network and head as one ONNX graph; int8 where the network is.

    Raises: BadOption where the network cannot be exported.
    """
    exported = Exported(model.backbone, cache)
    if not exported.make():
        raise BadOption(
            f"the network {model.backbone.name} cannot be exported to ONNX: {exported.reason}. "
            "Use vizsla export torch or model."
        )
    content = _with_head(exported.file, model)
    _require_agreement(model, exported, _probabilities(content, model.backbone.transform.size))
    write_atomically(out, content)


def _with_head(network: Path, model: Classifier) -> bytes:
    import onnx
    from onnx import TensorProto, helper

    whole = onnx.load(network)
    graph = whole.graph
    nodes, constants = _head_nodes(model.bundle)
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    shape: list[str | int | None] = ["n", len(model.classes)]
    graph.output.insert(0, helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape))
    facts = model.bundle.facts | described(model.backbone)
    told = {
        "classes": json.dumps(list(model.classes), ensure_ascii=False),
        _FACTS: json.dumps(facts, ensure_ascii=False),
    }
    helper.set_model_props(whole, told)
    onnx.checker.check_model(whole)
    return whole.SerializeToString()


def _head_nodes(bundle: Bundle) -> tuple[list[NodeProto], list[TensorProto]]:
    """`features` to `probabilities`, in operations that any version of ONNX since 13 has."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {name: part.T if name in ("weights", "axes") else part for name, part in bundle.head.items()}
    limits = {"least": -HALF, "most": HALF, "tiny": 1e-12, "temperature": bundle.temperature}
    constants |= {name: np.array(value, np.float32) for name, value in limits.items()}
    constants["along"] = np.array([1], np.int64)
    nodes: list[NodeProto] = []

    def then(operation: str, *inputs: str, **options: Any) -> str:
        name = f"{_HEAD}step{len(nodes)}"
        given = [f"{_HEAD}{each}" if each in constants else each for each in inputs]
        nodes.append(helper.make_node(operation, given, [name], **options))
        return name

    rows = then("Clip", "features", "least", "most")
    rows = then("Cast", then("Cast", rows, to=TensorProto.FLOAT16), to=TensorProto.FLOAT)
    if bundle.axes is not None:
        rows = then("MatMul", then("Sub", rows, "centre"), "axes")
        squares = then("ReduceSum", then("Mul", rows, rows), "along", keepdims=1)
        rows = then("Div", rows, then("Max", then("Sqrt", squares), "tiny"))
    logits = then("Div", then("Add", then("MatMul", rows, "weights"), "bias"), "temperature")
    nodes.append(helper.make_node("Softmax", [logits], ["probabilities"], axis=1))
    tensors = [
        numpy_helper.from_array(np.ascontiguousarray(value), f"{_HEAD}{name}")
        for name, value in constants.items()
    ]
    return nodes, tensors


def read_onnx(file: Path) -> Classifier:
    """The model in a file that `write_onnx` wrote; its network runs in ONNX Runtime.

    Raises: BadWeights for any other file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        whole = onnx.load(file)
        facts = _facts(whole)
    except (OSError, DecodeError, KeyError, ValueError):
        raise BadWeights(
            f"{file} is no model that Vizsla wrote. Make one with: vizsla export onnx."
        ) from None
    head = {
        part.name.removeprefix(_HEAD): onnx.numpy_helper.to_array(part)
        for part in whole.graph.initializer
        if part.name.startswith(_HEAD)
    }
    head |= {name: head[name].T for name in ("weights", "axes") if name in head}
    transform = transform_from(facts["transform"])
    runtime = OnnxRuntime(whole.SerializeToString(), transform.size)
    dim = int(whole.graph.output[1].type.tensor_type.shape.dim[1].dim_value)
    backbone = Backbone(
        facts["backbone"], nn.Identity(), transform, dim, facts["weights"], facts["precision"]
    )
    return Classifier(Bundle.of(head, facts, {}), backbone, runtime=runtime)


def _facts(whole: ModelProto) -> dict[str, Any]:
    told = {entry.key: entry.value for entry in whole.metadata_props}
    facts: dict[str, Any] = json.loads(told[_FACTS])
    return facts


def write_torch(model: Classifier, out: Path) -> None:
    """Write network and head as a program of torch.export, which needs only PyTorch to run.

    Raises: BadOption for a network in int8, or one that cannot be exported.
    """
    backbone = model.backbone
    if backbone.precision != PRECISIONS[0]:
        raise BadOption(f"PyTorch has no {backbone.precision} of this network. Use vizsla export onnx.")
    size = backbone.transform.size
    whole = copy.deepcopy(WholeWay(model.bundle, backbone)).eval().requires_grad_(False)
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    file = io.BytesIO()
    try:
        with torch.no_grad(), quiet():
            program = torch.export.export(
                whole, (example,), dynamic_shapes={"pixels": {0: torch.export.Dim("n")}}
            )
            torch.export.save(program, file, extra_files={"classes.json": json.dumps(list(model.classes))})
    except Exception as error:  # exporters raise whatever they stumble over
        reason = " ".join(str(error).split())[:200]
        raise BadOption(
            f"the network {backbone.name} cannot be exported by torch.export: {reason}. Use vizsla export model."
        ) from error
    write_atomically(out, file.getvalue())


class WholeWay(nn.Module):
    """Normalisation, network, head and temperature in one."""

    centre: Tensor
    axes: Tensor
    weights: Tensor
    bias: Tensor

    def __init__(self, bundle: Bundle, backbone: Backbone) -> None:
        super().__init__()
        self.network = FromPixels(backbone)
        self.temperature = bundle.temperature
        self.on_axes = bundle.axes is not None
        for name, part in bundle.head.items():
            self.register_buffer(name, torch.from_numpy(part.copy()))

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, s, s) pixels 0–255 → (n, c) probabilities."""
        rows = self.network(pixels).clamp(-HALF, HALF).half().float()
        if self.on_axes:
            rows = (rows - self.centre) @ self.axes.T
            rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return ((rows @ self.weights.T + self.bias) / self.temperature).softmax(dim=1)


def _probabilities(content: bytes, size: int) -> Float32[np.ndarray, "n c"]:
    """What the graph says of the example images."""
    session = OnnxRuntime(content, size).session
    (found,) = session.run(["probabilities"], {"pixels": examples(size)})
    return np.asarray(found)


def _require_agreement(model: Classifier, exported: Exported, found: Float32[np.ndarray, "n c"]) -> None:
    """Raise unless the graph says of the examples what the head says of the network's features."""
    backbone = model.backbone
    runtime: Runtime = (
        TorchRuntime(backbone)
        if backbone.precision == PRECISIONS[0]
        else OnnxRuntime(exported.file, backbone.transform.size)
    )
    features = runtime(examples(backbone.transform.size)).clip(-HALF, HALF).astype(np.float16)
    off = float(np.abs(model.bundle.predict(features) - found).max())
    if not off <= AGREEMENT:
        raise BadWeights(
            f"the ONNX graph of {backbone.name} gives other probabilities than the model, by {off:.2g}. "
            "Use vizsla export torch or model."
        )
