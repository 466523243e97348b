"""Pools in mapped files: whoever reads them need not hold all of their pages.

What is read of a map counts as memory of the process until somebody else needs it, though the kernel's cache has
it anyway. So its pages are handed back now and then; who reads them again finds them in that cache.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
from jaxtyping import Int64
from torch import Tensor

_HELD_BYTES = 256 << 20
"""What is read of a file before its pages are handed back."""
_AROUND = 2 << 20
"""What Linux maps, at the most, where a single row is touched."""

_file_at: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()
"""Address of a tensor's memory → the mapped file that it is."""
_held: WeakKeyDictionary[mmap.mmap, int] = WeakKeyDictionary()
"""Bytes read of a file since its pages were handed back."""


def share(rows: Tensor, array: np.ndarray) -> None:
    """Remember that the tensor's memory is that of the array, which may be a map of a file."""
    file = _file_of(array)
    if file is not None:
        _file_at[rows.untyped_storage().data_ptr()] = file


def letting_go(rows: np.ndarray | Tensor, places: Iterable[slice]) -> Iterator[slice]:
    """The places, one by one; the pages of a mapped file that are read there are handed back as one goes.

    Args: rows: an array, or a tensor from `as_rows`; one in memory of its own is left alone.
    """
    if isinstance(rows, Tensor):
        file, step = _file_under(rows), rows.stride(0) * rows.element_size()
    else:
        file, step = _file_of(rows), abs(rows.strides[0])  # with what is skipped: the kernel maps that too
    if file is None:
        yield from places
        return
    for place in places:
        yield place
        _note(file, (place.stop - place.start) * step)


def took(rows: Tensor, positions: Int64[np.ndarray, " k"]) -> None:
    """The rows at these positions were read."""
    file = _file_under(rows)
    if file is not None and len(positions):
        span = (int(positions.max()) - int(positions.min()) + 1) * rows.stride(0) * rows.element_size()
        _note(file, min(len(positions) * _AROUND, span + _AROUND))


def _note(file: mmap.mmap, size: int) -> None:
    """So many bytes were read: hand the pages back if they are many by now."""
    held = _held.get(file, 0) + size
    if held >= _HELD_BYTES:
        file.madvise(mmap.MADV_DONTNEED)
        held = 0
    _held[file] = held


def _file_under(rows: Tensor) -> mmap.mmap | None:
    return _file_at.get(rows.untyped_storage().data_ptr()) if _file_at else None


def _file_of(array: np.ndarray | None) -> mmap.mmap | None:
    """The file that the array is a map of, where its pages may be dropped: nothing is written to them alone."""
    while array is not None and not isinstance(array, np.memmap):
        array = array.base if isinstance(array.base, np.ndarray) else None
    if array is None or array.mode == "c" or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    file = getattr(array, "_mmap", None)
    return file if isinstance(file, mmap.mmap) else None
