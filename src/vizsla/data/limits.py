"""How much one image file may cost, whatever it claims to be: memory, pixels, and scans of a JPEG."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from vizsla.errors import BadOption, UnreadableImage

MEMORY = "VIZSLA_IMAGE_MEMORY"
"""The environment variable that says how much memory decoding one file may take, its content included."""
DEFAULT_MEMORY = "450MB"
PIXELS = 178_956_970
"""Pixels of one image: what Pillow takes for an attack beyond. Seconds of decoding, in the slowest format."""
SCANNED_PIXELS = 2_000_000_000
"""Pixels of a JPEG times the scans it is stored in: each scan goes over all of them. Ten scans are usual."""
RUN_BYTES = 4_000_000
"""Bytes of a run-length encoded BMP, which is decoded in Python."""
LARGE = 2**25
"""Pixels from which an image is shrunk on the way, and decoded while no other large one is."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""A pixel takes in Pillow; 4 in all other modes."""
_DECODERS = {"WEBP": 13, "AVIF": 8, "HEIF": 5}  # bytes a pixel beyond that, as measured
_COEFFICIENTS = 6  # bytes a pixel that a JPEG of several scans takes, however small it is decoded
_ALONE = 128_000_000  # bytes from which images are decoded one after the other
_one_at_a_time = threading.Lock()


def size_from(variable: str, default: str) -> int:
    """The bytes that an environment variable allows, such as `500MB`.

    >>> os.environ["ROOM"] = "1.5 GB"
    >>> size_from("ROOM", "1GB")
    1500000000
    >>> del os.environ["ROOM"]
    """
    said = os.environ.get(variable) or default
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)I?B?\s*", said.upper())
    if found is None:
        raise BadOption(
            f"{variable}={said} is no size. Give bytes, or a number with a unit such as 500MB or 10GB."
        )
    return int(float(found[1]) * _UNITS[found[2]])


def memory() -> int:
    """Bytes that decoding one file may take."""
    return size_from(MEMORY, DEFAULT_MEMORY)


def check_file(length: int) -> None:
    """Raises UnreadableImage for a file that takes too much memory even as it lies there."""
    _check(length, f"it has {_size(length)}")


def check_pixels(width: int, height: int) -> None:
    """Raises UnreadableImage for an image with more pixels than are decoded."""
    if width * height > PIXELS:
        most = PIXELS // 10**6
        raise UnreadableImage(
            f"it has {width:,} × {height:,} pixels, and {most} million are allowed: make it smaller"
        )


def check_memory(cost: int, width: int, height: int) -> None:
    """Raises UnreadableImage for an image whose decoding takes more memory than is allowed."""
    _check(cost, f"its {width:,} × {height:,} pixels would take {_size(cost)} of memory")


def _check(cost: int, what: str) -> None:
    if cost > memory():
        raise UnreadableImage(
            f"{what}, and {_size(memory())} are allowed: make it smaller, or set {MEMORY} to more"
        )


def _size(count: int) -> str:
    return f"{-(-count // 10**6):,} MB" if count >= 10**6 else f"{-(-count // 1000)} kB"


def check_scans(width: int, height: int, scans: int) -> None:
    """Raises UnreadableImage for a JPEG that would be gone over too often."""
    if scans * width * height > SCANNED_PIXELS:
        raise UnreadableImage(
            f"its {width:,} × {height:,} pixels are stored in {scans:,} scans: save it anew"
        )


def check_runs(length: int) -> None:
    """Raises UnreadableImage for a run-length encoded BMP that would take too long."""
    if length > RUN_BYTES:
        raise UnreadableImage(
            f"it is a run-length encoded BMP of {_size(length)}, and {_size(RUN_BYTES)} are allowed: "
            "save it without compression"
        )


def decoded_bytes(image: Image.Image) -> int:
    """Memory that decoding an opened image takes, at the size that it is set to."""
    each = _BYTES.get(image.mode, 4) + _DECODERS.get(image.format or "", 0)
    return image.width * image.height * each


def deep_bytes(image: Image.Image) -> int:
    """The same for one of more than 8 bits, where the samples are kept beside the picture."""
    colours = len(image.getbands()) > 1
    return image.width * image.height * (14 if colours else 4 + 2 * _BYTES.get(image.mode, 4))


def scan_bytes(width: int, height: int, scans: int) -> int:
    """Memory that a JPEG takes beside its pixels: its coefficients, if it has several scans, at whatever size."""
    return width * height * _COEFFICIENTS if scans > 1 else 0


def shrinking(image: Image.Image, cost: int, size: int | None) -> int:
    """By how much the sides of a decoded image are divided on its way to RGB.

    Args: cost: memory that it takes by now. size: the shorter side that is needed; a large image keeps twice that.
    """
    pixels, by = image.width * image.height, 1
    if size is not None and pixels > LARGE:
        by = max(1, min(image.size) // (2 * size))
    if image.mode != "RGB":
        while cost + 4 * pixels // by**2 > memory():
            by += 1
    return by


@contextmanager
def turn(cost: int) -> Iterator[None]:
    """Decode here: at once, or when what takes much memory is alone in this process."""
    if cost < _ALONE:
        yield
    else:
        with _one_at_a_time:
            yield
