"""Rows whose predicted label does not survive a small change, one of each kind.

N rows, d features, n candidates, l labelled, c classes. Heads are linear: logits = rows · weightᵀ + bias; a class
never seen has bias −inf and weight 0.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from numpy.random import Generator
from torch import Tensor

from vizsla.functional.kmeans import kmeans, nearest_unpicked
from vizsla.functional.rows import Picked, gather, parts

STEP = 0.2
"""ε·√d of ALFA-Mix: how far a row is moved, as a part of its distance to the farthest class mean."""
_DOUBLINGS = 8
_CLUSTERED = 50_000

Doubts = tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]


def alfamix(
    rows: Float[Tensor, "N d"],
    candidates: Int64[np.ndarray, " n"],
    labelled: Int64[np.ndarray, " l"],
    labels: Int64[np.ndarray, " l"],
    weight: Float32[Tensor, "c d"],
    bias: Float32[Tensor, " c"],
    k: int,
    rng: Generator,
) -> Picked:
    """k kinds of candidates whose label flips when they are moved towards what contradicts it, one of each.

    The step is ε = .2/√d; it is doubled, up to 8 times, while fewer than k flip, and what is still missing
    are those of smallest margin.

    Returns: positions among the candidates, and 1/(1 + ε*/ε) with ε* the smallest step at which the label flips
             (see `flip_steps`): from 0 (it never does) to 1, above ½ if it flips at .2/√d. Flipping ones come
             first, in order of that.
    Source:  Parvaneh et al. 2022, arXiv:2203.07034.
    """
    steps, margins = flip_steps(rows, candidates, labelled, labels, weight, bias)
    usual = step = STEP / max(rows.shape[1], 1) ** 0.5
    for _ in range(_DOUBLINGS):
        if np.count_nonzero(steps < step) >= k:
            break
        step *= 2
    scores = 1 / (1 + steps / usual)
    picks = one_of_each(rows, candidates, steps < step, scores, margins, k, rng)
    return picks, scores[picks]


def flip_steps(
    rows: Float[Tensor, "N d"],
    candidates: Int64[np.ndarray, " n"],
    labelled: Int64[np.ndarray, " l"],
    labels: Int64[np.ndarray, " l"],
    weight: Float32[Tensor, "c d"],
    bias: Float32[Tensor, " c"],
) -> Doubts:
    """The smallest ε beyond which z + ε‖z* − z‖ g/‖g‖ has another label for some class mean z*; and p2 − p1.

    g = Wᵀ(p − onehot ŷ) is the gradient of the loss at the predicted class ŷ. Only the farthest mean matters:
    along g each logit is linear in the length t of the move, so the lead of the best other class,
    max_j (l_j − l_ŷ)(t), is convex; it is ≤ 0 at t = 0, so once above 0 it stays there, and t is largest for the
    farthest mean. That makes it O(n·c·d) for any number of means.

    Returns: (n,) from 0 to inf: inf where no move flips it, for example where nothing is labelled.
    """
    means = _class_means(rows, labelled, labels)
    lengths = means.square().sum(dim=1)
    steps = np.full(len(candidates), np.inf)
    margins = np.empty(len(candidates))
    for place, block in parts(rows, candidates, max(4 * len(weight), len(means))):
        logits = block @ weight.T + bias
        length, margin = _flip_lengths(logits, weight)
        margins[place] = margin.cpu().numpy()
        if len(means):
            away = torch.addmm(lengths, block, means.T, alpha=-2).amax(dim=1) + block.square().sum(dim=1)
            far = away.clamp_(min=0).sqrt().double()
            steps[place] = torch.where(far > 0, length / far, torch.inf).cpu().numpy()
    return steps, margins


def _class_means(
    rows: Tensor, labelled: Int64[np.ndarray, " l"], labels: Int64[np.ndarray, " l"]
) -> Float32[Tensor, "s d"]:
    """Of the s classes that are there."""
    codes = torch.from_numpy(np.unique(labels, return_inverse=True)[1].astype(np.int64)).to(rows.device)
    counts = torch.bincount(codes)
    sums = torch.zeros(len(counts), rows.shape[1], device=rows.device)
    for place, block in parts(rows, labelled):
        sums.index_add_(0, codes[place], block)
    return sums / counts[:, None]


def _flip_lengths(
    logits: Float32[Tensor, "b c"], weight: Float32[Tensor, "c d"]
) -> tuple[Float64[Tensor, " b"], Float64[Tensor, " b"]]:
    """How far along g/‖g‖ the label flips, and the margin p2 − p1."""
    probs = logits.double().softmax(dim=1)
    top = probs.topk(2, dim=1).values
    most = logits.argmax(dim=1, keepdim=True)
    error = probs.scatter(1, most, 0.0)
    error.scatter_(1, most, -error.sum(dim=1, keepdim=True))  # p − 1 by itself would round to 0
    error = (error / error.abs().amax(dim=1, keepdim=True).clamp(min=1e-300)).float()
    gradient = error @ weight
    slopes = gradient @ weight.T
    slopes -= slopes.gather(1, most)
    gaps = (logits.gather(1, most) - logits).double()
    needed = torch.where(slopes > 0, gaps / slopes.double(), torch.inf).amin(dim=1)
    lengths = torch.where(
        needed < torch.inf, needed * gradient.double().norm(dim=1), torch.inf
    )  # not inf · 0
    return lengths, top[:, 1] - top[:, 0]


def dropquery(
    rows: Float[Tensor, "N d"],
    candidates: Int64[np.ndarray, " n"],
    weight: Float32[Tensor, "c d"],
    bias: Float32[Tensor, " c"],
    drawn: tuple[Float32[Tensor, "m c d"], Float32[Tensor, "m c"]],
    k: int,
    rng: Generator,
) -> Picked:
    """k kinds of candidates whose label most of m other heads contradict, one of each.

    Too few: those that more heads contradict, then those of smaller margin.

    Args:    drawn: weights and biases of the head with other features dropped each time.
    Returns: positions among the candidates, and how many heads contradict plus p2 − p1: from −1 to m. Contradicted
             ones come first, in order of that.
    Source:  Gupte et al. 2024, arXiv:2401.14555 (DropQuery; there each image has masks of its own).
    """
    flips, margins = dropped_flips(rows, candidates, weight, bias, drawn)
    scores = flips + margins
    picks = one_of_each(rows, candidates, flips > len(drawn[0]) / 2, scores, scores, k, rng)
    return picks, scores[picks]


def dropped_flips(
    rows: Float[Tensor, "N d"],
    candidates: Int64[np.ndarray, " n"],
    weight: Float32[Tensor, "c d"],
    bias: Float32[Tensor, " c"],
    drawn: tuple[Float32[Tensor, "m c d"], Float32[Tensor, "m c"]],
) -> Doubts:
    """How many of the drawn heads give another label than the head itself, and its p2 − p1."""
    weights = torch.cat([weight[None], drawn[0]]).flatten(0, 1)
    biases = torch.cat([bias[None], drawn[1]]).flatten()
    flips, margins = np.empty(len(candidates)), np.empty(len(candidates))
    for place, block in parts(rows, candidates, 2 * len(weights)):
        logits = torch.addmm(biases, block, weights.T).unflatten(1, (-1, len(weight)))
        found = logits.argmax(dim=2)
        flips[place] = (found[:, 1:] != found[:, :1]).sum(dim=1).cpu().numpy()
        top = logits[:, 0].double().softmax(dim=1).topk(2, dim=1).values
        margins[place] = (top[:, 1] - top[:, 0]).cpu().numpy()
    return flips, margins


def one_of_each(
    rows: Float[Tensor, "N d"],
    candidates: Int64[np.ndarray, " n"],
    eligible: Bool[np.ndarray, " n"],
    scores: Float64[np.ndarray, " n"],
    others: Float64[np.ndarray, " n"],
    k: int,
    rng: Generator,
) -> Int64[np.ndarray, " k"]:
    """The eligible candidate nearest to the centre of each of k clusters of them, highest score first.

    Of more than 50,000 eligible ones (or 100 for each of the k) so many at random. Too few of them: all, then the
    rest by `others`, highest first. Ties are broken at random.
    """
    found = np.flatnonzero(eligible)
    most = max(_CLUSTERED, 100 * k)
    if len(found) > most:
        found = np.sort(rng.choice(found, most, replace=False))
    if len(found) > k:
        some = gather(rows, candidates[found])
        found = found[nearest_unpicked(some, kmeans(some, k, rng).centroids)]
    rest = np.setdiff1d(np.arange(len(candidates)), np.flatnonzero(eligible))
    first, then = _descending(scores, found, rng), _descending(others, rest, rng)
    return np.concatenate([first, then[: k - len(first)]])


def _descending(
    values: Float64[np.ndarray, " n"], positions: Int64[np.ndarray, " p"], rng: Generator
) -> Int64[np.ndarray, " p"]:
    return positions[np.lexsort([rng.random(len(positions)), -values[positions]])]
