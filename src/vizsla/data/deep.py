"""Pictures of other numbers than 8 bits, shown over the range that they use: black at its low end, white at its top."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Num, Shaped, UInt8, UInt16
from PIL import Image

from vizsla.errors import UnreadableImage

EDITION = 2
"""Counts up when these pictures come to look otherwise: what was kept of them no longer holds then."""
_PLAIN_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".heic", ".heif", ".hif", ".avif")
_AT_ONCE = 2**20
"""Values looked at in one go, so that a picture takes little more memory than its numbers do."""
_BITS, _PHOTOMETRIC, _PLANES, _KIND, _BLANK = 258, 262, 284, 339, 42113  # tags of a TIFF
_RGB = 2  # the largest photometric interpretation of numbers that are brightness: 0 and 1 are grey
_UNSIGNED = 1
_BYTE, _WORD = 255, 65535
_MOST_HALVINGS = 8
"""Of the range of fractions, as from 16 bits to 8: what is darker is what a sensor sees in the dark."""


@dataclass(frozen=True, eq=False)
class Deep:
    """A picture as its file holds it."""

    colours: Shaped[np.ndarray, "h w *bands"]
    """(h, w) grey or (h, w, 3) red, green, blue: whole numbers or fractions of any width."""
    alpha: Shaped[np.ndarray, "h w"] | None = None
    premultiplied: bool = False
    """Whether the colours are dimmed by alpha already."""
    white_is_zero: bool = False
    blank: float | None = None
    """A value that stands for no measurement."""

    def picture(self) -> Image.Image:
        """RGB of 8 bits, transparent parts on white."""
        colour_range = value_range(self.colours, self.blank)
        alpha_range = (0.0, 1.0) if self.alpha is None else value_range(self.alpha)
        height, width = self.colours.shape[:2]
        out = Image.new("RGB", (width, height))
        for rows in _parts(self.colours):
            part = _scaled(self.colours[rows], *colour_range, self.blank)
            if self.white_is_zero:
                part = _BYTE - part
            if self.alpha is not None:
                part = self._on_white(part, _scaled(self.alpha[rows], *alpha_range))
            out.paste(Image.fromarray(part), (0, rows.start))
        return out

    def _on_white(
        self, colours: UInt8[np.ndarray, "h w *bands"], alpha: UInt8[np.ndarray, "h w"]
    ) -> UInt8[np.ndarray, "h w *bands"]:
        share = (alpha if colours.ndim == 2 else alpha[..., None]) / _BYTE
        light = colours if self.premultiplied else colours * share
        return np.rint(light + _BYTE * (1 - share)).clip(0, _BYTE).astype(np.uint8)


def may_be_deep(name: str) -> bool:
    """Whether an image of that name may be a deep one. Formats of 8 bits go by their own suffix.

    >>> may_be_deep("cells/1.TIF"), may_be_deep("photo.JPG")
    (True, False)
    """
    return not name.lower().endswith(_PLAIN_SUFFIXES)


def is_deep(image: Image.Image) -> bool:
    """Whether an image that Pillow has opened has samples that are signed, fractions, or of more than 8 bits."""
    if image.format == "PNG":
        return any("16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    if image.format != "TIFF":
        return image.mode in ("I", "F") or image.mode.startswith("I;16")
    bits, kinds = _tag(image, _BITS, (1,)), _tag(image, _KIND, (_UNSIGNED,))
    return _tag(image, _PHOTOMETRIC, 0) <= _RGB and (max(bits) > 8 or max(kinds) > _UNSIGNED)


def high_bytes_suffice(image: Image.Image) -> bool:
    """Decode a deep image, and say whether it is right as Pillow gives it: colours that need all of their 16 bits."""
    raw = str([tile[3] for tile in getattr(image, "tile", ())])
    image.load()
    if image.mode not in ("RGB", "RGBA") or "transparency" in image.info:
        return False
    if "RGBa" in raw or (image.format == "TIFF" and _tag(image, _PLANES, 1) != 1):
        return False  # Pillow divides by the high byte of alpha, and reads colours in planes as of 8 bits
    return int(np.max([image.getchannel(band).getextrema() for band in "RGB"])) > _BYTE // 2


def from_pillow(file: io.BytesIO | io.BufferedReader, image: Image.Image) -> Deep:
    """The samples of a deep image that Pillow has decoded.

    Raises: UnreadableImage for what needs another decoder.
    """
    if image.mode in ("RGB", "RGBA"):
        values = _both_bytes(file, image)
        bands = 1 if values.shape[2] < 3 else 3
        colours = values[..., 0] if bands == 1 else values[..., :3]
        alpha = values[..., bands] if values.shape[2] > bands else None
    else:
        colours, alpha = _typed(image), None
    clear = image.info.get("transparency")  # the colour of a PNG that is none
    if clear is not None:
        seen = colours != np.asarray(clear)
        alpha = np.where(seen if seen.ndim == 2 else seen.any(axis=2), np.uint8(_BYTE), np.uint8(0))
    return Deep(
        colours,
        alpha,
        white_is_zero=image.format == "TIFF" and _tag(image, _PHOTOMETRIC, 0) == 0,
        blank=number(_tag(image, _BLANK, None)),
    )


def _typed(image: Image.Image) -> Num[np.ndarray, "h w"]:
    """Grey samples as the type that a TIFF says they are, where Pillow has another."""
    tags = getattr(image, "tag_v2", None)
    if image.mode in ("I", "F") and tags is not None and tags.prefix == b"MM":
        # the decoder of compressed samples gives them in this machine's order, and Pillow turns them once more
        raise UnreadableImage("big-endian samples in this compression need: pip install imagecodecs")
    values = np.asarray(image)
    unsigned = max(_tag(image, _KIND, (_UNSIGNED,))) == _UNSIGNED
    if image.mode == "L":
        return values.view(np.int8)
    return values.view(np.uint32) if image.mode == "I" and image.format == "TIFF" and unsigned else values


def _both_bytes(file: io.BytesIO | io.BufferedReader, high: Image.Image) -> UInt16[np.ndarray, "h w bands"]:
    """Colours of 16 bits. Pillow gives the high byte of each; read in the other byte order it gives the low one."""
    file.seek(0)
    with Image.open(file, formats=(high.format or "",)) as low:
        grey = any(tile[3] == "LA;16B" for tile in low.tile)
        low.tile = [tile._replace(args=_swapped(tile.args)) for tile in low.tile]
        low.load()
        values = np.empty((high.height, high.width, 2 if grey else len(high.getbands())), np.uint16)
        for rows in _parts(values):
            box = (0, rows.start, high.width, rows.stop)
            below = np.asarray(low.crop(box))
            if grey:  # both bytes of both bands are in the four of the low ones
                values[rows] = below.view(">u2")
            else:
                values[rows] = np.asarray(high.crop(box)).astype(np.uint16) << 8 | below
        return values


def _swapped(args: Any) -> Any:
    """What tells Pillow's decoder to read 16 bits in the other byte order."""
    raw = args if isinstance(args, str) else args[0]
    if raw == "LA;16B":
        return "RGBA"
    kind, _, order = raw.partition(";16")
    if kind not in ("RGB", "RGBA", "RGBX"):
        raise UnreadableImage(
            f"16-bit samples of the kind {kind} in this compression need: pip install imagecodecs"
        )
    other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[order]
    return f"{kind};16{other}" if isinstance(args, str) else (f"{kind};16{other}", *args[1:])


