"""`Plan`: the settings of a comparison, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vizsla.curves import RULER
from vizsla.errors import BadOption
from vizsla.models.backbones import DEFAULT, PRECISIONS
from vizsla.models.finetune import Schedule
from vizsla.models.frozen import DEFAULT_HEAD
from vizsla.models.heads import heads


@dataclass(frozen=True)
class Plan:
    """Everything that decides a comparison's curves, but for which strategies and seeds are run."""

    initial: int = 20
    batch: int = 20
    budget: int = 300
    random_budget: int | None = None
    """Labels of the random run, the ruler; default twice the budget."""
    pool_size: int = 0
    backbone: str = DEFAULT
    image_size: int | None = None
    precision: str = PRECISIONS[0]
    head: str = DEFAULT_HEAD
    fine_tune: bool = False
    stop_training: str = "validation"
    epochs: int = 10
    augment: bool = False
    """With fine_tune: each image flipped at random, and a random part of it."""
    noise: float = 0.0
    """Share of wrong answers that the oracle gives."""
    long_tail: float = 1.0
    """The pool's largest class is so many times its smallest; 1 leaves the classes as they are."""
    outliers: float = 0.0
    """Share of the pool that is of no known class."""
    duplicates: int = 1
    """How often each image is in the pool, slightly changed but for the first."""

    def __post_init__(self) -> None:
        if self.batch < 1 or self.budget < 1 or self.initial < 0:
            raise BadOption("--batch and --budget must be at least 1, and --initial at least 0.")
        if self.initial > self.budget:
            raise BadOption(
                f"--initial {self.initial} is more than --budget {self.budget}. Raise the budget."
            )
        if 0 < self.pool_size < self.batch:
            raise BadOption(
                f"--pool-size {self.pool_size} cannot give a batch of {self.batch}. "
                f"Use {self.batch} or more, or 0 for the whole pool."
            )
        if not 0 <= self.noise <= 1:
            raise BadOption(f"--noise is a share of answers, 0 to 1, not {self.noise:g}.")
        self._check_stress()
        _ = heads[self.head], Schedule(stop=self.stop_training, epochs=self.epochs)  # raise for wrong names

    def _check_stress(self) -> None:
        if not 1 <= self.long_tail < math.inf:
            raise BadOption(
                f"--long-tail is how many times the largest class is the smallest, 1 or more, not {self.long_tail:g}."
            )
        if not 0 <= self.outliers < 1:
            raise BadOption(
                f"--outliers is a share of the pool, 0 or more and less than 1, not {self.outliers:g}."
            )
        if self.duplicates < 1 or self.duplicates != int(self.duplicates):
            raise BadOption(
                f"--duplicates is how often an image is in the pool, a whole number from 1, not {self.duplicates:g}."
            )
        if self.duplicates > 1 and self.fine_tune:
            raise BadOption("--duplicates needs frozen features. Leave out --fine-tune, or --duplicates.")

    def budget_of(self, strategy: str, pool: int) -> int:
        """Labels that the strategy's curve goes to."""
        if strategy != RULER:
            return self.budget
        return min(pool, max(self.budget, self.random_budget or 2 * self.budget))
