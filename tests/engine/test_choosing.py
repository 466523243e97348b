"""Choosing from shards: the contract of both engines, checked against `vizsla.select` on one array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vizsla
from vizsla.engine import LocalEngine
from vizsla.errors import BadArray, BadOption, NotEnoughImages
from vizsla.shards import learned, ranking
from vizsla.shards.centers import k_center
from vizsla.shards.choosing import select_shards
from vizsla.shards.learned import Labels
from vizsla.shards.pool import Shards, numbered, of_file
from vizsla.strategy.base import strategies
from vizsla.views import Material

N, D, C = 600, 12, 4
VOTES = ["query_by_committee", "variation_ratio"]  # a handful of different scores: most rows tie
BY_CHANCE = ["random", *(name for name in strategies if name.startswith("power_")), *VOTES]


def points() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.integers(C, size=N)
    middles = rng.normal(size=(C, D))
    return (rng.normal(size=(N, D)) + 1.5 * middles[truth]).astype(np.float32), truth


ROWS, TRUTH = points()
KNOWN = np.concatenate([np.flatnonzero(c == TRUTH)[:6] for c in range(C)])
LABELLED = {"labelled": KNOWN, "labels": TRUTH[KNOWN]}


def shards(folder: Path, rows: np.ndarray, *sizes: int) -> Shards:
    """The rows in files of these sizes."""
    files, first = [], 0
    for number, size in enumerate(sizes):
        np.save(folder / f"{number}.npy", rows[first : first + size])
        files.append((folder / f"{number}.npy", size))
        first += size
    return numbered(files)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Five shards of different sizes, one of them empty."""
    return shards(tmp_path_factory.mktemp("shards"), ROWS, 250, 1, 0, 199, 150)


def test_both_engines_and_one_machine_choose_the_same_whatever_the_strategy(engine, pool):
    for name in strategies:
        given = LABELLED | {"n": 20, "seed": 3}
        got = select_shards(name, pool, engine, **given)
        if name in BY_CHANCE:  # chance falls otherwise than on one machine, but the same with both engines
            want = select_shards(name, pool, LocalEngine(), **given)
        else:
            want = vizsla.select(name, embeddings=ROWS, **given)
        assert got.tolist() == want.tolist(), name


@pytest.mark.parametrize("name", VOTES)
def test_where_most_rows_tie_the_scores_are_those_of_one_machine(name, pool):
    rule, rng = strategies[name], np.random.default_rng(3)
    rest = np.setdiff1d(np.arange(N), KNOWN)
    view = Material(rest, KNOWN, ROWS, TRUTH[KNOWN]).view(rule, rng)
    every = rule.choose(view, len(rest), rng)
    score = dict(zip(every.ids.tolist(), every.scores.tolist(), strict=True))
    got = select_shards(name, pool, LocalEngine(), **LABELLED, n=60, seed=3).tolist()
    assert [score[one] for one in got] == pytest.approx(every.scores[:60].tolist())


@pytest.mark.parametrize("name", BY_CHANCE)
def test_what_is_left_to_chance_falls_the_same_however_the_pool_is_parted(name, pool, tmp_path):
    ways = [pool, shards(tmp_path, ROWS, 600), of_file(tmp_path / "0.npy", rows_at_once=7)]
    got = [select_shards(name, way, LocalEngine(), **LABELLED, n=50, seed=3).tolist() for way in ways]
    assert got[0] == got[1] == got[2]
    assert len(set(got[0]) - set(KNOWN.tolist())) == 50
    assert got[0] != select_shards(name, pool, LocalEngine(), **LABELLED, n=50, seed=4).tolist()


