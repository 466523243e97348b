"""Where a project stands: counts, the model that ranks, its honest accuracy, and whether to go on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vizsla import monitor
from vizsla.advice import Advice, Forecast, Reason, Snapshot, advise, reasons
from vizsla.project import Project
from vizsla.store import Counts, Model, Store


def labels_needed(used: int) -> int:
    """How many more labels make a new model worth its while: five, or a tenth of those it has."""
    return max(5, math.ceil(used / 10))


def news(store: Store, last: Model | None) -> int:
    """How many labels are other ones than the last model knew: given, changed or taken back since."""
    if last is None:
        return store.labels_since(0)[0]
    fresh, old = store.labels_since(last.metrics["label_id"])
    return max(fresh, last.labels_used - old)  # a changed one is among both


@dataclass(frozen=True)
class Standing:
    """A project at one moment."""

    counts: Counts
    model: Model | None
    """The model whose ranking people follow."""
    accuracy: monitor.Accuracy | None
    """None while there are too few random checks to tell."""
    checks: int
    labels_to_next: int
    """Labels until the next model is due."""
    advice: Advice | None
    reasons: tuple[Reason, ...]


def standing(project: Project) -> Standing:
    """Look at the store and say how things are."""
    store, settings = project.store, project.settings
    counts, models, ranking = store.counts(), store.models(), store.ranking()
    serving = next((m for m in models if ranking and m.version == ranking.model_version), None)
    past = snapshots(models)
    measured = past[-1].accuracy if past else None
    outlook = Forecast(**serving.metrics["forecast"]) if serving and serving.metrics else None
    rules = reasons(
        past,
        outlook,
        target=settings.target,
        budget=settings.budget,
        unlabelled=counts.unlabelled,
        labels=counts.labelled,
    )
    ready = [model for model in models if model.state == "ready"]
    last = ready[-1] if ready else None
    needed = labels_needed(last.labels_used if last else 0)
    begun = counts.labelled > 0
    return Standing(
        counts=counts,
        model=serving,
        accuracy=measured if measured and measured.checks >= monitor.CHECKS_TO_SHOW else None,
        checks=measured.checks if measured else 0,
        labels_to_next=max(0, needed - news(store, last)),
        advice=advise(rules, outlook, settings.target) if begun else None,
        reasons=tuple(rules),
    )


def snapshots(models: Sequence[Model]) -> list[Snapshot]:
    """What `advice` wants to know of the models that became ready."""
    return [
        Snapshot(
            model.labels_used,
            accuracy_of(model),
            model.metrics.get("kappa"),
            model.metrics.get("predicted_classes", 2),
            (model.metrics.get("forecast") or {}).get("chance_of_gain"),
        )
        for model in models
        if model.state == "ready"
    ]


def accuracy_of(model: Model) -> monitor.Accuracy | None:
    """The accuracy that was measured of a model when it became ready."""
    kept = model.metrics.get("accuracy")
    return monitor.Accuracy(**kept) if kept else None
