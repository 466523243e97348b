"""How unsure a classifier is of each image, from its class probabilities or from several draws of them.

Every score is higher for images that should be labelled sooner. Rows are n images, columns c classes, and k draws
lie between them; probabilities of an image sum to one. Torch tensors on any device and of any float type, or numpy
arrays, give tensors back; float16 is reckoned in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vizsla.functional.rows import as_rows

Probs = Float[Tensor, "n c"] | Float[np.ndarray, "n c"]
Draws = Float[Tensor, "n k c"] | Float[np.ndarray, "n k c"]

CELLS = 1 << 18
"""Worked on at once: a megabyte or two fit a core's cache, and threads are not woken too often."""
FEW = 16
"""Up to so many classes it is faster to go through the columns than along the rows."""


def least_confidence(probs: Probs) -> Float[Tensor, " n"]:
    """One minus the probability of the most likely class.

    Args:    probs: (n, c) class probabilities.
    Returns: (n,) from 0 (certain) to 1 − 1/c (uniform).
    Source:  Lewis & Gale 1994, arXiv:cmp-lg/9407020; Settles 2009, §3.1.

    >>> least_confidence(torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.7, 0.2]]))
    tensor([0.5000, 0.3000])
    """
    return _by_rows(lambda rows: 1 - _largest(rows), probs)


def margin(probs: Probs) -> Float[Tensor, " n"]:
    """Second largest minus largest probability: how nearly two classes tie.

    Args:    probs: (n, c) class probabilities, c ≥ 2.
    Returns: (n,) from −1 (certain) to 0 (a tie for the first place).
    Source:  Scheffer, Decomain & Wrobel 2001, doi:10.1007/3-540-44816-0_31.

    >>> margin(torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.7, 0.2]]))
    tensor([-0.2000, -0.5000])
    """
    return _by_rows(lambda rows: torch.sub(*reversed(_top_two(rows))), probs)


def ratio(probs: Probs) -> Float[Tensor, " n"]:
    """Second largest over largest probability.

    Args:    probs: (n, c) class probabilities, c ≥ 2.
    Returns: (n,) from 0 (certain) to 1 (a tie for the first place).
    Source:  Munro Monarch 2021, Human-in-the-Loop Machine Learning, §3.2 (ratio of confidence).

    >>> ratio(torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.8, 0.1]]))
    tensor([0.6000, 0.1250])
    """
    return _by_rows(lambda rows: torch.div(*reversed(_top_two(rows))), probs)


def entropy(probs: Probs) -> Float[Tensor, " n"]:
    """Shannon entropy of the predicted class.

    Args:    probs: (n, c) class probabilities; a class of probability 0 adds 0.
    Returns: (n,) nats from 0 (certain) to ln c (uniform).
    Source:  Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x; Settles 2009, §3.1.

    >>> entropy(torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.7, 0.2], [0.0, 1.0, 0.0]]))
    tensor([1.0297, 0.8018, 0.0000])
    """
    return _by_rows(_entropy, probs)


def variation_ratio(draws: Draws) -> Float[Tensor, " n"]:
    """The share of draws that do not vote for the class that most of them vote for.

    Args:    draws: (n, k, c) class probabilities. A draw whose classes tie votes for the first of them.
    Returns: (n,) from 0 (all agree) to 1 − 1/min(k, c).
    Source:  Freeman 1965, Elementary Applied Statistics; Gal, Islam & Ghahramani 2017, arXiv:1703.02910.

    >>> variation_ratio(torch.tensor([[[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]]]))
    tensor([0.2500])
    """
    return 1 - _vote_shares(draws).amax(dim=1)


def vote_entropy(draws: Draws) -> Float[Tensor, " n"]:
    """Entropy of the votes of a committee, one vote for each member's most likely class.

    Args:    draws: (n, k, c) class probabilities of k members. One whose classes tie votes for the first of them.
    Returns: (n,) nats from 0 (all agree) to ln min(k, c).
    Source:  Engelson & Dagan 1996, arXiv:cmp-lg/9606030.

    >>> vote_entropy(torch.tensor([[[0.9, 0.1], [0.4, 0.6]], [[0.9, 0.1], [0.6, 0.4]]]))      # ln 2, 0
    tensor([0.6931, 0.0000])
    """
    return entropy(_vote_shares(draws))


