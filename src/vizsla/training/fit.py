"""From labels to a head, honest probabilities, and an order in which to label the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from vizsla import advice, monitor
from vizsla.models.blend import Blend, blend, blend_without, distilled, distilled_out_of_fold
from vizsla.models.bundle import Bundle
from vizsla.models.heads import LogisticHead, familiarity, fold_of, out_of_fold
from vizsla.store import Ranked
from vizsla.strategy.base import strategies
from vizsla.training.pool import Known, Rows
from vizsla.types import Batch
from vizsla.views import Material

_SUGGESTED = 5
_FIRST = (
    50  # images that a strategy chooses before there is a model; the rest follows in the order of the checks
)
_JOINT = 200  # images that a strategy chooses jointly; more are hardly labelled between two models
_RANKED = 20_000  # images of a ranking at most; the rest follows in random order
_RESERVE = 60  # first images of the audit order that nobody sees a suggestion for, whoever asks for them …
_RESERVED_SHARE = 0.3  # … or that share of the labels, which the checks never outgrow …
_RESERVED_MOST = 0.25  # … but no more than this share of a small pool
_ASKED_AT_MOST = 5_000  # images without a label that a forecast asks

Probs = Float[np.ndarray, "n c"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was learned from the labels, and what it thinks of every row."""

    bundle: Bundle
    """The linear head that is handed over."""
    probs: Probs
    """Of all rows, by the blend where there is a graph; a labelled row's were made without its label."""
    linear_probs: Probs
    """The same by the linear head, calibrated."""
    labelled: Int64[np.ndarray, " l"]
    """Rows that have a label."""
    labels: Int64[np.ndarray, " l"]
    """Their class numbers."""
    blend: Blend | None = None
    """None where there is no graph."""

    @property
    def held_out(self) -> Float[np.ndarray, "l c"]:
        """Probabilities of the labelled rows, each made without its label."""
        return self.probs[self.labelled]


def fit(
    rows: Rows, known: Known, *, about: Mapping[str, object], graph: bool = True, seed: int = 0
) -> Fitted:
    """Fit a head on all labels, and others without each label in turn to be honest about it.

    Args: graph: blend it with what neighbours say; then a linear head is distilled from the blend.
    """
    image_ids = list(known.label_of)
    labelled = np.sort(rows.of(image_ids))
    labels = np.array([known.label_of[int(image_id)] for image_id in rows.ids[labelled]], np.int64)
    c = len(known.classes)
    head, found = _learned(rows, labelled, labels, c, graph=graph, seed=seed)
    if found is not None:
        held_out = distilled_out_of_fold(rows.points, found, labelled, labels, seed=seed)
    else:
        held_out = out_of_fold(rows.points[labelled], labels, c, seed=seed)
    temperature = monitor.calibrate(held_out, labels)
    bundle = Bundle(known.classes, rows.axes, head.weights, head.bias, temperature, about)
    linear_probs = bundle.predict_coordinates(rows.points)
    linear_probs[labelled] = monitor.with_temperature(held_out, temperature)
    if found is None:
        return Fitted(bundle, linear_probs, linear_probs, labelled, labels)
    probs = found.probs.copy()
    probs[labelled] = found.held_out
    return Fitted(bundle, probs, linear_probs, labelled, labels, found)


def _learned(
    rows: Rows,
    labelled: Int64[np.ndarray, " l"],
    labels: Int64[np.ndarray, " l"],
    c: int,
    *,
    graph: bool,
    seed: int,
) -> tuple[LogisticHead, Blend | None]:
    """The head, and what it was distilled from where there is a graph."""
    if not graph:
        return _head(rows.points[labelled], labels, c), None
    found = blend(rows.points, rows.graph, labelled, labels, c, seed=seed)
    return distilled(rows.points, found, labelled, labels, seed=seed), found


def handed_over(
    rows: Rows, labelled: Int64[np.ndarray, " l"], labels: Int64[np.ndarray, " l"], c: int, *, graph: bool
) -> LogisticHead:
    """The head that would be handed over if there were only these labels, without its temperature."""
    return _learned(rows, labelled, labels, c, graph=graph, seed=0)[0]


