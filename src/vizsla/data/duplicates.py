"""Near-duplicates: the same picture as another camera, a crop or a compression would have given it."""

from __future__ import annotations

import hashlib
import io

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

SMALLEST_CROP = 0.88
"""Share of each side that is kept at least."""
BRIGHTNESS = 0.15
"""Brightness changes by this share at most, up or down."""
QUALITY = 60, 95
"""JPEG qualities, from and below."""


def near_duplicate(image: Image.Image, copy: int) -> Image.Image:
    """The image slightly changed: cropped, mirrored or not, lighter or darker, saved as a JPEG.

    Args:    image: RGB. copy: which of its duplicates; each is another change.
    Returns: RGB, a little smaller. What is changed depends on the pixels and on `copy` alone.
    """
    content = hashlib.sha256(image.tobytes()).digest()
    rng = np.random.default_rng([copy, *np.frombuffer(content, np.uint32).tolist()])
    changed = _cropped(image, rng)
    if rng.random() < 0.5:
        changed = ImageOps.mirror(changed)
    changed = ImageEnhance.Brightness(changed).enhance(float(rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS)))
    return _compressed(changed, quality=int(rng.integers(*QUALITY)))


def _cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = (max(1, round(side * rng.uniform(SMALLEST_CROP, 1))) for side in image.size)
    left, top = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
    return image.crop((int(left), int(top), int(left) + width, int(top) + height))


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file, formats=("JPEG",)).convert("RGB")
