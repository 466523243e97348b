"""When a new model is worth its while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vizsla.standing import labels_needed
from vizsla.store import Model


@dataclass(frozen=True)
class Moment:
    """All that decides whether to train now."""

    last: Model | None
    """The newest model that is ready."""
    ranked_by: int | None
    """The version that the published ranking is of."""
    news: int
    """Labels that the last model does not know."""
    classes: Sequence[Sequence[int | str]]
    """Id and name of all classes."""
    backbone_key: str
    images: str | None
    """Digest of the pool; None while images still wait to be embedded."""


def is_due(moment: Moment, *, asked: bool) -> bool:
    """Whether enough is new; where someone has asked, whether anything is."""
    last = moment.last
    if last is None:
        return moment.news >= (2 if asked else labels_needed(0))
    if moment.ranked_by != last.version:
        return True  # the trainer before was killed between the model and its ranking
    if last.backbone_key != moment.backbone_key:
        return True
    if any(list(one) not in [list(now) for now in moment.classes] for one in last.metrics["classes"]):
        return True  # a class was renamed or merged
    if moment.images is not None and moment.images != last.metrics["pool"]:
        return True
    return moment.news >= (1 if asked else labels_needed(last.labels_used))