def _head(points: Float[np.ndarray, "l r"], labels: Int64[np.ndarray, " l"], c: int) -> LogisticHead:
    head = LogisticHead(c)
    head.fit(points, labels)
    return head


@dataclass(frozen=True, eq=False)
class Checks:
    """The random checks: the first part of the audit order in which every image has been asked for."""

    rows: Int64[np.ndarray, " m"]
    """Rows that got a label."""
    open: Int64[np.ndarray, " k"]
    """Rows that were skipped."""
    waiting: Int64[np.ndarray, " w"]
    """Unanswered rows, the next check first."""


def checks(rows: Rows, known: Known) -> Checks:
    """Where the random checks stand. Flagged images are no part of what is measured."""
    status = np.zeros(len(rows.ids), np.int64)
    status[rows.of(list(known.skipped))] = 2
    status[rows.of(list(known.flagged))] = 3
    status[rows.of(list(known.label_of))] = 1
    in_order = status[rows.audit_order]
    unanswered = np.flatnonzero(in_order == 0)
    done = rows.audit_order[: unanswered[0] if len(unanswered) else len(in_order)]
    blind = np.array([int(rows.ids[row]) not in known.shown for row in done], bool)
    return Checks(done[(status[done] == 1) & blind], done[status[done] == 2], rows.audit_order[unanswered])


def accuracy(fitted: Fitted, found: Checks) -> monitor.Accuracy | None:
    """How often the linear head is right on the whole catalogue, measured on the random checks."""
    confidence = fitted.linear_probs.max(axis=1)
    guess = fitted.linear_probs.argmax(axis=1)
    truth = np.full(len(guess), -1)
    truth[fitted.labelled] = fitted.labels
    return monitor.audited_accuracy(
        confidence, confidence[found.rows], guess[found.rows] == truth[found.rows], confidence[found.open]
    )


def rank(
    rows: Rows,
    fitted: Fitted,
    known: Known,
    found: Checks,
    *,
    strategy: str,
    audit: float,
    clusters: Int64[np.ndarray, " n"],
    seed: int,
) -> list[Ranked]:
    """The unanswered images, best first, with random checks mixed in."""
    answered = np.zeros(len(rows.ids), bool)
    answered[rows.of([*known.label_of, *known.skipped, *known.flagged])] = True
    candidates = np.flatnonzero(~answered)
    if not len(candidates):
        return []
    seen = np.unique(fitted.labels)  # a class without labels has no probability to be unsure about
    material = Material(
        candidates,
        fitted.labelled,
        rows.vectors,
        np.searchsorted(seen, fitted.labels),
        candidate_probs=torch.from_numpy(_scaled(fitted.probs[np.ix_(candidates, seen)])),
        familiar=_familiar(rows, candidates, fitted.labelled, rows.of(list(known.flagged))),
        coordinates=rows.points,
        weights=(fitted.bundle.weights[seen], fitted.bundle.bias[seen]),
        labelled_probs=torch.from_numpy(_scaled(fitted.held_out[:, seen])),
        classes=len(seen),
    )
    batch = _chosen(material, strategy, np.random.default_rng([seed, len(fitted.labels)]))
    order, marks = _with_checks(batch.ids, found, known, audit)
    score = dict(zip(batch.ids.tolist(), batch.scores.tolist(), strict=True))
    blind = _reserved(rows, len(fitted.labels)) if audit else set()
    shown = fitted.linear_probs  # what a person sees is what the model that is handed over says
    top = np.argsort(-shown, axis=1, kind="stable")[:, :_SUGGESTED]
    return [
        Ranked(
            int(rows.ids[row]),
            float(score.get(row, 0.0)),
            "random check" if mark else _reason(batch.strategy, shown[row], top[row], known.classes),
            bool(mark),
            None if mark or row in blind else _suggestion(shown[row], top[row], known.class_ids),
            int(clusters[row]) if len(clusters) else None,
        )
        for row, mark in zip(order.tolist(), marks.tolist(), strict=True)
    ]


