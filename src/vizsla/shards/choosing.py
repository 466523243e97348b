"""`select_shards`: what `vizsla.select` does, for a pool that lies in shards.

Rules whose scores stand alone are exact: the best of each shard, merged. So are k-center and k-means, step by step.
Other rules weigh images against each other; they choose from a shortlist, which is the whole pool where that is small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int64

from vizsla.engine import Engine
from vizsla.errors import BadOption
from vizsla.functional.given import class_codes, row_numbers, whole
from vizsla.functional.rows import as_rows
from vizsla.selection import check_rows_left
from vizsla.shards.centers import k_center, k_means
from vizsla.shards.learned import Labels, Learned, learn
from vizsla.shards.pool import Shards
from vizsla.shards.ranking import drawn, ranking
from vizsla.strategy.base import Strategy, strategies
from vizsla.types import Progress
from vizsla.views import DRAWN, Material

SHORTLIST = 50_000
"""Images that a rule which weighs them against each other looks at: half of them the model is most unsure of, the
others drawn at random."""

Ids = Int64[np.ndarray, " n"]
_STEPWISE: Mapping[str, Callable[[Shards, Labels, int, int, Engine], Ids]] = {
    "coreset": k_center,
    "kmeans": k_means,
}


def select_shards(
    strategy: str,
    pool: Shards,
    engine: Engine,
    *,
    labelled: Any = (),
    labels: Any = None,
    left_out: Any = (),
    draws: Any = DRAWN[0],
    n: int,
    seed: int = 0,
    shortlist: int = SHORTLIST,
    progress: Progress | None = None,
) -> Ids:
    """The n unlabelled ids to label next, best first; the same whichever engine runs it and however the pool is parted.

    Args:    labelled: ids that are labelled already. labels: their classes, in the same order.
             left_out: ids of images that nobody should be asked about.
             draws: how `bald` and its like draw from the head, `dropout` or `laplace`.
             shortlist: images that a joint rule chooses from.
             progress: called with (shards looked at, shards).
    Raises:  BadArray, BadOption, NotEnoughImages, UnknownName, each with its mend.
    """
    rule, n, seed = strategies[strategy], whole("n", n, 1), whole("seed", seed, 0)
    known, left_out = (
        row_numbers(name, rows, len(pool)) for name, rows in (("labelled", labelled), ("left_out", left_out))
    )
    _check(len(pool) - len(known) - len(left_out), len(pool), n, shortlist)
    if draws not in DRAWN:
        raise BadOption(f"draws {draws!r} cannot be had of shards. Give 'dropout' or 'laplace'.")
    codes = None if labels is None else class_codes(labels, len(known))
    told = Labels(known, codes, pool.take(known, engine), left_out)
    if rule.name in _STEPWISE:
        return _STEPWISE[rule.name](pool, told, n, seed, engine)
    learned, material = learn(rule, pool, told, seed, draws, engine)
    if rule.alone:
        return ranking(pool, learned, n, engine, progress).ids
    among = _shortlist(pool, learned, shortlist, engine, progress)
    return _choose(rule, pool, among, told, learned, material, n, engine)


def _check(unlabelled: int, total: int, n: int, shortlist: int) -> None:
    check_rows_left(n, unlabelled, total)
    if shortlist < n:
        raise BadOption(f"a shortlist of {shortlist} cannot give {n} rows. Use {n} or more.")


def _shortlist(pool: Shards, learned: Learned, size: int, engine: Engine, progress: Progress | None) -> Ids:
    """Half by the model's doubt, where there is a model, and the rest drawn; ascending. Small pools whole."""
    if len(pool) - len(learned.closed) <= size:
        return np.setdiff1d(np.arange(len(pool)), learned.closed, assume_unique=True)
    unsure = np.empty(0, np.int64)
    if learned.head is not None:
        doubt = strategies["bald" if learned.draws else "margin"]
        unsure = ranking(pool, replace(learned, rule=doubt), size // 2, engine, progress).ids
    taken = np.sort(np.concatenate([learned.closed, unsure]))
    return np.sort(np.concatenate([unsure, drawn(pool, taken, size - len(unsure), learned.seed)]))


def _choose(
    rule: Strategy,
    pool: Shards,
    among: Ids,
    told: Labels,
    learned: Learned,
    material: Material,
    n: int,
    engine: Engine,
) -> Ids:
    """The rule itself, in one place, on the shortlist and the labelled rows, in the order of their ids."""
    ids = np.sort(np.concatenate([among, told.ids]))
    rows = pool.take(ids, engine)
    here = replace(
        material,
        candidates=np.searchsorted(ids, among),
        labelled=np.searchsorted(ids, told.ids),
        embeddings=as_rows(rows),
        coordinates=None if learned.axes is None else learned.axes.directions(rows),
    )
    rng = np.random.default_rng(learned.seed)
    return rule.choose(here.view(rule, rng, among), n, rng).ids
