"""How long a folder of 100,000 images takes whose features are all known: the cache alone, and the whole call.

python benchmarks/embedding/reopen.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from vizsla.data.indexed import IndexedDataset
from vizsla.models.backbones import Backbone, Transform
from vizsla.models.embed import Engine, embed, vector_store

IMAGES = 100_000
DIM = 1280


class Made(Engine):
    """Features without a network: what is timed is everything else."""

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        return np.random.default_rng(int(pixels.sum())).normal(size=(len(pixels), DIM)).astype(np.float32)


def backbone() -> Backbone:
    return Backbone("made", nn.Identity(), Transform(32), DIM, "made")  # the module is never called


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(reopened(Path(sys.argv[1]), Path(sys.argv[2]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        images, cache = Path(folder) / "images", Path(folder) / "cache"
        make(images)
        import vizsla.models.embed as room

        room.Engine = Made  # type: ignore[misc]
        began = time.perf_counter()
        embed(IndexedDataset(images, check=False), backbone(), cache=cache)
        print(
            f"{IMAGES:,} images, first time without a network: {time.perf_counter() - began:.1f} s",
            flush=True,
        )
        for _ in range(3):
            subprocess.run([sys.executable, __file__, str(images), str(cache)], check=True)


def make(folder: Path) -> None:
    for image in range(IMAGES):
        place = folder / f"{image // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.full((4, 4, 3), [image % 256, image // 256 % 256, image // 65536], np.uint8)
        Image.fromarray(pixels).save(place / f"{image:06d}.png", compress_level=0)


def reopened(images: Path, cache: Path) -> dict[str, float]:
    began = time.perf_counter()
    store = vector_store(backbone(), cache)
    rows = store.find(list(store._rows))
    store.read(rows)
    opened = time.perf_counter()
    dataset = IndexedDataset(images, check=False)
    listed = time.perf_counter()
    found = embed(dataset, backbone(), cache=cache)
    done = time.perf_counter()
    assert len(found.ids) == IMAGES
    return {
        "cache opened, every row checked": round(opened - began, 2),
        "folder listed": round(listed - opened, 2),
        "whole call": round(done - listed, 2),
    }


if __name__ == "__main__":
    main()
