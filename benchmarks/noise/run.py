"""Are suspected label errors real? Plants wrong answers, ranks the labelled images, and counts what is found.

    python benchmarks/noise/run.py dogs=DOGS/train:DOGS/test cifar10=CIFAR/train:CIFAR/test digits=DIGITS

Each data set is a folder of class folders; without a second one for tests, 30% are set aside. Stop it and go on as
you like: a line is written for each project that was simulated. `report.py` makes the tables and the picture.
"""

from __future__ import annotations

import argparse
import itertools
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from vizsla import monitor, select
from vizsla.data.indexed import IndexedDataset
from vizsla.functional.geometry import principal_axes, unit_rows
from vizsla.functional.graph import Graph, neighbour_graph
from vizsla.functional.noise import suspects
from vizsla.models.backbones import load_backbone
from vizsla.models.blend import BlendHead, blend
from vizsla.models.embed import embed
from vizsla.models.heads import out_of_fold

SIZES = (100, 200, 500)
ROUNDS = (20, 50, 110, 220, 350, 550)
"""Labels after each round of choosing; the last leaves room for a tenth more than the largest size."""
SHARE = 0.1
TUNING = 3
"""The first seeds, on which the score was chosen; they are left out of what is reported."""
STRATEGIES = ("random", "auto")
KINDS = ("uniform", "similar")

Probs = Float[np.ndarray, "l c"]
Labels = Int64[np.ndarray, " l"]
Scores = Float[np.ndarray, " l"]


@dataclass(frozen=True, eq=False)
class Images:
    """A pool with its truth, and images to test on."""

    vectors: Float[np.ndarray, "n d"]
    points: Float[np.ndarray, "n r"]
    graph: Graph
    truth: Int64[np.ndarray, " n"]
    test: Float[np.ndarray, "m r"]
    test_truth: Int64[np.ndarray, " m"]
    c: int


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("sets", nargs="+", metavar="NAME=TRAIN[:TEST]")
    options.add_argument("--seeds", type=int, default=15)
    options.add_argument("--first", type=int, default=0, help="seed to begin with")
    options.add_argument("--worth", type=int, default=10, help="reported seeds whose worth is measured too")
    options.add_argument("--out", type=Path, default=Path("out/noise.jsonl"))
    chosen = options.parse_args()
    torch.set_num_threads(1)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    lines = chosen.out.read_text().splitlines() if chosen.out.exists() else []
    done = {tuple(json.loads(line)["case"]) for line in lines}
    with chosen.out.open("a") as out:
        for name, images_of in (
            (one.partition("=")[0], loaded(one.partition("=")[2])) for one in chosen.sets
        ):
            for seed in range(chosen.first, chosen.seeds):
                for strategy, kind in itertools.product(STRATEGIES, KINDS):
                    case = (name, seed, strategy, kind)
                    if case not in done:
                        rows = project(
                            images_of(seed), strategy, kind, seed, TUNING <= seed < TUNING + chosen.worth
                        )
                        out.write(json.dumps({"case": case, "rows": rows}) + "\n")
                        out.flush()
                        print(*case, flush=True)


def loaded(folders: str) -> Callable[[int], Images]:
    """The images of a seed."""
    train, _, test = folders.partition(":")
    vectors, truth, classes = embedded(Path(train))
    c = len(classes)
    if not test:
        return lambda seed: parted(vectors, truth, c, seed)
    others = embedded(Path(test), classes)
    whole = prepared(vectors, truth, others[0], others[1], c)
    return lambda seed: whole


