"""Decoding: any image file becomes an upright 8-bit RGB image, or an error that names the file."""

from __future__ import annotations

import io
import re
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from vizsla.errors import UnreadableImage

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | {".heic", ".heif", ".hif", ".avif"}
)
"""What a file name must end with, in any case, to be taken for an image."""

# The content decides, not the suffix. Pillow's other formats stay closed: EPS, for one, runs Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "HEIF", "AVIF")

Source = str | Path | bytes | io.BytesIO | io.BufferedReader
"""A path, a file's bytes, or a file open for binary reading."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_DECODERS = r"(PIL|pillow_heif)\."
_QUIET = ("ignore", None, Warning, re.compile(_DECODERS), 0)


def load(source: Source, size: int | None = None) -> Image.Image:
    """The image as it should be seen: RGB, turned as its EXIF data say, transparent parts on white.

    Args:    source: where the file is, or its content.
             size: the shorter side the caller needs, in px. A larger JPEG may then come back smaller
             (decoded at 1/2, 1/4 or 1/8, which is faster), but never with a side below `size`.
    Returns: 8-bit RGB. 16-bit grey is scaled, not clipped; of several frames the first is taken.
    Raises:  UnreadableImage, whatever went wrong, with the path and the reason in one line.
    """
    try:
        return _decode(source, size)
    except Exception as error:  # decoders raise a dozen unrelated kinds on broken files
        raise UnreadableImage(
            f"cannot read {_name(source)}: {_reason(error)}. Replace or remove the file."
        ) from None


def check(source: Source) -> str | None:
    """Why the file cannot be decoded, or None if it can. Decodes all of it, JPEGs at 1/8 scale."""
    try:
        _decode(source, size=1)
    except Exception as error:
        return _reason(error)
    return None


def suffix_of(content: bytes, *, pixels: int) -> str:
    """The suffix that suits an image file which comes from elsewhere, looked at only as far as its header.

    Raises: UnreadableImage for anything that Vizsla would not open, or with more pixels than that.

    >>> png = io.BytesIO()
    >>> Image.new("RGB", (8, 8)).save(png, "PNG")
    >>> suffix_of(png.getvalue(), pixels=100)
    '.png'
    """
    _open_heif()
    _silence_decoders()
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            kind, count = image.format or "", image.width * image.height
    except Exception as error:
        raise UnreadableImage(f"cannot read an image of {len(content)} bytes: {_reason(error)}.") from None
    if count > pixels:
        raise UnreadableImage(f"an image has {count:,} pixels; {pixels:,} are allowed. Make it smaller.")
    return {"DIB": ".bmp", "HEIF": ".heic"}.get(kind, f".{kind.lower()}")


def _decode(source: Source, size: int | None) -> Image.Image:
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), size)
    if isinstance(source, (str, Path)):
        with Path(source).open("rb") as file:
            return _decode(file, size)
    if not source.read(1):
        raise EOFError("the file is empty")
    _open_heif()
    _silence_decoders()
    with Image.open(source, formats=_FORMATS) as image:
        if size is not None:
            image.draft(None, (size, size))
        image.load()
        return _to_rgb(_upright(image))


@cache
def _open_heif() -> None:
    """Teach Pillow HEIC and HEIF; it knows AVIF itself."""
    import pillow_heif

    pillow_heif.register_heif_opener()


def _silence_decoders() -> None:
    """Keep the decoders' remarks (odd metadata, many pixels) from the user: the image counts.

    One lasting filter instead of `warnings.catch_warnings`, which is not safe in threads and makes
    every other library repeat its once-only warnings after each image.
    """
    if not warnings.filters or warnings.filters[0] != _QUIET:
        warnings.filterwarnings("ignore", module=_DECODERS)


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken metadata of a good image
        return image
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_to_8_bits(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _to_8_bits(image: Image.Image) -> UInt8[np.ndarray, "h w"]:
    """Deep grey to 8 bits: by its full range where that is plain, else from lowest to highest value."""
    values = np.asarray(image, dtype=np.float32)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    full_ranges = {"F": (1, 255, 65535), "I": (255, 65535)}.get(image.mode, (65535,))
    full = next((float(full) for full in full_ranges if low >= 0 and high <= full), None)
    if full is not None:
        low, high = 0.0, full
    return np.rint((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def _name(source: Source) -> str:
    if isinstance(source, bytes):
        return f"an image of {len(source)} bytes"
    return str(source) if isinstance(source, (str, Path)) else str(getattr(source, "name", "an open file"))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is damaged, or not a JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC or AVIF image"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
