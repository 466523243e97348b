"""Is a strategy better than random, or worse, beyond chance? b blocks, s seeds, k cells, a strategies, l counts.

A *lead* is a strategy's figure minus random's, of the same block: the same data set, split and first labels.
Leads are fractions: .01 is one point of accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtri, stdtr, stdtrit
from scipy.stats import rankdata

from vizsla.errors import BadArray

FEW_SEEDS = 8
"""With fewer blocks than this nothing is called sure."""
LEVEL = 0.05
"""How often a test may be wrong where there is no difference."""
MARGIN = 0.01
"""A strategy is safe when it is surely less than this behind random."""
LEAST_LEAD = -0.005
"""The gate closes on a mean lead below this, whatever its interval."""
MOST_SEEDS = 40
"""More seeds than this are not asked for."""

Word = Literal["win", "tie", "loss", "too few seeds to tell"]
Safety = Literal["loses", "safe", "undecided"]


def _exact(leads: np.ndarray) -> np.ndarray:
    """Without the last digits: rounding errors must neither make leads of nothing nor part equal ones."""
    return np.round(np.asarray(leads, dtype=np.float64), 12)


# Win, tie, loss ---------------------------------------------------------------------------------------


def signed_rank_p(leads: Float[np.ndarray, " b"]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that leads are as often up as down, 0 to 1.

    Zeros are left out and ties share their mean rank; the distribution over all 2^b signs is exact also then,
    where scipy turns to the normal curve. 1 where all leads are zero. Takes b³ steps: .1 s for 400.

    Source: Wilcoxon 1945, doi:10.2307/3001968.

    >>> signed_rank_p(np.array([0.1, 0.2, 0.3, 0.4]))            # 2 of 16 signs are as one-sided
    0.125
    """
    leads = _exact(leads)
    leads = leads[leads != 0]
    doubled = np.rint(2 * rankdata(np.abs(leads))).astype(int)
    chance = np.zeros(doubled.sum() + 1)  # of each sum of the doubled ranks of the leads that are up
    chance[0] = 1.0
    for rank in doubled:
        chance[rank:] = (chance[rank:] + chance[: len(chance) - rank]) / 2
        chance[:rank] /= 2
    found = doubled[leads > 0].sum()
    return float(min(1.0, 2 * min(chance[: found + 1].sum(), chance[found:].sum())))


