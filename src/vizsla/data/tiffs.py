"""TIFFs of microscopes, satellites and simulations, whose samples are no unsigned bytes."""

from __future__ import annotations

import logging
from typing import IO, TYPE_CHECKING

import numpy as np
from jaxtyping import Num

from vizsla.data.deep import Deep, number
from vizsla.data.limits import check_memory, check_pixels
from vizsla.errors import UnreadableImage

if TYPE_CHECKING:
    from tifffile import TiffPage

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""What the file begins with; the last two are BigTIFF."""

_ORIENTATION, _BLANK = 274, 42113
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = range(3)
_OTHERS = {3: "a palette", 4: "a mask", 5: "CMYK", 6: "YCbCr", 8: "CIELAB", 32803: "a sensor's raw mosaic"}
_ASSOCIATED, _UNASSOCIATED = 1, 2  # the two kinds of alpha

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # its remarks name no file


class NoCodec(UnreadableImage):
    """A TIFF of a compression that only another decoder, or another package, knows."""


def read(file: IO[bytes], length: int) -> tuple[Deep, int]:
    """The first page of a TIFF, and its orientation as EXIF counts.

    Of four bands or more the first three are red, green and blue; of two the first is grey. A band counts as alpha
    only where the file says so.

    Raises: NoCodec, UnreadableImage with the reason.
    """
    from tifffile import TiffFile, TiffPage

    with TiffFile(file) as whole:
        page = whole.pages.first
        if not isinstance(page, TiffPage):
            raise UnreadableImage("its first page cannot be found")
        bands = _bands(page, length)
        alpha, premultiplied = _alpha(page)
        found = Deep(
            bands[..., :3] if bands.shape[2] - (alpha is not None) > 2 else bands[..., 0],
            None if alpha is None else bands[..., alpha],
            premultiplied,
            page.photometric == _WHITE_IS_ZERO,
            number(page.tags.valueof(_BLANK)),
        )
        return found, int(page.tags.valueof(_ORIENTATION, 1))


def _bands(page: TiffPage, length: int) -> Num[np.ndarray, "h w bands"]:
    width, height = page.imagewidth, page.imagelength
    check_pixels(width, height)
    _check_kind(page)
    check_memory(length + 2 * page.nbytes + 4 * width * height, width, height)
    try:
        found = page.asarray(maxworkers=1)
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        how = getattr(page.compression, "name", page.compression)
        raise NoCodec(f"{page.dtype} samples in {how} compression need: pip install imagecodecs") from None
    if page.axes == "SYX":
        found = np.moveaxis(found, 0, -1)
    elif page.axes not in ("YX", "YXS"):
        raise UnreadableImage(f"its samples are in the order {page.axes}, which is no picture")
    return found.reshape(height, width, -1)


def _check_kind(page: TiffPage) -> None:
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        what = _OTHERS.get(int(page.photometric), f"photometric interpretation {int(page.photometric)}")
        raise UnreadableImage(
            f"it is a TIFF of {what} in {page.samplesperpixel} × {page.bitspersample} bits, which is not supported"
        )
    if page.dtype is None or page.dtype.kind not in "uif":
        raise UnreadableImage(f"its samples of {page.bitspersample} bits are no whole numbers or fractions")


def _alpha(page: TiffPage) -> tuple[int | None, bool]:
    """Which band is alpha, and whether the colours are multiplied by it."""
    extra = [int(one) for one in page.extrasamples]
    for place, kind in enumerate(extra):
        if kind in (_ASSOCIATED, _UNASSOCIATED):
            return page.samplesperpixel - len(extra) + place, kind == _ASSOCIATED
    return None, False
