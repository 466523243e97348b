"""`vizsla label` in a terminal: a person answers, the model learns between rounds, nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vizsla.caching import write_atomically
from vizsla.data.indexed import IndexedDataset
from vizsla.errors import BadOption
from vizsla.labels import LabelLog, Replayed, replay
from vizsla.learner import ActiveLearner
from vizsla.models.backbones import DEFAULT
from vizsla.oracle import Oracle, Quit, TerminalOracle
from vizsla.types import Progress


@dataclass(frozen=True)
class Session:
    """How a labelling session ended."""

    labelled: int
    """Labels in the project now."""
    remaining: int
    """Images that still wait for one."""
    labels: Path
    """The label file."""


class Project:
    """A folder that remembers classes and labels: `project.json` and `labels.csv`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = LabelLog(folder / "labels.csv")

    def classes(self, given: Sequence[str], images: Path) -> tuple[str, ...]:
        """The classes to choose from: those given, those remembered, or those of the class folders, in that order.

        Classes given anew are added behind those remembered, so that no label changes its meaning.

        Raises: BadOption when there are fewer than two.
        """
        remembered = self._remembered()
        found = remembered or (() if given else IndexedDataset(images, check=False).classes)
        classes = tuple(dict.fromkeys([*found, *given]))
        if len(classes) < 2:
            raise BadOption("two classes are needed to learn anything. Give them with --classes cat,dog.")
        if classes != remembered:
            write_atomically(self._file, json.dumps({"classes": classes}, ensure_ascii=False, indent=1))
        return classes

    @property
    def _file(self) -> Path:
        return self.folder / "project.json"

    def _remembered(self) -> tuple[str, ...]:
        if not self._file.exists():
            return ()
        try:
            return tuple(map(str, json.loads(self._file.read_text("utf-8"))["classes"]))
        except (ValueError, KeyError, TypeError):
            raise BadOption(
                f"{self._file} is damaged. Delete it and give --classes again; no label is lost."
            ) from None


def label_in_terminal(
    images: Path,
    *,
    classes: Sequence[str] = (),
    project: Path | None = None,
    strategy: str = "margin",
    backbone: str = DEFAULT,
    batch: int = 10,
    pool_size: int = 0,
    annotator: str = "me",
    seed: int = 0,
    oracle: Oracle | None = None,
    progress: Progress | None = None,
    on_resume: Callable[[Replayed], None] | None = None,
) -> Session:
    """Ask for labels, batch by batch, until the person quits or nothing is left.

    Each answer is on disk before the next question; calling again goes on where it stopped. The model is
    refitted between batches, from the first one after which two classes are known.

    Args:    project: where classes and labels are kept; default: `.vizsla` inside the image folder.
             oracle: who answers; default: the person at the terminal.
             on_resume: called with what an earlier session left behind.
    Raises:  UserError with the mend.
    """
    home = Project(project or images / ".vizsla")
    names = home.classes(classes, images)
    dataset = IndexedDataset(images, classes=names, check=False)
    resumed = replay(dataset, home.log)
    if on_resume and (resumed.labelled or resumed.skipped):
        on_resume(resumed)
    learner = ActiveLearner(
        dataset,
        backbone=backbone,
        strategy=strategy,
        oracle=oracle or TerminalOracle(names, home.log, annotator=annotator),
        pool_size=pool_size,
        seed=seed,
        progress=progress,
    )
    learner.round = 1 + max((label.round for label in home.log.read()), default=-1)
    try:
        while len(dataset.pool()):
            known = dataset.labels[dataset.labelled()]
            if len(np.unique(known)) > 1:
                learner.fit()
            learner.query(min(batch, len(dataset.pool())))
    except Quit:
        pass
    return Session(len(dataset.labelled()), len(dataset.pool()), home.log.path)