def _with_checks(
    ids: Int64[np.ndarray, " n"], found: Checks, known: Known, audit: float
) -> tuple[Int64[np.ndarray, " t"], Bool[np.ndarray, " t"]]:
    """The strategy's order with random checks mixed in, and which they are."""
    done = len(found.rows) + len(found.open)
    share = _share(audit, done, len(known.label_of))
    wanted = math.ceil(share * min(len(ids), 2000))  # no person labels more between two models
    if share > audit:
        wanted = min(wanted, monitor.CHECKS_AT_A_FIFTH - done)  # the next model may come late
    return monitor.interleave(ids, found.waiting[:wanted], share, since=known.since_check)


def _familiar(
    rows: Rows,
    candidates: Int64[np.ndarray, " n"],
    labelled: Int64[np.ndarray, " l"],
    flagged: Int64[np.ndarray, " f"],
) -> Float[np.ndarray, " n"] | None:
    """Chance that each candidate is of a class, where images were flagged to be of none."""
    if not len(flagged):
        return None
    return familiarity(rows.points[candidates], rows.points[labelled], rows.points[flagged])


def _scaled(probs: Probs) -> Probs:
    return probs / np.maximum(probs.sum(axis=1, keepdims=True), 1e-12)


def _chosen(material: Material, strategy: str, rng: np.random.Generator) -> Batch:
    """The strategy's order; behind the batch of one that chooses jointly, the images nearest to a tie."""
    rule, n = strategies[strategy], min(len(material.candidates), _RANKED)
    first = rule.choose(material.view(rule, rng), min(n, _JOINT) if rule.joint else n, rng)
    if len(first) == n:
        return first
    margin = strategies["margin"]
    rest = margin.choose(material.view(margin, rng), n, rng).ids
    rest = rest[~np.isin(rest, first.ids)][: n - len(first)]
    return Batch(np.concatenate([first.ids, rest]), np.append(first.scores, np.zeros(len(rest))), strategy)


def _reserved(rows: Rows, labels: int) -> set[int]:
    """Rows that will be random checks sooner or later: a suggestion seen today would spoil them then."""
    n = len(rows.audit_order)
    count = min(max(_RESERVE, int(_RESERVED_SHARE * labels)), int(_RESERVED_MOST * n))
    return set(rows.audit_order[:count].tolist())


def _share(audit: float, done: int, labels: int) -> float:
    """Part of the queue that are random checks; the person's own share replaces the usual tenth."""
    usual = monitor.audit_share(done, labels)
    if audit == 0 or (usual == 0 and audit < 0.2):
        return 0.0
    return max(audit, usual) if done < monitor.CHECKS_AT_A_FIFTH else audit


def cold(
    rows: Rows, known: Known, clusters: Int64[np.ndarray, " n"], *, strategy: str, audit: float
) -> list[Ranked]:
    """The order without a model: the strategy's where it can start from nothing, with random checks mixed in.

    Others start in the order of the checks, so that the first labels measure accuracy too.
    """
    answered = np.zeros(len(rows.ids), bool)
    answered[rows.of([*known.label_of, *known.skipped, *known.flagged])] = True
    order = rows.audit_order[~answered[rows.audit_order]][:_RANKED]
    marks, reason = np.zeros(len(order), bool), "random"
    rule = strategies[strategy]
    if rule.needs == {"embeddings"} and len(order):
        material = Material(np.flatnonzero(~answered), np.empty(0, np.int64), rows.vectors)
        rng = np.random.default_rng(0)
        first = rule.choose(material.view(rule, rng), min(len(order), _FIRST), rng).ids
        chosen = np.concatenate([first, order[~np.isin(order, first)]])[: len(order)]
        order, marks = _with_checks(chosen, checks(rows, known), known, audit)
        reason = "typical of many images"
    return [
        Ranked(
            int(rows.ids[row]),
            0.0,
            "random check" if mark else reason,
            bool(mark),
            cluster=int(clusters[row]) if len(clusters) else None,
        )
        for row, mark in zip(order.tolist(), marks.tolist(), strict=True)
    ]


