"""How time and memory of a query grow with rows and with nodes, on made-up features in one .npy file.

    python benchmarks/ray/run.py --scratch DIR

Each run is a process of its own with a Ray cluster of its own on loopback, of so many nodes with one CPU each; 0 nodes
is the local engine. Adds a line of JSON per run to the results and skips what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SIZES = (100_000, 300_000, 1_000_000)
NODES = (0, 1, 2, 4)
STRATEGIES = ("margin", "coreset", "kmeans", "auto")
D, C = 1280, 10


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options.add_argument("--nodes", type=int, nargs="+", default=NODES)
    options.add_argument("--strategies", nargs="+", default=STRATEGIES)
    options.add_argument(
        "--scratch", type=Path, help="where the pool is put for a while: 2.6 GB for a million rows"
    )
    options.add_argument("--out", type=Path, default=HERE / f"{os.cpu_count()}cores-{D}d.jsonl")
    chosen = options.parse_args()
    done = [json.loads(line) for line in chosen.out.read_text().splitlines()] if chosen.out.exists() else []
    there = {(row["n"], row["nodes"], row["strategy"]) for row in done}
    for n in chosen.sizes:
        every = [(nodes, strategy) for nodes in chosen.nodes for strategy in chosen.strategies]
        todo = [one for one in every if (n, *one) not in there]
        if not todo:
            continue
        with tempfile.TemporaryDirectory(dir=chosen.scratch) as folder:
            pool, truth = make(n, Path(folder))
            for nodes, strategy in todo:
                command = [sys.executable, str(HERE / "one.py"), str(pool), str(truth), str(nodes), strategy]
                said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                row = {
                    "n": n,
                    "nodes": nodes,
                    "strategy": strategy,
                    **json.loads(said.splitlines()[-1]),
                    **machine(),
                }
                print(json.dumps(row), flush=True)
                with chosen.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def make(n: int, folder: Path) -> tuple[Path, Path]:
    """A pool like a backbone's: variances that fall as 1/axis, classes that overlap; and the true classes."""
    rng = np.random.default_rng(0)
    scale = (1 / np.sqrt(np.arange(1, D + 1))).astype(np.float32)
    middles = rng.normal(size=(C, D)).astype(np.float32) * scale * 0.1
    truth = rng.integers(C, size=n)
    out = np.lib.format.open_memmap(folder / "pool.npy", "w+", np.float16, (n, D))
    for start in range(0, n, 10_000):
        some = truth[start : start + 10_000]
        out[start : start + 10_000] = rng.standard_normal((len(some), D), np.float32) * scale + middles[some]
    out.flush()
    np.save(folder / "truth.npy", truth)
    return folder / "pool.npy", folder / "truth.npy"


def machine() -> dict[str, object]:
    load, cores = round(os.getloadavg()[0], 1), os.cpu_count()
    return {"load": load, "cores": cores, "python": platform.python_version()}


if __name__ == "__main__":
    main()
