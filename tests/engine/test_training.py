"""A project whose images are embedded by an engine: what is learned is what one machine would learn."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests import preloaded

from vizsla.project import Project
from vizsla.store import Answer
from vizsla.testing import TOY_BACKBONE
from vizsla.training.trainer import Trainer


@pytest.fixture
def folder(tmp_path: Path, photos: Path) -> Path:
    """A project of 60 photos, nothing embedded, nothing labelled."""
    with Project.open(tmp_path / "project", photos) as project:
        project.change(backbone=TOY_BACKBONE)
        project.add_classes(["blue", "green", "red"])
        project.scan()
    return tmp_path / "project"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path / "cache"))


def settle(trainer: Trainer) -> None:
    for _ in range(200):
        if not trainer.step():
            return
    raise AssertionError("the trainer never comes to rest")


def label_every_fifth(project: Project) -> None:
    me = project.store.annotator("me").id
    for image in project.store.images(state="present")[::5]:
        project.store.label(me, Answer(image.id, image.path.rpartition("-")[2].removesuffix(".png")))


def ranked(project: Project) -> list[tuple[str, str]]:
    return [(item.path, item.reason) for item in project.store.upcoming(60)]


def learned(folder: Path, engine) -> tuple[list, list, np.ndarray]:
    """The order without a label, and after twelve; all features."""
    with Project.open(folder) as project, closing(Trainer(project, engine)) as trainer:
        settle(trainer)
        cold = ranked(project)
        label_every_fifth(project)
        settle(trainer)
        return cold, ranked(project), np.array(trainer.pool.rows().vectors)


def test_features_and_both_orders_are_those_of_one_machine(engine, folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "other")
    cold, warm, rows = learned(folder, engine)
    assert not list((tmp_path / "cache").rglob("contents.sqlite"))  # so nothing was embedded here
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path / "other cache"))
    want_cold, want_warm, want_rows = learned(tmp_path / "other", None)
    assert list((tmp_path / "other cache").rglob("contents.sqlite"))
    np.testing.assert_allclose(rows, want_rows, atol=1e-3)  # batches of another size round otherwise
    assert (len(cold), len(warm)) == (60, 48)
    assert (cold, warm) == (want_cold, want_warm)


def test_labels_are_learned_from_while_images_are_embedded_elsewhere(ray_engine, folder, photos):
    broken, gone = sorted(photos.iterdir())[1:3]
    broken.write_bytes(b"no image")
    with Project.open(folder) as project, closing(Trainer(project, ray_engine)) as trainer:
        project.scan()
        trainer.step()  # one piece has come
        label_every_fifth(project)
        gone.unlink()
        project.scan()
        trainer.step()
        assert project.store.model().labels_used == 12
        assert trainer.pool.todo
        settle(trainer)
        assert len(trainer.pool) == 58
        assert project.store.model().labels_used == 12
        [unreadable] = project.store.images(state="unreadable")
        assert unreadable.path == broken.name


def test_the_command_ends_with_ctrl_c_and_leaves_a_ranking(ray_engine, folder, wait_until):
    import ray

    address = ray.get_runtime_context().gcs_address
    command = [
        sys.executable,
        "-m",
        "vizsla",
        "worker",
        "--project",
        folder,
        "--engine",
        "ray",
        "--address",
        address,
    ]
    fresh = os.environ | preloaded.FRESH  # how Ray ends with Python is part of the question
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=fresh, **pipes) as process:
        try:
            with Project.open(folder) as project:
                wait_until(lambda: project.store.ranking() is not None or process.poll() is not None, 60)
                assert len(ranked(project)) == 60
            process.send_signal(signal.SIGINT)
            _, complained = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130, complained
    assert "Traceback" not in complained
