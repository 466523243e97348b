"""Both engines, each started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vizsla.engine import Engine, LocalEngine
from vizsla.engine.ray import RayEngine
from vizsla.errors import Unreachable

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


@pytest.fixture(scope="session")
def ray_engine() -> Iterator[Engine]:
    engine = started()
    with engine:
        yield engine


@pytest.fixture(scope="session", params=["local", "ray"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return LocalEngine() if request.param == "local" else request.getfixturevalue("ray_engine")
