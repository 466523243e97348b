"""Classifiers on frozen embeddings, fitted in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.optimize import minimize, minimize_scalar

from vizsla.functional.geometry import unit_rows
from vizsla.functional.threads import one_thread
from vizsla.registry import Registry

Vectors = Float[np.ndarray, "n d"]
Linear = Callable[
    [Vectors, Int64[np.ndarray, " n"], int], tuple[Float[np.ndarray, "c d"], Float[np.ndarray, " c"]]
]
"""(rows, labels, c) → weights and biases of a linear classifier."""
_AT_ONCE = 16_384  # rows: of a million there is no room for a second copy
_LEAST_VARIANCE = 1e-3  # of rows of unit length about their class's mean, where none is seen


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
FOLDS = 10
LEAVE_ONE_OUT = 40
"""With so few labels each counts, and a fit takes no time."""


class LinearHead:
    """Logits = rows of unit length · weightsᵀ + bias; a class never seen has bias −inf and weight 0."""

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes
        self.weights = np.zeros((n_classes, 0), np.float32)
        self.bias = np.full(n_classes, -np.inf, np.float32)

    def predict(self, vectors: Vectors) -> Float[np.ndarray, "n c"]:
        probs = np.empty((len(vectors), self.n_classes), np.result_type(self.weights, self.bias, np.float32))
        for start in range(0, len(vectors), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            probs[part] = softmax(unit_rows(vectors[part]) @ self.weights.T + self.bias)
        return probs


@heads.register("logistic")
class LogisticHead(LinearHead):
    """Logistic regression on rows of unit length, L2 strength 1/`inverse_strength`.

    The same model as scikit-learn's `LogisticRegression(C=inverse_strength)`, several times as fast where
    labels are few and dimensions many.
    """

    def __init__(self, n_classes: int, inverse_strength: float = INVERSE_STRENGTH) -> None:
        super().__init__(n_classes)
        self.inverse_strength = inverse_strength

    def fit(self, vectors: Vectors, labels: Int64[np.ndarray, " n"]) -> None:
        rows = unit_rows(vectors)
        seen, codes = np.unique(labels, return_inverse=True)
        # scikit-learn gives two classes one weight vector; split over two, it costs half as much.
        strength = self.inverse_strength / 2 if len(seen) == 2 else self.inverse_strength
        self.weights = np.zeros((self.n_classes, rows.shape[1]), np.float32)
        self.bias = np.full(self.n_classes, -np.inf, np.float32)
        with one_thread():
            self.weights[seen], self.bias[seen] = multinomial(rows, np.eye(len(seen))[codes], strength)


@heads.register("lda")
class LdaHead(LinearHead):
    """Linear discriminants with a shrunk covariance, on rows of unit length: strong on a few labels per class.

    Σ⁻¹ = max(d, n − 1) · ((n − 1)Σ̂ + tr(Σ̂)I)⁻¹ of the covariance Σ̂ within classes, equal priors, since chosen labels
    are no sample. It is too sure of itself: a temperature is fitted to labels held out.

    Source: Kubokawa & Srivastava 2008, doi:10.1016/j.jmva.2008.01.016 (the ridge); Hastie et al. 2009, §4.3.
    """

    def fit(self, vectors: Vectors, labels: Int64[np.ndarray, " n"]) -> None:
        rows = unit_rows(vectors)
        coldness = _coldness(_discriminants, rows, labels, self.n_classes)
        weights, bias = _discriminants(rows, labels, self.n_classes)
        self.weights = (coldness * weights).astype(np.float32)
        self.bias = (coldness * bias).astype(np.float32)


def _discriminants(
    rows: Vectors, labels: Int64[np.ndarray, " n"], c: int
) -> tuple[Float[np.ndarray, "c d"], Float[np.ndarray, " c"]]:
    n, d = rows.shape
    seen, codes = np.unique(labels, return_inverse=True)
    means = np.stack([rows[codes == k].mean(axis=0) for k in range(len(seen))])
    apart = rows - means[codes]
    scatter = (apart.T @ apart).astype(np.float64)
    mean_variance = max(np.trace(scatter) / max(n - 1, 1), _LEAST_VARIANCE)
    with one_thread():
        inverse = max(d, n - 1) * np.linalg.inv(scatter + mean_variance * np.eye(d))
    weights, bias = np.zeros((c, d), np.float32), np.full(c, -np.inf, np.float32)
    weights[seen] = means @ inverse
    bias[seen] = -0.5 * np.einsum("kd,kd->k", weights[seen], means)
    return weights, bias


def _coldness(fit: Linear, rows: Vectors, labels: Int64[np.ndarray, " n"], c: int) -> float:
    """What to multiply logits by, so that labels held out are most likely; a label alone of its class says nothing."""
    tells = np.bincount(labels)[labels] > 1
    if not tells.any():
        return 1.0
    logits = np.full((len(rows), c), -np.inf)
    for out in folds(labels):
        weights, bias = fit(rows[~out], labels[~out], c)
        logits[out] = rows[out] @ weights.T + bias
    logits, truth = logits[tells], labels[tells]

    def loss(log_coldness: float) -> float:
        probs = softmax(np.exp(log_coldness) * logits)
        return -float(np.log(np.maximum(probs[np.arange(len(truth)), truth], 1e-12)).sum())

    return float(np.exp(minimize_scalar(loss, bounds=(-7, 3), method="bounded").x))


def familiarity(points: Vectors, labelled: Vectors, strange: Vectors) -> Float[np.ndarray, " n"]:
    """Chance that each row is like the labelled and not like those said to be of no class, by logistic regression."""
    head = LogisticHead(2)
    head.fit(np.concatenate([labelled, strange]), np.repeat([1, 0], [len(labelled), len(strange)]))
    return head.predict(points)[:, 1]


@heads.register("knn")
class KnnHead:
    """The classes of the nearest labelled rows by cosine, weighed by cosine³; up to five of them.

    Source: Fix & Hodges 1951; Wu et al. 2018, arXiv:1805.01978 (weighted kNN on frozen features).
    """

    def __init__(self, n_classes: int, neighbours: int = 5) -> None:
        self.n_classes = n_classes
        self.neighbours = neighbours
        self._rows = np.zeros((0, 0), np.float32)
        self._truth = np.zeros((0, n_classes), np.float32)

    def fit(self, vectors: Vectors, labels: Int64[np.ndarray, " n"]) -> None:
        self._rows = unit_rows(vectors)
        self._truth = np.eye(self.n_classes, dtype=np.float32)[labels]

    def predict(self, vectors: Vectors) -> Float[np.ndarray, "n c"]:
        alike = unit_rows(vectors) @ self._rows.T
        k = min(self.neighbours, len(self._rows))
        near = np.argpartition(-alike, k - 1, axis=1)[:, :k]
        weights = np.maximum(np.take_along_axis(alike, near, axis=1), 0) ** 3 + 1e-6
        votes = np.einsum("nk,nkc->nc", weights, self._truth[near])
        return (votes / votes.sum(axis=1, keepdims=True)).astype(np.float32)


def folds(labels: Int64[np.ndarray, " n"], *, seed: int = 0) -> Iterator[Bool[np.ndarray, " n"]]:
    """Which labels are held out, fold by fold. One label gives no fold."""
    fold = fold_of(labels, seed=seed)
    return (fold == k for k in range(fold.max() + 1 if len(labels) > 1 else 0))


def fold_of(
    labels: Int64[np.ndarray, " n"], *, seed: int = 0, count: int | None = None
) -> Int64[np.ndarray, " n"]:
    """The fold of each label, over which each class is shared out.

    Args: count: of folds; default: one for each label for up to 40, ten for more.
    """
    count = count or (len(labels) if len(labels) <= LEAVE_ONE_OUT else FOLDS)
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % count
    return fold


def out_of_fold(
    points: Float[np.ndarray, "l r"], labels: Int64[np.ndarray, " l"], c: int, *, seed: int = 0
) -> Float[np.ndarray, "l c"]:
    """Probabilities of each labelled row by a logistic head that was not given its fold; 1/c where there is one row."""
    probs = np.full((len(labels), c), 1 / c, np.float32)
    for out in folds(labels, seed=seed):
        head = LogisticHead(c)
        head.fit(points[~out], labels[~out])
        probs[out] = head.predict(points[out])
    return probs


def multinomial(
    rows: Vectors, truth: Float[np.ndarray, "n c"], inverse_strength: float, *, most_steps: int = 10_000
) -> tuple[Float[np.ndarray, "c d"], Float[np.ndarray, " c"]]:
    """Weights W and bias b that minimise inverse_strength · Σ cross-entropy + ½‖W‖².

    The optimum lies in the span of the centred rows (representer theorem), so L-BFGS runs on their principal
    axes. There it is preconditioned: each axis is scaled by its part of the Hessian's diagonal, which takes
    the number of steps from hundreds to about 40. Probabilities are within 1e-3 of the exact optimum's.

    Args: truth: what each row's class is thought to be, a row of probabilities; 1 and zeros where it is known.
          most_steps: where it stops at the latest.
    """
    n, c = truth.shape
    centre = rows.mean(axis=0)
    axes, coordinates = span(rows - centre)
    variance = 0.005  # p(1−p) of a typical label near the optimum; 0.001 to 0.05 take much the same time
    curvature = inverse_strength * variance
    scale = 1 / np.sqrt(1 + curvature * (coordinates**2).sum(axis=0))
    bias_scale = 1 / np.sqrt(max(1.0, curvature * n))
    inputs = np.hstack([coordinates * scale, np.full((n, 1), bias_scale)])
    decay = np.append(scale**2, 0.0)[:, None]  # the bias is free

    def objective(flat: Float[np.ndarray, " k"]) -> tuple[float, Float[np.ndarray, " k"]]:
        weights = flat.reshape(-1, c)
        logits = inputs @ weights
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        total = odds.sum(axis=1, keepdims=True)
        loss = inverse_strength * (np.log(total).sum() - (truth * logits).sum())
        penalty = decay * weights
        slope = inverse_strength * (inputs.T @ (odds / total - truth)) + penalty
        return float(loss + 0.5 * (penalty * weights).sum()), slope.ravel()

    found = minimize(
        objective,
        np.zeros(inputs.shape[1] * c),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": 1e-3, "ftol": 0.0, "maxiter": most_steps, "maxfun": 2 * most_steps},
    ).x.reshape(-1, c)
    weights = (found[:-1] * scale[:, None]).T @ axes
    return weights, found[-1] * bias_scale - weights @ centre


def span(rows: Vectors) -> tuple[Float[np.ndarray, "r d"], Float[np.ndarray, "n r"]]:
    """Orthonormal principal axes of the rows' span, and the rows' coordinates on them; r ≤ min(n, d).

    By the eigenvectors of the smaller Gram matrix, a fifth of the time of a singular value decomposition. Rows that
    are all zero, or have no columns, span nothing: r = 0.

    >>> axes, coordinates = span(np.array([[3.0, 4.0, 0.0]]))
    >>> bool(np.allclose(coordinates @ axes, [[3, 4, 0]])), coordinates.shape
    (True, (1, 1))
    """
    n, d = rows.shape
    gram = rows @ rows.T if n <= d else rows.T @ rows
    squares, vectors = np.linalg.eigh(gram.astype(np.float64))
    kept = squares > max(1e-6 * squares.max(initial=0.0), 1e-12)  # below lies rounding
    squares, vectors = squares[kept], vectors[:, kept]
    if n > d:
        return vectors.T, rows @ vectors
    lengths = np.sqrt(squares)
    return (vectors / lengths).T @ rows, vectors * lengths


def softmax(logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    """Row-wise softmax; a logit of −inf has probability 0."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
