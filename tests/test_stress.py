"""Comparisons under stress: what is drawn is what was asked for, and the same for all strategies of a seed."""

import json
from pathlib import Path

import numpy as np
import pytest

import vizsla
from vizsla.arena import Arena
from vizsla.errors import BadOption, NotEnoughImages
from vizsla.models.backbones import load_backbone
from vizsla.plan import Plan
from vizsla.stress import long_tail, mixed, unknown_classes
from vizsla.testing import TOY_BACKBONE, toy_images

SMALL = {"backbone": TOY_BACKBONE, "seeds": 2, "initial": 4, "batch": 4, "budget": 16, "random_budget": 20}
RNG = np.random.default_rng


@pytest.fixture(scope="module")
def six(tmp_path_factory) -> Path:
    """Six classes of twenty small images. Only to be read."""
    return toy_images(tmp_path_factory.mktemp("six"), classes="abcdef", per_class=20)


def arena(folder: Path, test: Path | None = None, **plan) -> Arena:
    held_out = vizsla.IndexedDataset(test, test=True) if test else None
    backbone = load_backbone(TOY_BACKBONE)
    return Arena(Plan(backbone=TOY_BACKBONE, **plan), vizsla.IndexedDataset(folder), held_out, backbone, None)


def folders(dataset: vizsla.IndexedDataset) -> list[str]:
    """The class folder of each image, known or not."""
    return [dataset.file_name(image).split("/")[0] for image in range(len(dataset))]