def mean_std(draws: Draws) -> Float[Tensor, " n"]:
    """How much a class's probability varies between draws, the mean over the classes.

    Args:    draws: (n, k, c) class probabilities.
    Returns: (n,) population standard deviation, from 0 to 1/2; zero when k = 1.
    Source:  Kampffmeyer, Salberg & Jenssen 2016, doi:10.1109/CVPRW.2016.90; Gal et al. 2017, arXiv:1703.02910.

    >>> mean_std(torch.tensor([[[0.9, 0.1], [0.5, 0.5]]]))
    tensor([0.2000])
    """
    return at_least_float32(draws).std(dim=1, correction=0).mean(dim=1)


def bald(draws: Draws) -> Float[Tensor, " n"]:
    """Mutual information between an image's class and the draw: H(mean p) − mean H(p).

    Args:    draws: (n, k, c) class probabilities.
    Returns: (n,) nats from 0 to ln min(k, c); zero when k = 1 and where all draws agree, however unsure they are.
    Source:  Houlsby et al. 2011, arXiv:1112.5745.

    >>> bald(torch.tensor([[[0.1, 0.5, 0.4], [0.3, 0.3, 0.4]], [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]))
    tensor([0.0388, 0.6931])
    """
    probs = at_least_float32(draws)
    each = entropy(probs.flatten(0, 1)).reshape(probs.shape[:2])
    return (entropy(probs.mean(dim=1)) - each.mean(dim=1)).clamp_min(0)


