"""Figures of training for those who already watch them elsewhere: TensorBoard and MLflow, where they are asked for.

    tensorboard            event files in the default folder
    tensorboard:DIR        in that folder
    mlflow                 where $MLFLOW_TRACKING_URI says, else MLflow's own default
    mlflow:URI             a tracking server or database, such as http://host:5000 or sqlite:///runs.db

| scalar | means |
| --- | --- |
| `train_loss` | nats, on the images learned from |
| `val_loss`, `val_acc`, `val_macro_f1` | on images not learned from: a comparison's test set, a project's labels |
| `al_n_labels`, `al_round` | labels, which is also the step; the round, or in a project the model's version |
| `al_audit_acc`, `al_audit_acc_lo`, `al_audit_acc_hi` | accuracy on random checks with its 95% interval, shares |

A project's labels are each held out once, so no model is asked about what it learned from. They were chosen because
they are hard: `al_audit_acc` says how good the model is on all images.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar

from vizsla.errors import BadOption

log = logging.getLogger(__name__)

T = TypeVar("T")
KINDS = ("tensorboard", "mlflow")
NONE = "none"


class Run(Protocol):
    """One learning curve on a dashboard."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add figures. Args: step: number of labels."""

    def close(self) -> None:
        """Nothing more will come."""


class Dashboard(Protocol):
    """A place where figures are shown."""

    def run(self, name: str, key: str, about: Mapping[str, Any], *, anew: bool) -> Run:
        """Begin a curve, or go on with the one of this key.

        Args: name: for people, with forward slashes. key: of this curve and no other.
              about: settings to show beside it. anew: forget what was there of it.
        """


def checked(specs: Sequence[str]) -> tuple[str, ...]:
    """What was asked for with `--log`, with folders made absolute; () for `none`.

    Raises: BadOption for another kind, or where its package is not installed.
    """
    return () if list(specs) == [NONE] else tuple(dict.fromkeys(map(_checked, specs)))


def _checked(spec: str) -> str:
    kind, _, where = spec.partition(":")
    if kind not in KINDS:
        raise BadOption(
            f"--log {spec} is neither tensorboard[:DIR] nor mlflow[:URI]. To end logging: --log none."
        )
    if find_spec(kind) is None:
        raise BadOption(f"--log {kind} needs another package. Run: pip install 'vizsla[{kind}]'")
    return f"{kind}:{Path(where).absolute()}" if kind == "tensorboard" and where else spec


def dashboard(spec: str, default: Path) -> Dashboard:
    """The dashboard of a checked spec.

    Args:   default: folder of TensorBoard's files where the spec names none.
    Raises: BadOption for an address that MLflow cannot use.
    """
    kind, _, where = spec.partition(":")
    if kind == "tensorboard":
        from vizsla.dashboards.tensorboard import TensorBoard

        return TensorBoard(Path(where) if where else default)
    from vizsla.dashboards.mlflow import MLflow

    return MLflow(where or None)


class Curve:
    """One learning curve on every dashboard asked for. One that fails is given up with a warning; work goes on."""

    def __init__(
        self,
        dashboards: Sequence[Dashboard],
        name: str,
        key: str,
        about: Mapping[str, Any],
        *,
        anew: bool,
    ) -> None:
        begun = (_guarded(partial(one.run, name, key, about, anew=anew)) for one in dashboards)
        self._runs = [run for run in begun if run is not None]

    def log(self, step: int, scalars: Mapping[str, float | None]) -> None:
        """Add what there is of these figures. Args: step: number of labels."""
        found = {name: float(value) for name, value in scalars.items() if value is not None}
        finite = {name: value for name, value in found.items() if math.isfinite(value)}
        self._runs = [run for run in self._runs if _guarded(partial(_logged, run, step, finite))]

    def close(self) -> None:
        """Nothing more will come."""
        for run in self._runs:
            _guarded(run.close)


def _logged(run: Run, step: int, scalars: Mapping[str, float]) -> bool:
    run.log(step, scalars)
    return True


def _guarded(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except Exception as error:  # their packages raise whatever their network does
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        log.warning("figures are no longer logged there: %s", reason)
        return None
