"""The fast way to run a backbone on this machine.

On the CPU that is ONNX Runtime, once the network has been exported; on CUDA PyTorch in bfloat16, compiled once that
pays; elsewhere PyTorch. An export counts only if it agrees with PyTorch. n images of s × s pixels, d features.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import joblib
import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from vizsla.caching import cache_dir, write_atomically
from vizsla.errors import BadOption, BadWeights
from vizsla.models.backbones import Backbone, Transform, one_thread
from vizsla.models.int8 import cosines, photo_crops, quantise

log = logging.getLogger(__name__)

AGREEMENT = 1e-3
"""Largest difference to PyTorch's features, as a part of the largest feature, at which an export is accepted."""
LIKENESS = 0.98
"""Least mean cosine with the features in float32 at which an int8 network is accepted."""
EXPORT_SECONDS = 20.0
"""About what an export takes on an ordinary CPU."""
_SAVED = 0.5  # part of PyTorch's time that ONNX Runtime saves, at the least
_PIXELS = 16 * 224**2  # in a batch of one thread: what its caches hold

Pixels = UInt8[np.ndarray, "n 3 s s"]


def cores() -> int:
    """CPUs that this process may use: neither those of others (affinity) nor more than a container's quota."""
    return int(joblib.cpu_count())


def best_device() -> str:
    """A CUDA or Apple GPU where PyTorch finds one, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class Runtime(Protocol):
    """Runs one network. Safe to call from several threads at once."""

    name: str
    """What it is, for people."""
    at_once: int
    """Calls that gain from running side by side."""
    batch: int
    """Images to give it in one call."""

    def __call__(self, pixels: Pixels) -> Float32[np.ndarray, "n d"]: ...


class TorchRuntime:
    """PyTorch as it is: channels last, and bfloat16 on CUDA, where that is several times faster."""

    def __init__(self, backbone: Backbone, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.transform = backbone.transform
        self.module = backbone.module.to(self.device).to(memory_format=torch.channels_last)
        cuda = self.device.type == "cuda"
        self.name = f"PyTorch on {self.device.type}" + (", bfloat16" if cuda else "")
        self.at_once = (
            cores() if self.device.type == "cpu" else 2
        )  # one is copied while the other is computed
        self.batch = _batch(backbone.transform.size) if self.device.type == "cpu" else 256
        self._low = torch.autocast("cuda", torch.bfloat16) if cuda else contextlib.nullcontext()

    def __call__(self, pixels: Pixels) -> Float32[np.ndarray, "n d"]:
        return self._compute(pixels).cpu().numpy()

    @torch.inference_mode()
    def _compute(self, pixels: Pixels) -> Float32[Tensor, "n d"]:
        rows = torch.from_numpy(pixels)
        if self.device.type == "cuda":
            rows = rows.pin_memory().to(self.device, non_blocking=True)
        inputs = self.transform.normalise(rows.to(self.device)).contiguous(memory_format=torch.channels_last)
        with self._low:
            return self.module(inputs).float()


class OnnxRuntime:
    """An exported network in ONNX Runtime on the CPU, each call in the thread that makes it."""

    def __init__(self, network: Path | bytes, size: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        self.name = f"ONNX Runtime {onnxruntime.__version__}"
        self.at_once = cores()
        self.batch = _batch(size)

    def __call__(self, pixels: Pixels) -> Float32[np.ndarray, "n d"]:
        (features,) = self.session.run(["features"], {"pixels": pixels})
        return np.asarray(features)


def _batch(size: int) -> int:
    return max(1, min(64, _PIXELS // size**2))


def is_out_of_memory(error: Exception) -> bool:
    """Whether that is what a runtime means; ONNX Runtime has no kind of error for it."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)


def best_runtime(
    backbone: Backbone,
    device: torch.device | str | None = None,
    *,
    seconds: float = 0.0,
    cache: Path | None = None,
) -> Runtime:
    """The fastest runtime that there is; exports or compiles the network if that pays.

    Args: device: default: `best_device`.
          seconds: what PyTorch would take for the images to come. Exporting takes about 20 s, once; compiling
          for CUDA a minute, in each process.
    """
    if backbone.precision == "int8":
        return _in_int8(backbone, cache)
    device = torch.device(device or best_device())
    if device.type == "cpu":
        exported = Exported(backbone, cache)
        if exported.is_there or (seconds * _SAVED > EXPORT_SECONDS and exported.make()):
            return OnnxRuntime(exported.file, backbone.transform.size)
    if device.type == "cuda":
        from vizsla.models.compiled import COMPILE_SECONDS, compiled

        if seconds * _SAVED > COMPILE_SECONDS and (fast := compiled(backbone, device)):
            return fast
    return TorchRuntime(backbone, device)


def _in_int8(backbone: Backbone, cache: Path | None) -> Runtime:
    exported = Exported(backbone, cache)
    if not exported.make():
        raise BadOption(
            f"backbone {backbone.name} does not work in int8: {exported.reason}. Leave --precision out."
        )
    return OnnxRuntime(exported.file, backbone.transform.size)


