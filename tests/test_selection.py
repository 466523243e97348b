import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import vizsla
from vizsla.errors import BadArray, BadOption, NotEnoughImages, UnknownName

RNG = np.random.default_rng(0)
PROBS = RNG.dirichlet(np.ones(4), 60)
EMBEDDINGS = RNG.normal(size=(60, 8))


def test_margin_picks_the_smallest_gaps_of_the_unlabelled_rows_in_order():
    gaps = np.sort(PROBS, axis=1)[:, -1] - np.sort(PROBS, axis=1)[:, -2]
    labelled = np.argsort(gaps)[[0, 2, 4]]
    expected = [row for row in np.argsort(gaps) if row not in labelled][:10]
    assert vizsla.select("margin", probs=PROBS, labelled=labelled, n=10).tolist() == expected


def test_rows_are_distinct_unlabelled_and_repeatable():
    given = {"probs": PROBS, "embeddings": EMBEDDINGS, "labelled": [1, 5, 9], "labels": [0, 1, 0]}
    for name in vizsla.strategies:
        picks = [vizsla.select(name, **given, n=57, seed=3) for _ in range(2)]
        assert sorted(picks[0].tolist()) == [row for row in range(60) if row not in (1, 5, 9)], name
        assert picks[0].tolist() == picks[1].tolist(), name


def test_missing_probs_are_those_of_a_logistic_regression_on_centred_rows_of_unit_length():
    labelled = np.arange(20)
    labels = np.array(["cat", "dog"] * 10)
    centred = EMBEDDINGS - EMBEDDINGS.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    plain = LogisticRegression(C=30.0, max_iter=5000, tol=1e-8).fit(unit[labelled], labels)
    gaps = np.abs(plain.predict_proba(unit)[:, 0] - 0.5)
    gaps[labelled] = np.inf
    got = vizsla.select("margin", embeddings=EMBEDDINGS, labelled=labelled, labels=labels, n=5)
    assert set(got.tolist()) == set(np.argsort(gaps)[:5].tolist())


def test_a_sub_pool_as_large_as_the_batch_is_returned_whole():
    got = vizsla.select("margin", probs=PROBS, n=6, pool_size=6, seed=1)
    assert len(set(got.tolist())) == 6
    assert set(got.tolist()) != set(vizsla.select("margin", probs=PROBS, n=6).tolist())


def test_torch_tensors_and_float16_give_the_rows_of_numpy():
    want = vizsla.select("margin", probs=PROBS, n=5).tolist()
    assert vizsla.select("margin", probs=torch.from_numpy(PROBS), n=5).tolist() == want


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (UnknownName, "Did you mean 'margin'", {"strategy": "margins", "probs": PROBS}),
        (BadArray, "nothing to select from", {}),
        (
            BadArray,
            "row 3 holds NaN",
            {"embeddings": np.where(np.arange(60)[:, None] == 3, np.nan, EMBEDDINGS)},
        ),
        (BadArray, "both must cover the same images", {"embeddings": EMBEDDINGS[:50], "probs": PROBS}),
        (BadArray, "row 60, but rows go from 0 to 59", {"probs": PROBS, "labelled": [60]}),
        (BadArray, "row -1, but rows", {"probs": PROBS, "labelled": [-1]}),
        (BadArray, "names a row twice", {"probs": PROBS, "labelled": [4, 4]}),
        (BadArray, "row numbers, not float64", {"probs": PROBS, "labelled": [0.5]}),
        (BadArray, "or labels=", {"embeddings": EMBEDDINGS, "labelled": [1, 2]}),
        (BadArray, "one class for each", {"embeddings": EMBEDDINGS, "labelled": [1, 2], "labels": [0]}),
        (BadArray, "at least two classes", {"embeddings": EMBEDDINGS, "labelled": [1, 2], "labels": [0, 0]}),
        (NotEnoughImages, "only 57 of 60 are unlabelled", {"probs": PROBS, "labelled": [1, 2, 3], "n": 58}),
        (BadOption, "n must be at least 1", {"probs": PROBS, "n": 0}),
        (BadOption, "pool_size of 3 cannot give 5", {"probs": PROBS, "pool_size": 3}),
    ],
)
def test_a_mistake_is_named_with_its_mend(error, message, arguments):
    with pytest.raises(error, match=f"(?i){message}"):
        vizsla.select(**{"strategy": "margin", "n": 5, **arguments})
