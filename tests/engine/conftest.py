"""Both engines, each started once."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.s3 import S3

from vizsla.engine import Engine, LocalEngine
from vizsla.engine.ray import RayEngine
from vizsla.errors import Unreachable

# As our commands do before they import Ray, which reads it then; here another test may be the first to import it.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")

collect_ignore = ["losing_nodes.py"]  # a program, which loads Ray

TRIES = 2
FAILED: list[Unreachable] = []
"""Kept to the end: they hold processes that came too late, which end with this one."""


def started() -> RayEngine:
    """Ray gives a node half a minute to start, however busy the machine is; then it is tried again."""
    try:
        return RayEngine("local", cpus=2).__enter__()
    except Unreachable as error:
        if len(FAILED) == TRIES or "timed out during startup" not in str(error):
            raise
        FAILED.append(error)
        return started()


@pytest.fixture(scope="package")  # an idle cluster still takes a tenth of a core
def ray_engine(
    s3_server: str,
) -> Iterator[Engine]:  # a cluster talks to the servers that were there when it started
    engine = started()
    with engine:
        yield engine


@pytest.fixture(scope="package", params=["local", "ray"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return LocalEngine() if request.param == "local" else request.getfixturevalue("ray_engine")


@pytest.fixture
def bucket(s3: S3) -> str:
    """The URL of a bucket of this test alone."""
    return s3.fill(f"features-{uuid.uuid4()}", {})


@pytest.fixture(params=["disk", "bucket"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a folder of shards may be made."""
    return (
        str(tmp_path / "out") if request.param == "disk" else request.getfixturevalue("bucket") + "/deep/out"
    )
