"""Does the interval contain the truth whatever the confidences are worth? Catalogues of numbers, no images.

An image is right with a chance of its own, drawn from a beta distribution; the catalogue's accuracy is exact. The
confidence is that chance, or too sure of it, or another image's, or its opposite. Each project draws its checks from a
catalogue of 2,000. Ours beside the difference estimator, which trusts every confidence alike, on the same draws.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
from numpy.random import Generator

from vizsla.monitor import audited_accuracy, wilson

N = 2000
CATALOGUES = 100
Confidence = Callable[[np.ndarray, Generator], np.ndarray]


def too_sure(chance: np.ndarray, _: Generator) -> np.ndarray:
    """Log-odds times 2.5, and a half more."""
    return 1 / (1 + np.exp(-2.5 * np.log(chance / (1 - chance)) - 0.5))


CONFIDENCES: dict[str, Confidence] = {
    "calibrated": lambda chance, _: chance,
    "over-confident": too_sure,
    "uninformative": lambda chance, rng: rng.permutation(chance),
    "inverted": lambda chance, _: 1 - chance,
}


def catalogue(accuracy: float, sharpness: float, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each image's chance, and whether it is right: the likelier ones more often, just that share of all."""
    chance = np.clip(rng.beta(accuracy * sharpness, (1 - accuracy) * sharpness, N), 1e-6, 1 - 1e-6)
    luck = np.log(chance / (1 - chance)) + rng.logistic(size=N)
    right = np.zeros(N, bool)
    right[np.argsort(-luck)[: round(accuracy * N)]] = True
    return chance, right


def difference(everywhere: np.ndarray, sure: np.ndarray, right: np.ndarray) -> tuple[float, float, float]:
    """Mean confidence + mean of (right − confidence); Wilson's interval at as many trials as that is worth."""
    m, rest = len(right), right - sure
    value = float(np.clip(everywhere.mean() + rest.mean(), 0, 1))
    imagined = 2 * (1 - sure.mean()) ** 2 + 2 * sure.mean() ** 2
    variance = (((rest - rest.mean()) ** 2).sum() + imagined) / (m + 4)
    share = (right.sum() + 2) / (m + 4)
    return value, *wilson(value, m / min(1.0, variance / (share * (1 - share))))


def cell(kind: str, checks: int, accuracy: float, chosen: argparse.Namespace) -> dict[str, object]:
    rng = np.random.default_rng([chosen.seed, list(CONFIDENCES).index(kind), checks, round(1000 * accuracy)])
    ours, theirs = [], []
    for _ in range(CATALOGUES):
        chance, right = catalogue(accuracy, chosen.sharpness, rng)
        everywhere = CONFIDENCES[kind](chance, rng)
        for _ in range(chosen.projects // CATALOGUES):
            drawn = rng.choice(N, checks, replace=False, shuffle=False)
            found = audited_accuracy(everywhere, everywhere[drawn], right[drawn])
            assert found is not None
            ours.append((found.value, found.low, found.high))
            theirs.append(difference(everywhere, everywhere[drawn], right[drawn]))
    truth = right.mean()
    result: dict[str, object] = {
        "confidence": kind,
        "checks": checks,
        "accuracy": accuracy,
        "projects": len(ours),
    }
    for name, rows in (("ours", ours), ("difference", theirs)):
        value, low, high = np.array(rows).T
        held = (low <= truth + 1e-12) & (truth <= high + 1e-12)
        error = float(np.sqrt(np.mean((value - truth) ** 2)))
        result[name] = {
            "held": float(held.mean()),
            "width": round(float((high - low).mean()), 5),
            "error": round(error, 5),
        }
    return result


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--projects", type=int, default=10_000, help="of each cell")
    options.add_argument("--checks", type=int, nargs="+", default=[30, 60])
    options.add_argument("--accuracies", type=float, nargs="+", default=[0.65, 0.82, 0.95])
    options.add_argument("--sharpness", type=float, default=4.0, help="α + β: less tells more of each image")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=Path("out/confidences.json"))
    chosen = options.parse_args()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    done = []
    print("| confidence | checks | accuracy | held | width | error | difference: held | width | error |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for at in product(CONFIDENCES, chosen.checks, chosen.accuracies):
        done.append(cell(*at, chosen))
        sides = [done[-1][name] for name in ("ours", "difference")]
        figures = [f"{100 * side[key]:.1f}" for side in sides for key in ("held", "width", "error")]
        print(f"| {at[0]} | {at[1]} | {at[2]:.0%} | {' | '.join(figures)} |", flush=True)
    chosen.out.write_text(json.dumps(done, indent=1))


if __name__ == "__main__":
    main()