def embedded(
    folder: Path, classes: tuple[str, ...] | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    dataset = IndexedDataset(folder, classes=classes, test=True)
    found = embed(dataset, load_backbone("efficientnet_lite0"))
    return found.vectors, dataset.labels[found.ids], dataset.classes


def parted(vectors: np.ndarray, truth: np.ndarray, c: int, seed: int) -> Images:
    order = np.random.default_rng([seed, 7]).permutation(len(truth))
    test, pool = np.split(order, [int(0.3 * len(order))])
    return prepared(vectors[pool], truth[pool], vectors[test], truth[test], c)


def prepared(
    vectors: np.ndarray, truth: np.ndarray, test: np.ndarray, test_truth: np.ndarray, c: int
) -> Images:
    axes = principal_axes(vectors)
    points = unit_rows(axes(vectors)).astype(np.float32)
    graph = neighbour_graph(torch.from_numpy(points))
    return Images(vectors, points, graph, truth, unit_rows(axes(test)).astype(np.float32), test_truth, c)


# one project


def project(images: Images, strategy: str, kind: str, seed: int, worthy: bool) -> list[dict[str, Any]]:
    """Label as an annotator does who is wrong in a tenth of the answers, then look at what was said."""
    rng = np.random.default_rng([seed, zlib.crc32(f"{strategy} {kind}".encode())])
    answers = planted(images, kind, np.random.default_rng([seed, 1]))
    second = planted(images, kind, np.random.default_rng([seed, 2]))
    labelled = chosen_by(images, answers, strategy, int(rng.integers(2**31)))
    return [look(images, labelled, answers, second, n, worthy) for n in SIZES]


def planted(images: Images, kind: str, rng: np.random.Generator) -> Int64[np.ndarray, " n"]:
    """What someone says who is wrong of each image with the same chance, whoever chooses the images."""
    n, c = len(images.truth), images.c
    wrong = (images.truth + 1 + rng.integers(c - 1, size=n)) % c
    if kind == "similar":  # the other class whose mean is nearest to this very image
        means = np.array([images.points[images.truth == k].mean(axis=0) for k in range(c)])
        near = images.points @ unit_rows(means).T
        near[np.arange(n), images.truth] = -np.inf
        wrong = near.argmax(axis=1)
    return np.where(rng.random(n) < SHARE, wrong, images.truth)


def chosen_by(images: Images, answers: np.ndarray, strategy: str, seed: int) -> Int64[np.ndarray, " l"]:
    if strategy == "random":
        return np.random.default_rng(seed).permutation(len(answers))[: ROUNDS[-1]]
    labelled = np.empty(0, np.int64)
    for size in ROUNDS:
        labels = answers[labelled] if len(labelled) else None
        more = select(
            strategy,
            embeddings=images.vectors,
            labelled=labelled,
            labels=labels,
            n=size - len(labelled),
            seed=seed,
        )
        labelled = np.concatenate([labelled, more])
    return labelled


def look(
    images: Images, labelled: np.ndarray, answers: np.ndarray, second: np.ndarray, n: int, worthy: bool
) -> dict[str, Any]:
    """Everything that is measured of the first n labels."""
    first = labelled[:n]
    labels, wrong = answers[first], answers[first] != images.truth[first]
    scores = dict(rankings(images, first, labels))
    return {
        "labels": n,
        "planted": int(wrong.sum()),
        "rankings": {name: figures(score, wrong) for name, score in scores.items()},
        "listed": listed(scores, wrong),
        "worth": worth(images, labelled, answers, second, n, scores["blend root margin"]) if worthy else None,
    }


def rankings(images: Images, labelled: np.ndarray, labels: Labels) -> Iterator[tuple[str, Scores]]:
    """Each way of scoring, on the held-out probabilities of each head. Higher = more doubtful."""
    seen, codes = np.unique(labels, return_inverse=True)
    sources = {
        "regression": out_of_fold(images.points[labelled], labels, images.c),
        "blend": blend(images.points, images.graph, labelled, labels, images.c).held_out,
    }
    for source, held_out in sources.items():
        probs = monitor.with_temperature(held_out, monitor.calibrate(held_out, labels))[:, seen].astype(float)
        probs /= probs.sum(axis=1, keepdims=True)
        for name, score in SCORES.items():
            yield f"{source} {name}", score(probs, codes)


def self_confidence(probs: Probs, labels: Labels) -> Scores:
    return 1 - probs[np.arange(len(labels)), labels]


def margin(probs: Probs, labels: Labels) -> Scores:
    own, other = own_and_other(probs, labels)
    return other - own


def own_and_other(probs: Probs, labels: Labels) -> tuple[Scores, Scores]:
    """Probability of the label, and of the likeliest other class."""
    rows = np.arange(len(labels))
    others = probs.copy()
    others[rows, labels] = 0
    return probs[rows, labels], others.max(axis=1)


def thresholds(probs: Probs, labels: Labels) -> Float[np.ndarray, " c"]:
    """Mean probability of each class among the images labelled so (Northcutt et al. 2021, arXiv:1911.00068)."""
    return np.array([probs[labels == k, k].mean() for k in range(probs.shape[1])])


def adjusted(probs: Probs, labels: Labels) -> Probs:
    """Less the class's threshold, as in Kuan and Mueller 2022, arXiv:2207.03061."""
    level = probs - thresholds(probs, labels)
    level += thresholds(probs, labels).max()
    return level / level.sum(axis=1, keepdims=True)


def confident(probs: Probs, labels: Labels) -> Scores:
    """Margin, but images that the confident joint counts as another class before all others.

    This and `adjusted` order images as cleanlab 2.9 does; checked once, on random probabilities.
    """
    above = np.where(probs >= thresholds(probs, labels), probs, -1.0)
    off = (above.max(axis=1) > 0) & (above.argmax(axis=1) != labels)
    return margin(probs, labels) + 2 * off


SCORES: Mapping[str, Callable[[Probs, Labels], Scores]] = {
    "self-confidence": self_confidence,
    "margin": margin,
    "root margin": suspects,
    "adjusted": lambda probs, labels: self_confidence(adjusted(probs, labels), labels),
    "adjusted margin": lambda probs, labels: margin(adjusted(probs, labels), labels),
    "confident joint": confident,
}


def figures(score: Scores, wrong: np.ndarray) -> dict[str, float]:
    hits = wrong[np.argsort(-score, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return {
        "at_k": round(float(precision[hits.sum() - 1]), 4),
        "at_10": round(float(precision[9]), 4),
        "average": round(float(precision[hits].mean()), 4),
    }


def listed(scores: Mapping[str, Scores], wrong: np.ndarray) -> dict[str, list[int]]:
    """How many images two rules for where to stop would list, and how many of them are wrong."""
    other_guess = scores["blend margin"] > 0
    joint = scores["blend confident joint"] > 1
    return {
        name: [int(rule.sum()), int(wrong[rule].sum())]
        for name, rule in (("another guess", other_guess), ("confident joint", joint))
    }


# what it is worth


def worth(
    images: Images, labelled: np.ndarray, answers: np.ndarray, second: np.ndarray, n: int, score: Scores
) -> dict[str, float]:
    """Accuracy on the test images as it is, after a tenth more answers on new images, or on doubtful ones.

    again: answered by someone who is as often wrong, independently. truly: by someone who is never wrong.
    clean: had no answer been wrong.
    """
    tenth = n // 10
    doubtful = labelled[:n][np.argsort(-score, kind="stable")[:tenth]]
    again, truly = answers.copy(), answers.copy()
    again[doubtful], truly[doubtful] = second[doubtful], images.truth[doubtful]
    return {
        "before": accuracy(images, labelled[:n], answers),
        "new": accuracy(images, labelled[: n + tenth], answers),
        "again": accuracy(images, labelled[:n], again),
        "truly": accuracy(images, labelled[:n], truly),
        "clean": accuracy(images, labelled[:n], images.truth),
    }


def accuracy(images: Images, labelled: np.ndarray, answers: np.ndarray) -> float:
    head = BlendHead(images.c)
    head.fit_in_pool(images.points, images.graph, labelled, answers[labelled])
    return round(float((head.predict(images.test).argmax(axis=1) == images.test_truth).mean()), 4)


if __name__ == "__main__":
    main()
