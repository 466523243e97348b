"""One query of 100 from a pool in a file, 500 rows labelled. Prints JSON.

python benchmarks/ray/one.py POOL.npy TRUTH.npy NODES STRATEGY
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

import numpy as np

from vizsla.engine import Engine, LocalEngine
from vizsla.shards.choosing import select_shards
from vizsla.shards.pool import Shard, of_file

LABELS, BATCH = 500, 100
ROWS_AT_ONCE = 16_384


class Counting:
    """Counts how often the whole pool is read."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.shards = engine, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)

    def map(self, work, shards):  # type: ignore[no-untyped-def]
        self.shards += len(shards) if shards and isinstance(shards[0], Shard) else 0
        return self.engine.map(work, shards)


@contextmanager
def cluster(nodes: int) -> Iterator[Engine]:
    """So many nodes with one CPU each, on loopback."""
    if not nodes:
        yield LocalEngine()
        return
    from ray.cluster_utils import Cluster

    from vizsla.engine.ray import RayEngine

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(nodes - 1):
        made.add_node(num_cpus=1)
    made.wait_for_nodes()
    with RayEngine(made.address) as engine:
        yield engine
    made.shutdown()


def spent(_: object = None) -> tuple[int, tuple[float, float]]:
    """Of this process: CPU seconds so far, and MB held at the most, with the pages of files that it maps."""
    time.sleep(0.2)  # so that every worker gets its turn
    used = resource.getrusage(resource.RUSAGE_SELF)
    lines = Path("/proc/self/status").read_text().splitlines()  # ru_maxrss begins with what the parent held
    most = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return os.getpid(), (used.ru_utime + used.ru_stime, most / 1024)


def all_spent(engine: Engine) -> dict[int, tuple[float, float]]:
    """Of this process and of each worker."""
    return dict([spent(), *(found for _, found in engine.map(spent, range(4 * engine.workers)))])


def main() -> None:
    file, truths, nodes, strategy = sys.argv[1:]
    pool, truth = of_file(Path(file), ROWS_AT_ONCE), np.load(truths)
    known = np.random.default_rng(0).choice(len(pool), LABELS, replace=False)
    given = {"labelled": known, "labels": truth[known], "n": BATCH}
    with cluster(int(nodes)) as engine:
        all_spent(engine)  # workers are up
        counting = Counting(engine)
        began = time.perf_counter()
        select_shards("random", pool, counting, n=BATCH)  # they have loaded what they need
        warm = time.perf_counter() - began
        before, counting.shards, began = all_spent(engine), 0, time.perf_counter()
        ids = select_shards(strategy, pool, counting, **given)
        seconds = time.perf_counter() - began
        after = all_spent(engine)
    found = {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(sum(cpu - before.get(pid, (0.0, 0.0))[0] for pid, (cpu, _) in after.items()), 2),
        "warm_up": round(warm, 2),
        "passes": round(counting.shards / len(pool.parts), 1),
        "driver_mb": round(after[os.getpid()][1]),
        "worker_mb": round(
            max(held for pid, (_, held) in after.items() if pid != os.getpid() or not int(nodes))
        ),
        "checksum": int(ids.sum()),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
