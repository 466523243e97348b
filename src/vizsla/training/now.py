"""Training when asked to, from the command line."""

from __future__ import annotations

import time

from vizsla.errors import BadOption, VizslaError
from vizsla.project import ANSWERED, Project
from vizsla.store import Model
from vizsla.store.overview import TRAINING
from vizsla.training.trainer import Trainer
from vizsla.types import Progress

_POLL_SECONDS = 0.3


def train_now(project: Project, progress: Progress | None = None) -> Model:
    """Train on all labels and return the newest model; by the trainer that is at work, if one is.

    Raises: BadOption where there is nothing to learn from yet.
    """
    with project.store.lead("trainer") as leading:
        if leading:
            project.scan()
            trainer = Trainer(project)
            project.ask_for_training()
            while trainer.step():
                _report(project, progress)
        else:
            request = project.ask_for_training()
            while project.store.setting(ANSWERED) != request:
                _report(project, progress)
                time.sleep(_POLL_SECONDS)
    said = project.store.setting(TRAINING) or {}
    if said.get("state") == "failed":
        raise VizslaError(f"the training failed: {said.get('error')}")
    if (model := project.store.model()) is None:
        raise BadOption("there is nothing to learn from: label images of two classes first.")
    return model


def _report(project: Project, progress: Progress | None) -> None:
    said = project.store.setting(TRAINING) or {}
    if progress and said.get("state") == "embedding" and said.get("total"):
        progress(said["done"], said["total"])
