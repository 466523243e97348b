"""PyTorch's compiler, for a GPU: kernels fused for whole batches of one size, used only if they agree with PyTorch."""

from __future__ import annotations

import logging
import time
from typing import cast

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from vizsla.models.backbones import Backbone
from vizsla.models.int8 import cosines
from vizsla.models.runtime import Pixels, TorchRuntime, examples, is_out_of_memory

log = logging.getLogger(__name__)

COMPILE_SECONDS = 60.0
"""About what compiling a network takes."""
LIKENESS = 0.999
"""Least cosine with PyTorch's own features: both round to bfloat16 on CUDA, at different places."""


class CompiledRuntime(TorchRuntime):
    """A compiled network. Each size of batch would be compiled anew, so smaller ones are filled up."""

    def __init__(self, backbone: Backbone, device: torch.device | str, *, backend: str = "inductor") -> None:
        super().__init__(backbone, device)
        self.name += ", compiled"
        self.module = cast("nn.Module", torch.compile(self.module, dynamic=False, backend=backend))
        self._sizes: set[int] = set()

    def __call__(self, pixels: Pixels) -> Float32[np.ndarray, "n d"]:
        size = self._size_for(len(pixels))
        blank = np.zeros((size - len(pixels), *pixels.shape[1:]), pixels.dtype)
        try:
            return super().__call__(np.concatenate([pixels, blank]))[: len(pixels)]
        except Exception as error:
            if is_out_of_memory(error):  # the caller comes again with fewer
                self._sizes.discard(size)
            raise

    def _size_for(self, n: int) -> int:
        size = min((known for known in self._sizes if known >= n), default=n)
        self._sizes.add(size)
        return size


def compiled(
    backbone: Backbone, device: torch.device | str, *, backend: str = "inductor"
) -> CompiledRuntime | None:
    """The backbone compiled for this device, after a first batch; None where that fails or disagrees."""
    began = time.monotonic()
    plain = TorchRuntime(backbone, device)
    pixels = examples(backbone.transform.size)
    whole = np.resize(pixels, (plain.batch, *pixels.shape[1:]))  # repeats them
    try:
        fast = CompiledRuntime(backbone, device, backend=backend)
        likeness = float(cosines(fast(whole), plain(whole)).min())
    except Exception as error:  # compilers raise whatever they stumble over
        log.info("backbone %s is not compiled: %s", backbone.name, " ".join(str(error).split())[:300])
        return None
    if not likeness >= LIKENESS:
        log.info("backbone %s is not compiled: cosine %.4f with PyTorch's features", backbone.name, likeness)
        return None
    log.info("backbone %s compiled in %.0f s", backbone.name, time.monotonic() - began)
    return fast