def expected_gradient(probs: Probs, norms: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Expected length of the gradient that an image's label would give to a linear head's weights.

    Label y gives the gradient (p − e_y) hᵀ, of length ‖p − e_y‖·‖h‖ with ‖p − e_y‖² = ‖p‖² − 2p_y + 1.

    Args:    probs: (n, c) class probabilities. norms: (n,) lengths of the rows h that the head reads.
    Returns: (n,) ≥ 0; 0 where the model is certain.
    Source:  Settles, Craven & Ray 2007, Multiple-Instance Active Learning (expected gradient length).

    >>> expected_gradient(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([2.0, 9.0]))     # 2·√½, 0
    tensor([1.4142, 0.0000])
    """

    def factor(rows: Tensor) -> Tensor:
        squares = rows.square().sum(dim=1, keepdim=True) - 2 * rows + 1
        return (rows * squares.clamp_min(0).sqrt()).sum(dim=1)

    return _by_rows(factor, probs) * norms


def class_balanced(
    scores: Float[Tensor, " n"], probs: Probs, of_pool: Float64[Tensor, " c"] | None = None
) -> Float[Tensor, " n"]:
    """Any positive score, divided by the share of the images' predicted mass that the row's own class has.

    Args:    scores: (n,) ≥ 0, higher = sooner: a negative one would turn the wrapper round.
             probs: (n, c) class probabilities; a row's own class is its most likely one.
             of_pool: `shares` of a larger pool of which these rows are a part; default: of these rows.
    Returns: (n,) scores: those of rarely predicted classes grow, by at most the factor c·n.
    Source:  Bengar et al. 2022, arXiv:2110.04543 (class-balanced acquisition), as a factor instead of a penalty.

    >>> class_balanced(torch.ones(3), torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.0, 1.0]]))
    tensor([2., 2., 2.])
    >>> class_balanced(torch.ones(3), torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7]]))       # /.7, /.7, /.3
    tensor([1.4286, 1.4286, 3.3333])
    """
    rows = as_rows(probs)
    own = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    for place, block in in_cache(rows):
        own[place] = block.argmax(dim=1)
    return scores / (shares(rows) if of_pool is None else of_pool)[own].to(scores)


def shares(probs: Probs) -> Float64[Tensor, " c"]:
    """Mean probability of each class over n ≥ 1 rows."""
    rows = as_rows(probs)
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for _, block in in_cache(rows):
        total += block.sum(dim=0)
    return total / len(rows)


def powered(
    scores: Float[Tensor, " n"], gumbel: Float[np.ndarray, " n"], beta: float = 1.0
) -> Float[Tensor, " n"]:
    """Scores disturbed so that their n largest are a draw without replacement with chances ∝ score^β.

    s·exp(g/β) orders the images as log s + g/β does, and a score of 0 stays 0: last, but still an order.

    Args:    scores: (n,) ≥ 0, higher = sooner. gumbel: (n,) standard Gumbel noise.
             beta: above 0; near 0 it takes no notice of the score, the larger the more it does.
    Returns: (n,) float64 ≥ 0.
    Source:  Kirsch et al. 2023, arXiv:2106.12059 (power acquisition).

    >>> powered(torch.tensor([0.5, 0.0]), np.array([np.log(3.0), 8.0]))
    tensor([1.5000, 0.0000], dtype=torch.float64)
    """
    noise = torch.from_numpy(gumbel).to(scores.device)
    return scores.double().clamp_min(0) * (noise / beta).exp()


def at_least_float32(array: Probs | Draws) -> Tensor:
    """The array as a tensor, float16 as float32; double stays."""
    rows = as_rows(array)
    return rows if rows.dtype == torch.float64 else rows.float()


def in_cache(rows: Float[Tensor, "n c"]) -> Iterator[tuple[slice, Float[Tensor, "b c"]]]:
    """The rows in pieces that fit a core's cache, at least float32, each with where it lies; all at once on a GPU."""
    step = max(1, CELLS // rows.shape[1]) if rows.device.type == "cpu" else max(1, len(rows))
    for start in range(0, len(rows), step):
        place = slice(start, min(start + step, len(rows)))
        yield place, at_least_float32(rows[place])


def _by_rows(score: Callable[[Tensor], Tensor], probs: Probs) -> Float[Tensor, " n"]:
    rows = as_rows(probs)
    dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
    scores = torch.empty(len(rows), dtype=dtype, device=rows.device)
    for place, block in in_cache(rows):
        scores[place] = score(block)
    return scores


def _largest(rows: Tensor) -> Tensor:
    """Largest of each row; with few classes a third of the time of `amax`."""
    return rows.amax(dim=1) if rows.shape[1] > FEW else _columns(rows).amax(dim=0)


def _columns(rows: Tensor) -> Tensor:
    """The transpose, copied; faster than `contiguous`."""
    return torch.stack(rows.unbind(dim=1))


def _top_two(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Largest and second largest of each row; a third of the time of `topk`."""
    if rows.shape[1] > FEW:
        largest, where = rows.max(dim=1)
        return largest, rows.scatter(1, where[:, None], -1.0).amax(dim=1)
    largest, *others = _columns(rows)
    second = torch.full_like(largest, -1.0)
    for column in others:
        second = torch.maximum(second, torch.minimum(largest, column))
        largest = torch.maximum(largest, column)
    return largest, second


def _entropy(rows: Tensor) -> Tensor:
    """−Σ p ln p, where ln 0 is the logarithm of the smallest float, so that it adds 0; faster than `special.entr`."""
    logs = rows.clamp_min(torch.finfo(rows.dtype).tiny).log_()
    return logs.mul_(rows).sum(dim=1).neg_() + 0.0  # no minus zero


def _vote_shares(draws: Draws) -> Float[Tensor, "n c"]:
    probs = at_least_float32(draws)
    votes = probs.argmax(dim=2)
    counts = torch.zeros(len(probs), probs.shape[2], dtype=probs.dtype, device=probs.device)
    return counts.scatter_add_(1, votes, torch.ones_like(votes, dtype=probs.dtype)) / probs.shape[1]