class Exported:
    """A backbone as a file for ONNX Runtime: made once, found again by what decides its features.

    The graph takes pixels 0–255 and normalises them itself. A network that cannot be exported, or whose export
    disagrees with PyTorch, is noted too, so that nobody waits for it twice.
    """

    def __init__(
        self,
        backbone: Backbone,
        cache: Path | None = None,
        *,
        export: Callable[[Backbone, Path], None] | None = None,
    ) -> None:
        self.backbone = backbone
        self.folder = (cache or cache_dir()) / "onnx"
        self.file = self.folder / f"{backbone.key}.onnx"
        self._export = export
        self._note = self.folder / f"{backbone.key}-{torch.__version__}.json"

    @property
    def is_there(self) -> bool:
        return self.file.exists()

    @property
    def reason(self) -> str | None:
        """Why this version of PyTorch could not export it; None if it did or has not tried."""
        try:
            return str(json.loads(self._note.read_text(encoding="utf-8"))["reason"])
        except (OSError, ValueError, KeyError):
            return None

    def make(self) -> bool:
        """Export it, unless that is known to fail; whether the file is there now."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{self.backbone.key}.lock"):  # of two processes one exports
            if self.is_there or self.reason:
                return self.is_there
            began = time.monotonic()
            try:
                with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                    draft = Path(folder) / "draft.onnx"
                    self._write(draft)
                    draft.replace(self.file)
            except Exception as error:  # exporters raise whatever they stumble over
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                write_atomically(self._note, json.dumps({"backbone": self.backbone.name, "reason": reason}))
                log.info("backbone %s stays with PyTorch: %s", self.backbone.name, reason)
                return False
            log.info("backbone %s exported in %.0f s", self.backbone.name, time.monotonic() - began)
            return True

    def _write(self, draft: Path) -> None:
        """Export it, and see whether it may be used."""
        size = self.backbone.transform.size
        if self.backbone.precision != "int8":
            (self._export or export)(self.backbone, draft)
            return _require_agreement(self.backbone, OnnxRuntime(draft, size))
        whole = Exported(replace(self.backbone, precision="float32"), self.folder.parent)
        if not whole.make():
            raise BadWeights(whole.reason)
        with quiet():
            quantise(whole.file, draft, self.backbone.transform)
        return _require_likeness(self.backbone, OnnxRuntime(draft, size), OnnxRuntime(whole.file, size))


def export(backbone: Backbone, file: Path) -> None:
    """Write the network as an ONNX graph: `pixels` (n, 3, s, s) of 0–255 → `features` (n, d)."""
    size = backbone.transform.size
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    options: dict[str, Any] = {"dynamo": True, "external_data": False, "verbose": False}
    network = FromPixels(backbone).eval()
    with torch.no_grad(), quiet():
        torch.onnx.export(
            network,
            (example,),
            str(file),
            dynamic_shapes={"pixels": {0: torch.export.Dim("n")}},
            input_names=["pixels"],
            output_names=["features"],
            **options,
        )


class FromPixels(nn.Module):
    """Normalisation and network in one."""

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.module = backbone.module
        transform: Transform = backbone.transform
        mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (transform.mean, transform.std))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", mean / std)

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.module(pixels.float() * self.scale - self.shift)
        return features


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters warn and log about what their users cannot mend."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def agree(backbone: Backbone, runtime: Runtime) -> bool:
    """Whether the runtime's features are PyTorch's."""
    return _difference(backbone, runtime) <= AGREEMENT  # NaN: no


def _require_agreement(backbone: Backbone, runtime: Runtime) -> None:
    off = _difference(backbone, runtime)
    if not off <= AGREEMENT:
        raise BadWeights(f"its features differ from PyTorch's by {off:.2g} of the largest")


def _difference(backbone: Backbone, runtime: Runtime) -> float:
    pixels = examples(backbone.transform.size)
    with one_thread():
        expected = TorchRuntime(backbone)(pixels)
    found = runtime(pixels)
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max()) / max(float(np.abs(expected).max()), 1e-12)


def _require_likeness(backbone: Backbone, runtime: Runtime, whole: Runtime) -> None:
    pixels = photo_crops(backbone.transform, 20, seed=1)
    likeness = float(cosines(runtime(pixels), whole(pixels)).mean())
    if not likeness >= LIKENESS:
        raise BadWeights(f"cosine {likeness:.3f} with the features in float32")


def examples(size: int) -> Pixels:
    """Noise, a flat grey, slopes, and a coarse pattern: three more than the batch that was traced."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2, 3, size, size), np.uint8)
    flat = np.full((1, 3, size, size), 100, np.uint8)
    slope = np.broadcast_to(np.linspace(0, 255, size).astype(np.uint8), (1, 3, size, size))
    coarse = rng.integers(0, 256, (1, 3, 8, 8), np.uint8).repeat(-(-size // 8), 2).repeat(-(-size // 8), 3)
    return np.ascontiguousarray(np.concatenate([noise, flat, slope, coarse[:, :, :size, :size]]))
