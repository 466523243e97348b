"""Which labels look wrong. n labelled images, c classes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

from vizsla.errors import BadArray


def suspects(probs: Float[np.ndarray, "n c"], labels: Int64[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """How much a model that was not given an image's label doubts it: √p(likeliest other class) − √p(label).

    Half-way between two known scores. Self-confidence, −p(label), finds slips to any class best, but not those to
    the class that an image resembles most, of which the model leaves the true label likely too; the margin,
    p(other) − p(label), is better at these and worse at slips (`benchmarks/noise`).

    Args:    probs: (n, c) class probabilities, each row made without its label. labels: (n,) from 0 to c − 1.
    Returns: (n,) from −1 (surely right) to 1 (surely wrong); above 0 where another class is likelier than the
             label. Higher = ask again sooner.
    Raises:  BadArray where the shapes do not go together or a label is no class.
    Source:  the two are those of Kuan & Mueller 2022, arXiv:2207.03061, after confident learning (Northcutt, Jiang
             & Chuang 2021, arXiv:1911.00068).

    >>> suspects(np.array([[0.64, 0.36], [0.64, 0.36], [1.0, 0.0]]), np.array([0, 1, 1])).round(2)
    array([-0.2,  0.2,  1. ])
    """
    if probs.ndim != 2 or labels.shape != probs.shape[:1]:
        raise BadArray(
            f"probabilities {probs.shape} and labels {labels.shape} do not go together. "
            "Give (images, classes) and one label for each image."
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < probs.shape[1]:
        raise BadArray(
            f"labels go from {labels.min()} to {labels.max()}, classes from 0 to {probs.shape[1] - 1}."
        )
    rows = np.arange(len(labels))
    others = probs.astype(np.float64)
    others[rows, labels] = 0
    own: Float[np.ndarray, " n"] = probs[rows, labels].astype(np.float64)
    return np.sqrt(others.max(axis=1, initial=0)) - np.sqrt(own)
