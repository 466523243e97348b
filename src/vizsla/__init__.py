"""Vizsla: active learning for image classification.

Names are loaded when first used, so that `import vizsla` and `vizsla --help` are quick.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vizsla import functional
    from vizsla.curves import Comparison, LearningCurve
    from vizsla.data.indexed import IndexedDataset
    from vizsla.experiment import compare
    from vizsla.learner import ActiveLearner
    from vizsla.models.backbones import Transform, load_backbone
    from vizsla.models.classifier import load_model
    from vizsla.models.estimator import LinearClassifier
    from vizsla.querying import query_the_oracle
    from vizsla.selection import select
    from vizsla.strategy.base import strategies

_HOME = {
    "ActiveLearner": "vizsla.learner",
    "Comparison": "vizsla.curves",
    "IndexedDataset": "vizsla.data.indexed",
    "LearningCurve": "vizsla.curves",
    "LinearClassifier": "vizsla.models.estimator",
    "Transform": "vizsla.models.backbones",
    "compare": "vizsla.experiment",
    "functional": "vizsla",
    "load_backbone": "vizsla.models.backbones",
    "load_model": "vizsla.models.classifier",
    "query_the_oracle": "vizsla.querying",
    "select": "vizsla.selection",
    "strategies": "vizsla.strategy.base",
}

__all__ = [
    "ActiveLearner",
    "Comparison",
    "IndexedDataset",
    "LearningCurve",
    "LinearClassifier",
    "Transform",
    "compare",
    "functional",
    "load_backbone",
    "load_model",
    "query_the_oracle",
    "select",
    "strategies",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("vizsla")
    if name not in _HOME:
        raise AttributeError(f"module 'vizsla' has no attribute {name!r}")
    if name == "functional":
        return import_module("vizsla.functional")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
