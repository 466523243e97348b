"""Builds what a query strategy sees, and of that only what it declares that it needs. N rows in all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.random import Generator
from torch import Tensor

from vizsla.errors import BadArray
from vizsla.functional.geometry import axes_that_fit, principal_axes
from vizsla.functional.rows import as_rows, take
from vizsla.models.heads import INVERSE_STRENGTH, LogisticHead
from vizsla.strategy.base import Head, Pool, Strategy, View
from vizsla.strategy.draws import ArrayDraws, LinearDraws, dropout, laplace

COMMITTEE = 8

Drawn = Literal["dropout", "laplace"]
DRAWN: tuple[Drawn, ...] = ("dropout", "laplace")


@dataclass(eq=False)
class Material:
    """All that is known of N images of which some are labelled; what is missing is made when asked for.

    Args:    candidates, labelled: row numbers. embeddings: (N, D). labels: classes of the labelled, 0 … C−1.
             probs: (N, C). draws: (N, K, C). coordinates: (N, r) rows of unit length on which a head learns;
             made from the embeddings where not given. weights: that head's (C, r) and (C,), if it is fitted.
    """

    candidates: Int64[np.ndarray, " n"]
    labelled: Int64[np.ndarray, " l"]
    embeddings: Float[np.ndarray, "N d"] | Float[Tensor, "N d"] | None = None
    labels: Int64[np.ndarray, " l"] | None = None
    probs: Float[Tensor, "N c"] | None = None
    draws: Float[Tensor, "N k c"] | Drawn = "dropout"
    """Or how to draw them from the head."""
    candidate_probs: Float[Tensor, "n c"] | None = None
    """Of the candidates only, in place of `probs`."""
    labelled_probs: Float[Tensor, "l c"] | None = None
    """Of the labelled, by models that were not trained on them."""
    familiar: Float[np.ndarray, " n"] | None = None
    """Chance that each candidate is of one of the classes."""
    coordinates: Float[np.ndarray, "N r"] | None = None
    weights: tuple[Float[np.ndarray, "c r"], Float[np.ndarray, " c"]] | None = None
    classes: int | None = None
    """How many there are; default: as many as `probs` has columns, else not known."""
    name: str = ""
    """Of the strategy, for messages."""

    def view(self, rule: Strategy, rng: Generator, ids: Int64[np.ndarray, " n"] | None = None) -> View:
        """What the strategy sees. Raises BadArray where a part can neither be found nor made."""
        self.name = rule.name
        needs = rule.needs
        head = self.head if needs & {"head"} or (needs & {"draws"} and isinstance(self.draws, str)) else None
        return View(
            ids=self.candidates if ids is None else ids,
            probs=self._candidate_probs() if self._makes_probs(rule) else None,
            strategy=rule.name,
            embeddings=self._pool if "embeddings" in needs else None,
            labels=self._labels() if "labels" in needs else self.labels,
            labelled_probs=self.labelled_probs,
            familiar=self.familiar,
            head=head if "head" in needs else None,
            draws=self._draws(head, rng) if "draws" in needs else None,
            classes=self.classes if self.probs is None else self.probs.shape[1],
            committee=self._committee(rng) if "committee" in needs else None,
        )

    @cached_property
    def _pool(self) -> Pool:
        if self.embeddings is None:
            raise BadArray(f"strategy {self.name!r} needs embeddings=… (N, D).")
        return Pool(as_rows(self.embeddings), self.candidates, self.labelled).compact()

    def _labels(self) -> Int64[np.ndarray, " l"]:
        if self.labels is None and len(self.labelled):
            raise BadArray(f"strategy {self.name!r} needs labels=…, the classes of the labelled rows.")
        return np.empty(0, np.int64) if self.labels is None else self.labels

    def _makes_probs(self, rule: Strategy) -> bool:
        """Whether the rule needs probabilities, or wants them and they can be had."""
        if "probs" in rule.needs:
            return True
        given = self.candidate_probs is not None or self.probs is not None
        known = self.embeddings is not None and self.labels is not None and len(np.unique(self.labels)) > 1
        return "probs" in rule.wants and (given or known)

    def _candidate_probs(self) -> Tensor:
        if self.candidate_probs is not None:
            return self.candidate_probs
        if self.probs is not None:
            whole = len(self.candidates) == len(self.probs) and (np.diff(self.candidates) == 1).all()
            return self.probs if whole else take(self.probs, self.candidates)
        head = self.head
        logits = torch.empty(len(self.candidates), len(head.bias), device=head.weight.device)
        for place, rows in head.pool.of_candidates():
            torch.addmm(head.bias, rows, head.weight.T, out=logits[place])
        return logits.softmax(dim=1)

    @cached_property
    def head(self) -> Head:
        """The linear head that was given, or one fitted to the labels."""
        if self.weights is None:
            self._require_labels()
            self.weights = self._fit(np.arange(len(self.labelled)))
        weight, bias = (torch.from_numpy(np.ascontiguousarray(part)) for part in self.weights)
        return Head(self._head_pool, weight, bias)

    def _require_labels(self) -> None:
        if self.embeddings is None or self.labels is None:
            missing = (
                "embeddings=…" if self.embeddings is None else "labels=… (the classes of the labelled rows)"
            )
            wanted = "probs=…, or " if self.probs is None else ""
            raise BadArray(f"strategy {self.name!r} needs {wanted}{missing} to fit a head and make them.")
        seen = len(np.unique(self.labels))
        if seen < 2:
            raise BadArray(
                f"strategy {self.name!r} needs probs=…, or labels of at least two classes to make them from; "
                f"there {'is one' if seen else 'are none'}. Start with strategy 'random'."
            )

    @cached_property
    def _unit(self) -> Float[np.ndarray, "N r"]:
        if self.coordinates is None:
            assert self.embeddings is not None
            features = (
                self.embeddings.cpu().numpy() if isinstance(self.embeddings, Tensor) else self.embeddings
            )
            most = axes_that_fit(len(features), features.shape[1] * features.itemsize)
            self.coordinates = principal_axes(features, most).directions(features)
        return self.coordinates

    @cached_property
    def _head_pool(self) -> Pool:
        return Pool(as_rows(self._unit), self.candidates, self.labelled)

    def _fit(self, which: Int64[np.ndarray, " m"]) -> tuple[np.ndarray, np.ndarray]:
        assert self.labels is not None
        head = LogisticHead(int(self.labels.max()) + 1)
        head.fit(self._unit[self.labelled[which]], self.labels[which])
        return head.weights, head.bias

    def _draws(self, head: Head | None, rng: Generator) -> ArrayDraws | LinearDraws:
        if not isinstance(self.draws, str):
            return ArrayDraws(self.draws, self.candidates)
        assert head is not None
        if self.draws == "dropout":
            return dropout(head, rng)
        return laplace(head, self._labels(), rng, decay=1 / INVERSE_STRENGTH)

    def _committee(self, rng: Generator) -> ArrayDraws | LinearDraws:
        """Heads fitted on bootstrap draws of the labels; each keeps one label of every class."""
        if not isinstance(self.draws, str):
            return ArrayDraws(self.draws, self.candidates)
        self._require_labels()
        assert self.labels is not None
        order = np.arange(len(self.labels))
        members = []
        for _ in range(COMMITTEE):
            one_each = np.unique(self.labels[rng.permutation(order)], return_index=True)[1]
            members.append(
                self._fit(np.concatenate([one_each, rng.choice(order, len(order) - len(one_each))]))
            )
        weights, biases = (torch.from_numpy(np.stack(part)) for part in zip(*members, strict=True))
        return LinearDraws(self._head_pool, weights, biases)
