"""Features of all images of a folder once, in this process and one of several ways; prints images and seconds as JSON.

    python benchmarks/embedding/one.py WAY FOLDER

Loading of libraries and of the network, and the one-time export, are told apart as `start`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does
BORN = time.perf_counter()
BATCH = 32

Measured = tuple[int, float]
"""Images and seconds."""


def plain(files: list[Path]) -> Measured:
    """(a) What a user would write: torchvision transforms, a DataLoader with a worker per core, eager PyTorch."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    from vizsla.models.backbones import load_backbone

    backbone = load_backbone()
    transform = v2.Compose(
        [
            v2.Resize(backbone.transform.size, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(backbone.transform.size),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(backbone.transform.mean, backbone.transform.std),
        ]
    )

    class Photos(Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> torch.Tensor:
            return transform(Image.open(files[index]).convert("RGB"))

    loader = DataLoader(Photos(), batch_size=BATCH, num_workers=os.cpu_count() or 1)
    model = backbone.module
    began = time.perf_counter()
    with torch.inference_mode():
        found = torch.cat([model(batch) for batch in loader])
    return len(found), time.perf_counter() - began


def vizsla(files: list[Path], precision: str = "float32") -> Measured:
    """Ours, whole: from files to rows in an empty cache, with the network exported before."""
    from vizsla.data.sources import Folder
    from vizsla.models.backbones import load_backbone
    from vizsla.models.embed import Engine, VectorStore, embed_files

    backbone = load_backbone(precision=precision)
    engine = Engine(backbone)
    _ready(engine)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        names = [str(file.absolute()) for file in files]
        found = embed_files(Folder("/"), names, engine, VectorStore(Path(folder) / "features", backbone.dim))
        return int((found.rows >= 0).sum()), time.perf_counter() - began


def vizsla_int8(files: list[Path]) -> Measured:
    """Ours with --precision int8."""
    return vizsla(files, "int8")


def model(files: list[Path], precision: str = "float32") -> Measured:
    """(b) The bare network in the same runtime, on pixels in memory, a batch in each core."""
    from vizsla.models.backbones import load_backbone
    from vizsla.models.embed import Engine, in_threads

    backbone = load_backbone(precision=precision)
    engine = Engine(backbone)
    runtime = _ready(engine)
    pixels = _pixels(files[: 16 * runtime.batch], backbone)
    batches = [pixels[start : start + runtime.batch] for start in range(0, len(pixels), runtime.batch)]
    batches *= max(1, 600 // len(pixels))
    began = time.perf_counter()
    count = sum(len(rows) for rows in in_threads(runtime, batches, ahead=runtime.at_once))
    return count, time.perf_counter() - began


def model_int8(files: list[Path]) -> Measured:
    """(b) in int8."""
    return model(files, "int8")


def decode(files: list[Path]) -> Measured:
    """(c) Decoding alone, as ours does it: files to pixels for the network, in threads."""
    from vizsla.models.backbones import load_backbone

    backbone = load_backbone()
    began = time.perf_counter()
    count = len(_pixels(files, backbone, keep=False))
    return count, time.perf_counter() - began


def _ready(engine):
    """The exported network, made where it is not there, and warm."""
    import numpy as np

    from vizsla.models.runtime import best_runtime

    engine.runtime = best_runtime(engine.backbone, engine.device, seconds=1e9)
    size = engine.backbone.transform.size
    engine.runtime(np.zeros((engine.runtime.batch, 3, size, size), np.uint8))
    return engine.runtime


def _pixels(files: list[Path], backbone, *, keep: bool = True):
    import numpy as np

    from vizsla.data.images import load
    from vizsla.models.embed import in_threads

    def one(file: Path):
        found = backbone.transform.pixels(load(file.read_bytes(), size=backbone.transform.shorter_side))
        return found if keep else found[:, :1, :1]

    return np.stack(list(in_threads(one, files, ahead=64)))


WAYS: dict[str, Callable[[list[Path]], Measured]] = {
    way.__name__: way for way in (plain, vizsla, vizsla_int8, model, model_int8, decode)
}


def main() -> None:
    way, folder = sys.argv[1:3]
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    for file in files:
        file.read_bytes()  # every way finds the files in memory
    count, seconds = WAYS[way](files)
    start = time.perf_counter() - BORN - seconds
    print(json.dumps({"images": count, "seconds": round(seconds, 3), "start": round(start, 2)}))


if __name__ == "__main__":
    main()
