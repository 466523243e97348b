"""The default head: logistic regression, blended with labels that spread along the pool's neighbour graph.

n rows of the pool, of which l are labelled; r coordinates, c classes. With few labels the graph knows more, with
many the regression; which of them to believe is settled by how well each foretells labels it was not given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.special import log_softmax

from vizsla.functional.geometry import unit_rows
from vizsla.functional.graph import Graph, Hearing, hearing
from vizsla.functional.threads import one_thread
from vizsla.models.heads import (
    INVERSE_STRENGTH,
    LogisticHead,
    fold_of,
    folds,
    heads,
    multinomial,
    out_of_fold,
    softmax,
)

FLOOR = 1e-4
"""Least probability of a class in either part: neither can rule out alone what the other sees."""
_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
_USUAL = 0.5
_TAUGHT, _TAUGHT_WITHOUT = 2_500, 1_000
"""Rows of the pool that a distilled head learns from besides the labelled: that which is kept, and those of folds."""
_TEACHING_STRENGTH = 300.0
_STEPS = 15
"""Of the distilled head's fit: 60 take three times as long, predict the same classes and less well-judged odds."""

Probs = Float[np.ndarray, "n c"]


@dataclass(frozen=True, eq=False)
class Blend:
    """What both together think."""

    probs: Probs
    """Of every row of the pool."""
    held_out: Float[np.ndarray, "l c"]
    """Of the labelled rows, each without its own label and those of its fold."""
    powers: tuple[float, float]
    """p ∝ regression^a · graph^b."""
    voices: Hearing
    """What the graph says, by fold of labels held out together."""


def blend(
    points: Float[np.ndarray, "n r"],
    graph: Graph,
    labelled: Int64[np.ndarray, " l"],
    labels: Int64[np.ndarray, " l"],
    c: int,
    *,
    seed: int = 0,
) -> Blend:
    """Fit both to the labels and weigh them by their likelihood of labels held out.

    Args:   points: rows of the pool as a head reads them. labelled: rows of them, ascending or not.
    Source: the parts are those of `LogisticHead` and of Zhou et al. 2004; a product of experts (Hinton 2002,
            doi:10.1162/089976602760128018) whose powers are fitted.
    """
    head = LogisticHead(c)
    head.fit(points[labelled], labels)
    regression, apart = head.predict(points), out_of_fold(points[labelled], labels, c, seed=seed)
    voices = hearing(graph, labelled, labels, fold_of(labels, seed=seed), c)
    heard, unheard = propagate(voices)
    powers = powers_of(apart, unheard, labels)
    return Blend(product(regression, heard, powers), product(apart, unheard, powers), powers, voices)


def propagate(voices: Hearing) -> tuple[Probs, Float[np.ndarray, "l c"]]:
    """Class probabilities by the graph alone, of all rows and of each labelled row without the labels of its fold."""
    doubt = _doubt(voices)
    return _shares(voices.heard, doubt), _shares(voices.unheard, doubt)


def _doubt(voices: Hearing) -> float:
    """What each row hears in favour of no class at all."""
    return FLOOR * float(voices.heard.sum(axis=1).mean())


def _shares(heard: Probs, doubt: float) -> Probs:
    """Rows that sum to one; where little is heard, all classes are likely alike."""
    level = heard + doubt / heard.shape[1]
    return level / level.sum(axis=1, keepdims=True)


def powers_of(
    apart: Float[np.ndarray, "l c"], unheard: Float[np.ndarray, "l c"], labels: Int64[np.ndarray, " l"]
) -> tuple[float, float]:
    """Powers of the two parts under which labels held out are most likely; weakly drawn to one half each.

    Labels that are the only one of their class say nothing: held out, the class does not exist.
    """
    told = np.bincount(labels)[labels] > 1
    rows, truth = np.flatnonzero(told), labels[told]
    first, second = (np.log(np.maximum(part[rows], FLOOR)) for part in (apart, unheard))
    best, least = (_USUAL, _USUAL), np.inf
    for a in _POWERS:
        for b in _POWERS:
            if a + b == 0:
                continue
            logs = log_softmax(a * first + b * second, axis=1)
            loss = (a - _USUAL) ** 2 + (b - _USUAL) ** 2 - logs[np.arange(len(rows)), truth].sum()
            if loss < least:
                best, least = (a, b), loss
    return best


def product(first: Probs, second: Probs, powers: tuple[float, float]) -> Probs:
    """first^a · second^b, scaled to sum to one."""
    a, b = powers
    logits = a * np.log(np.maximum(first, FLOOR)) + b * np.log(np.maximum(second, FLOOR))
    return softmax(logits).astype(np.float32)


