"""How fast the backbone runs here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vizsla.doctor.finding import Finding, ok, problem, warning

if TYPE_CHECKING:
    from vizsla.models.runtime import Runtime


def speed(seconds: float) -> Iterator[Finding]:
    """Images a second of the default backbone, without reading and decoding; nothing is exported or kept for it."""
    from vizsla.models.backbones import load_backbone
    from vizsla.models.runtime import Exported, TorchRuntime, best_runtime

    network = load_backbone()
    exported = Exported(network)
    try:
        runtime = best_runtime(network)
    except Exception as error:  # ONNX Runtime has many of its own
        if not exported.is_there:
            raise
        said = " ".join(str(error).split())[:200]
        mend = "Delete that file: the network is exported again when it next pays."
        yield problem("speed", f"{exported.file} cannot be loaded: {said}", mend, exported=True)
        return
    rate = images_per_second(runtime, network.transform.size, seconds)
    on_processor = isinstance(runtime, TorchRuntime) and runtime.device.type == "cpu"
    facts = {
        "backbone": network.name,
        "runtime": runtime.name,
        "images_per_second": rate,
        "exported": exported.is_there,
    }
    text = f"{rate:,.0f} images/s, {network.name} in {runtime.name}"
    if on_processor and exported.reason:
        mend = "Update: pip install --upgrade torch onnx onnxscript onnxruntime"
        yield warning("speed", f"{text}; it could not be exported: {exported.reason}", mend, **facts)
    elif on_processor:
        yield ok(
            "speed",
            f"{text}; the first larger folder has it exported, which is several times as fast",
            **facts,
        )
    else:
        yield ok("speed", text, **facts)


def images_per_second(runtime: Runtime, size: int, seconds: float) -> float:
    """Batches of noise through the runtime, as many side by side as gain from it."""
    import numpy as np

    from vizsla.models.backbones import one_thread
    from vizsla.models.embed import in_threads

    pixels = np.random.default_rng(0).integers(0, 256, (runtime.batch, 3, size, size), np.uint8)
    runtime(pixels)  # the first is slow
    began, batches = time.monotonic(), 0
    until = (pixels for _ in iter(lambda: time.monotonic() < began + seconds, False))
    with one_thread():
        for _ in in_threads(runtime, until, ahead=runtime.at_once):
            batches += 1
    return batches * runtime.batch / (time.monotonic() - began)
