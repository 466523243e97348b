"""A project's models on the dashboards that it is set to."""

from __future__ import annotations

import logging
from pathlib import Path

from vizsla.dashboards import Curve, Dashboard, dashboard
from vizsla.errors import VizslaError
from vizsla.functional.metrics import evaluate, nll
from vizsla.monitor import Accuracy
from vizsla.project import Project
from vizsla.standing import accuracy_of
from vizsla.store import Model
from vizsla.training.fit import Fitted
from vizsla.training.kept import home_of
from vizsla.training.pool import Rows

log = logging.getLogger(__name__)


_BEGUN = "log_begun"
"""The setting that says to which dashboards the models of the past were shown."""


def begin(project: Project, *, but: int | None = None) -> None:
    """Show the models that there are already on dashboards that have not seen them.

    Args:   but: the version of a model to leave out.
    Raises: BadOption for a dashboard that cannot be used.
    """
    asked = project.settings.log
    if not asked or project.store.setting(_BEGUN) == asked:
        return
    dashboards = [dashboard(spec, _default(project)) for spec in asked.splitlines()]
    past = [model for model in project.store.models() if model.state == "ready" and model.version != but]
    curve = _curve(project, "head", dashboards, anew=True)
    for model in past:
        curve.log(model.labels_used, _standing(model.labels_used, model.version, accuracy_of(model)))
    curve.close()
    project.store.set_setting(_BEGUN, asked)


def show_head(project: Project, model: Model, rows: Rows, fitted: Fitted) -> None:
    """Show a model that has just become ready: the linear head that is handed over."""
    if project.settings.log:
        try:
            begin(project, but=model.version)
        except (ImportError, VizslaError) as error:
            log.warning("the models before are not logged: %s", error)
        learned = fitted.bundle.predict_coordinates(rows.points[fitted.labelled])
        held_out = evaluate(fitted.linear_probs[fitted.labelled], fitted.labels)
        figures = {"train_loss": nll(learned, fitted.labels), **validated(held_out)}
        show(project, "head", model.labels_used, model.version, figures, accuracy_of(model))


def show(
    project: Project,
    kind: str,
    labels: int,
    version: int,
    figures: dict[str, float],
    measured: Accuracy | None,
) -> None:
    """Add a point to the curve of this kind of model. Whatever fails there is only warned of."""
    dashboards = []
    for spec in project.settings.log.splitlines():
        try:
            dashboards.append(dashboard(spec, _default(project)))
        except (ImportError, VizslaError) as error:  # another machine than the one it was asked for on
            log.warning("figures are not logged to %s: %s", spec, error)
    curve = _curve(project, kind, dashboards, anew=False)
    curve.log(labels, figures | _standing(labels, version, measured))
    curve.close()


def validated(found: dict[str, float]) -> dict[str, float]:
    """What `evaluate` found on images that were held out, as dashboards call it."""
    return {"val_loss": found["nll"], "val_acc": found["accuracy"], "val_macro_f1": found["macro_f1"]}


def _standing(labels: int, version: int, measured: Accuracy | None) -> dict[str, float]:
    audit = {"al_audit_acc": "value", "al_audit_acc_lo": "low", "al_audit_acc_hi": "high"}
    shares = {name: getattr(measured, end) for name, end in audit.items()} if measured else {}
    return {"al_n_labels": labels, "al_round": version, **shares}


def _curve(project: Project, kind: str, dashboards: list[Dashboard], *, anew: bool) -> Curve:
    about = {"backbone": project.settings.backbone, "kind": kind}
    return Curve(dashboards, f"{project.name}/{kind}", f"{project.mark}-{kind}", about, anew=anew)


def _default(project: Project) -> Path:
    """Where TensorBoard's files go unless told otherwise."""
    return home_of(project) / "tensorboard"