def _reason(
    strategy: str, probs: Float[np.ndarray, " c"], top: Int64[np.ndarray, " k"], names: tuple[str, ...]
) -> str:
    if strategy == "random":
        return "random"
    if "probs" in strategies[strategy].wants:
        return "tells most about images in doubt"
    if "probs" not in strategies[strategy].needs:
        return "unlike what is labelled"
    return f"unsure: {names[top[0]]} or {names[top[1]]}"


def _suggestion(
    probs: Float[np.ndarray, " c"], top: Iterable[int], class_ids: tuple[int, ...]
) -> tuple[tuple[int, float], ...]:
    return tuple((class_ids[n], round(float(probs[n]), 4)) for n in top if probs[n] > 0)


def find_clusters(points: Float[np.ndarray, "n r"], k: int, *, seed: int = 0) -> Int64[np.ndarray, " n"]:
    """Groups of look-alikes, by k-means; numbered from the largest."""
    from sklearn.cluster import MiniBatchKMeans

    k = min(k, len(points))
    found = MiniBatchKMeans(k, n_init=3, batch_size=1024, random_state=seed).fit_predict(points[:, :64])
    by_size = np.argsort(-np.bincount(found, minlength=k), kind="stable")
    number = np.empty(k, np.int64)
    number[by_size] = np.arange(k)
    return number[found]


def forecast(rows: Rows, fitted: Fitted, *, seed: int = 0) -> advice.Forecast:
    """What more labels would bring, from what the last third of today's labels brought."""
    labels, classes = len(fitted.labels), len(fitted.bundle.classes)
    early = labels < advice.LABELS_PER_CLASS * classes
    return advice.forecast(labels, classes, None if early else last_gain(rows, fitted, seed=seed))


def last_gain(rows: Rows, fitted: Fitted, *, seed: int = 0) -> float:
    """Accuracy that the last third of the labels brought, by the model's own account, on images without a label.

    How much more probable today's guess is than that of a model that lacks a third of the labels: the mean of six
    such models, since twice each third is left out in turn. No label is spent on it, and nothing depends on which
    labels were chosen; the probabilities are calibrated. 0 where no image is left.
    """
    rng = np.random.default_rng(seed)
    asked = np.setdiff1d(np.arange(len(rows.ids)), fitted.labelled)
    if not len(asked):
        return 0.0
    if len(asked) > _ASKED_AT_MOST:
        asked = np.sort(rng.choice(asked, _ASKED_AT_MOST, replace=False))
    probs = fitted.probs[asked]

    def sure(guess: Int64[np.ndarray, " a"]) -> float:
        return float(probs[np.arange(len(asked)), guess].mean())

    fold = fold_of(fitted.labels, seed=seed)
    thirds = [rng.permutation(np.arange(fold.max() + 1) % 3) for _ in range(2)]
    lacking = [
        sure(_without(rows, fitted, third[fold] == left_out, asked).argmax(axis=1))
        for third in thirds
        for left_out in range(3)
    ]
    return max(0.0, sure(probs.argmax(axis=1)) - float(np.mean(lacking)))


def _without(
    rows: Rows, fitted: Fitted, out: Bool[np.ndarray, " l"], asked: Int64[np.ndarray, " a"]
) -> Float[np.ndarray, "a c"]:
    """What a model thinks of some rows that was not given some labels: whole folds of them."""
    if fitted.blend is not None:
        return blend_without(rows.points, fitted.blend, fitted.labelled, fitted.labels, out, asked)
    head = _head(rows.points[fitted.labelled[~out]], fitted.labels[~out], len(fitted.bundle.classes))
    return head.predict(rows.points[asked])


def confusion(fitted: Fitted) -> dict[str, object]:
    """What was answered against what heads that did not know the answer say; and recall by class."""
    c = len(fitted.bundle.classes)
    counts = np.zeros((c, c), np.int64)
    np.add.at(counts, (fitted.labels, fitted.linear_probs[fitted.labelled].argmax(axis=1)), 1)
    totals = counts.sum(axis=1)
    return {
        "classes": list(fitted.bundle.classes),
        "counts": counts.tolist(),
        "recall": [counts[n, n] / totals[n] if totals[n] else None for n in range(c)],
    }
