"""A point amid the rows of a pool, from which they are seen. N rows, d features, s of them looked at.

Products of rows in float32 lose what is small beside the rows' distance from the origin; seen from a point amid
them they do not, and so no distance depends on where the origin lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vizsla.functional.rows import take

_LOOKED_AT = 256
_FAR = 10.0


@dataclass(frozen=True, eq=False)
class Centre:
    """Where a pool lies."""

    point: Float[Tensor, " d"]
    """Amid the rows, in float64 where they are, else in float32; which point of many there does not matter to
    distances."""
    vantage: Float[Tensor, " d"] | None = None
    """Where directions and lengths are seen from: the origin, which is None, unless all rows lie in one direction from
    there, being ten times as far from it as from the point (a mean cosine of about .99). Then it is their mean."""


def looked_at(positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " s"]:
    """256 of the positions, or up to twice as many, evenly spaced: they settle the centre.

    >>> looked_at(np.arange(600))[:3]
    array([0, 2, 4])
    """
    return np.asarray(positions[:: max(1, len(positions) // _LOOKED_AT)])


def centre_of(rows: Float[Tensor, "N d"], positions: Int64[np.ndarray, " n"] | None = None) -> Centre:
    """The median of each column: no few outliers move it, however far out they are.

    Args: positions: the rows that count, ascending; default: all. Without any the origin is the centre.
    """
    some = take(rows, looked_at(np.arange(len(rows)) if positions is None else positions)).double()
    if not len(some):
        return Centre(torch.zeros(rows.shape[1], device=rows.device))
    kind = torch.float64 if rows.dtype == torch.float64 else torch.float32
    point = some.median(dim=0).values.to(kind)
    away, apart = float(point.double().norm()), float((some - point).norm(dim=1).mean())
    rounding = 4 * torch.finfo(rows.dtype).eps * away  # rows alike but for that have no directions at all
    far = rounding < apart < away / _FAR
    return Centre(point, some.mean(dim=0).to(kind) if far else None)
