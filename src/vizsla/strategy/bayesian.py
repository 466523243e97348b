"""Strategies that ask what the model does not know: by draws, by a committee, with noise, or weighed by the pool."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.random import Generator
from torch import Tensor

from vizsla.functional import uncertainty
from vizsla.functional.batchbald import batchbald
from vizsla.functional.rows import BLOCK_BYTES
from vizsla.strategy.base import Draws, Pool, View, pool_of, probs_of, strategies, top_positions
from vizsla.types import Batch

Score = Callable[[View], Float[Tensor, " n"]]
"""What a view's candidates score; higher = sooner."""

BATCHBALD_POOL = 10_000
"""BatchBALD looks at so many candidates, those of the greatest BALD."""


def over_draws(draws: Draws, n: int, score: Callable[[Tensor], Tensor]) -> Tensor:
    """A score of n candidates' (b, k, c) draws, made block by block: they are never all in memory."""
    classes = draws(np.arange(0)).shape[2]
    step = max(1, BLOCK_BYTES // (4 * draws.k * classes))
    starts = range(0, n, step)
    return torch.cat([score(draws(np.arange(start, min(start + step, n)))) for start in starts])


# --- draws of the model, and a committee


def bald(view: View) -> Float[Tensor, " n"]:
    """Mutual information of each candidate's class and the draw."""
    assert view.draws is not None  # Strategy.choose has checked `needs`
    return over_draws(view.draws, len(view.ids), uncertainty.bald)


@strategies.rule("bald", needs={"draws"}, alone=True)
def bald_batch(view: View, n: int, rng: Generator) -> Batch:
    """The n images that the draws, each sure of itself, disagree on most; blind to overlap within the batch."""
    return view.top(bald(view), n, rng)


@strategies.rule("variation_ratio", needs={"draws"}, alone=True)
def variation_ratio_batch(view: View, n: int, rng: Generator) -> Batch:
    """The n images for which most draws vote against the majority."""
    assert view.draws is not None
    return view.top(over_draws(view.draws, len(view.ids), uncertainty.variation_ratio), n, rng)


@strategies.rule("mean_std", needs={"draws"}, alone=True)
def mean_std_batch(view: View, n: int, rng: Generator) -> Batch:
    """The n images whose probabilities vary most between draws."""
    assert view.draws is not None
    return view.top(over_draws(view.draws, len(view.ids), uncertainty.mean_std), n, rng)


@strategies.rule("batchbald", needs={"draws"}, joint=True)
def batchbald_batch(view: View, n: int, rng: Generator) -> Batch:
    """The n images whose labels all together tell most about the model; scores are what each adds."""
    draws = view.draws
    assert draws is not None
    information = bald(view)
    kept = top_positions(information.cpu().double().numpy(), min(len(view.ids), max(BATCHBALD_POOL, n)), rng)
    among = information[torch.from_numpy(kept).to(information.device)]
    chosen, joint = batchbald(lambda positions: draws(kept[positions]), among, n, rng)
    return view.pick(kept[chosen], np.diff(joint, prepend=0.0))


@strategies.rule("query_by_committee", needs={"committee"}, alone=True)
def committee_batch(view: View, n: int, rng: Generator) -> Batch:
    """The n images over which the votes of a committee are most divided."""
    assert view.committee is not None
    return view.top(over_draws(view.committee, len(view.ids), uncertainty.vote_entropy), n, rng)


@strategies.rule("query_by_committee_kl", needs={"committee"}, alone=True)
def committee_kl_batch(view: View, n: int, rng: Generator) -> Batch:
    """The n images over which the probabilities of a committee diverge most from their mean.

    The mean of KL(p_k ‖ mean p) over the members is H(mean p) − mean H(p_k), the formula of BALD.
    Source: McCallum & Nigam 1998, Employing EM and pool-based active learning for text classification.
    """
    assert view.committee is not None
    return view.top(over_draws(view.committee, len(view.ids), uncertainty.bald), n, rng)


# --- any positive score, with noise or balanced over the classes


def margin(view: View) -> Float[Tensor, " n"]:
    """1 − (p1 − p2), from 0 to 1."""
    return 1 + uncertainty.margin(probs_of(view))


def ratio(view: View) -> Float[Tensor, " n"]:
    """p2 / p1."""
    return uncertainty.ratio(probs_of(view))


def entropy(view: View) -> Float[Tensor, " n"]:
    """Entropy of the class."""
    return uncertainty.entropy(probs_of(view))


def least_confidence(view: View) -> Float[Tensor, " n"]:
    """1 − p1."""
    return uncertainty.least_confidence(probs_of(view))


def _predicted_shares(view: View) -> Float64[Tensor, " c"]:
    """Mean predicted probability of each class."""
    return uncertainty.shares(_predicted(view))


def _predicted(view: View) -> Float[Tensor, "n c"]:
    if view.probs is not None:
        return view.probs
    assert view.draws is not None
    return over_draws(
        view.draws, len(view.ids), lambda draws: uncertainty.at_least_float32(draws).mean(dim=1)
    )


def power(name: str, score: Score, needs: str, beta: float = 1.0) -> None:
    """Register a strategy that draws its batch with chances ∝ score^beta, for any score ≥ 0, higher = sooner.

    Images of score 0 come last, in random order. Source: Kirsch et al. 2023, arXiv:2106.12059.
    """

    @strategies.rule(name, needs={needs}, alone=True)
    def batch(view: View, n: int, rng: Generator) -> Batch:
        return view.top(uncertainty.powered(score(view), view.gumbel(rng), beta), n, rng)

    batch.__doc__ = f"n images drawn with chances that grow with `{_plain(name)}`."


def class_balanced(name: str, score: Score, needs: str) -> None:
    """Register a strategy that takes the n images of greatest score over their class's predicted share.

    The score must be ≥ 0, higher = sooner. Where probabilities are not given, they are the mean of the draws.
    """

    @strategies.rule(name, needs={needs}, alone=True, average=_predicted_shares)
    def batch(view: View, n: int, rng: Generator) -> Batch:
        balanced = uncertainty.class_balanced(score(view), _predicted(view), view.average)
        return view.top(balanced, n, rng)

    batch.__doc__ = f"The n images of greatest `{_plain(name)}` over the predicted share of their class."


def _plain(name: str) -> str:
    """The score's name without that of the family."""
    return name.removeprefix("power_").removeprefix("class_balanced_")


for _wrap in (power, class_balanced):
    _wrap(f"{_wrap.__name__}_margin", margin, "probs")
    _wrap(f"{_wrap.__name__}_entropy", entropy, "probs")
    _wrap(f"{_wrap.__name__}_least_confidence", least_confidence, "probs")
    _wrap(f"{_wrap.__name__}_bald", bald, "draws")
power("power_ratio", ratio, "probs")


# --- probabilities and embeddings


@strategies.rule("expected_gradient", needs={"probs", "embeddings"}, alone=True)
def expected_gradient_batch(view: View, n: int, rng: Generator) -> Batch:
    """The n images whose labels would change a linear head most, to be expected by its own predictions."""
    pool, probs = pool_of(view), probs_of(view)
    norms = torch.empty(len(view.ids), device=pool.rows.device)
    for place, rows in pool.of_candidates(pool.centre.vantage):
        norms[place] = rows.norm(dim=1)
    return view.top(uncertainty.expected_gradient(probs, norms.to(probs.device)), n, rng)


@strategies.rule(
    "density_weighted",
    needs={"probs", "embeddings"},
    alone=True,
    average=lambda view: mean_direction(pool_of(view)),
)
def density_weighted_batch(view: View, n: int, rng: Generator) -> Batch:
    """The n images of greatest entropy × mean similarity to the pool, so that outliers are left alone.

    Source: Settles & Craven 2008, doi:10.3115/1613715.1613855 (information density).
    """
    probs = probs_of(view)
    alike = mean_similarity(pool_of(view), view.average)
    return view.top(uncertainty.entropy(probs) * alike.to(probs.device), n, rng)


def mean_direction(pool: Pool) -> Float64[Tensor, " d"]:
    """Mean of the candidates' rows scaled to unit length, as seen from `Centre.vantage`."""
    total = torch.zeros(pool.rows.shape[1], dtype=torch.float64, device=pool.rows.device)
    for _, rows in pool.of_candidates(pool.centre.vantage):
        total += torch.nn.functional.normalize(rows, dim=1).sum(dim=0)
    return total / len(pool.candidates)


def mean_similarity(pool: Pool, middle: Float64[Tensor, " d"] | None = None) -> Float[Tensor, " n"]:
    """Mean of (1 + cosine)/2 of each candidate and all candidates, itself too; a zero row has cosine 0 with all.

    By the mean of the unit rows: O(n·d), where the similarities would be n².

    Args: middle: the `mean_direction` of a larger pool, of which these candidates are a part.
    """
    mean = (mean_direction(pool) if middle is None else middle).float()
    cosines = torch.empty(len(pool.candidates), device=pool.rows.device)
    for place, rows in pool.of_candidates(
        pool.centre.vantage
    ):  # a list of small results would keep the freed blocks apart
        cosines[place] = torch.nn.functional.normalize(rows, dim=1) @ mean
    return (1 + cosines) / 2
