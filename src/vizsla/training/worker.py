"""`vizsla worker`: the trainer as a process, one at a time for a project."""

from __future__ import annotations

import logging
import threading
from contextlib import closing

from vizsla.engine import Engine
from vizsla.errors import DatabaseAway
from vizsla.project import Project
from vizsla.training.trainer import Trainer

_log = logging.getLogger("vizsla")

_IDLE_SECONDS = 0.25
_QUEUE_SECONDS = 1.0  # between two looks whether the trainer before has left


def work(project: Project, stop: threading.Event, engine: Engine | None = None) -> None:
    """Train for this project until told to stop; wait while another process does, and while the database is away."""
    while not stop.is_set():
        try:
            _train_while_leading(project, stop, engine)
        except DatabaseAway as error:
            _log.warning("%s", error)
        stop.wait(_QUEUE_SECONDS)


def _train_while_leading(project: Project, stop: threading.Event, engine: Engine | None) -> None:
    with project.store.lead("trainer") as leading:
        if leading:
            with closing(Trainer(project, engine)) as trainer:
                while leading.held() and not stop.is_set():
                    if not trainer.step():
                        stop.wait(_IDLE_SECONDS)
