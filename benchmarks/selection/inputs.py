"""The pool that every library chooses from: clustered rows, a noisy linear head over them, some labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

DRAWS = 20
BLOCK = 8192
PARTS = ("embeddings", "probs", "draws", "head", "labelled", "labels")


@dataclass
class Inputs:
    """N rows; parts that a strategy does not read are None."""

    labelled: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray | None = None
    """(N, D) float32, rows of unit length."""
    probs: np.ndarray | None = None
    """(N, C) float32."""
    draws: np.ndarray | None = None
    """(N, 20, C) float32: probabilities by 20 heads near the one that gave `probs`."""
    head: np.ndarray | None = None
    """(C, D) float32: probs = softmax(embeddings · headᵀ)."""

    def __len__(self) -> int:
        return next(len(part) for part in (self.embeddings, self.probs, self.draws) if part is not None)

    @property
    def unlabelled(self) -> np.ndarray:
        mask = np.ones(len(self), bool)
        mask[self.labelled] = False
        return np.flatnonzero(mask)

    @property
    def megabytes(self) -> float:
        parts = (self.embeddings, self.probs, self.draws)
        return sum(part.nbytes for part in parts if part is not None) / 1e6

    def small(self, rows: int) -> Inputs:
        """The labelled rows and so many others, for a first call that loads what a library loads late."""
        kept = np.concatenate([self.labelled, self.unlabelled[:rows]])
        parts = {
            name: None if (part := getattr(self, name)) is None else part[kept]
            for name in ("embeddings", "probs", "draws")
        }
        return Inputs(np.arange(len(self.labelled)), self.labels, head=self.head, **parts)


def load(folder: Path, parts: set[str]) -> Inputs:
    wanted = parts | {"labelled", "labels"}
    return Inputs(**{name: np.load(folder / f"{name}.npy") for name in PARTS if name in wanted})


def make(folder: Path, n: int, d: int, c: int, with_draws: bool) -> None:
    """Write the arrays, the same for the same sizes.

    Five clusters in each class; a row lies around its cluster's centre in 64 directions whose spread differs from
    cluster to cluster and falls off, as the spectra of real embeddings do. The head points at the classes' centres
    with noise, and is right for about nine rows in ten.
    """
    rng = np.random.default_rng([n, d, c])
    of_class = _unit(rng.standard_normal((c, 1, d)))
    centres = (of_class + 0.6 * _unit(rng.standard_normal((c, 5, d)))).reshape(-1, d).astype(np.float32)
    axes = (rng.standard_normal((64, d)) / np.sqrt(d)).astype(np.float32)
    spread = np.stack([rng.permutation(0.6 / np.arange(1, 65) ** 0.7) for _ in centres]).astype(np.float32)
    head = (7 * of_class[:, 0] + 3 * rng.standard_normal((c, 64)) @ axes).astype(np.float32)
    heads = head + (1.5 * rng.standard_normal((DRAWS, c, 64)) @ axes).astype(np.float32)
    cluster = rng.integers(len(centres), size=n)
    embeddings = _file(folder / "embeddings.npy", (n, d))
    probs = _file(folder / "probs.npy", (n, c))
    draws = _file(folder / "draws.npy", (n, DRAWS, c)) if with_draws else None
    for start in range(0, n, BLOCK):
        block = slice(start, min(start + BLOCK, n))
        mine = cluster[block]
        around = rng.standard_normal((len(mine), 64), dtype=np.float32) * spread[mine]
        rows = _unit(
            centres[mine]
            + around @ axes
            + 0.02 / np.sqrt(d) * rng.standard_normal((len(mine), d), np.float32)
        )
        embeddings[block] = rows
        probs[block] = _softmax(rows @ head.T)
        if draws is not None:
            flat = rows @ heads.reshape(-1, d).T
            draws[block] = _softmax(flat.reshape(len(rows), DRAWS, c))
    classes = cluster // 5
    labelled = _labelled(classes, max(100, 2 * c), rng)
    np.save(folder / "head.npy", head)
    np.save(folder / "labelled.npy", labelled)
    np.save(folder / "labels.npy", classes[labelled])


def _labelled(classes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """That many rows, at least two of each class."""
    order = rng.permutation(len(classes))
    two = np.concatenate([order[classes[order] == k][:2] for k in range(classes.max() + 1)])
    others = np.setdiff1d(order, two)
    return np.sort(np.concatenate([two, rng.choice(others, count - len(two), replace=False)]))


def _file(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    return np.lib.format.open_memmap(path, "w+", np.float32, shape)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)
