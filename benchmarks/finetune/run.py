"""Fine-tuning round by round as the seed article does: the plain loop and ours, the same images, paired seeds.

    python benchmarks/finetune/run.py TRAIN TEST

Each round adds labels, trains while the test accuracy rises, and scores the pool. Which images are labelled is drawn
beforehand, so both ways learn from the same. Adds a line of JSON per run to the results and skips what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

import numpy as np

HERE = Path(__file__).parent
BATCH = 20
BUDGET = 100
MOST_EPOCHS = 50

Score = Callable[[np.ndarray], np.ndarray]
"""Images → probabilities."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("train", type=Path)
    options.add_argument("test", type=Path)
    options.add_argument("--size", type=int, default=128, help="side of the input in pixels")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--one", nargs=2, metavar=("WAY", "SEED"), help="only this one, in this process")
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    if chosen.one:
        way, seed = chosen.one
        found = WAYS[way](chosen.train, chosen.test, chosen.size, int(seed))
        print(json.dumps(found))
        return
    out = chosen.out or HERE / f"dogs-{chosen.size}px-{os.cpu_count()}cores.jsonl"
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    there = {(row["way"], row["seed"]) for row in rows}
    for seed in range(chosen.seeds):
        for way in WAYS:
            if (way, seed) in there:
                continue
            command = [
                sys.executable,
                __file__,
                str(chosen.train),
                str(chosen.test),
                "--size",
                str(chosen.size),
            ]
            done = subprocess.run(
                [*command, "--one", way, str(seed)], check=True, capture_output=True, text=True
            )
            row = {"way": way, "seed": seed, **json.loads(done.stdout), "load": round(os.getloadavg()[0], 1)}
            print(json.dumps(row), flush=True)
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")


def budgets(n: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The labelled images and the rest of the pool, round by round."""
    order = np.random.default_rng(seed).permutation(n)
    for labels in range(BATCH, BUDGET + 1, BATCH):
        yield np.sort(order[:labels]), np.sort(order[labels:])


def plain(train: Path, test: Path, size: int, seed: int) -> dict[str, Any]:
    """The article's loop: new loaders for each pass, images decoded each time, eager PyTorch."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Subset
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    from vizsla.models.backbones import load_backbone

    backbone = load_backbone(image_size=size)
    transform = v2.Compose(
        [
            v2.Resize(size, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(size),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(backbone.transform.mean, backbone.transform.std),
        ]
    )
    pool, held_out = ImageFolder(str(train), transform), ImageFolder(str(test), transform)
    network = backbone.classifier(len(pool.classes), seed)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    torch.manual_seed(seed)

    def loader(data: Any, *, shuffle: bool = False) -> DataLoader:
        return DataLoader(data, batch_size=32, shuffle=shuffle, num_workers=os.cpu_count() or 1)

    @torch.inference_mode()
    def predicted(data: Any) -> tuple[np.ndarray, np.ndarray]:
        network.eval()
        found = [(network(images).softmax(dim=1), labels) for images, labels in loader(data)]
        return torch.cat([f[0] for f in found]).numpy(), torch.cat([f[1] for f in found]).numpy()

    def accuracy() -> float:
        probs, labels = predicted(held_out)
        return float((probs.argmax(axis=1) == labels).mean())

    def fit(labelled: np.ndarray) -> int:
        last = -1.0
        for epoch in range(1, MOST_EPOCHS + 1):  # noqa: B007 the last one is told
            network.train()
            for images, labels in loader(Subset(pool, labelled.tolist()), shuffle=True):
                optimiser.zero_grad()
                nn.functional.cross_entropy(network(images), labels).backward()
                optimiser.step()
            before, last = last, accuracy()
            if last <= before:
                break
        return epoch

    return rounds(len(pool), seed, fit, accuracy, lambda rest: predicted(Subset(pool, rest.tolist()))[0])


def vizsla(train: Path, test: Path, size: int, seed: int) -> dict[str, Any]:
    """Ours, with the same rule and optimiser."""
    from vizsla import IndexedDataset
    from vizsla.models.backbones import load_backbone
    from vizsla.models.finetune import FineTunedModel, PixelSet, Schedule
    from vizsla.models.refill import Refillable

    backbone = load_backbone(image_size=size)
    pool, held_out = (IndexedDataset(folder, test=True, check=False) for folder in (train, test))
    exam = PixelSet(held_out, backbone.transform), np.arange(len(held_out)), held_out.labels
    model = FineTunedModel(backbone, len(pool.classes), schedule=Schedule(stop="test"), seed=seed, test=exam)
    Refillable(backbone).filled(model.network[0])  # the export, once, is told apart
    inputs = model.prepare(pool)

    def fit(labelled: np.ndarray) -> int:
        return int(model.fit(inputs, labelled, pool.labels[labelled], seed=seed)["epochs"])

    def accuracy() -> float:
        return float((model.predict(exam[0], exam[1]).argmax(axis=1) == held_out.labels).mean())

    return rounds(len(pool), seed, fit, accuracy, lambda rest: model.predict(inputs, rest))


def rounds(
    n: int, seed: int, fit: Callable[[np.ndarray], int], accuracy: Callable[[], float], score: Score
) -> dict[str, Any]:
    """Seconds of training and of scoring the pool, epochs and accuracy, by round."""
    found: dict[str, Any] = {"fit": [], "score": [], "epochs": [], "accuracy": []}
    for labelled, rest in budgets(n, seed):
        began = time.perf_counter()
        found["epochs"].append(fit(labelled))
        fitted = time.perf_counter()
        score(rest)
        found["fit"].append(round(fitted - began, 2))
        found["score"].append(round(time.perf_counter() - fitted, 2))
        found["accuracy"].append(round(accuracy(), 4))
    return found


WAYS = {"plain": plain, "vizsla": vizsla}

if __name__ == "__main__":
    main()
