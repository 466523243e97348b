"""The head as a scikit-learn estimator: scikit-learn's own checks, and whose mathematics it is."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from vizsla import LinearClassifier
from vizsla.models.heads import INVERSE_STRENGTH, LogisticHead

NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


@pytest.fixture(scope="module")
def digits():
    """Rows and class names: for training, and others."""
    rows, labels = load_digits(return_X_y=True)
    return train_test_split(rows / 16, NAMES[labels], train_size=200, random_state=0, stratify=labels)


@pytest.mark.slow
def test_scikit_learn_s_own_checks_pass_and_none_is_skipped():
    code = (
        "from sklearn.utils.estimator_checks import check_estimator; from vizsla import LinearClassifier;"
        "done = check_estimator(LinearClassifier(), on_skip='warn', on_fail='raise');"
        "print(len(done), {one['status'] for one in done})"
    )
    env = os.environ | {"SCIPY_ARRAY_API": "1"}  # else one check is skipped; read when SciPy is loaded
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    count, statuses = done.stdout.split(maxsplit=1)
    assert int(count) > 40
    assert statuses.strip() == "{'passed'}"


@pytest.mark.parametrize("classes", [NAMES, NAMES[:2]], ids=["ten classes", "two classes"])
def test_probabilities_are_those_of_the_head_and_of_logistic_regression_on_unit_rows(digits, classes):
    rows, others, names, _ = digits
    some = np.isin(names, classes)
    model = LinearClassifier().fit(rows[some], names[some])
    head = LogisticHead(len(classes))
    head.fit(rows[some], np.searchsorted(np.sort(classes), names[some]))
    exact = make_pipeline(
        Normalizer(), LogisticRegression(C=INVERSE_STRENGTH, tol=1e-8, max_iter=10_000)
    ).fit(rows[some], names[some])
    found = model.predict_proba(others)
    assert model.classes_.tolist() == exact.classes_.tolist() == sorted(classes)
    np.testing.assert_allclose(found, head.predict(others), atol=1e-5)
    np.testing.assert_allclose(found, exact.predict_proba(others), atol=1e-3)
    np.testing.assert_allclose(model.decision_function(others), exact.decision_function(others), atol=0.02)
    assert model.coef_.shape == exact[-1].coef_.shape
    assert (model.predict(others) == exact.predict(others)).mean() > 0.999


def test_a_class_of_one_alone_is_always_predicted():
    model = LinearClassifier().fit([[1.0, 2.0]], ["cat"])
    assert model.predict([[3.0, -1.0]]).tolist() == ["cat"]
    assert model.predict_proba([[3.0, -1.0]]).tolist() == [[1.0]]


def test_it_works_in_pipelines_searches_calibration_and_pickles(digits):
    rows, others, names, truth = digits
    search = GridSearchCV(
        make_pipeline(PCA(30, random_state=0), LinearClassifier()),
        {"linearclassifier__C": [1e-3, 30.0]},
        cv=3,
    )
    search.fit(rows, names)
    assert search.best_params_ == {"linearclassifier__C": 30.0}  # 0.001 hardly learns
    assert search.score(others, truth) > 0.9
    again = pickle.loads(pickle.dumps(search))
    assert (again.predict_proba(others) == search.predict_proba(others)).all()
    assert cross_val_score(LinearClassifier(), rows, names, cv=3).mean() > 0.85
    calibrated = CalibratedClassifierCV(LinearClassifier(), cv=3).fit(rows, names)
    assert calibrated.score(others, truth) > 0.9


def test_a_strength_that_is_none_says_so():
    with pytest.raises(ValueError, match=r"C is 0\.0, and must be above 0"):
        LinearClassifier(C=0.0).fit([[1.0], [2.0]], [0, 1])


def test_it_fits_one_head_once(monkeypatch):
    fits, fit = [], LogisticHead.fit
    monkeypatch.setattr(
        LogisticHead, "fit", lambda self, rows, *rest: (fits.append(len(rows)), fit(self, rows, *rest))[1]
    )
    LinearClassifier().fit(np.eye(6), list("aabbcc"))
    assert fits == [6]
