"""Training and predicting when asked to, from the command line."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import numpy as np

from vizsla.data.indexed import IndexedDataset
from vizsla.errors import BadOption, BadWeights, VizslaError
from vizsla.models.backbones import load_backbone
from vizsla.models.embed import embed
from vizsla.project import ANSWERED, Project
from vizsla.store import Model
from vizsla.store.overview import TRAINING
from vizsla.training.bundle import Bundle
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


def predict_folder(model: str, directory: Path, progress: Progress | None = None) -> str:
    """CSV with a row for each readable image: file name, likeliest class, its probability, and all of them.

    Args: model: a file that `vizsla export model` wrote, or the folder or URL of a project.
    """
    bundle = read_bundle(model)
    about = bundle.about
    backbone = load_backbone(
        str(about.get("backbone")),
        image_size=about.get("image_size"),
        precision=str(about.get("precision", "float32")),
    )
    if about.get("backbone_key") not in (None, backbone.key):
        raise BadWeights(
            f"{model} was trained with other weights of {about.get('backbone')} than are installed here. Train anew."
        )
    dataset = IndexedDataset(directory, classes=bundle.classes, check=False)
    embeddings = embed(dataset, backbone, progress=progress)
    probs = bundle.predict(embeddings.vectors)
    out = io.StringIO(newline="")
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["file_name", "label", "prob", *(f"prob_{name}" for name in bundle.classes)])
    for image, row in zip(embeddings.ids.tolist(), probs, strict=True):
        best = int(np.argmax(row))
        name = dataset.file_name(image).encode(errors="surrogateescape").decode(errors="replace")
        table.writerow([name, bundle.classes[best], f"{row[best]:.4f}", *(f"{p:.6f}" for p in row)])
    return out.getvalue()


def read_bundle(model: str) -> Bundle:
    """A model from a file or a project."""
    if "://" not in model and Path(model).is_file():
        return Bundle.from_bytes(Path(model).read_bytes())
    with Project.open(model) as project:
        newest = project.store.model()
        content = project.store.artifact(newest.version) if newest else None
    if content is None:
        raise BadOption(
            f"the project {model} has no model yet. Label images of two classes, then: vizsla train."
        )
    return Bundle.from_bytes(content)
