"""Unpacks CIFAR-10 and draws 500 training and 200 test images of each class.

python benchmarks/labels/cifar.py cifar10.tar.xz FOLDER      FOLDER/small/{train,test}/CLASS/*.jpg
"""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import numpy as np

COUNTS = {"train": 500, "test": 200}


def main() -> None:
    """Unpack once, draw anew."""
    archive, folder = map(Path, sys.argv[1:])
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    rng = np.random.default_rng(0)
    for part, count in COUNTS.items():
        for images in sorted((folder / part).iterdir()):
            target = folder / "small" / part / images.name
            target.mkdir(parents=True, exist_ok=True)
            names = sorted(images.iterdir())
            for image in (names[place] for place in rng.permutation(len(names))[:count]):
                (target / image.name).symlink_to(image.resolve())


if __name__ == "__main__":
    main()
