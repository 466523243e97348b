"""Harder pools made from a good one: long tails, and images of no known class."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int64

from vizsla.errors import BadOption

Ids = Int64[np.ndarray, " n"]


def unknown_classes(
    classes: Int64[np.ndarray, " c"], share: float, rng: np.random.Generator
) -> Int64[np.ndarray, " k"]:
    """The classes to take out of the list, so that their images can be `share` of a pool: ⌈share · c⌉ at random.

    Raises: BadOption where fewer than two classes would stay.

    >>> len(unknown_classes(np.arange(10), 0.2, np.random.default_rng(0)))
    2
    """
    taken = math.ceil(share * len(classes) - 1e-9)
    if len(classes) - taken < 2:
        most = math.floor(100 * (len(classes) - 2) / len(classes)) / 100
        mend = f"Use {most:g} or less." if most else "Add images of another class."
        raise BadOption(
            f"--outliers {share:g} takes {taken} of {len(classes)} classes out of the list, "
            f"and at least 2 must stay. {mend}"
        )
    return np.sort(rng.choice(classes, taken, replace=False)).astype(np.int64)


def long_tail(labels: Int64[np.ndarray, " n"], factor: float, rng: np.random.Generator) -> Ids:
    """Images that make the classes fall geometrically in size, the largest `factor` times the smallest.

    Which class is how rare, and which of its images stay, is drawn. The smallest class bounds the largest.

    Args:    labels: classes of the images.
    Returns: positions in `labels`, ascending.
    Raises:  BadOption where a class would be left without an image.

    >>> labels = np.repeat([0, 1, 2], 100)
    >>> sorted(np.bincount(labels[long_tail(labels, 25, np.random.default_rng(0))]).tolist())
    [4, 20, 100]
    """
    classes, counts = np.unique(labels, return_counts=True)
    room = int(counts.min())
    smallest = math.floor(room / factor + 1e-9)
    if smallest < 1:
        raise BadOption(
            f"--long-tail {factor:g} needs {math.ceil(factor)} images of each class, but one has only {room} "
            f"in the pool. Use {room} or less."
        )
    sizes = np.rint(smallest * factor ** np.linspace(1, 0, len(classes))).astype(int)
    kept = [
        rng.permutation(np.flatnonzero(labels == label))[:size]
        for label, size in zip(rng.permutation(classes), sizes, strict=True)
    ]
    return np.sort(np.concatenate(kept)).astype(np.int64)


def mixed(known: Ids, outliers: Ids, share: float, rng: np.random.Generator) -> Ids:
    """As many of both as make outliers `share` of all; what is too much of one kind is left out at random.

    Returns: ids, ascending.

    >>> len(mixed(np.arange(80), np.arange(100, 200), 0.2, np.random.default_rng(0)))
    100
    """
    wanted = max(1, round(share / (1 - share) * len(known)))
    if wanted > len(outliers):
        known = rng.permutation(known)[: round((1 - share) / share * len(outliers))]
    return np.sort(np.concatenate([known, rng.permutation(outliers)[:wanted]]))
