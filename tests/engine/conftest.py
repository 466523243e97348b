"""Both engines, each started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vizsla.engine import Engine, LocalEngine
from vizsla.engine.ray import RayEngine


@pytest.fixture(scope="session")
def ray_engine() -> Iterator[Engine]:
    with RayEngine("local", cpus=2) as engine:
        yield engine


@pytest.fixture(scope="session", params=["local", "ray"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return LocalEngine() if request.param == "local" else request.getfixturevalue("ray_engine")
