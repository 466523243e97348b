"""Classifiers on frozen embeddings, fitted in milliseconds."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import Float, Int64
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from vizsla.registry import Registry

Vectors = Float[np.ndarray, "n d"]


class Head(Protocol):
    """A classifier over rows; C is fixed when it is made, whatever classes the labels show so far."""

    def fit(self, vectors: Vectors, labels: Int64[np.ndarray, " n"]) -> None:
        """Learn from n ≥ 1 labelled rows."""

    def predict(self, vectors: Vectors) -> Float[np.ndarray, "n c"]:
        """Class probabilities; 0 for classes never seen."""


class HeadFactory(Protocol):
    def __call__(self, n_classes: int) -> Head: ...


heads: Registry[HeadFactory] = Registry("head", "heads")


@heads.register("logistic")
class LogisticHead:
    """Multinomial logistic regression on rows of unit length, L2 strength 1/`inverse_strength`.

    With fewer labels than dimensions the fit runs in the span of the labelled rows, where the optimum lies
    (representer theorem), so it costs O(n²(d + c)) instead of O(n·d·c) per step and gives the same answer.
    """

    def __init__(self, n_classes: int, inverse_strength: float = 30.0) -> None:
        self.n_classes = n_classes
        self.inverse_strength = inverse_strength
        self._weights = np.zeros((n_classes, 0), np.float32)
        self._bias = np.full(n_classes, -np.inf, np.float32)

    def fit(self, vectors: Vectors, labels: Int64[np.ndarray, " n"]) -> None:
        rows = unit_rows(vectors)
        seen = np.unique(labels)
        self._weights = np.zeros((self.n_classes, rows.shape[1]), np.float32)
        self._bias = np.full(self.n_classes, -np.inf, np.float32)
        if len(seen) == 1:
            self._bias[seen] = 0
            return
        with threadpool_limits(1):  # tiny matrices: threads only get in each other's way
            basis, coordinates = span(rows)
            model = LogisticRegression(C=self.inverse_strength, max_iter=1000, tol=1e-3)
            model.fit(coordinates, labels)
            coefficients, intercepts = model.coef_, model.intercept_
            if len(seen) == 2:  # scikit-learn keeps one row: the log odds of the second class
                coefficients = np.vstack([-coefficients / 2, coefficients / 2])
                intercepts = np.concatenate([-intercepts / 2, intercepts / 2])
            self._weights[seen] = coefficients @ basis
            self._bias[seen] = intercepts

    def predict(self, vectors: Vectors) -> Float[np.ndarray, "n c"]:
        return softmax(unit_rows(vectors) @ self._weights.T + self._bias)


def unit_rows(vectors: Vectors) -> Float[np.ndarray, "n d"]:
    """Rows scaled to length one, in float32; zero rows stay zero."""
    rows = np.asarray(vectors, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def span(rows: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, "r d"], Float[np.ndarray, "n r"]]:
    """An orthonormal basis of the rows' span and the rows' coordinates in it; r ≤ min(n, d).

    >>> basis, coordinates = span(np.array([[3.0, 4.0, 0.0]]))
    >>> bool(np.allclose(coordinates @ basis, [[3, 4, 0]])), coordinates.shape
    (True, (1, 1))
    """
    if len(rows) >= rows.shape[1]:
        return np.eye(rows.shape[1], dtype=rows.dtype), rows
    q, r = np.linalg.qr(rows.T)
    return q.T, r.T


def softmax(logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    """Row-wise softmax; a logit of −inf has probability 0."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