def test_equal_scores_fall_the_same_however_the_pool_is_parted(tmp_path, monkeypatch):
    probs = learned._probs  # a product of matrices gives equal rows other last digits in other places
    monkeypatch.setattr(learned, "_probs", lambda head: probs(head).round(decimals=4))
    rows = np.repeat(ROWS[:12], 50, axis=0)  # each score fifty times
    known, labels = np.arange(0, 600, 50), TRUTH[:12]
    whole = shards(tmp_path, rows, 600)
    parted = of_file(tmp_path / "0.npy", rows_at_once=64)
    got = [
        select_shards("margin", way, LocalEngine(), labelled=known, labels=labels, n=70)
        for way in (whole, parted)
    ]
    assert got[0].tolist() == got[1].tolist()
    assert len(set((got[0] // 50).tolist())) == 2  # 49 of the best score, then 21 of the next
    assert got[0].tolist() != sorted(got[0].tolist())


def test_random_is_uniform_over_ids_and_seeds(pool):
    drawn = [select_shards("random", pool, LocalEngine(), n=100, seed=seed) for seed in range(120)]
    times = np.bincount(np.concatenate(drawn), minlength=N)  # 20 expected of each, binomially
    assert abs(times.mean() - 20) < 1e-9
    assert 0.8 < times.var() / (120 * (1 / 6) * (5 / 6)) < 1.2
    assert abs(times[:250].mean() - times[250:].mean()) < 1.1  # 4 standard deviations


def test_k_center_takes_few_passes_and_those_that_a_plain_loop_takes(pool, monkeypatch):
    monkeypatch.setattr("vizsla.shards.centers._OF_EACH", 16)
    monkeypatch.setattr("vizsla.shards.centers._IN_ALL", 40)
    passes = []

    class Counting(LocalEngine):
        def map(self, work, shards):
            passes.append(work)
            return super().map(work, shards)

    got = k_center(pool, Labels(KNOWN, None, ROWS[KNOWN], KNOWN[:0]), 60, 0, Counting())
    away = np.linalg.norm(ROWS[:, None] - ROWS[KNOWN], axis=2).min(axis=1)
    for pick in got.tolist():
        assert pick == away.argmax()
        away = np.minimum(away, np.linalg.norm(ROWS - ROWS[pick], axis=1))
    assert len(passes) < 60  # two for each round: the farthest, and their rows


def test_coverage_starts_from_nothing_labelled(engine, pool):
    for name in ("coreset", "kmeans", "typiclust", "auto"):
        got = select_shards(name, pool, engine, n=10, seed=1)
        assert len(set(got.tolist())) == 10, name
        if name != "coreset":  # whose first pick is chance's
            assert got.tolist() == vizsla.select(name, embeddings=ROWS, n=10, seed=1).tolist(), name


def test_a_shortlist_is_half_the_most_unsure_and_half_drawn(pool, monkeypatch):
    seen = {}
    rule = strategies["badge"]

    def spy(view, n, rng):
        seen["ids"] = view.ids
        return rule.rule(view, n, rng)

    monkeypatch.setitem(strategies._entries, "badge", type(rule)(rule.name, rule.needs, spy, True))
    got = select_shards("badge", pool, LocalEngine(), **LABELLED, n=10, shortlist=100)
    unsure = vizsla.select("margin", embeddings=ROWS, **LABELLED, n=50)
    assert set(unsure.tolist()) <= set(seen["ids"].tolist())
    assert len(seen["ids"]) == 100
    assert not set(KNOWN.tolist()) & set(seen["ids"].tolist())
    assert set(got.tolist()) <= set(seen["ids"].tolist())


def test_k_means_looks_farther_where_a_centre_has_lost_its_nearest_rows_to_others(tmp_path):
    rows = np.repeat(ROWS[:2], 40, axis=0)  # two distinct rows: ten centres, most of them in one place
    got = select_shards("kmeans", shards(tmp_path, rows, 30, 50), LocalEngine(), n=20)
    assert len(set(got.tolist())) == 20


def test_merging_the_best_of_parts_is_sorting_all_of_them_on_100_random_cases():
    rng = np.random.default_rng(0)
    for _ in range(100):
        size, n = int(rng.integers(1, 60)), int(rng.integers(1, 20))
        every = ranking.Ranked(np.arange(size), rng.integers(0, 4, size).astype(float), rng.random(size))
        found, cuts = ranking.NOTHING, np.sort(rng.integers(0, size + 1, 3))
        for part in rng.permutation(np.arange(4)):
            place = slice([0, *cuts][part], [*cuts, size][part])
            some = ranking.Ranked(every.ids[place], every.scores[place], every.chance[place])
            found = found.merged(some.best(n), n)
        plain = sorted(range(size), key=lambda i: (-every.scores[i], every.chance[i]))[:n]
        assert found.ids.tolist() == plain


@pytest.mark.parametrize(
    ("error", "message", "given"),
    [
        (NotEnoughImages, "only 576 of 600 are unlabelled", {"n": 577}),
        (BadOption, "n must be at least 1", {"n": 0}),
        (BadOption, "a shortlist of 5 cannot give 10", {"n": 10, "shortlist": 5}),
        (BadOption, "Give 'dropout' or 'laplace'", {"n": 10, "draws": "k.npy"}),
        (BadArray, "row 600, but rows go from 0 to 599", {"n": 10, "labelled": [600], "labels": [0]}),
        (BadArray, "labels of at least two classes", {"n": 10, "labels": np.zeros(24)}),
    ],
)
def test_a_mistake_is_named_with_its_mend(error, message, given, engine, pool):
    with pytest.raises(error, match=message):
        select_shards("margin", pool, engine, **(LABELLED | given))


@pytest.mark.parametrize(
    "name", ["coreset", "kmeans", "typiclust", "expected_gradient", "density_weighted", "margin"]
)
def test_far_from_the_origin_shards_are_chosen_from_as_one_array_is(name, tmp_path):
    far = (ROWS + 1000).astype(np.float32)
    given = LABELLED | {"n": 12}
    got = select_shards(name, shards(tmp_path, far, 250, 1, 199, 150), LocalEngine(), **given)
    assert set(got) == set(vizsla.select(name, embeddings=far, **given))
    if name == "coreset":
        plain = vizsla.select(name, embeddings=ROWS, **given)
        assert len(set(got) & set(plain)) >= 11  # adding 1000 rounds the rows themselves
