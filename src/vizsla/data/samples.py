"""Images that are always at hand: scikit-learn's 1,797 handwritten digits, as PNG class folders."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from vizsla.caching import cache_dir, explain_write_errors

DEMO = {
    "strategies": ("random", "margin", "auto"),
    "seeds": 10,
    "initial": 0,
    "batch": 20,
    "budget": 200,
    "random_budget": 200,
    "image_size": 64,
}
"""Settings of `vizsla demo`."""

SIDE = 32
"""Pixels of a side; the originals have 8, which no screen shows well."""


def digits_folder() -> Path:
    """The folder of samples, `0/` … `9/`, written into the cache the first time.

    Source: E. Alpaydin and C. Kaynak 1998, Optical Recognition of Handwritten Digits, doi:10.24432/C50P49
    (the test part, as scikit-learn carries it).
    """
    folder = cache_dir() / "samples" / "digits"
    if not folder.exists():
        unfinished = folder.with_name(f".digits.{secrets.token_hex(4)}")
        with explain_write_errors(folder):
            try:
                _write_digits(unfinished)
                _rename_once(unfinished, folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _write_digits(folder: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
    for number, (pixels, label) in enumerate(zip(images.reshape(-1, 8, 8), labels, strict=True)):
        image = Image.fromarray(np.uint8(np.round(pixels * 255 / 16)))
        image.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / str(label) / f"{number:04d}.png")


def _rename_once(unfinished: Path, folder: Path) -> None:
    try:
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster, with the same images
            raise