def distilled(
    points: Float[np.ndarray, "n r"],
    found: Blend,
    labelled: Int64[np.ndarray, " l"],
    labels: Int64[np.ndarray, " l"],
    *,
    seed: int = 0,
) -> LogisticHead:
    """A linear head that agrees with the blend as well as one can: for new images, and to be handed over.

    Source: Hinton, Vinyals & Dean 2015, arXiv:1503.02531.
    """
    taught = _taught(len(points), labelled, _TAUGHT, seed)
    return _pupil(points, labelled, labels, taught, found.probs[taught])


def distilled_out_of_fold(
    points: Float[np.ndarray, "n r"],
    found: Blend,
    labelled: Int64[np.ndarray, " l"],
    labels: Int64[np.ndarray, " l"],
    *,
    seed: int = 0,
) -> Float[np.ndarray, "l c"]:
    """Probabilities of the labelled rows by distilled heads whose teacher was not given the labels of their fold.

    Only the two powers are those of the whole. The pupils learn from fewer rows than the one that is kept, which costs
    them less than half a point.
    """
    c = found.probs.shape[1]
    taught = _taught(len(points), labelled, _TAUGHT_WITHOUT, seed)
    probs = np.full((len(labelled), c), 1 / c, np.float32)
    for out in folds(labels, seed=seed):
        teacher = blend_without(points, found, labelled, labels, out, taught)
        pupil = _pupil(points, labelled[~out], labels[~out], taught, teacher)
        probs[out] = pupil.predict(points[labelled[out]])
    return probs


def blend_without(
    points: Float[np.ndarray, "n r"],
    found: Blend,
    labelled: Int64[np.ndarray, " l"],
    labels: Int64[np.ndarray, " l"],
    out: Bool[np.ndarray, " l"],
    rows: Int64[np.ndarray, " a"],
) -> Float[np.ndarray, "a c"]:
    """What the blend would think of some rows without some labels; only its two powers stay those of the whole.

    Args: out: labels left out: whole folds of them (`fold_of`).
    """
    head = LogisticHead(found.probs.shape[1])
    head.fit(points[labelled[~out]], labels[~out])
    heard = found.voices.without(found.voices.fold[out], rows)
    return product(head.predict(points[rows]), _shares(heard, _doubt(found.voices)), found.powers)


def _taught(n: int, labelled: Int64[np.ndarray, " l"], most: int, seed: int) -> Int64[np.ndarray, " t"]:
    """Unlabelled rows, up to so many of them, ascending."""
    rest = np.setdiff1d(np.arange(n), labelled)
    if len(rest) <= most:
        return rest
    return np.sort(np.random.default_rng(seed).choice(rest, most, replace=False))


def _pupil(
    points: Float[np.ndarray, "n r"],
    labelled: Int64[np.ndarray, " l"],
    labels: Int64[np.ndarray, " l"],
    taught: Int64[np.ndarray, " t"],
    probs: Float[np.ndarray, "t c"],
) -> LogisticHead:
    """A linear head that learns from labels, and from what a teacher thinks of other rows."""
    c = probs.shape[1]
    rows = unit_rows(points[np.concatenate([labelled, taught])])
    truth = np.concatenate([np.eye(c, dtype=np.float32)[labels], probs])
    head = LogisticHead(c)
    strength = _TEACHING_STRENGTH * INVERSE_STRENGTH / len(rows)
    with one_thread():
        weights, bias = multinomial(rows, truth, strength, most_steps=_STEPS)
    head.weights, head.bias = weights.astype(np.float32), bias.astype(np.float32)
    return head


@heads.register("blend")
class BlendHead:
    """The blend for the pool that it was fitted in, and a linear head distilled from it for all other rows."""

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes
        self.linear = LogisticHead(n_classes)
        self.found: Blend | None = None

    def fit(self, vectors: Float[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"]) -> None:
        """Without a pool there is no graph: plain logistic regression."""
        self.found, self.linear = None, LogisticHead(self.n_classes)
        self.linear.fit(vectors, labels)

    def fit_in_pool(
        self,
        points: Float[np.ndarray, "n r"],
        graph: Graph,
        labelled: Int64[np.ndarray, " l"],
        labels: Int64[np.ndarray, " l"],
        *,
        seed: int = 0,
    ) -> None:
        """Fit to the labels of some rows of a pool, with what the graph says of all."""
        self.found = blend(points, graph, labelled, labels, self.n_classes, seed=seed)
        self.linear = distilled(points, self.found, labelled, labels, seed=seed)

    def predict(self, vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n c"]:
        return self.linear.predict(vectors)
