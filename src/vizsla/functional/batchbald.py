"""Batches of images whose labels, all together, tell most about the model.

n candidates, k draws of the model, c classes, m configurations: ways in which the images picked so far may be
labelled. Given the labels of a configuration, the draws are no longer equally likely. What one more image adds is
the mutual information of its label and the draw under those chances, averaged over the configurations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from numpy.random import Generator
from torch import Tensor

from vizsla.functional.rows import BLOCK_BYTES
from vizsla.functional.uncertainty import at_least_float32, entropy

Draws = Callable[[Int64[np.ndarray, " b"]], Float[Tensor, "b k c"]]
"""Class probabilities of these candidates, the same again for the same candidate."""

EXACT = 1_000
SAMPLED = 1_000
AT_ONCE = 256
NEGLIGIBLE = 1e-5
"""Nats that nobody misses of a sampled estimate."""
NEAR = 1e-3
"""Nats below the sampling error: among sampled configurations, no candidate is looked at that could add only so
much more."""


def batchbald(
    draws: Draws,
    information: Float[Tensor, " n"],
    picks: int,
    rng: Generator,
    *,
    exact: int = EXACT,
    sampled: int = SAMPLED,
) -> tuple[Int64[np.ndarray, " picks"], Float64[np.ndarray, " picks"]]:
    """Greedy batch of greatest joint mutual information between its labels and the draw.

    What an image adds can only shrink as the batch grows, so candidates are looked at in the order of what they
    last added, and none that cannot reach the best any more.

    Args:    draws: class probabilities of candidates 0 … n−1.
             information: (n,) `bald` of each: what it adds to an empty batch.
             picks: size of the batch, 1 … n.
             exact: while there are at most so many configurations, all are reckoned; beyond, `sampled` of them.
    Returns: the candidates in order, and the joint mutual information of the batch up to each, in nats; at most ln k.
    Source:  Kirsch, van Amersfoort & Gal 2019, arXiv:1906.08158.

    >>> sure = torch.eye(2).expand(3, 2, 2)      # three images of whose class each of two draws is sure
    >>> _, joint = batchbald(lambda rows: sure[rows], torch.full((3,), 0.6931), 2, np.random.default_rng(0))
    >>> joint.round(4)      # ln 2, and the second adds nothing
    array([0.6931, 0.6931])
    """
    bounds = information.detach().cpu().double().numpy().copy()
    chosen = [int(rng.choice(np.flatnonzero(bounds == bounds.max())))]
    added = [float(bounds[chosen[0]])]
    state: Configurations | None = Configurations.of_nothing(draws(np.array(chosen)))
    for _ in range(picks - 1):
        bounds[chosen[-1]] = -np.inf
        newest = draws(np.array(chosen[-1:]))[0].double()
        state = state.after(newest, exact, rng) if state else None
        if state is None:
            state = Configurations.drawn(draws(np.array(chosen)).double(), sampled, rng)
        chosen.append(_best(draws, bounds, state, rng))
        added.append(max(float(bounds[chosen[-1]]), 0.0))
    return np.array(chosen, np.int64), np.cumsum(added)


@dataclass(frozen=True, eq=False)
class Configurations:
    """Ways in which a batch may be labelled, and what each says of the draws."""

    logs: Float64[Tensor, "m k"]
    """Log-probability of each configuration under each draw."""
    drawn_from: Int64[Tensor, " m"] | None = None
    """The draw that each was sampled from; None: these are all that can happen."""

    @classmethod
    def of_nothing(cls, probs: Float[Tensor, "1 k c"]) -> Configurations:
        """The one labelling of an empty batch."""
        return cls(torch.zeros(1, probs.shape[1], dtype=torch.float64, device=probs.device))

    @classmethod
    def drawn(cls, probs: Float64[Tensor, "s k c"], m: int, rng: Generator) -> Configurations:
        """m labellings of the s images, as many from each draw (importance sampling from their mixture)."""
        k = probs.shape[1]
        start = torch.zeros(m, k, dtype=torch.float64, device=probs.device)
        state = cls(start, torch.arange(m, device=probs.device) % k)
        for image in probs:
            state = state._sampled_after(image, rng)
        return state

    def after(self, image: Float64[Tensor, "k c"], exact: int, rng: Generator) -> Configurations | None:
        """Those of the batch with one more image; None where all of them would be more than `exact`."""
        if self.drawn_from is not None:
            return self._sampled_after(image, rng)
        if len(self.logs) * image.shape[1] > exact:
            return None
        logs = (self.logs[:, None, :] + image.T.log()).flatten(0, 1)
        return Configurations(logs[logs.amax(dim=1) > -math.inf])

    def _sampled_after(self, image: Float64[Tensor, "k c"], rng: Generator) -> Configurations:
        assert self.drawn_from is not None
        cumulative = image.cumsum(dim=1)[self.drawn_from]
        throws = torch.from_numpy(rng.random((len(self.logs), 1))).to(image.device) * cumulative[:, -1:]
        labels = (throws >= cumulative).sum(dim=1)
        return Configurations(self.logs + image.T.log()[labels], self.drawn_from)

    def adds(self, probs: Float[Tensor, "b k c"]) -> Float[Tensor, " b"]:
        """Mutual information of each image's label and the draw, given the labels of the batch."""
        chances, weights = (part.to(probs) for part in self.posterior)
        information = -(entropy(probs.flatten(0, 1)).reshape(probs.shape[:2]) @ (weights @ chances))
        tiny = torch.finfo(probs.dtype).tiny
        for of_class in probs.permute(2, 1, 0).contiguous():
            mixed = chances @ of_class
            information -= weights @ mixed.clamp_min(tiny).log_().mul_(mixed)
        return information

    @cached_property
    def posterior(self) -> tuple[Float64[Tensor, "o k"], Float64[Tensor, " o"]]:
        """Chance of each draw given the configuration, and the weight of the configuration, of those still open.

        An image's label can tell no more about the draw than what is not known of it. Sampled configurations that
        all but settle the draw are left out, as long as they could tell `NEGLIGIBLE` nats between them.
        """
        m, k = self.logs.shape
        chances = self.logs.softmax(dim=1)
        if self.drawn_from is None:
            return chances, (self.logs.logsumexp(dim=1) - math.log(k)).exp()
        weights = self.logs.new_full((m,), 1 / m)
        tells, order = (weights * entropy(chances)).sort()
        still_open = order[tells.cumsum(0) > NEGLIGIBLE]
        return chances[still_open], weights[still_open]


def _best(draws: Draws, bounds: np.ndarray, state: Configurations, rng: Generator) -> int:
    """The candidate that adds most, and in `bounds` what each that was looked at adds."""
    shuffled = rng.permutation(np.flatnonzero(bounds > -np.inf))
    order = shuffled[np.argsort(-bounds[shuffled], kind="stable")]
    best, most = int(order[0]), -np.inf
    near = 0.0 if state.drawn_from is None else NEAR
    step = int(np.clip(BLOCK_BYTES // (4 * max(len(state.posterior[1]), 1)), 1, AT_ONCE))
    for start in range(0, len(order), step):
        block = order[start : start + step]
        if most >= bounds[block[0]] - near:
            break
        bounds[block] = state.adds(at_least_float32(draws(block))).cpu().double().numpy()
        first = int(bounds[block].argmax())
        if bounds[block[first]] > most:
            best, most = int(block[first]), float(bounds[block[first]])
    return best
