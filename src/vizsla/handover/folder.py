"""A model as a folder that stands on its own: weights of network and head, facts, and a card for people."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vizsla import monitor
from vizsla.caching import draft_of, explain_write_errors, write_atomically
from vizsla.errors import BadOption
from vizsla.handover.card import PLOT, Facts, card, plot
from vizsla.models.classifier import WEIGHTS, Classifier, described, state_of
from vizsla.project import Project
from vizsla.standing import accuracy_of

FACTS, CARD = "model.json", "README.md"


def write_folder(project: Project, model: Classifier, out: Path) -> None:
    """Write the folder, whole or not at all; in one that holds such a model already the files are replaced.

    Raises: BadOption for a folder that holds something else.
    """
    contents = _contents(project, model)
    if out.is_dir() and any(out.iterdir()):
        if not (out / FACTS).is_file():
            raise BadOption(f"{out} holds other things than a model. Choose a folder that is new or empty.")
        for name, content in contents.items():
            write_atomically(out / name, content)
        return
    draft = draft_of(out)
    with explain_write_errors(out):
        try:
            for name, content in contents.items():
                write_atomically(draft / name, content)
            draft.replace(out)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _contents(project: Project, model: Classifier) -> dict[str, bytes]:
    """The files by name."""
    about = dict(model.about) | described(model.backbone)
    whole = replace(model.bundle, about=about, network=state_of(model.backbone))
    facts = facts_of(project, model)
    in_json = json.dumps(_as_json(model, facts), indent=1, ensure_ascii=False)
    texts = {FACTS: f"{in_json}\n", CARD: card(facts)}
    files = {WEIGHTS: whole.to_bytes()} | {name: text.encode() for name, text in texts.items()}
    return files | ({PLOT: plot(facts)} if facts.shown else {})


def facts_of(project: Project, model: Classifier) -> Facts:
    """What the project knows of its model."""
    about = model.about
    made = [one for one in project.store.models() if one.state == "ready"]
    this = next((one for one in made if one.version == about.get("version")), None)
    curve = {one.labels_used: accuracy_of(one) for one in made if this and one.version <= this.version}
    tuning = about.get("fine_tuning")
    if tuning:
        measured = monitor.Accuracy(**tuning["accuracy"]) if tuning["accuracy"] else None
    else:
        measured = accuracy_of(this) if this else None
    return Facts(
        name=project.name,
        classes=model.classes,
        accuracy=measured,
        curve=tuple(curve.items()),
        transform=model.backbone.transform,
        about=dict(about) | described(model.backbone),
    )


def _as_json(model: Classifier, facts: Facts) -> dict[str, Any]:
    about = dict(facts.about)
    network = described(model.backbone)
    measured = [
        {"labels": labels} | (asdict(found) if found else {"value": None}) for labels, found in facts.curve
    ]
    known = {name: part for name, part in about.items() if name not in network}
    return {
        "format": 1,
        "classes": list(model.classes),
        "temperature": model.bundle.temperature,
        "backbone": {name: part for name, part in network.items() if name != "transform"},
        "transform": network["transform"] | {"shorter_side": model.backbone.transform.shorter_side},
        "metrics": {
            "accuracy": asdict(facts.accuracy) if facts.accuracy else None,
            "learning_curve": measured,
            "fine_tuning": known.pop("fine_tuning", None),
        },
        "provenance": known | {"exported_by": f"vizsla {version('vizsla')}"},
    }