def holm(p: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """p values such that rejecting all ≤ .05 is wrong anywhere in at most 5% of cases, however they depend.

    Returns: the i-th smallest times k + 1 − i, no smaller than those before it, at most 1; in p's order.
    Source:  Holm 1979, jstor.org/stable/4615733.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3)
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(stepped)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


@dataclass(frozen=True)
class Outcome:
    """A strategy against random in one part of the budget."""

    word: Word
    p: float
    """Of Wilcoxon's signed-rank test, after Holm; NaN with too few blocks."""


def outcomes(leads: Float[np.ndarray, "b k"]) -> tuple[Outcome, ...]:
    """Win, tie or loss against random in each of k parts of the budget.

    Args:    leads: mean accuracy over the part minus random's, a row per block (data set × seed).
    Returns: win or loss where Holm's p over the k parts is ≤ .05, by the side with the larger sum of ranks; else
             tie. With fewer than 8 blocks all are "too few seeds to tell": a tie would claim to have looked.

    >>> [outcome.word for outcome in outcomes(np.array([[0.01, -0.01]] * 8))]
    ['win', 'loss']
    """
    _check(leads, 2)
    if len(leads) < FEW_SEEDS:
        return tuple(Outcome("too few seeds to tell", math.nan) for _ in leads.T)
    adjusted = holm(np.array([signed_rank_p(column) for column in leads.T]))
    return tuple(Outcome(_word(column, p), float(p)) for column, p in zip(leads.T, adjusted, strict=True))


def _word(leads: np.ndarray, p: float) -> Word:
    if p > LEVEL:
        return "tie"
    leads = _exact(leads)
    return "win" if (np.sign(leads) * rankdata(np.abs(leads))).sum() > 0 else "loss"


# The never-lose gate ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A strategy against random on one data set, in one part of the budget."""

    lead: float
    """Mean over seeds; NaN without a seed."""
    low: float
    """95% lower bound of that mean (one-sided, Student's t); NaN with one seed."""
    high: float
    """95% upper bound, the same way, before Holm."""
    p: float
    """Of the one-sided test that random is no better, after Holm over all cells given; NaN with too few seeds."""
    verdict: Safety
    seeds: int
    """Seeds, 8 to 40, with which a strategy equal to random gets through in 95% of comparisons, at this scatter.

    The bounds then lie half a point from the mean, so that a mean of −.5 and a lower bound of −1 point coincide.
    With fewer, a mean below −.5 points may well be chance.
    """

    @property
    def behind(self) -> bool:
        """Whether the mean lead is below −.5 points, which alone closes the gate."""
        return self.lead < LEAST_LEAD


def never_lose(cells: Sequence[Float[np.ndarray, " s"]]) -> tuple[Cell, ...]:
    """The verdict of the never-lose gate on each cell (data set × third of the budget).

    Args:    cells: the leads of each cell, one per seed, over the mean of that seed's random runs (1 or more).
             Give all cells of a claim at once: Holm's correction is over them, so that an equal strategy is
             called losing anywhere in at most 5% of cases, on however many data sets.
    Returns: *loses* where the 95% upper bound of the mean lead is below 0 after Holm (p ≤ .05); else *safe*
             where the lower bound is above −1 point; else *undecided*, as always with fewer than 8 seeds.
             The lower bound is not corrected: a claim that all cells are safe needs every one of them.

    >>> steady, behind = np.array([0.01, 0.02] * 5), np.array([-0.03, -0.02] * 5)
    >>> [cell.verdict for cell in never_lose([steady, behind])]
    ['safe', 'loses']
    """
    for leads in cells:
        _check(leads, 1)
    sides = [_one_sided(leads) for leads in cells]
    wanted = [_seeds_wanted(leads) for leads in cells]
    enough = [len(leads) >= FEW_SEEDS for leads in cells]
    adjusted = holm(np.array([side[3] if sure else 1.0 for side, sure in zip(sides, enough, strict=True)]))
    return tuple(
        Cell(lead, low, high, float(p) if sure else math.nan, _safety(float(p), low, sure), seeds)
        for (lead, low, high, _), p, sure, seeds in zip(sides, adjusted, enough, wanted, strict=True)
    )


def passes(cells: Sequence[Cell]) -> bool:
    """Whether the gate lets a strategy through: no cell loses, and no mean lead is below −.5 points.

    With fewer seeds than `Cell.seeds` the second condition stops an equal strategy more often than one time in 20.
    """
    return not any(cell.verdict == "loses" or cell.behind for cell in cells)


def _one_sided(leads: np.ndarray) -> tuple[float, float, float, float]:
    """Mean lead, its 95% bounds either way, and p of the test that the mean is not below 0."""
    leads = _exact(leads)
    seeds = len(leads)
    lead = float(leads.mean()) if seeds else math.nan
    if seeds < 2:
        return lead, math.nan, math.nan, 1.0
    error = float(leads.std(ddof=1)) / math.sqrt(seeds)
    half = float(stdtrit(seeds - 1, 1 - LEVEL)) * error
    if error < 1e-12:  # all seeds agree to the digit
        return lead, lead, lead, float(lead >= 0)
    return lead, lead - half, lead + half, float(stdtr(seeds - 1, lead / error))


def _seeds_wanted(leads: np.ndarray) -> int:
    if len(leads) < 2:
        return MOST_SEEDS
    needed = (ndtri(1 - LEVEL) * _exact(leads).std(ddof=1) / LEAST_LEAD) ** 2
    return int(np.clip(math.ceil(needed), FEW_SEEDS, MOST_SEEDS))


def _safety(p: float, low: float, sure: bool) -> Safety:
    if sure and p <= LEVEL:
        return "loses"
    return "safe" if sure and low > -MARGIN else "undecided"


# Everyone against everyone ----------------------------------------------------------------------------


def beats(ours: Float[np.ndarray, "s l"], theirs: Float[np.ndarray, "s l"]) -> Bool[np.ndarray, " l"]:
    """Where one strategy is better than another by a paired two-sided t-test over s seeds at the 5% level.

    A lead that is the same in all seeds, and not zero, beats; with one seed nothing does.
    """
    leads = _exact(ours - theirs)
    seeds = len(leads)
    if seeds < 2:
        return np.zeros(leads.shape[1], dtype=bool)
    error = leads.std(axis=0, ddof=1) / math.sqrt(seeds)
    won: np.ndarray = leads.mean(axis=0) > np.maximum(stdtrit(seeds - 1, 1 - LEVEL / 2) * error, 1e-12)
    return won


def penalties(values: Float[np.ndarray, "a s l"]) -> Float[np.ndarray, "a a"]:
    """Pairwise penalty matrix: [i, j] is the share of l label counts at which strategy i beats strategy j.

    Args:    values: accuracy of a strategies with s paired seeds at the l label counts of `penalty_counts`.
    Returns: 0 to 1, zero on the diagonal; a column's mean is how often that strategy is beaten, lower is better.
             Matrices of several data sets add up, each with the same weight.
    Source:  Ash et al. 2020 (BADGE), arXiv:1906.03671, section 4, where each (data, batch, network) setting adds
             1/n to [i, j] for each of its n label counts at which i beats j. Here the seeds may be any number,
             so the threshold is Student's for that number (theirs: 2.776, for 5). As there, nothing is corrected
             for the many tests: two equal strategies beat each other at 2.5% of the counts each.

    >>> values = np.array([[[0.5, 0.6], [0.6, 0.6], [0.7, 0.9]], [[0.4, 0.9], [0.5, 0.6], [0.6, 0.6]]])
    >>> penalties(values)                        # ahead by .1 in all three seeds at the first count only
    array([[0. , 0.5],
           [0. , 0. ]])
    """
    return np.array([[float(np.mean(beats(ours, theirs))) for theirs in values] for ours in values])


def penalty_counts(
    labels: Float[np.ndarray, " t"], random: Float[np.ndarray, " t"] | None = None
) -> Float[np.ndarray, " l"]:
    """The label counts that the penalty matrix compares at: those after 1, 2, 4, 8, … batches.

    Args:    labels: ascending counts that all strategies share; the first is the start, the second one batch on.
             random: random's mean accuracy there; counts past the first at which it reaches 99% of its last
             are left out, for there all strategies end up alike. The first batch always stays.
    Source:  Ash et al. 2020, arXiv:1906.03671, section 4. They take M + 2^(m−1)·B for start M and batch B. Here
             a count that not all strategies have been measured at is left out.

    >>> penalty_counts(np.arange(20.0, 301.0, 20.0))
    array([ 40.,  60., 100., 180.])
    """
    if len(labels) < 2:
        return labels[:0]
    start, batch = labels[0], labels[1] - labels[0]
    wanted = start + batch * 2.0 ** np.arange(1 + int(np.log2((labels[-1] - start) / batch)))
    found = labels[np.isin(labels, wanted)]
    if random is not None:
        saturated = labels[np.argmax(random >= 0.99 * random[-1])]
        found = found[(found <= saturated) | (found == labels[1])]
    return found


def _check(leads: np.ndarray, axes: int) -> None:
    if leads.ndim != axes or not np.isfinite(leads).all():
        raise BadArray(
            f"leads must be finite, one per block{', in columns' if axes == 2 else ''}: found shape {leads.shape}"
            f"{'' if np.isfinite(leads).all() else ' with NaN or infinity'}. Leave unfinished runs out."
        )
