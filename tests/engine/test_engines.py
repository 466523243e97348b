"""The contract of an engine: each shard gives one result, whatever dies; deliberate errors come back as they are."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from vizsla.engine import LocalEngine, engine_named
from vizsla.engine.ray import RayEngine
from vizsla.errors import BadArray, BadOption, DeadlyWork


def squared(number: int) -> int:
    return number**2


def picky(number: int) -> int:
    if number == 3:
        raise BadArray("three is too many. Use two.")
    return number


def deadly(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@dataclass
class Counter:
    """Work that knows how often it was made ready."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / f"{os.getpid()}-{id(self)}").touch()

    def __call__(self, number: int) -> int:
        return number**2


@dataclass(frozen=True)
class DiesOnce:
    """Work that kills its own process, with −9, the first time that it comes to shard 2."""

    folder: Path

    def __call__(self, number: int) -> int:
        scar = self.folder / "scar"
        if number == 2 and not scar.exists():
            scar.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number**2


def test_each_shard_gives_one_result_with_its_place(engine):
    for run in (engine.map, lambda work, shards: engine.map_prepared(partial(partial, work), shards)):
        found = list(run(squared, [5, 3, 4]))
        assert sorted(found) == [(0, 25), (1, 9), (2, 16)]
        assert list(run(squared, [])) == []


def test_work_is_made_ready_once_in_each_worker(engine, tmp_path):
    assert len(dict(engine.map_prepared(partial(Counter, tmp_path), range(12)))) == 12
    assert 1 <= len(list(tmp_path.iterdir())) <= engine.workers


def test_a_deliberate_error_comes_back_as_it_was_raised(engine):
    for run in (engine.map, lambda work, shards: engine.map_prepared(partial(partial, work), shards)):
        with pytest.raises(BadArray, match=r"^three is too many. Use two.$"):
            list(run(picky, range(6)))


def test_a_killed_worker_costs_no_result_and_gives_none_twice(ray_engine, tmp_path):
    found = list(ray_engine.map(DiesOnce(tmp_path), range(5)))
    assert (tmp_path / "scar").exists()
    assert sorted(found) == [(place, place**2) for place in range(5)]


def test_a_killed_worker_of_the_pool_costs_no_result_and_gives_none_twice(ray_engine, tmp_path):
    found = list(ray_engine.map_prepared(partial(DiesOnce, tmp_path), range(5)))
    assert (tmp_path / "scar").exists()
    assert sorted(found) == [(place, place**2) for place in range(5)]


def test_work_that_kills_its_worker_again_and_again_ends_with_the_shard_it_is(
    ray_engine, monkeypatch, capsys
):
    monkeypatch.setattr("vizsla.engine.ray._RETRIES", 1)
    with pytest.raises(
        DeadlyWork, match=r"^work on shard 3 has killed its worker 2 times. A file that"
    ) as told:
        list(ray_engine.map(deadly, range(5)))
    assert told.value.places == (2,)
    assert capsys.readouterr().out == ""  # where a JSON document may be


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_said_at_once():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    code = f"from vizsla.engine import engine_named; engine_named('ray', '127.0.0.1:{port}').__enter__()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert re.search(
        rf"Unreachable: cannot reach or start Ray at 127.0.0.1:{port} \(.*refused\)\. Start a", last
    )


def test_an_engine_is_found_by_its_name():
    assert isinstance(engine_named("local"), LocalEngine)
    assert isinstance(engine_named("ray", "10.0.0.1:6379"), RayEngine)
    with pytest.raises(BadOption, match="Known: local, ray"):
        engine_named("spark")
    with pytest.raises(BadOption, match="Add --engine ray"):
        engine_named("local", "10.0.0.1:6379")
