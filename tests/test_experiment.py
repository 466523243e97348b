"""compare: paired, resumable, and honest about its inputs."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import vizsla
from vizsla.errors import BadOption, NoLabel, NotEnoughImages, OneClass, UnknownName
from vizsla.functional.metrics import labels_needed
from vizsla.testing import TOY_BACKBONE, toy_images

SMALL = {"backbone": TOY_BACKBONE, "seeds": 2, "initial": 4, "batch": 4, "budget": 16, "random_budget": 20}


def without_times(file: Path) -> list:
    curves = json.loads(file.read_text())
    for curve in curves:
        for point in curve["points"]:
            for name in [name for name in point if name.endswith("seconds")]:
                del point[name]
    return curves


def test_every_strategy_starts_a_seed_from_the_same_labels_and_accuracy(toys):
    comparison = vizsla.compare(toys, strategies=["margin", "least_confidence"], **SMALL)
    for seed in (0, 1):
        first = {name: comparison.of(name)[seed].points[0]["accuracy"] for name in comparison.strategies}
        assert len(set(first.values())) == 1
    assert comparison.strategies == ("random", "margin", "least_confidence")


def test_random_runs_on_to_its_own_budget_and_never_past_the_pool(toys):
    comparison = vizsla.compare(toys, strategies=["margin"], **SMALL)
    assert comparison.of("random")[0].labels.tolist() == [4, 8, 12, 16, 20]
    assert comparison.of("margin")[0].labels.tolist() == [4, 8, 12, 16]
    longer = vizsla.compare(toys, strategies=["random"], **{**SMALL, "random_budget": 999})
    assert longer.of("random")[0].labels[-1] == 25  # 36 images less 30%


def test_pool_and_test_set_share_no_image_and_the_test_set_is_never_labelled(toys):
    seen = []
    comparison = vizsla.compare(
        toys, strategies=["margin"], on_round=lambda *args: seen.append(args), **SMALL
    )
    assert comparison.settings["images"] == 25
    done = [labels for labels, _, _ in seen]
    assert done == sorted(done)
    assert seen[-1][0] == seen[-1][1] == 2 * (16 + 20)


def test_the_ceiling_is_the_accuracy_with_all_labels(toys, tmp_path):
    test = toy_images(tmp_path / "test", seed=5)
    comparison = vizsla.compare(toys, strategies=["random"], test=test, **{**SMALL, "random_budget": 36})
    assert comparison.settings["ceiling"] == comparison.of("random")[0].values()[-1]


def test_initial_0_lets_the_strategy_start_by_itself(toys):
    comparison = vizsla.compare(toys, strategies=["margin"], **{**SMALL, "initial": 0})
    assert comparison.of("margin")[0].labels.tolist() == [4, 8, 12, 16]


def test_a_sub_pool_smaller_than_the_first_random_labels_is_fine(toys):
    plan = {**SMALL, "initial": 10, "pool_size": 6, "budget": 18}
    assert vizsla.compare(toys, strategies=["margin"], **plan).of("margin")[0].labels.tolist() == [10, 14, 18]


def test_a_noisy_oracle_teaches_less(tmp_path):
    folder = toy_images(tmp_path / "toys", per_class=40)
    plan = {**SMALL, "seeds": 5, "budget": 40, "random_budget": 40}
    clean, noisy = (
        vizsla.compare(folder, strategies=["random"], noise=rate, **plan).mean("random")[1][-1]
        for rate in (0, 0.5)
    )
    assert noisy < clean - 0.1


def test_files_on_disk_are_the_curves_in_memory(toys, tmp_path):
    comparison = vizsla.compare(toys, strategies=["margin"], out=tmp_path / "out", **SMALL)
    curves = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert {(c["strategy"], c["seed"]) for c in curves} == {
        (s, k) for s in ("random", "margin") for k in (0, 1)
    }
    margin = next(c for c in curves if (c["strategy"], c["seed"]) == ("margin", 1))
    assert [p["labels"] for p in margin["points"]] == [4, 8, 12, 16]
    assert [p["accuracy"] for p in margin["points"]] == comparison.of("margin")[1].values().tolist()
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!doctype html>")


def test_finished_runs_are_not_run_again_and_more_seeds_or_strategies_are_added(toys, tmp_path):
    out = tmp_path / "out"
    vizsla.compare(toys, strategies=["margin"], out=out, **SMALL)
    before = {file: file.stat().st_mtime_ns for file in (out / "runs").glob("*.json")}
    more = vizsla.compare(toys, strategies=["margin", "least_confidence"], out=out, **{**SMALL, "seeds": 3})
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert len(more.curves) == 9


def test_random_runs_of_a_seed_start_alike_and_go_on_each_in_its_own_way(toys):
    comparison = vizsla.compare(toys, strategies=["margin"], random_runs=3, **SMALL)
    assert comparison.ruler_runs == 3
    assert len(comparison.curves) == 2 * (3 + 1)
    for seed, runs in comparison.runs_of("random").items():
        assert [run.run for run in runs] == [0, 1, 2]
        assert {tuple(run.labels) for run in runs} == {(4, 8, 12, 16, 20)}
        starts = [run.points[0]["nll"] for run in (*runs, comparison.of("margin")[seed])]
        assert len(set(starts)) == 1
        assert len({tuple(run.values("nll")) for run in runs}) == 3
    alone = vizsla.compare(toys, strategies=["margin"], **SMALL)
    assert [curve.values("nll").tolist() for curve in alone.of("random").values()] == [
        curve.values("nll").tolist() for curve in comparison.of("random").values()
    ]


def test_without_first_labels_random_runs_differ_from_the_first_point_on(toys):
    runs = vizsla.compare(toys, strategies=["random"], random_runs=3, **{**SMALL, "initial": 0}).runs_of(
        "random"
    )
    assert all(len({run.points[0]["nll"] for run in of_seed}) == 3 for of_seed in runs.values())


def test_more_random_runs_are_added_to_those_that_are_there_and_fewer_leave_them_out(toys, tmp_path):
    options = {"strategies": ["margin"], "out": tmp_path, **SMALL}
    vizsla.compare(toys, **options)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").glob("*.json")}
    more = vizsla.compare(toys, random_runs=2, **options)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    written = json.loads((tmp_path / "curves.json").read_text())
    assert [(c["strategy"], c["seed"], c.get("run", 0)) for c in written] == [
        (name, seed, run) for seed in (0, 1) for name, run in (("random", 0), ("random", 1), ("margin", 0))
    ]
    again = vizsla.compare(toys, random_runs=2, **options)
    assert [curve.points for curve in again.curves] == [curve.points for curve in more.curves]
    assert vizsla.compare(toys, **options).ruler_runs == 1


def test_other_settings_in_the_same_folder_are_refused(toys, tmp_path):
    vizsla.compare(toys, strategies=["random"], out=tmp_path, **SMALL)
    with pytest.raises(BadOption, match=r"batch was 4, now 5.*another --out"):
        vizsla.compare(toys, strategies=["random"], out=tmp_path, **{**SMALL, "batch": 5})


def test_other_images_in_the_same_folder_are_refused(toys, tmp_path):
    vizsla.compare(toys, strategies=["random"], out=tmp_path / "out", **SMALL)
    with pytest.raises(BadOption, match="images was"):
        vizsla.compare(
            toy_images(tmp_path / "b", seed=7), strategies=["random"], out=tmp_path / "out", **SMALL
        )


LONGER = {"strategies": ["margin"], "seeds": 3, "initial": 4, "batch": 2, "budget": 20, "random_budget": 20}
SLOWLY = f"""
import sys, time
import vizsla
vizsla.compare(sys.argv[1], out=sys.argv[2], backbone={TOY_BACKBONE!r}, **{LONGER}, on_round=lambda *_: time.sleep(0.1))
"""


@pytest.mark.slow
def test_a_comparison_killed_mid_way_goes_on_and_ends_with_the_curves_of_an_uninterrupted_one(toys, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", SLOWLY, str(toys), str(killed)])
    deadline = time.monotonic() + 120
    while len(list((killed / "runs").glob("*-?.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()
    finished = {file: file.read_bytes() for file in (killed / "runs").glob("*-?.json")}
    assert 2 <= len(finished) < 6
    for out in (whole, killed):
        vizsla.compare(toys, out=out, backbone=TOY_BACKBONE, **LONGER)
    assert all(file.read_bytes() == content for file, content in finished.items())
    assert without_times(killed / "curves.json") == without_times(whole / "curves.json")


def test_an_unreadable_image_is_left_out_and_the_rest_is_compared(toys, caplog):
    (toys / "red" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    comparison = vizsla.compare(toys, strategies=["random"], **SMALL)
    assert comparison.settings["images"] == 24  # of 35
    assert "red/000.png" in caplog.text


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (UnknownName, "no strategy named 'marginal'", {"strategies": ["marginal"]}),
        (UnknownName, "no backbone named 'lite'", {"backbone": "lite"}),
        (UnknownName, "no head named 'forest'", {"head": "forest"}),
        (NotEnoughImages, "budget of 99 labels is more than the pool of 25", {"budget": 99}),
        (BadOption, "initial 20 is more than --budget 16", {"initial": 20}),
        (BadOption, "no training stop rule named 'never'", {"stop_training": "never"}),
        (BadOption, "seeds must be at least 1", {"seeds": 0}),
        (BadOption, "random-runs must be at least 1", {"random_runs": 0}),
        (BadOption, "pool-size 3 cannot give a batch of 4", {"pool_size": 3}),
        (BadOption, "noise is a share of answers", {"noise": 1.5}),
    ],
)
def test_a_mistake_is_named_with_its_mend(toys, error, message, options):
    with pytest.raises(error, match=message):
        vizsla.compare(toys, **{"strategies": ["random"], **SMALL, **options})


def test_one_class_no_class_and_a_test_set_of_other_classes_are_refused(toys, tmp_path):
    with pytest.raises(OneClass):
        vizsla.compare(toy_images(tmp_path / "one", classes=("cat",)), **SMALL)
    with pytest.raises(NoLabel, match="lies in no class folder"):
        vizsla.compare(toys / "red", **SMALL)
    other = toy_images(tmp_path / "other", classes=("blue", "black"))
    with pytest.raises(NoLabel, match="black"):
        vizsla.compare(toys, test=other, **SMALL)


def test_a_folder_of_splits_is_a_pool_only_beside_a_test_set_or_where_they_are_said_to_be_classes(
    toys, tmp_path
):
    data = tmp_path / "data"
    toy_images(data / "train")
    toy_images(data / "test", seed=5)
    with pytest.raises(
        BadOption,
        match=r"are splits \(test, train\), not classes\. Give .*train, and .*--test .*test; .*--no-splits",
    ):
        vizsla.compare(data, **SMALL)
    plan = {**SMALL, "seeds": 1, "strategies": ["random"], "out": tmp_path / "out"}
    assert vizsla.compare(data, test=toys, **plan).classes == ("blue", "green", "red")
    with pytest.raises(BadOption, match="holds runs of another comparison"):
        vizsla.compare(data, test=data, splits=False, **plan)
    plain = vizsla.compare(data, splits=False, **plan | {"out": None})
    assert plain.classes == ("test", "train")


def test_fine_tuning_compares_too_and_learns_the_toys(toys, tmp_path):
    test = toy_images(tmp_path / "test", seed=5)
    plan = {**SMALL, "seeds": 1, "random_budget": 16}
    comparison = vizsla.compare(
        toys, strategies=["margin"], test=test, fine_tune=True, stop_training="epochs", epochs=20, **plan
    )
    assert comparison.of("margin")[0].values()[-1] > 0.9
    assert comparison.of("margin")[0].points[-1]["epochs"] == 20


def test_on_the_real_dogs_margin_needs_30_percent_fewer_labels_than_random_in_the_middle(real_dogs, tmp_path):
    comparison = vizsla.compare(
        real_dogs / "train", test=real_dogs / "test", strategies=["margin"], head="logistic", seeds=5, initial=20,
        batch=10, budget=150, random_budget=320, out=tmp_path,
    )  # fmt: skip
    labels, margin = comparison.mean("margin")
    assert margin[labels == 90][0] >= 0.93
    middle = np.array([0.92, 0.925, 0.93])
    needed, needed_random = (labels_needed(*comparison.mean(name), middle) for name in ("margin", "random"))
    assert (needed <= 0.7 * needed_random).all()
    assert comparison.saved("margin").low > 0


def test_two_comparisons_at_once_in_one_folder_are_refused(toys, tmp_path):
    def second(*_: object) -> None:
        with pytest.raises(BadOption, match="another comparison is writing"):
            vizsla.compare(toys, strategies=["random"], out=tmp_path, **SMALL)

    vizsla.compare(toys, strategies=["random"], out=tmp_path, on_round=second, **SMALL)


def test_a_comparison_without_a_ceiling_draws_none(toys, tmp_path):
    plan = {
        **SMALL,
        "seeds": 1,
        "budget": 4,
        "random_budget": 8,
        "fine_tune": True,
        "stop_training": "epochs",
    }
    comparison = vizsla.compare(toys, strategies=["random"], out=tmp_path / "out", epochs=1, **plan)
    assert comparison.settings["ceiling"] is None
    assert "nan" not in (tmp_path / "out" / "report.html").read_text().lower().replace("nano", "")


@pytest.mark.parametrize("given", ["a path", "a data set", "a data set without labels"])
def test_a_test_set_that_lacks_a_class_is_joined_by_name_however_it_is_given(given, toys, tmp_path, caplog):
    for name in ("green", "red"):  # numbers 1 and 2 of the pool, 0 and 1 of their own
        shutil.copytree(toys / name, tmp_path / "test" / name)
    test = tmp_path / "test"
    if given != "a path":
        test = vizsla.IndexedDataset(test, test=given == "a data set")
    found = vizsla.compare(
        toys,
        strategies=["random"],
        test=test,
        **SMALL | {"seeds": 1, "initial": 36, "budget": 36, "random_budget": 36},
    )
    assert found.curves[0].values().tolist() == [1.0]
    assert "has no image of class blue" in caplog.text
    if given != "a path":
        assert test.classes == ("green", "red")
        assert len(test.labelled()) == (24 if given == "a data set" else 0)


def test_a_class_that_the_pool_lacks_is_an_error_for_a_data_set_as_for_a_path(toys, tmp_path):
    other = vizsla.IndexedDataset(toy_images(tmp_path / "other", classes=("blue", "black")), test=True)
    with pytest.raises(
        NoLabel, match=r"12 images .* of class 'black', which is none of the classes blue, green, red"
    ):
        vizsla.compare(toys, test=other, **SMALL)
