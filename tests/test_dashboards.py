"""Figures on TensorBoard and MLflow, read back with their own readers."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest

from vizsla import compare
from vizsla.dashboards import Curve, checked, dashboard
from vizsla.errors import BadOption
from vizsla.learner import ActiveLearner
from vizsla.project import Project
from vizsla.standing import accuracy_of
from vizsla.store import Answer
from vizsla.testing import TOY_BACKBONE, toy_images
from vizsla.training.now import train_now
from vizsla.training.shown import begin

pytestmark = pytest.mark.filterwarnings(
    "ignore::sqlalchemy.exc.SADeprecationWarning"
)  # MLflow's own statements

SCALARS = {"train_loss", "val_loss", "val_acc", "val_macro_f1", "al_n_labels", "al_round"}
AUDIT = {"al_audit_acc", "al_audit_acc_lo", "al_audit_acc_hi"}
SETTINGS = {"backbone": TOY_BACKBONE, "seeds": 1, "initial": 6, "batch": 6, "budget": 18, "random_budget": 24}


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Scalars of one curve in TensorBoard's files, by its own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def runs(uri: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Scalars of every curve in MLflow, by its own client."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("vizsla").experiment_id
    return {
        run.info.run_name: {
            tag: [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, tag)]
            for tag in run.data.metrics
        }
        for run in client.search_runs([experiment])
    }


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tracking database, made once: that takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'runs.db'}"


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, database: str):
    """A comparison that logged to both, killed in its last curve and run again."""
    folder = tmp_path_factory.mktemp("compared")
    toys = toy_images(folder / "toys", per_class=14)
    where = [f"tensorboard:{folder / 'tb'}", f"mlflow:{database}"]
    settings = {**SETTINGS, "strategies": ["margin"], "out": folder / "out", "log": where}
    run, rounds = ActiveLearner.run, []

    def killed(self, **given):
        rounds.append(self)
        if len(rounds) == 2:
            told = given["on_round"]

            def tell(point):
                told(point)
                if point["labels"] == 12:
                    raise KeyboardInterrupt

            given["on_round"] = tell
        return run(self, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ActiveLearner, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            compare(toys, **settings)
    half = events(curve_folder(folder, "margin", 0))
    return folder, half, compare(toys, **settings)


def curve_folder(folder: Path, strategy: str, seed: int) -> Path:
    return folder / "tb" / f"{folder.name}-toys" / strategy / f"seed-{seed}"


def test_a_comparison_shows_every_curve_in_tensorboard_as_it_grows(compared):
    folder, half, comparison = compared
    assert [step for step, _ in half["val_acc"]] == [6, 12]  # while it ran
    for strategy in ("random", "margin"):
        for seed, curve in comparison.of(strategy).items():
            found = events(curve_folder(folder, strategy, seed))
            assert set(found) == SCALARS
            for tag, metric in (("val_acc", "accuracy"), ("val_loss", "nll"), ("val_macro_f1", "macro_f1")):
                assert [value for _, value in found[tag]] == pytest.approx(list(curve.values(metric)))
            assert [step for step, _ in found["val_acc"]] == list(
                curve.labels
            )  # once each, after the kill too
            assert [value for _, value in found["al_round"]] == list(range(1, len(curve.points) + 1))


def test_a_comparison_shows_the_same_in_mlflow(compared, database):
    folder, _, comparison = compared
    found = {name: run for name, run in runs(database).items() if name.startswith(folder.name)}
    names = {f"{folder.name}-toys/{s}/seed-0" for s in ("random", "margin")}
    assert set(found) == names  # one run per curve, after the kill too
    for seed, curve in comparison.of("margin").items():
        run = found[f"{folder.name}-toys/margin/seed-{seed}"]
        assert set(run) == SCALARS
        expected = np.stack([curve.labels, curve.values("accuracy")], axis=1)
        assert np.allclose(run["val_acc"], expected)
        assert [value for _, value in run["train_loss"]] == pytest.approx(list(curve.values("train_loss")))


def answer(project: Project, n: int) -> None:
    me = project.store.annotator("me").id
    for item in project.store.claim(me, n):
        name = item.path.rpartition("-")[2].partition(".")[0]
        project.store.label(me, Answer(item.image_id, name, lease_id=item.lease_id))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, sixty_photos: Path, database: str):
    """A project with a model from before it was to log, and two from after."""
    home = tmp_path_factory.mktemp("logged") / "project"
    with Project.open(home, sixty_photos) as project:
        project.change(backbone=TOY_BACKBONE)
        project.add_classes(["blue", "green", "red"])
        project.scan()
        for n in (20, 10, 10):
            answer(project, n)
            train_now(project)
            project.change(log=f"tensorboard\nmlflow:{database}")
            begin(project)
            # As trainers do: of the files of one second TensorBoard reads the tenth before the ninth.
            time.sleep(1)
        models = {model.labels_used: model for model in project.store.models() if model.state == "ready"}
    name = f"{sixty_photos.name}/head"
    return models, events(home / "tensorboard" / name), runs(database)[name]


def test_a_project_shows_each_model_at_its_number_of_labels(trained):
    models, tensorboard, mlflow = trained
    assert list(models) == [20, 30, 40]
    for found in (tensorboard, mlflow):
        assert set(found) == SCALARS | AUDIT
        assert [step for step, _ in found["al_n_labels"]] == [20, 30, 40]
        assert [step for step, _ in found["val_acc"]] == [
            30,
            40,
        ]  # of a model before the dashboards only the audit
        for end, tag in (("value", ""), ("low", "_lo"), ("high", "_hi")):
            measured = [getattr(accuracy_of(model), end) for model in models.values()]
            assert [value for _, value in found[f"al_audit_acc{tag}"]] == pytest.approx(measured)


def test_what_a_project_shows_is_held_out_but_for_the_training_loss(trained):
    _, found, _ = trained
    for step in (0, 1):
        assert found["val_acc"][step][1] > 0.9  # toys are easy
        assert 0 <= found["train_loss"][step][1] <= found["val_loss"][step][1] + 1e-6 < math.log(3)


def test_train_remembers_where_to_log_until_none_is_said(tmp_path, sixty_photos, vizsla_here):
    with Project.open(tmp_path / "p", sixty_photos) as project:
        project.change(backbone=TOY_BACKBONE)
        project.add_classes(["blue", "green", "red"])
        project.scan()
        answer(project, 20)
    for options in (["--log", f"tensorboard:{tmp_path / 'tb'}"], [], ["--log", "none"]):
        assert vizsla_here("train", "--project", tmp_path / "p", *options).returncode == 0
        with Project.open(tmp_path / "p") as project:
            answer(project, 10)
    found = events(tmp_path / "tb" / sixty_photos.name / "head")
    assert sorted({step for step, _ in found["val_acc"]}) == [20, 30]


class Broken:
    """A dashboard whose network fails at the second figure."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def run(self, *_, **__):
        return self

    def log(self, step, scalars):
        if self.steps:
            raise ConnectionError("the server is gone")
        self.steps.append(step)

    def close(self) -> None:
        raise AssertionError("closed though it was given up")


