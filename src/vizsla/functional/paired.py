"""Two classifiers on the same images: how much more often the first is right, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from vizsla.errors import BadArray

Z = 1.959963984540054
"""Normal quantile of a 95% interval."""


@dataclass(frozen=True)
class Difference:
    """A difference of two accuracies on the same images, −1 to 1, with its 95% interval."""

    value: float
    low: float
    high: float
    images: int

    @property
    def may_be_chance(self) -> bool:
        """Whether the interval holds zero."""
        return self.low <= 0 <= self.high


def paired_difference(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> Difference:
    """Share of images that the first gets right minus the share that the second does.

    The interval rests on the images on which they differ, with half an imagined image in each of the four cells
    (both, first only, second only, neither), which keeps it honest where there are few.

    Args:   first, second: whether each image was judged rightly.
    Source: Agresti & Min 2005, doi:10.1002/sim.1781.

    >>> found = paired_difference(np.array([True] * 12 + [False] * 8), np.array([True] * 7 + [False] * 13))
    >>> found.value, round(found.low, 3), round(found.high, 3)
    (0.25, 0.031, 0.424)
    """
    right, other = np.asarray(first, bool), np.asarray(second, bool)
    if right.shape != other.shape or right.ndim != 1 or not len(right):
        raise BadArray(f"{right.shape} and {other.shape} verdicts are no pairs. Give two of each image.")
    n = len(right)
    gained, lost = int((right & ~other).sum()) + 0.5, int((other & ~right).sum()) + 0.5
    middle = (gained - lost) / (n + 2)
    half = Z * np.sqrt(gained + lost - (gained - lost) ** 2 / (n + 2)) / (n + 2)
    low, high = np.clip([middle - half, middle + half], -1, 1)
    return Difference(float((gained - lost) / n), float(low), float(high), n)
