"""Does the interval on the page contain the truth? Many projects of the same images, each with other random checks."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from vizsla.data.folders import folder_classes, scan
from vizsla.data.indexed import IndexedDataset
from vizsla.models.bundle import Bundle
from vizsla.models.embed import embed
from vizsla.project import Project
from vizsla.standing import accuracy_of
from vizsla.store import Answer
from vizsla.training.fit import fit
from vizsla.training.pool import known
from vizsla.training.trainer import Trainer


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("train", type=Path)
    options.add_argument("test", type=Path)
    options.add_argument("--runs", type=int, default=50)
    options.add_argument("--labels", type=int, default=150)
    options.add_argument("--out", type=Path, default=Path("out/coverage.json"))
    chosen = options.parse_args()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    done = json.loads(chosen.out.read_text()) if chosen.out.exists() else []
    for run in range(len(done), chosen.runs):
        done.append(once(chosen.train, chosen.test, chosen.labels, run))
        chosen.out.write_text(json.dumps(done, indent=1))
        print(json.dumps(done[-1]), flush=True)
    for truth in ("test", "catalogue"):
        held = sum(one["low"] <= one[truth] <= one["high"] for one in done)
        print(f"the interval contained the accuracy on the {truth} in {held} of {len(done)} runs")


def once(train: Path, test: Path, labels: int, seed: int) -> dict[str, float]:
    """Label one project to the end. Other file names make another order of random checks."""
    began, rng = time.monotonic(), random.Random(seed)
    with tempfile.TemporaryDirectory() as home:
        images = Path(home) / "images"
        names = folder_classes(scan(train))
        assert names is not None
        truth: dict[str, str] = {}
        images.mkdir()
        for path in scan(train):
            link = f"{rng.getrandbits(64):016x}{Path(path).suffix}"
            (images / link).symlink_to((train / path).resolve())
            truth[link] = names.names[names.labels[path.split("/")[0]]]
        with Project.open(Path(home) / "project", images) as project:
            project.add_classes(names.names)
            project.scan()
            return {"seed": seed, **label(project, truth, test, labels), "seconds": time.monotonic() - began}


def label(project: Project, truth: dict[str, str], test: Path, labels: int) -> dict[str, float]:
    store, trainer = project.store, Trainer(project)
    me = store.annotator("oracle").id
    settle(trainer)
    for _ in range(labels):
        [item] = store.claim(me, 1)
        shown = item.suggestion is not None
        store.label(
            me, Answer(item.image_id, truth[item.path], lease_id=item.lease_id, suggestion_shown=shown)
        )
        trainer.step()
    project.ask_for_training()
    settle(trainer)
    model = store.model()
    assert model is not None
    measured, content = accuracy_of(model), store.artifact(model.version)
    assert measured is not None
    assert content is not None
    bundle = Bundle.from_bytes(content)
    rows = trainer.pool.rows()
    named = {image.id: truth[image.path or ""] for image in store.images()}
    fitted = fit(rows, known(project), about={})
    guess = [
        bundle.classes[n] for n in fitted.linear_probs.argmax(axis=1)
    ]  # labelled images by heads without their label
    right = [said == named[int(image_id)] for image_id, said in zip(rows.ids, guess, strict=True)]
    return {
        "value": measured.value,
        "low": measured.low,
        "high": measured.high,
        "checks": measured.checks,
        "test": tested(bundle, trainer, test),
        "catalogue": sum(right) / len(right),
    }


def tested(bundle: Bundle, trainer: Trainer, test: Path) -> float:
    dataset = IndexedDataset(test, classes=bundle.classes, test=True)
    vectors = embed(dataset, trainer.pool.backbone)
    return float((bundle.predict(vectors.vectors).argmax(axis=1) == dataset.labels[vectors.ids]).mean())


def settle(trainer: Trainer) -> None:
    while trainer.step():
        pass


if __name__ == "__main__":
    main()
