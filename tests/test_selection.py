import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import vizsla
from vizsla.errors import BadArray, BadOption, NotEnoughImages, UnknownName
from vizsla.views import Material

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
        (BadOption, "n must be at least 1, not -1", {"probs": PROBS, "n": -1}),
        (BadOption, "n must be a whole number of at least 1, not '2'", {"probs": PROBS, "n": "2"}),
        (BadOption, "whole number of at least 1, not None", {"probs": PROBS, "n": None}),
        (BadOption, "whole number of at least 1, not 1.5", {"probs": PROBS, "n": 1.5}),
        (BadOption, "whole number of at least 1, not nan", {"probs": PROBS, "n": float("nan")}),
        (BadOption, "seed must be at least 0, not -1", {"probs": PROBS, "seed": -1}),
        (BadOption, "seed must be a whole number of at least 0, not 1.5", {"probs": PROBS, "seed": 1.5}),
        (NotEnoughImages, "all 60 rows are labelled", {"probs": PROBS, "labelled": range(60), "n": 1}),
        (BadArray, r"\(images, classes ≥ 2\), not texts of shape \(60, 4\)", {"probs": PROBS.astype(str)}),
        (BadArray, "not objects of shape", {"probs": PROBS.astype(str).astype(object)}),
        (BadArray, "must be numbers .* not a dict", {"probs": {"a": PROBS}}),
        (BadArray, "must be numbers .* not a list of 2", {"probs": [[0.5, 0.5], [1.0]]}),
        (BadArray, "must be numbers .* not a str", {"embeddings": "rows.npy"}),
        (BadArray, "must be numbers .* not complex128", {"embeddings": EMBEDDINGS + 1j}),
        (BadArray, r"dimensions ≥ 1\), not \(60, 0\)", {"embeddings": EMBEDDINGS[:, :0]}),
        (BadArray, "mask of shape \\(3,\\), but there are 60 rows", {"probs": PROBS, "labelled": [True] * 3}),
        (BadArray, "row numbers, not a set", {"probs": PROBS, "labelled": {1, 2}}),
        (
            BadArray,
            r"place 1 \(None\)",
            {"embeddings": EMBEDDINGS, "labelled": [4, 5, 6], "labels": ["a", None, "b"]},
        ),
        (
            BadArray,
            r"place 1 \(nan\)",
            {"embeddings": EMBEDDINGS, "labelled": [4, 5], "labels": [1.0, np.nan]},
        ),
        (
            BadArray,
            r"labels has shape \(2, 2\)",
            {"embeddings": EMBEDDINGS, "labelled": [4, 5], "labels": np.eye(2)},
        ),
        (
            BadArray,
            "labels name 5 classes, but probs have only 4",
            {"probs": PROBS, "labelled": range(5), "labels": range(5)},
        ),
        (BadOption, "pool_size of 3 cannot give 5", {"probs": PROBS, "pool_size": 3}),
    ],
)
def test_a_mistake_is_named_with_its_mend(error, message, arguments):
    with pytest.raises(error, match=f"(?i){message}"):
        vizsla.select(**{"strategy": "margin", "n": 5, **arguments})


@pytest.mark.parametrize(
    "probs",
    [
        pd.DataFrame(PROBS, index=range(100, 160)),
        PROBS.astype(object),
        PROBS.tolist(),
        [torch.from_numpy(row) for row in PROBS],
        torch.tensor(PROBS, requires_grad=True),
        np.asfortranarray(PROBS).astype(">f8"),
    ],
    ids=["table", "objects", "lists", "list of tensors", "with a gradient", "other byte order"],
)
def test_probabilities_of_any_kind_give_the_rows_of_the_plain_array(probs):
    want = vizsla.select("margin", probs=PROBS, n=5).tolist()
    assert vizsla.select("margin", probs=probs, n=5.0).tolist() == want


