"""A Ray cluster of four nodes on loopback that loses workers and nodes while it embeds and while it chooses.

    python losing_nodes.py IMAGES SCRATCH        prints one JSON document

A process of its own, since Ray reads its settings once and a process has one cluster.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

os.environ |= {  # a node that is gone is missed after some seconds, not half a minute; one that is only slow is not
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "10000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_USAGE_STATS_ENABLED": "0",
}

import numpy as np
from ray.cluster_utils import Cluster

from vizsla.data.sources import Folder
from vizsla.engine.ray import RayEngine
from vizsla.shards.choosing import select_shards
from vizsla.shards.embedding import embed_shards
from vizsla.shards.folder import ShardFolder
from vizsla.strategy.base import View, strategies

SLOW = """
import os, time
from pathlib import Path
from vizsla.testing import ToyNetwork, toy_backbone

class Slow(ToyNetwork):
    def forward(self, pixels):
        Path({pids!r}, str(os.getpid())).touch()
        time.sleep(0.4)
        return super().forward(pixels)

def make():
    return Slow(), toy_backbone()[1]
"""
NODES = 3

T = TypeVar("T")


def main(images: Path, scratch: Path) -> None:
    seconds: dict[str, float] = {}
    began = time.monotonic()
    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    nodes = [patiently(lambda: cluster.add_node(num_cpus=1)) for _ in range(NODES)]
    cluster.wait_for_nodes()
    lost: list[str] = []
    with RayEngine(cluster.address) as engine:
        seconds["start"] = time.monotonic() - began
        embed(images, scratch, engine, losing(cluster, nodes, scratch / "embedders", lost))
        seconds["embed"] = time.monotonic() - began - sum(seconds.values())
        chosen = choose(scratch, engine, losing(cluster, nodes, scratch / "choosers", lost))
        seconds["choose"] = time.monotonic() - began - sum(seconds.values())
    cluster.shutdown()
    print(json.dumps({"chosen": chosen, "lost": lost, "seconds": seconds}))


def patiently(start: Callable[[], T], tries: int = 2) -> T:
    """Ray gives a node half a minute to start, however busy the machine is; then it is tried again."""
    try:
        return start()
    except Exception as error:  # of no kind of its own
        if not tries or "timed out during startup" not in str(error):
            raise
    return patiently(start, tries - 1)


def losing(cluster: Cluster, nodes: list, pids: Path, lost: list[str]) -> Callable[[int, int], None]:
    """A progress callback that kills a worker, −9, after a quarter of the work, and a whole node after a half."""
    pids.mkdir()
    due = [(0.25, "worker"), (0.5, "node")]

    def step(done: int, total: int) -> None:
        while due and done >= due[0][0] * total:
            kind = due.pop(0)[1]
            if kind == "node":
                cluster.remove_node(nodes.pop(), allow_graceful=False)
            else:
                os.kill(int(max(pids.iterdir(), key=lambda file: file.stat().st_mtime).name), signal.SIGKILL)
            lost.append(kind)

    return step


def embed(images: Path, scratch: Path, engine: RayEngine, step: Callable[[int, int], None]) -> None:
    network = scratch / "slow.py"
    network.write_text(SLOW.format(pids=str(scratch / "embedders")))
    embed_shards(
        Folder(images), scratch / "rows", engine, backbone=f"module:{network}:make", shard=5, progress=step
    )


def choose(scratch: Path, engine: RayEngine, step: Callable[[int, int], None]) -> list[int]:
    pids, margin = str(scratch / "choosers"), strategies["margin"].rule

    @strategies.rule("slow_margin", needs={"probs"}, alone=True)
    def slow_margin(view: View, n: int, rng: np.random.Generator):
        Path(pids, str(os.getpid())).touch()
        time.sleep(0.2)
        return margin(view, n, rng)

    pool, known = ShardFolder(scratch / "rows").pool(), np.arange(0, 200, 9)
    given = {"labelled": known, "labels": known // 70, "n": 25}
    return select_shards("slow_margin", pool, engine, **given, progress=step).tolist()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
