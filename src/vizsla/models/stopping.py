"""When a round of training ends: one small object per rule, asked after each epoch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

from torch import nn


class StopRule:
    """Asked after each epoch whether the round is over; this one never says so."""

    best_epoch: int | None = None
    """The epoch whose weights are kept, from 1; None: the last one."""

    def enough(self, loss: float) -> bool:
        """Whether to stop now. `loss`: mean training loss of the epoch, in nats."""
        return False

    def finish(self) -> None:
        """Called once after the last epoch."""


class LossStalls(StopRule):
    """Enough when the loss has not fallen by 1% for `patience` epochs."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best = math.inf
        self.waited = 0
        self.epoch = 0

    def enough(self, loss: float) -> bool:
        self.epoch += 1
        if loss < 0.99 * self.best:
            self.best, self.waited = loss, 0
            self.improved()
        else:
            self.waited += 1
        return self.waited >= self.patience

    def improved(self) -> None:
        """Called when the loss has fallen."""


class ValidationStalls(LossStalls):
    """The same on a loss of its own, going back to the weights where it was lowest."""

    def __init__(self, patience: int, network: nn.Module, measure: Callable[[], float]) -> None:
        super().__init__(patience)
        self.network = network
        self.measure = measure
        self.best_state = copy.deepcopy(network.state_dict())

    def enough(self, loss: float) -> bool:
        return super().enough(self.measure())

    def improved(self) -> None:
        self.best_epoch = self.epoch
        self.best_state = copy.deepcopy(self.network.state_dict())

    def finish(self) -> None:
        self.network.load_state_dict(self.best_state)


class TestFalls(StopRule):
    """Enough when the test accuracy has not risen since the epoch before: the seed article's rule."""

    __test__ = False  # no test case, whatever pytest takes the name for

    def __init__(self, measure: Callable[[], float]) -> None:
        self.measure = measure
        self.last = -math.inf

    def enough(self, loss: float) -> bool:
        before, self.last = self.last, self.measure()
        return self.last <= before