def number(text: object) -> float | None:
    """What a tag says in words; None where that is no number."""
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def _tag(image: Image.Image, tag: int, default: Any) -> Any:
    return getattr(image, "tag_v2", {}).get(tag, default)


def to_8_bits(
    values: Num[np.ndarray, "h w *bands"], blank: float | None = None
) -> UInt8[np.ndarray, "h w *bands"]:
    """The values from 0, for the low end of their range (see `value_range`), to 255, for its top.

    NaN, minus infinity and `blank` become 0, infinity 255.

    >>> to_8_bits(np.array([[0, 819, 4095]], np.uint16))
    array([[  0,  51, 255]], dtype=uint8)
    """
    low, high = value_range(values, blank)
    out = np.empty(values.shape, np.uint8)
    for rows in _parts(values):
        out[rows] = _scaled(values[rows], low, high, blank)
    return out


def _scaled(
    values: Num[np.ndarray, "h w *bands"], low: float, high: float, blank: float | None = None
) -> UInt8[np.ndarray, "h w *bands"]:
    if values.dtype == np.uint8 and (low, high) == (0, _BYTE):
        return values
    found = values.astype(np.float64)
    if blank is not None:
        found[found == blank] = np.nan
    found = np.nan_to_num(found, nan=low, posinf=high, neginf=low)
    return (
        np.rint((found - low) * (_BYTE / (high - low) if high > low else 0)).clip(0, _BYTE).astype(np.uint8)
    )


def value_range(values: Num[np.ndarray, ...], blank: float | None = None) -> tuple[float, float]:
    """What is shown as black and as white.

    - Whole numbers from 0 to 65,535, in whatever type: from 0 to the largest number of the fewest bits that hold them
      all, 8 at the least. So 12 bits in a file of 16 fill the range, and pictures of one camera keep their relative
      brightness wherever they need the same number of bits.
    - Fractions within 0 to 1: from 0 to the smallest of 1, 1/2, 1/4 … 1/256 that none exceeds.
    - All else, that is negative numbers, larger ones, other fractions: from the lowest to the highest.

    >>> value_range(np.array([17, 4000])), value_range(np.array([0.1, 0.9])), value_range(np.array([-5.0, 3.5]))
    ((0, 4095), (0, 1.0), (-5.0, 3.5))
    """
    low, high, whole = _extremes(values, blank)
    integers = values.dtype.kind in "ui"
    if low >= 0 and high <= 1 and not integers:
        halvings = min(math.floor(-math.log2(high)), _MOST_HALVINGS) if high else 0
        return 0, 2.0**-halvings
    if low >= 0 and whole and high <= _WORD:
        least = 7 if values.dtype == np.int8 else 8
        return 0, 2 ** max(least, int(high).bit_length()) - 1
    return low, high


def _extremes(values: Num[np.ndarray, ...], blank: float | None) -> tuple[float, float, bool]:
    """Lowest and highest finite value, 0 where there is none, and whether all are whole numbers."""
    integers = values.dtype.kind in "ui"
    low, high, whole = math.inf, -math.inf, True
    for rows in _parts(values):
        part = values[rows]
        known = part if integers else part[np.isfinite(part)]
        if blank is not None:
            known = known[known != blank]
        if known.size:
            low, high = min(low, float(known.min())), max(high, float(known.max()))
            whole = whole and (integers or bool((known == np.rint(known)).all()))
    return (low, high, whole) if low <= high else (0.0, 0.0, True)


def _parts(values: Shaped[np.ndarray, ...]) -> Iterator[slice]:
    """The rows, in parts of a bearable size."""
    rows = max(1, _AT_ONCE * len(values) // max(1, values.size))
    return (slice(start, min(start + rows, len(values))) for start in range(0, len(values), rows))
