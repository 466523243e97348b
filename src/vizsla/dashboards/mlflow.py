"""MLflow's tracking, a run for each curve."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from vizsla.errors import BadOption

EXPERIMENT = "vizsla"
KEY = "vizsla.key"
"""The tag by which a curve is found again."""
_LONGEST = 500  # letters of a parameter


class MLflow:
    """Runs in the experiment that $MLFLOW_EXPERIMENT_NAME names; default: vizsla."""

    def __init__(self, uri: str | None) -> None:
        try:
            self._client = MlflowClient(tracking_uri=uri)
            self._experiment = self._find_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT))
        except Exception as error:  # its stores raise whatever their network or database does
            said = " ".join(str(error).split()).split(". ")[0]
            raise BadOption(f"--log mlflow cannot use {uri}: {said}. Try mlflow:sqlite:///runs.db") from None

    def _find_experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def run(self, name: str, key: str, about: Mapping[str, Any], *, anew: bool) -> MLflowRun:
        known = self._client.search_runs([self._experiment], f"tags.`{KEY}` = '{key}'")
        if known and not anew:
            return MLflowRun(self._client, known[0].info.run_id)
        for one in known:
            self._client.delete_run(one.info.run_id)
        made = self._client.create_run(self._experiment, run_name=name, tags={KEY: key})
        params = [Param(entry, str(value)[:_LONGEST]) for entry, value in about.items()]
        self._client.log_batch(made.info.run_id, params=params)
        return MLflowRun(self._client, made.info.run_id)


class MLflowRun:
    """One curve."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self._id = run_id
        client.update_run(run_id, status="RUNNING")

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        self._client.log_batch(self._id, [Metric(name, value, now, step) for name, value in scalars.items()])

    def close(self) -> None:
        self._client.set_terminated(self._id)
