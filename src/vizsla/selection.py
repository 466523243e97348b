"""`vizsla.select`: choose rows from plain arrays, whatever framework made them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from vizsla.errors import BadArray, BadOption, NotEnoughImages
from vizsla.functional.rows import as_rows, blocks
from vizsla.strategy.base import as_probs, strategies, sub_pool
from vizsla.views import DRAWN, Drawn, Material


def select(
    strategy: str,
    *,
    embeddings: Any = None,
    probs: Any = None,
    draws: Any = "dropout",
    labelled: Any = (),
    labels: Any = None,
    n: int,
    seed: int = 0,
    pool_size: int = 0,
) -> Int64[np.ndarray, " n"]:
    """The n unlabelled rows to label next, best first.

    Args:    strategy: a name in `vizsla.strategies`.
             embeddings: (N, D) features of all images.
             probs: (N, C) class probabilities of all images. A strategy that needs them and is not given them
             gets those of a logistic regression on embeddings, labelled and labels.
             draws: (N, K, C) class probabilities in K draws of the model, for `bald` and its like; or how to draw
             from that logistic regression, `dropout` (of features) or `laplace`.
             labelled: row numbers that are labelled already. labels: their classes, in the same order.
             n: how many rows. seed: decides every random choice, ties too.
             pool_size: look at a random sub-pool of that size; 0 looks at everything.
    Returns: (n,) distinct row numbers, none of them in `labelled`.
    Raises:  BadArray, NotEnoughImages, UnknownName, each with its mend.

    >>> select("margin", probs=np.array([[0.9, 0.1], [0.5, 0.5], [0.6, 0.4]]), n=2)
    array([1, 2])
    """
    rule = strategies[strategy]
    features = None if embeddings is None else _features(embeddings)
    given = None if probs is None else as_probs(probs)
    samples = _draws(draws)
    total = _rows(embeddings=features, probs=given, draws=None if isinstance(samples, str) else samples)
    known = labelled_rows(labelled, total)
    unlabelled = np.ones(total, bool)
    unlabelled[known] = False
    pool = np.flatnonzero(unlabelled)
    if n < 1:
        raise BadOption(f"n must be at least 1, not {n}.")
    if n > len(pool):
        raise NotEnoughImages(
            f"asked for {n} rows, but only {len(pool)} of {total} are unlabelled. Ask for {len(pool)} or fewer."
        )
    if 0 < pool_size < n:
        raise BadOption(
            f"a pool_size of {pool_size} cannot give {n} rows. Use {n} or more, or 0 for all rows."
        )
    rng = np.random.default_rng(seed)
    candidates = sub_pool(pool, pool_size, rng)
    codes = None if labels is None else class_codes(labels, known)
    material = Material(candidates, known, features, codes, given, samples)
    return rule.choose(material.view(rule, rng), n, rng).ids


def class_codes(labels: Any, known: np.ndarray) -> Int64[np.ndarray, " l"]:
    """Classes as numbers from 0, in the order of their names."""
    codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    if len(codes) != len(known):
        raise BadArray(
            f"labelled has {len(known)} rows but labels has {len(codes)}. Give one class for each."
        )
    return codes.astype(np.int64)


def _draws(draws: Any) -> torch.Tensor | Drawn:
    if draws is None:
        return DRAWN[0]
    if isinstance(draws, str):
        for way in DRAWN:
            if draws == way:
                return way
        raise BadOption(f"draws {draws!r} are not known. Give an array (N, K, C), 'dropout' or 'laplace'.")
    tensor = as_rows(draws) if isinstance(draws, np.ndarray) else torch.as_tensor(draws)
    if tensor.ndim != 3 or tensor.shape[1] < 2:
        raise BadArray(f"draws must have shape (images, draws ≥ 2, classes ≥ 2), not {tuple(tensor.shape)}.")
    as_probs(tensor.reshape(-1, tensor.shape[2]))
    return tensor


def _features(embeddings: Any) -> torch.Tensor:
    array = embeddings if isinstance(embeddings, torch.Tensor) else np.asarray(embeddings)
    if array.ndim != 2 or not _is_real(array):
        raise BadArray(
            f"embeddings must be numbers of shape (images, dimensions), not {array.dtype} {tuple(array.shape)}."
        )
    rows = as_rows(array)
    rows = rows if rows.is_floating_point() else rows.float()
    for place, block in blocks(rows):
        if not torch.isfinite(block.sum()):  # one number tells of a whole block; only then is it searched
            bad = (~torch.isfinite(block).all(dim=1)).nonzero()
            if len(bad):
                row = place.start + int(bad[0, 0])
                raise BadArray(f"embeddings row {row} holds NaN or infinity. Remove or mend that row.")
    return rows


def _is_real(array: np.ndarray | torch.Tensor) -> bool:
    if isinstance(array, torch.Tensor):
        return not array.is_complex()
    return bool(np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating))


def _rows(**arrays: np.ndarray | torch.Tensor | None) -> int:
    """How many rows all arrays that were given have."""
    sizes = {name: len(array) for name, array in arrays.items() if array is not None}
    if not sizes:
        raise BadArray("give embeddings=… (N, D) or probs=… (N, C): there is nothing to select from.")
    (first, rows), *others = sizes.items()
    for name, size in others:
        if size != rows:
            raise BadArray(
                f"{first} have {rows} rows but {name} have {size}. Both must cover the same images."
            )
    return rows


def labelled_rows(labelled: Any, total: int) -> Int64[np.ndarray, " l"]:
    """Checked row numbers."""
    rows = np.asarray(labelled)
    if rows.size == 0:
        return np.empty(0, np.int64)
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise BadArray(f"labelled must be a list of row numbers, not {rows.dtype} of shape {rows.shape}.")
    outside = rows[(rows < 0) | (rows >= total)]
    if outside.size:
        raise BadArray(f"labelled has row {outside[0]}, but rows go from 0 to {total - 1}.")
    if len(np.unique(rows)) < len(rows):
        raise BadArray("labelled names a row twice. Name each labelled row once.")
    return rows.astype(np.int64)