def sizes(dataset: vizsla.IndexedDataset) -> dict[str, int]:
    names, counts = np.unique(folders(dataset), return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


# --- long tails


@pytest.mark.parametrize(("classes", "each", "factor"), [(2, 9, 3), (10, 100, 10), (10, 105, 50), (7, 64, 1)])
def test_a_long_tail_falls_geometrically_and_its_ends_differ_by_the_factor(classes, each, factor):
    labels = np.repeat(np.arange(classes), each)
    counts = np.sort(np.bincount(labels[long_tail(labels, factor, RNG(0))]))
    assert counts[-1] == factor * counts[0]
    assert counts[-1] > each / 2
    wanted = counts[0] * factor ** (np.arange(classes) / (classes - 1))
    assert np.abs(counts - wanted).max() <= 0.5


def test_a_fractional_factor_is_kept_as_closely_as_whole_images_allow():
    labels = np.repeat([0, 1, 2], 70)
    counts = np.sort(np.bincount(labels[long_tail(labels, 2.5, RNG(0))]))
    assert counts.tolist() == [28, 44, 70]


def test_the_smallest_class_bounds_the_largest_so_pools_of_all_seeds_are_alike():
    labels = np.repeat([0, 1, 2], [20, 50, 90])
    kept = [np.bincount(labels[long_tail(labels, 4, RNG(seed))]).tolist() for seed in range(20)]
    assert all(sorted(counts) == [5, 10, 20] for counts in kept)
    assert len({tuple(counts) for counts in kept}) == 6  # every order of three classes


def test_a_long_tailed_comparison_keeps_a_balanced_test_set(six):
    arenas = arena(six), arena(six, long_tail=7)
    rarest = set()
    for seed in range(6):
        plain, tailed = (one.split(seed) for one in arenas)
        assert sizes(plain.pool) == dict.fromkeys("abcdef", 14)
        assert sizes(tailed.test) == dict.fromkeys("abcdef", 6)
        assert folders(tailed.test) == folders(plain.test)
        counts = sizes(tailed.pool)
        assert sorted(counts.values()) == [2, 3, 4, 6, 9, 14]
        rarest.add(min(counts, key=counts.__getitem__))
    assert len(rarest) > 1


# --- outliers


def test_so_many_classes_are_taken_out_that_their_images_can_be_the_share():
    for classes, share, taken in [(10, 0.2, 2), (10, 0.21, 3), (10, 0.01, 1), (3, 1 / 3, 1), (5, 0.6, 3)]:
        assert len(unknown_classes(np.arange(classes), share, RNG(0))) == taken


@pytest.mark.parametrize(("known", "outliers"), [(80, 40), (80, 20), (80, 7), (3, 500)])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_outliers_are_exactly_their_share_whichever_kind_is_plentiful(known, outliers, share):
    ids = mixed(np.arange(known), np.arange(1000, 1000 + outliers), share, RNG(0))
    strange = (ids >= 1000).sum()
    assert strange >= 1
    assert abs(strange - share * len(ids)) <= 1
    assert strange == outliers or len(ids) - strange == known  # no more is left out than must be
    assert (np.diff(ids) > 0).all()


def test_outliers_are_their_share_of_the_pool_and_never_in_the_test_set(six, tmp_path):
    test = toy_images(tmp_path / "test", classes="abcdef", per_class=5, seed=9)
    unknown = set()
    for one in (arena(six, outliers=0.3), arena(six, test, outliers=0.3)):
        for seed in range(6):
            split = one.split(seed)
            known = set(split.pool.classes)
            assert len(known) == 4  # of 6, for 0.3 · 6 = 1.8
            strange = [folder not in known for folder in folders(split.pool)]
            assert np.mean(strange) == pytest.approx(0.3, abs=0.01)
            assert set(folders(split.test)) == known
            names = [split.test.classes[label] for label in split.test.labels]
            assert names == folders(split.test)
            unknown.add(frozenset("abcdef") - known)
    assert len(unknown) > 3


def test_asking_for_an_outlier_costs_a_label_and_teaches_nothing(six):
    whole = 77  # 4 classes of 14 and 21 outliers less what makes no share of .27
    plan = {**SMALL, "seeds": 1, "outliers": 0.27, "budget": whole, "random_budget": whole}
    comparison = vizsla.compare(six, strategies=["margin"], **plan)
    for name in ("random", "margin"):
        curve = comparison.of(name)[0]
        assert curve.labels.tolist() == [*range(4, whole, 4), whole]
        offered = curve.values("outliers_offered")
        assert (np.diff(offered) >= 0).all()
        assert offered[-1] == 21
        assert curve.values("classes_seen")[-1] == 4
        assert curve.values()[-1] == comparison.settings["ceiling"]  # the 56 others have taught


def test_random_is_offered_outliers_by_their_share_and_a_pool_without_offers_none(six):
    plan = {**SMALL, "seeds": 8, "initial": 30, "budget": 30, "random_budget": 30}
    share = vizsla.compare(six, strategies=["random"], outliers=0.3, **plan).mean(
        "random", "outliers_offered"
    )
    assert share[1][-1] / 30 == pytest.approx(0.3, abs=0.09)  # 3 standard errors
    plain = vizsla.compare(six, strategies=["random"], **{**plan, "seeds": 1}).of("random")[0]
    assert plain.values("outliers_offered").tolist() == [0]


def test_a_noisy_oracle_knows_an_outlier_and_mistakes_only_known_classes(six):
    split = arena(six, outliers=0.5).split(0)
    oracle = vizsla.oracle.NoisyOracle(vizsla.oracle.FilenameOracle(outliers=True), 0.4, 3, seed=0)
    oracle.label(split.pool, range(len(split.pool)))
    strange = np.array([not split.pool.has_class(image) for image in range(len(split.pool))])
    assert (split.pool.outliers == strange).all()
    known = np.flatnonzero(~strange)
    wrong = np.mean([split.pool.labels[image] != split.pool.folder_label(image) for image in known])
    assert wrong == pytest.approx(0.4, abs=0.16)  # 42 images, two standard errors


# --- near-duplicates


def test_each_image_is_in_the_pool_with_its_copies_and_none_of_them_in_the_test_set(six):
    plain, many = arena(six).split(1), arena(six, duplicates=5).split(1)
    names = [many.pool.file_name(image) for image in range(len(many.pool))]
    assert names == [name for name in map(plain.pool.file_name, range(84)) for _ in range(5)]
    assert folders(many.test) == folders(plain.test)
    assert not set(names) & {many.test.file_name(image) for image in range(len(many.test))}
    vectors = many.inputs.embeddings.vectors.astype(np.float64).reshape(84, 5, -1)
    assert (vectors[:, 0] == plain.inputs.embeddings.vectors).all()
    assert len(np.unique(vectors[:, :, 0].ravel())) > 0.9 * 5 * 84  # really changed
    of_copies = np.linalg.norm(vectors[:, 1:] - vectors[:, :1], axis=2).mean()
    of_others = np.linalg.norm(vectors[:-1, 0] - vectors[1:, 0], axis=1).mean()
    assert of_copies < of_others
    assert (many.test_inputs.embeddings.vectors == plain.test_inputs.embeddings.vectors).all()


def test_copies_are_embedded_once_and_the_bar_counts_all_of_them(six, monkeypatch, tmp_path):
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path))
    plan = {**SMALL, "seeds": 1, "duplicates": 3, "strategies": ["random"]}
    seen = []
    vizsla.compare(six, progress=lambda *at: seen.append(at), **plan)
    assert seen == sorted(seen)
    assert seen[-1] == (360, 360)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("vectors.f16")}
    assert len(before) == 3
    vizsla.compare(six, **plan)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("vectors.f16")} == before


def test_a_budget_larger_than_the_images_is_fine_where_copies_make_up_for_it(toys):
    plan = {**SMALL, "seeds": 1, "budget": 60, "random_budget": 60}
    comparison = vizsla.compare(toys, strategies=["random"], duplicates=3, **plan)
    assert comparison.of("random")[0].labels[-1] == 60
    assert comparison.settings["images"] == 75


# --- together


STRESSED = {"long_tail": 4, "outliers": 0.2, "noise": 0.1, "duplicates": 2}


def points(comparison: vizsla.Comparison) -> list:
    """All that is recorded but for times."""
    return [
        [curve.strategy, curve.seed, {k: v for k, v in point.items() if not k.endswith("seconds")}]
        for curve in comparison.curves
        for point in curve.points
    ]


