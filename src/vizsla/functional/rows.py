"""Feature rows of a pool, read in blocks: never copied whole, never (N, N). N rows, d features, k points."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64, Shaped
from torch import Tensor

from vizsla.functional.mapped import letting_go, share, took

BLOCK_BYTES = 16 << 20
"""How much of a pool is worked on at once, in float32: large enough to keep the cores busy, small beside it."""

Picked = tuple[Int64[np.ndarray, " k"], Float64[np.ndarray, " k"]]
"""Positions in chosen order, and the score of each."""


def as_rows(array: Float[np.ndarray, "n d"] | Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """The array as a tensor that shares its memory, where it can; a read-only map of a file too."""
    if isinstance(array, Tensor):
        return array.detach()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns of read-only memory; we never write
        kind = np.dtype(np.float64) if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
        native = array.astype(kind, copy=False)
        native = native if native.flags.c_contiguous else np.ascontiguousarray(native)
        rows = torch.from_numpy(native)
    share(rows, native)
    return rows


def blocks(
    rows: Float[Tensor, "n d"], width: int = 0, centre: Float[Tensor, " d"] | None = None
) -> Iterator[tuple[slice, Float32[Tensor, "b d"]]]:
    """The rows piece by piece in float32, each with where it lies.

    Args: width: columns of the largest result computed from a block, if more than the rows have.
          centre: where the rows are seen from; default: the origin.
    """
    for place in letting_go(rows, _places(len(rows), max(rows.shape[1], width))):
        yield place, seen_from(centre, rows[place])


def seen_from(centre: Float[Tensor, " d"] | None, rows: Float[Tensor, "b d"]) -> Float32[Tensor, "b d"]:
    """rows − centre in float32. float64 rows are subtracted in float64: only what is left is rounded.

    >>> seen_from(torch.tensor([1e6]), torch.tensor([[1e6 + 0.01]], dtype=torch.float64))
    tensor([[0.0100]])
    """
    return rows.float() if centre is None else torch.sub(rows, centre).float()


def take(rows: Shaped[Tensor, "n ..."], positions: Int64[np.ndarray, " k"]) -> Shaped[Tensor, "k ..."]:
    """These rows as they are; a third of the time of `rows[positions]`."""
    found = rows.index_select(0, torch.from_numpy(np.ascontiguousarray(positions)).to(rows.device))
    took(rows, positions)
    return found


def gather(
    rows: Float[Tensor, "n d"],
    positions: Int64[np.ndarray, " k"],
    centre: Float[Tensor, " d"] | None = None,
) -> Float32[Tensor, "k d"]:
    """These rows in float32, as seen from a centre."""
    return seen_from(centre, take(rows, positions))


def sq_norms(rows: Float[Tensor, "n d"], centre: Float[Tensor, " d"] | None = None) -> Float32[Tensor, " n"]:
    """Squared length of each row, or distance from a centre."""
    out = torch.empty(len(rows), device=rows.device)
    for place, block in blocks(rows, centre=centre):
        torch.linalg.vecdot(block, block, out=out[place])
    return out


def parts(
    rows: Float[Tensor, "N d"],
    positions: Int64[np.ndarray, " k"],
    width: int = 0,
    centre: Float[Tensor, " d"] | None = None,
) -> Iterator[tuple[slice, Float32[Tensor, "b d"]]]:
    """The rows at these positions piece by piece in float32, each with its place among the positions.

    They are copies, which may be written to.

    Args: width: columns of the largest result computed from a block, if more than the rows have.
          centre: where the rows are seen from; default: the origin.
    """
    for place in _places(len(positions), max(rows.shape[1], width)):
        yield place, gather(rows, positions[place], centre)


def _places(n: int, width: int) -> Iterator[slice]:
    """0 to n in pieces of which `width` columns fill a block."""
    step = max(64, BLOCK_BYTES // (4 * max(width, 1)))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))