def test_a_dashboard_that_fails_is_given_up_and_the_others_go_on(tmp_path, caplog):
    broken, whole = Broken(), dashboard("tensorboard", tmp_path)
    curve = Curve([broken, whole], "curve", "key", {}, anew=True)
    for step in (10, 20, 30):
        curve.log(step, {"val_acc": 0.5, "val_loss": math.nan, "train_loss": None})
    curve.close()
    assert broken.steps == [10]
    assert events(tmp_path / "curve") == {"val_acc": [(10, 0.5), (20, 0.5), (30, 0.5)]}
    assert caplog.text.count("the server is gone") == 1


def test_a_missing_package_is_one_line_with_the_mend(monkeypatch):
    monkeypatch.setattr("vizsla.dashboards.find_spec", lambda name: None)
    for kind in ("tensorboard", "mlflow"):
        with pytest.raises(BadOption, match=rf"pip install 'vizsla\[{kind}\]'"):
            checked([kind])


def test_other_mistakes_are_said_too(tmp_path, vizsla_here, toys):
    with pytest.raises(BadOption, match="neither tensorboard"):
        checked(["wandb"])
    with pytest.raises(BadOption, match="cannot use"):
        dashboard("mlflow:nonsense://x", tmp_path)
    done = vizsla_here("compare", toys, "--log", "wandb", "--out", tmp_path / "out")
    assert (done.returncode, "neither tensorboard[:DIR]" in done.stderr) == (2, True)
