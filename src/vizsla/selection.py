"""`vizsla.select`: choose rows from plain arrays, whatever framework made them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from vizsla.errors import BadArray, BadOption, NotEnoughImages
from vizsla.functional.given import as_probs, class_codes, numbers, row_numbers, whole
from vizsla.functional.rows import blocks
from vizsla.strategy.base import strategies, sub_pool
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
             labelled: row numbers that are labelled already, or a mask of all rows. labels: their classes, by name
             or number, in the same order.
             n: how many rows. seed: decides every random choice, ties too.
             pool_size: look at a random sub-pool of that size; 0 looks at everything.
             Arrays may be of any library: NumPy, PyTorch on any device, pandas, Polars, or nested lists.
    Returns: (n,) distinct row numbers, none of them in `labelled`.
    Raises:  BadArray, NotEnoughImages, UnknownName, each with its mend.

    >>> select("margin", probs=np.array([[0.9, 0.1], [0.5, 0.5], [0.6, 0.4]]), n=2)
    array([1, 2])
    """
    rule, n, pool_size = strategies[strategy], whole("n", n, 1), whole("pool_size", pool_size, 0)
    rng = np.random.default_rng(whole("seed", seed, 0))
    features = None if embeddings is None else _features(embeddings)
    given = None if probs is None else as_probs(probs)
    samples = _draws(draws)
    total = _rows(embeddings=features, probs=given, draws=None if isinstance(samples, str) else samples)
    known = row_numbers("labelled", labelled, total)
    codes = None if labels is None else class_codes(labels, len(known))
    _check_classes(codes, given)
    unlabelled = np.ones(total, bool)
    unlabelled[known] = False
    pool = np.flatnonzero(unlabelled)
    check_rows_left(n, len(pool), total)
    if 0 < pool_size < n:
        raise BadOption(
            f"a pool_size of {pool_size} cannot give {n} rows. Use {n} or more, or 0 for all rows."
        )
    candidates = sub_pool(pool, pool_size, rng)
    material = Material(candidates, known, features, codes, given, samples)
    return rule.choose(material.view(rule, rng), n, rng).ids


def _draws(draws: Any) -> torch.Tensor | Drawn:
    if draws is None:
        return DRAWN[0]
    if isinstance(draws, str):
        for way in DRAWN:
            if draws == way:
                return way
        raise BadOption(f"draws {draws!r} are not known. Give an array (N, K, C), 'dropout' or 'laplace'.")
    tensor = numbers("draws", draws, "(images, draws ≥ 2, classes ≥ 2)")
    if tensor.ndim != 3 or tensor.shape[1] < 2:
        raise BadArray(f"draws must have shape (images, draws ≥ 2, classes ≥ 2), not {tuple(tensor.shape)}.")
    as_probs(tensor.reshape(-1, tensor.shape[2]), name="draws")
    return tensor


def check_rows_left(n: int, unlabelled: int, total: int) -> None:
    """Raise NotEnoughImages where n rows cannot be had."""
    if n > unlabelled == 0:
        raise NotEnoughImages(
            f"asked for {n} rows, but all {total} rows are labelled. Add rows, or stop here."
        )
    if n > unlabelled:
        raise NotEnoughImages(
            f"asked for {n} rows, but only {unlabelled} of {total} are unlabelled. Ask for {unlabelled} or fewer."
        )


def _check_classes(codes: Int64[np.ndarray, " l"] | None, probs: torch.Tensor | None) -> None:
    seen = 0 if codes is None else len(np.unique(codes))
    if probs is not None and seen > probs.shape[1]:
        raise BadArray(
            f"labels name {seen} classes, but probs have only {probs.shape[1]} columns. Give one for each class."
        )


def _features(embeddings: Any) -> torch.Tensor:
    rows = numbers("embeddings", embeddings, "(images, dimensions)")
    if rows.ndim != 2 or not rows.shape[1]:
        raise BadArray(f"embeddings must have shape (images, dimensions ≥ 1), not {tuple(rows.shape)}.")
    for place, block in blocks(rows):
        if not torch.isfinite(block.sum()):  # one number tells of a whole block; only then is it searched
            bad = (~torch.isfinite(block).all(dim=1)).nonzero()
            if len(bad):
                row = place.start + int(bad[0, 0])
                raise BadArray(f"embeddings row {row} holds NaN or infinity. Remove or mend that row.")
    return rows


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
