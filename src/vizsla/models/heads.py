"""Classifiers on frozen embeddings, fitted in milliseconds."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import Float, Int64
from scipy.optimize import minimize

from vizsla.functional.threads import one_thread
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

INVERSE_STRENGTH = 30.0


@heads.register("logistic")
class LogisticHead:
    """Logistic regression on rows of unit length, L2 strength 1/`inverse_strength`.

    The same model as scikit-learn's `LogisticRegression(C=inverse_strength)`, several times as fast where
    labels are few and dimensions many.
    """

    def __init__(self, n_classes: int, inverse_strength: float = INVERSE_STRENGTH) -> None:
        self.n_classes = n_classes
        self.inverse_strength = inverse_strength
        self.weights = np.zeros((n_classes, 0), np.float32)
        self.bias = np.full(n_classes, -np.inf, np.float32)

    def fit(self, vectors: Vectors, labels: Int64[np.ndarray, " n"]) -> None:
        rows = unit_rows(vectors)
        seen, codes = np.unique(labels, return_inverse=True)
        # scikit-learn gives two classes one weight vector; split over two, it costs half as much.
        strength = self.inverse_strength / 2 if len(seen) == 2 else self.inverse_strength
        self.weights = np.zeros((self.n_classes, rows.shape[1]), np.float32)
        self.bias = np.full(self.n_classes, -np.inf, np.float32)
        with one_thread():
            self.weights[seen], self.bias[seen] = multinomial(rows, codes, strength)

    def predict(self, vectors: Vectors) -> Float[np.ndarray, "n c"]:
        return softmax(unit_rows(vectors) @ self.weights.T + self.bias)


def multinomial(
    rows: Vectors, codes: Int64[np.ndarray, " n"], inverse_strength: float
) -> tuple[Float[np.ndarray, "c d"], Float[np.ndarray, " c"]]:
    """Weights W and bias b that minimise inverse_strength · Σ cross-entropy + ½‖W‖²; codes are 0 … c−1.

    The optimum lies in the span of the centred rows (representer theorem), so L-BFGS runs on their principal
    axes. There it is preconditioned: each axis is scaled by its part of the Hessian's diagonal, which takes
    the number of steps from hundreds to about 40. Probabilities are within 1e-3 of the exact optimum's.
    """
    n, c = len(rows), int(codes.max()) + 1
    centre = rows.mean(axis=0)
    axes, coordinates = span(rows - centre)
    variance = 0.005  # p(1−p) of a typical label near the optimum; 0.001 to 0.05 take much the same time
    curvature = inverse_strength * variance
    scale = 1 / np.sqrt(1 + curvature * (coordinates**2).sum(axis=0))
    bias_scale = 1 / np.sqrt(max(1.0, curvature * n))
    inputs = np.hstack([coordinates * scale, np.full((n, 1), bias_scale)])
    decay = np.append(scale**2, 0.0)[:, None]  # the bias is free
    truth = np.eye(c)[codes]

    def objective(flat: Float[np.ndarray, " k"]) -> tuple[float, Float[np.ndarray, " k"]]:
        weights = flat.reshape(-1, c)
        logits = inputs @ weights
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        total = odds.sum(axis=1, keepdims=True)
        loss = inverse_strength * (np.log(total).sum() - logits[np.arange(n), codes].sum())
        penalty = decay * weights
        slope = inverse_strength * (inputs.T @ (odds / total - truth)) + penalty
        return float(loss + 0.5 * (penalty * weights).sum()), slope.ravel()

    found = minimize(
        objective,
        np.zeros(inputs.shape[1] * c),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": 1e-3, "ftol": 0.0, "maxiter": 10_000, "maxfun": 20_000},
    ).x.reshape(-1, c)
    weights = (found[:-1] * scale[:, None]).T @ axes
    return weights, found[-1] * bias_scale - weights @ centre


def span(rows: Vectors) -> tuple[Float[np.ndarray, "r d"], Float[np.ndarray, "n r"]]:
    """Orthonormal principal axes of the rows' span, and the rows' coordinates on them; r ≤ min(n, d).

    By the eigenvectors of the smaller Gram matrix, a fifth of the time of a singular value decomposition.

    >>> axes, coordinates = span(np.array([[3.0, 4.0, 0.0]]))
    >>> bool(np.allclose(coordinates @ axes, [[3, 4, 0]])), coordinates.shape
    (True, (1, 1))
    """
    n, d = rows.shape
    gram = rows @ rows.T if n <= d else rows.T @ rows
    squares, vectors = np.linalg.eigh(gram.astype(np.float64))
    kept = squares > max(1e-6 * squares[-1], 1e-12)  # below lies rounding
    squares, vectors = squares[kept], vectors[:, kept]
    if n > d:
        return vectors.T, rows @ vectors
    lengths = np.sqrt(squares)
    return (vectors / lengths).T @ rows, vectors * lengths


def unit_rows(vectors: Vectors) -> Float[np.ndarray, "n d"]:
    """Rows scaled to length one, in float32; zero rows stay zero."""
    rows = np.asarray(vectors, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def softmax(logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    """Row-wise softmax; a logit of −inf has probability 0."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
