"""Decoding: any image file becomes an upright 8-bit RGB image, or an error that names the file."""

from __future__ import annotations

import io
import os
import re
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from vizsla.data import deep, jpegs, limits, tiffs
from vizsla.errors import UnreadableImage

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | {".heic", ".heif", ".hif", ".avif"}
)
"""What a file name must end with, in any case, to be taken for an image."""

# The content decides, not the suffix. Pillow's other formats stay closed: EPS, for one, runs Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "HEIF", "AVIF")

File = io.BytesIO | io.BufferedReader
Source = str | Path | bytes | File
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

_PIECE = 2**22  # pixels converted at once

_DECODERS = r"(PIL|pillow_heif)\."
_QUIET = ("ignore", None, Warning, re.compile(_DECODERS), 0)


def load(source: Source, size: int | None = None) -> Image.Image:
    """The image as it should be seen: RGB, turned as its EXIF data say, transparent parts on white.

    Args:    source: where the file is, or its content.
             size: the shorter side the caller needs, in px. A larger JPEG may then come back smaller
             (decoded at 1/2, 1/4 or 1/8, which is faster), and so may any image of more than `limits.LARGE`
             pixels, but never with a side below `size`.
    Returns: 8-bit RGB. Other numbers are shown over the range that they use: see `deep.value_range`. Of several
             frames the first is taken. Without `size` an image that would not fit into memory in full comes smaller.
    Raises:  UnreadableImage, whatever went wrong, with the path and the reason in one line; also for what is over
             the limits of `vizsla.data.limits`.
    """
    try:
        return _decode(source, size)
    except Exception as error:  # decoders raise a dozen unrelated kinds on broken files
        raise explained(_name(source), error) from None


def explained(name: str, error: Exception) -> UnreadableImage:
    """What is raised for a file that cannot be decoded: its name, and the reason in words."""
    return UnreadableImage(f"cannot read {name}: {_reason(error)}. Replace or remove the file.")


def check(source: Source) -> str | None:
    """Why the file cannot be decoded, or None if it can. Decodes all of it, JPEGs at 1/8 scale."""
    try:
        _decode(source, size=1)
    except Exception as error:
        return _reason(error)
    return None


def is_deep(content: bytes) -> bool:
    """Whether a file holds other numbers than 8 bits; looked at only as far as its header. A damaged one may."""
    _open_heif()
    _silence_decoders()
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return deep.is_deep(image)
    except Exception:  # decoders raise a dozen unrelated kinds on broken files
        return True


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
    length = source.seek(0, os.SEEK_END)
    limits.check_file(length)
    source.seek(0)
    head = source.read(4)
    source.seek(0)
    if not head:
        raise EOFError("the file is empty")
    _open_heif()
    _silence_decoders()
    try:
        opened = Image.open(source, formats=_FORMATS)
    except UnidentifiedImageError:
        if head not in tiffs.MAGIC:
            raise
        with limits.turn(4 * length):
            return _from_tiff(source, length)
    with opened as image:
        limits.check_pixels(*image.size)
        if deep.is_deep(image):
            return _from_deep(source, image, length)
        return _from_plain(source, image, length, size)


def _from_plain(file: File, image: Image.Image, length: int, size: int | None) -> Image.Image:
    """Of an opened picture of up to 8 bits."""
    whole, fixed = image.size, length
    if image.format in ("JPEG", "MPO"):
        scans = jpegs.scans(file, limits.SCANNED_PIXELS // (whole[0] * whole[1] + 1))
        limits.check_scans(*whole, scans)
        fixed += limits.scan_bytes(*whole, scans)
        if size is not None:
            image.draft(None, (size, size))
        elif fixed + limits.decoded_bytes(image) > limits.memory():
            image.draft(None, (whole[0] // 2, whole[1] // 2))
    elif any(tile[0] == "bmp_rle" for tile in getattr(image, "tile", ())):
        limits.check_runs(length)
    cost = fixed + limits.decoded_bytes(image)
    limits.check_memory(cost, *whole)
    with limits.turn(cost):
        image.load()
        return _upright(_to_rgb(image, limits.shrinking(image, cost, size)), _orientation(image))


def _from_deep(file: File, image: Image.Image, length: int) -> Image.Image:
    """Of an opened picture of more than 8 bits."""
    cost = length + limits.decoded_bytes(image)
    limits.check_memory(cost, *image.size)
    with limits.turn(cost):
        if deep.high_bytes_suffice(image):
            return _upright(_to_rgb(image), _orientation(image))
        limits.check_memory(length + limits.deep_bytes(image), *image.size)
        if image.format == "TIFF":
            with suppress(tiffs.NoCodec):
                return _from_tiff(file, length)
        return _upright(deep.from_pillow(file, image).picture(), _orientation(image))


def _from_tiff(file: File, length: int) -> Image.Image:
    """Of a TIFF that Pillow does not know, or reads wrongly."""
    file.seek(0)
    found, orientation = tiffs.read(file, length)
    return _upright(found.picture(), orientation)


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


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken metadata of a good image
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image, shrinking: int = 1) -> Image.Image:
    """The image in RGB, its sides divided by `shrinking`; a large one piece by piece, to take little memory."""
    width, height = image.size
    if shrinking == 1 and width * height <= _PIECE:
        return _piece_to_rgb(image)
    if shrinking == 1 and image.mode == "RGB" and not image.has_transparency_data:
        return image
    out = Image.new("RGB", (-(-width // shrinking), -(-height // shrinking)))
    rows = max(1, _PIECE // width // shrinking) * shrinking
    for top in range(0, height, rows):
        piece = _piece_to_rgb(image.crop((0, top, width, min(top + rows, height))))
        out.paste(piece.reduce(shrinking) if shrinking > 1 else piece, (0, top // shrinking))
    return out


def _piece_to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _name(source: Source) -> str:
    if isinstance(source, bytes):
        return f"an image of {len(source)} bytes"
    return str(source) if isinstance(source, (str, Path)) else str(getattr(source, "name", "an open file"))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is damaged, or not a JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC or AVIF image"
    if isinstance(error, Image.DecompressionBombError):
        count = re.search(r"\d+", str(error))  # Pillow says how many before it says how wide
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        return f"it has {int(count[0]) if count else 0:,} pixels, more than {most} million pixels"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