@pytest.mark.parametrize(
    "labels",
    [
        [2, 1, 2, 1],
        pd.Series(["dog", "cat", "dog", "cat"], index=[9, 8, 7, 6]),
        pd.Series(["dog", "cat", "dog", "cat"], dtype="category"),
        np.array(["dog", "cat", "dog", "cat"], object),
        torch.tensor([1, 0, 1, 0]),
    ],
)
@pytest.mark.parametrize(
    "labelled", [[3, 14, 15, 59], pd.Series([3.0, 14, 15, 59]), np.isin(range(60), [3, 14, 15, 59])]
)
def test_labels_by_name_or_number_and_rows_by_number_or_mask_give_the_same(labelled, labels):
    plain = {"labelled": [3, 14, 15, 59], "labels": ["b", "a", "b", "a"]}
    want = vizsla.select("margin", embeddings=EMBEDDINGS, n=7, **plain)
    got = vizsla.select("margin", embeddings=EMBEDDINGS, n=7, labelled=labelled, labels=labels)
    assert got.tolist() == want.tolist()


ODD = {
    "all alike": np.ones((12, 5), np.float32),
    "all alike and not round": np.full((12, 5), 1000.1),
    "all zero": np.zeros((12, 5), np.float16),
    "of two kinds": np.repeat(EMBEDDINGS[:2], 6, axis=0),
    "one column": EMBEDDINGS[:12, :1],
    "constant columns": np.hstack([EMBEDDINGS[:12, :2], np.full((12, 3), 7.0)]),
    "whole numbers": np.rint(1000 * EMBEDDINGS[:12]).astype(np.int32),
}


@pytest.mark.parametrize("rows", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("labels", ["abab", "aaab", "abcd"])
def test_every_strategy_chooses_from_odd_rows(rows, labels):
    for name in vizsla.strategies:
        for n in (4, 8):
            got = vizsla.select(name, embeddings=rows, labelled=[0, 3, 7, 9], labels=list(labels), n=n)
            assert len(set(got.tolist()) - {0, 3, 7, 9}) == n, name


def test_every_strategy_takes_the_one_row_that_is_left():
    labelled = [row for row in range(12) if row != 5]
    for name in vizsla.strategies:
        given = {"labelled": labelled, "labels": list("abcabcabcab")}
        assert vizsla.select(name, embeddings=EMBEDDINGS[:12], n=1, **given).tolist() == [5], name


def test_where_all_rows_are_alike_and_their_classes_even_so_are_the_probabilities():
    material = Material(np.arange(4, 12), np.arange(4), ODD["all alike"], np.array([0, 1, 0, 1]))
    view = material.view(vizsla.strategies["margin"], np.random.default_rng(0))
    assert view.probs.tolist() == [[0.5, 0.5]] * 8


# --- the origin: clusters of unit length about a large one


MIDDLES = RNG.normal(size=(10, 64)) / 8
CLUSTERED = MIDDLES[np.repeat(np.arange(10), [310, *[10] * 9])] + 0.02 * RNG.normal(size=(400, 64))
FAR = {
    "a constant": (CLUSTERED + 1000).astype(np.float32),
    "one column": np.hstack([CLUSTERED, np.full((400, 1), 5e4)]).astype(np.float32),
    "double precision": CLUSTERED + 1e6,
}


def farthest(picks: np.ndarray) -> float:
    return float(np.linalg.norm(CLUSTERED[:, None] - CLUSTERED[None, picks], axis=2).min(axis=1).max())


@pytest.mark.parametrize(
    "name", ["coreset", "kmeans", "typiclust", "probcover", "cluster_margin", "bait", "auto"]
)
@pytest.mark.parametrize("rows", FAR.values(), ids=FAR.keys())
def test_rules_by_distance_choose_as_about_the_origin(name, rows):
    given = {"probs": np.tile(PROBS, (7, 1))[:400], "n": 10}
    want, got = (vizsla.select(name, embeddings=one, **given) for one in (CLUSTERED.astype(np.float32), rows))
    assert farthest(got) == pytest.approx(farthest(want), abs=0.02)  # rounding may take a twin


@pytest.mark.parametrize("name", ["maxherding", "uherding"])
@pytest.mark.parametrize("rows", FAR.values(), ids=FAR.keys())
def test_rules_by_direction_see_it_from_the_middle_of_a_pool_far_from_the_origin(name, rows):
    """All directions from the origin are one there, and nothing would be left but chance."""
    picks = vizsla.select(name, embeddings=rows, probs=np.full((400, 2), 0.5), n=10)
    assert len(set(np.repeat(np.arange(10), [310, *[10] * 9])[picks])) == 10
