"""Images per second from files to features: ours beside what a user would write, and beside its two parts alone.

    python benchmarks/embedding/run.py dogs=DOGS/train cifar10=CIFAR/train

Each measurement is a process of its own; all ways run in turn, again and again. Photos of 12 megapixels are made here.
Adds a line of JSON per run to the results and skips what is there; `report.py` makes the table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from one import WAYS
from PIL import Image

HERE = Path(__file__).parent
PHOTOS = 96
SIZE = (4000, 3000)
REPETITIONS = 5
ABOUT = 1000
"""Images of a set that is larger: evenly spaced."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("sets", nargs="+", metavar="NAME=FOLDER")
    options.add_argument("--repetitions", type=int, default=REPETITIONS)
    options.add_argument("--out", type=Path, default=HERE / f"{os.cpu_count()}cores-lite0.jsonl")
    chosen = options.parse_args()
    rows = [json.loads(line) for line in chosen.out.read_text().splitlines()] if chosen.out.exists() else []
    there = {(row["data"], row["way"], row["repetition"]) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        sets = {
            name: links(Path(source), Path(folder) / name)
            for name, source in (s.split("=", 1) for s in chosen.sets)
        }
        sets["12 megapixels"] = photographs(Path(folder) / "photos", next(iter(sets.values())))
        for repetition in range(chosen.repetitions):
            for name, files in sets.items():
                for way in WAYS:
                    if (name, way, repetition) in there:
                        continue
                    row = {"data": name, "way": way, "repetition": repetition, **run(way, files), **machine()}
                    print(json.dumps(row), flush=True)
                    with chosen.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")


def links(source: Path, folder: Path) -> Path:
    """About a thousand of the images, evenly spaced."""
    files = sorted(path.resolve() for path in source.rglob("*") if path.is_file())
    folder.mkdir()
    for number in np.unique(np.linspace(0, len(files) - 1, min(ABOUT, len(files))).astype(int)):
        (folder / f"{number:06d}{files[number].suffix}").symlink_to(files[number])
    return folder


def photographs(folder: Path, source: Path) -> Path:
    """Photos as a camera writes them: enlarged images with a sensor's grain, 4 MB each."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number, file in enumerate(sorted(source.iterdir())[:PHOTOS]):
        image = Image.open(file).convert("RGB").resize(SIZE, Image.Resampling.BICUBIC)
        grain = rng.normal(0, 6, (SIZE[1], SIZE[0], 1)).astype(np.float32)
        pixels = np.clip(np.asarray(image, np.float32) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.jpg", quality=90)
    return folder


def run(way: str, files: Path) -> dict:
    command = [sys.executable, str(HERE / "one.py"), way, str(files)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def machine() -> dict:
    libraries = {name: version(name) for name in ("torch", "onnxruntime", "pillow")}
    return {"load": round(os.getloadavg()[0], 1), "cores": os.cpu_count(), **libraries}


if __name__ == "__main__":
    main()
