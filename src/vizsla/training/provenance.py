"""Where a model comes from, as it is kept with it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from vizsla.models.backbones import Backbone
from vizsla.models.classifier import described
from vizsla.project import Project
from vizsla.training.pool import Known


def provenance(project: Project, backbone: Backbone, answers: Known, images: int) -> dict[str, Any]:
    """The labels that were learned from, and the network.

    Args: images: how many the project has that can be learned from.
    """
    counts = Counter(answers.label_of.values())
    return {
        "project": project.name,
        "images": images,
        "labels": len(answers.label_of),
        "labels_by_class": {name: counts[n] for n, name in enumerate(answers.classes)},
        "newest_label": answers.newest,
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "trained_by": f"vizsla {version('vizsla')}",
        **described(backbone),
    }