def test_all_kinds_of_stress_at_once_keep_their_promises(six):
    split = arena(six, **STRESSED).split(3)
    known = {name: count for name, count in sizes(split.pool).items() if name in split.pool.classes}
    assert sorted(known.values()) == [6, 10, 16, 24]  # twice 3, 5, 8, 12 of 14: geometric
    assert 1 - sum(known.values()) / len(split.pool) == pytest.approx(0.2, abs=0.01)
    assert sizes(split.test) == dict.fromkeys(split.pool.classes, 6)


def test_strategies_of_a_seed_share_the_stress_and_all_of_it_is_repeatable(six):
    first, second = (
        vizsla.compare(six, strategies=["margin", "entropy"], **SMALL, **STRESSED) for _ in range(2)
    )
    assert points(first) == points(second)
    for seed in (0, 1):
        starts = [first.of(name)[seed].points[0] for name in first.strategies]
        shared = [{k: v for k, v in start.items() if not k.endswith("seconds")} for start in starts]
        assert shared[0] == shared[1] == shared[2]
    assert first.of("random")[0].points[0]["accuracy"] != first.of("random")[1].points[0]["accuracy"]


def test_stress_of_one_kind_does_not_change_what_another_draws(six):
    both, tail = arena(six, long_tail=4, outliers=0.2), arena(six, outliers=0.2)
    assert both.split(0).pool.classes == tail.split(0).pool.classes
    assert folders(both.split(0).test) == folders(tail.split(0).test)


def test_a_stressed_comparison_that_goes_on_ends_as_one_that_never_stopped(six, tmp_path):
    options = {"strategies": ["margin"], "out": tmp_path, **SMALL, **STRESSED}
    vizsla.compare(six, **{**options, "seeds": 1})
    went_on = vizsla.compare(six, **{**options, "seeds": 2})
    assert points(went_on) == points(vizsla.compare(six, **{**options, "seeds": 2, "out": None}))


def test_runs_under_other_stress_are_not_taken_for_these_but_those_that_knew_none_are_used_again(
    six, tmp_path
):
    options = {"strategies": ["random"], "out": tmp_path, **SMALL, "seeds": 1}
    vizsla.compare(six, **options)
    for name, value in {"long_tail": 3, "outliers": 0.2, "duplicates": 2, "noise": 0.1}.items():
        with pytest.raises(BadOption, match=rf"{name} was .*, now {value}"):
            vizsla.compare(six, **options, **{name: value})
    file = tmp_path / "runs" / "settings.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k not in STRESSED}))
    run = tmp_path / "runs" / "random-0.json"
    before = run.stat().st_mtime_ns
    vizsla.compare(six, **options)
    assert run.stat().st_mtime_ns == before
    with pytest.raises(BadOption, match="duplicates was 1, now 2"):
        vizsla.compare(six, duplicates=2, **options)


def test_fine_tuning_works_on_a_long_tail_with_outliers(toys):
    plan = {**SMALL, "seeds": 1, "budget": 8, "random_budget": 8, "stop_training": "epochs", "epochs": 8}
    comparison = vizsla.compare(
        toys, strategies=["margin"], fine_tune=True, outliers=0.3, long_tail=2, **plan
    )
    assert comparison.of("margin")[0].labels.tolist() == [4, 8]
    assert comparison.of("margin")[0].values()[-1] > 0.8  # of two classes


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("long-tail is how many times .* not 0.5", {"long_tail": 0.5}),
        ("long-tail is how many times .* not nan", {"long_tail": float("nan")}),
        (r"long-tail 20 needs 20 images .* only 8 in the pool\. Use 8 or less", {"long_tail": 20}),
        ("outliers is a share of the pool", {"outliers": 1.0}),
        (r"outliers 0.5 takes 2 of 3 classes .* Use 0.33 or less", {"outliers": 0.5}),
        ("duplicates is how often .* not 0", {"duplicates": 0}),
        ("duplicates is how often .* not 2.5", {"duplicates": 2.5}),
        (r"duplicates needs frozen features\. Leave out", {"duplicates": 2, "fine_tune": True}),
    ],
)
def test_stress_that_cannot_be_is_named_with_its_mend_before_anything_is_embedded(toys, message, options):
    embedded = []
    with pytest.raises(BadOption, match=message):
        vizsla.compare(toys, progress=lambda *at: embedded.append(at), **{**SMALL, **options})
    assert not embedded


def test_two_classes_leave_none_to_take_out(tmp_path):
    with pytest.raises(BadOption, match="Add images of another class"):
        vizsla.compare(toy_images(tmp_path, classes="ab"), outliers=0.1, **SMALL)


def test_a_budget_over_the_stressed_pool_is_refused_with_its_size(toys):
    with pytest.raises(NotEnoughImages, match="16 labels is more than the pool of 14"):
        vizsla.compare(toys, long_tail=4, **SMALL)
