"""What a person should look at again: suspected label errors, and images that are nearly the same."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vizsla.functional.noise import suspects
from vizsla.training.fit import Fitted
from vizsla.training.pool import Known, Rows

_MOST = 300
_ALIKE = 0.95  # cosine on the principal axes; of 1,142 dogs only recompressed or mirrored copies reach it
_LOOKED_AT = 4000  # labelled images compared with all others
_NEAREST = 5  # of each; a thousand frames of one camera would make half a million pairs
_ROWS_AT_ONCE = 256


def label_errors(fitted: Fitted, rows: Rows, known: Known) -> list[dict[str, Any]]:
    """Labelled images whose answer the other labels contradict, the least believable first.

    The same images, in this order, are those to be asked again. What someone has confirmed is left out: they have
    looked already.
    """
    seen = np.unique(fitted.labels)
    if len(seen) < 2:
        return []
    probs = fitted.held_out[:, seen].astype(np.float64)
    probs /= probs.sum(axis=1, keepdims=True)
    codes = np.searchsorted(seen, fitted.labels)
    doubt = suspects(probs, codes)
    guess = probs.argmax(axis=1)
    image_ids = rows.ids[fitted.labelled]
    order = np.argsort(-doubt, kind="stable").tolist()
    doubted = [n for n in order if guess[n] != codes[n] and int(image_ids[n]) not in known.confirmed]
    names = fitted.bundle.classes
    return [
        {
            "image": int(image_ids[n]),
            "label": names[fitted.labels[n]],
            "suggestion": [names[seen[guess[n]]], round(float(probs[n, guess[n]]), 4)],
            "score": round(float(doubt[n]), 4),
        }
        for n in doubted[:_MOST]
    ]


class Alike(NamedTuple):
    """What is similar to the labelled images."""

    pairs: list[dict[str, Any]]
    """A labelled image and another that is nearly the same; those of different labels first."""
    nearest: dict[int, float]
    """Labelled image → the cosine to the image that is most similar to it."""


def near_duplicates(rows: Rows, known: Known) -> Alike:
    """Look for images that are similar to labelled ones, of these at the newest few thousand."""
    labelled = np.sort(rows.of(list(known.label_of)))[-_LOOKED_AT:]
    if not len(labelled):
        return Alike([], {})
    unit = rows.points
    pairs: dict[tuple[int, int], float] = {}
    closest: list[float] = []
    for start in range(0, len(labelled), _ROWS_AT_ONCE):
        part = labelled[start : start + _ROWS_AT_ONCE]
        cosines = unit[part] @ unit.T
        cosines[np.arange(len(part)), part] = -1.0
        closest += cosines.max(axis=1).astype(np.float64).round(4).tolist()
        nearest = np.argpartition(-cosines, min(_NEAREST, cosines.shape[1] - 1), axis=1)[:, :_NEAREST]
        for a, b in zip(np.repeat(np.arange(len(part)), nearest.shape[1]), nearest.ravel(), strict=True):
            if cosines[a, b] >= _ALIKE:
                pairs[_ordered(int(part[a]), int(b))] = float(cosines[a, b])
    found = [_pair(rows, known, a, b, cosine) for (a, b), cosine in pairs.items()]
    found.sort(key=lambda pair: (not pair["differ"], -pair["score"]))
    return Alike(found[:_MOST], dict(zip(rows.ids[labelled].tolist(), closest, strict=True)))


def _ordered(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


def _pair(rows: Rows, known: Known, a: int, b: int, cosine: float) -> dict[str, Any]:
    first, second = int(rows.ids[a]), int(rows.ids[b])
    labels = [known.label_of.get(image) for image in (first, second)]
    return {
        "image": first,
        "other": second,
        "differ": None not in labels and labels[0] != labels[1],
        "score": round(cosine, 4),
    }
