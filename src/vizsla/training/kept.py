"""The fine-tuned network of a project, where one was better than the head: one file beside the project's store."""

from __future__ import annotations

import logging
from pathlib import Path

from vizsla.caching import write_atomically
from vizsla.errors import BadOption
from vizsla.models.bundle import Bundle
from vizsla.models.classifier import Classifier, backbone_of
from vizsla.project import Project, default_home

log = logging.getLogger(__name__)


def home_of(project: Project) -> Path:
    """The folder of a project; that of one in a database lies on this machine, beside the images."""
    return Path(project.address) if "://" not in project.address else default_home(project.source)


def place_of(project: Project) -> Path:
    """Where the fine-tuned network is kept."""
    mark = f"-{project.mark}" if "://" in project.address else ""
    return home_of(project) / f"fine-tuned{mark}.safetensors"


def keep(project: Project, bundle: Bundle) -> None:
    """Keep a fine-tuned network, instead of the one before."""
    write_atomically(place_of(project), bundle.to_bytes())


def forget(project: Project) -> None:
    """Let the head be the project's model again."""
    place_of(project).unlink(missing_ok=True)


def fine_tuned(project: Project) -> Bundle | None:
    """The fine-tuned network; None where there is none."""
    place = place_of(project)
    return Bundle.from_bytes(place.read_bytes()) if place.exists() else None


def model_of(project: Project, *, head: bool = False) -> Classifier:
    """The project's model: the fine-tuned network where one is kept, else the newest head.

    Args:   head: the newest head in any case.
    Raises: BadOption where there is no model yet.
    """
    bundle = None if head else fine_tuned(project)
    if bundle is None:
        bundle = _newest_head(project)
    else:
        _note_age(project, bundle)
    return Classifier(bundle, backbone_of(bundle))


def _newest_head(project: Project) -> Bundle:
    newest = project.store.model()
    content = project.store.artifact(newest.version) if newest else None
    if content is None:
        raise BadOption(
            f"there is no model yet in {project.store.name}. Label images of two classes, then: vizsla train."
        )
    return Bundle.from_bytes(content)


def _note_age(project: Project, bundle: Bundle) -> None:
    labels, now = bundle.about["labels"], project.store.counts().labelled
    if labels != now:
        log.warning(
            "the fine-tuned network knows %d labels; there are %d now. Fine-tune again with vizsla train "
            "--fine-tune, or take the newest head with --head.",
            labels,
            now,
        )
