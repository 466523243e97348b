"""A project whose images lie on a server that goes away for a while."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from vizsla.data.kept import Kept
from vizsla.data.remote import Bucket, Remote
from vizsla.errors import Unreachable
from vizsla.project import Project
from vizsla.store.overview import TRAINING
from vizsla.testing import TOY_BACKBONE
from vizsla.training import trainer as room
from vizsla.training.trainer import Trainer


def test_the_trainer_asks_a_server_that_did_not_answer_again_by_itself(
    web, tmp_path: Path, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_AWAY_SECONDS", 0.2)
    with Project.open(tmp_path / "project", Bucket(web.url, Remote(kept))) as project:
        project.change(backbone=TOY_BACKBONE)
        project.scan()
        trainer = Trainer(project)
        web.faults = ["drop"] * 10_000
        while (project.store.setting(TRAINING) or {}).get("state") != "failed":
            assert trainer.step()
        assert "http://127.0.0.1 does not answer" in project.store.setting(TRAINING)["error"]
        assert not trainer.step()  # it rests
        web.faults = []
        time.sleep(0.3)
        while trainer.step():
            pass
        assert len(trainer.pool) == 18
        assert project.store.setting(TRAINING)["state"] == "idle"


@pytest.mark.parametrize("lost", ["all", "a part"])
def test_a_rescan_of_a_server_that_is_away_loses_no_image_and_says_so(
    web, lost: str, tmp_path: Path, kept: Kept
) -> None:
    with Project.open(tmp_path / "project", Bucket(web.url, Remote(kept))) as project:
        project.scan()
        if lost == "all":
            web.close()
        web.lost_pages = {"green"}
        with pytest.raises(Unreachable, match=r"^http://127.0.0.1 does not answer"):
            project.scan()
        assert project.store.counts().total == 18
