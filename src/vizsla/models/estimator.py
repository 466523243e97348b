"""The logistic head for scikit-learn's users: in pipelines, grid searches and cross-validation."""

from __future__ import annotations

from typing import Self

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from vizsla.functional.geometry import unit_rows
from vizsla.models.heads import INVERSE_STRENGTH, LogisticHead


class LinearClassifier(ClassifierMixin, BaseEstimator):
    """`LogisticHead` as a scikit-learn estimator: logistic regression on rows of unit length.

    The same optimum as `make_pipeline(Normalizer(), LogisticRegression(C=C))`, several times as fast where rows are
    few and dimensions many, as features of a frozen network are.

    Args:    C: inverse strength of the L2 penalty.
    Fitted:  `classes_` (c,), ascending; `head_`, the head itself; `n_features_in_`, and `feature_names_in_` where
             columns have names.

    >>> model = LinearClassifier().fit([[1, 0], [2, 0.1], [0, 1], [0.1, 3]], ["cat", "cat", "dog", "dog"])
    >>> model.predict([[5, 1], [1, 5]]).tolist()
    ['cat', 'dog']
    """

    def __init__(self, C: float = INVERSE_STRENGTH) -> None:
        self.C = C

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from n ≥ 1 rows with any labels that can be sorted. Raises ValueError for C ≤ 0 and for bad arrays."""
        if not self.C > 0:
            raise ValueError(f"C is {self.C}, and must be above 0.")
        rows, labels = validate_data(self, X, y)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self.head_ = LogisticHead(len(self.classes_), self.C)
        self.head_.fit(rows, codes)
        # In single precision a row alone may differ in the last digits from itself among others.
        self.head_.weights = self.head_.weights.astype(np.float64)
        self.head_.bias = self.head_.bias.astype(np.float64)
        return self

    @property
    def coef_(self) -> Float[np.ndarray, "k d"]:
        """Weights of rows of unit length: one row for two classes, else one for each."""
        return _one_of_two(self.head_.weights)

    @property
    def intercept_(self) -> Float[np.ndarray, " k"]:
        """What is added to their product with the weights."""
        return _one_of_two(self.head_.bias)

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Logits (n, c); of two classes (n,), the logit of the second."""
        logits = unit_rows(self._rows(X)) @ self.coef_.T + self.intercept_
        return logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: ArrayLike) -> Float[np.ndarray, "n c"]:
        """Probabilities, in the order of `classes_`."""
        rows = self._rows(X)
        return self.head_.predict(rows)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The likeliest class of each row."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likeliest]

    def _rows(self, X: ArrayLike) -> Float[np.ndarray, "n d"]:
        check_is_fitted(self)
        return validate_data(self, X, reset=False)


def _one_of_two(of_each_class: np.ndarray) -> np.ndarray:
    """As scikit-learn has it: two classes share one logit, that of the second against the first."""
    return of_each_class[1:] - of_each_class[:1] if len(of_each_class) == 2 else of_each_class
