"""How long a round takes on pools of 10,000 to a million images: refit, score all, choose 100.

    python benchmarks/rounds/run.py --scratch DIR

Each run is a process of its own. Adds a line of JSON per run to the results and skips what is there.
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
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
D, C = 1280, 10
STRATEGIES = ("margin", "badge", "auto")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options.add_argument("--strategies", nargs="+", default=STRATEGIES)
    options.add_argument(
        "--scratch", type=Path, help="where the pool is put for a while: 2.6 GB for a million"
    )
    options.add_argument("--out", type=Path, default=HERE / f"{os.cpu_count()}cores-{D}d-{C}classes.jsonl")
    chosen = options.parse_args()
    rows = [json.loads(line) for line in chosen.out.read_text().splitlines()] if chosen.out.exists() else []
    there = {(row["n"], row["strategy"]) for row in rows}
    for n in chosen.sizes:
        todo = [strategy for strategy in chosen.strategies if (n, strategy) not in there]
        if not todo:
            continue
        with tempfile.TemporaryDirectory(dir=chosen.scratch) as folder:
            files = make(n, Path(folder))
            for strategy in todo:
                row = {"n": n, "strategy": strategy, **run(*files, strategy), **machine()}
                print(json.dumps(row), flush=True)
                with chosen.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def make(n: int, folder: Path) -> tuple[Path, Path]:
    """A pool like a backbone's: variances that fall as 1/axis, classes that overlap; and the true classes."""
    rng = np.random.default_rng(0)
    pool, truths = folder / "pool.npy", folder / "truth.npy"
    scale = (1 / np.sqrt(np.arange(1, D + 1))).astype(np.float32)
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0].astype(np.float32)
    middles = rng.normal(size=(C, D)).astype(np.float32) * scale * 0.1
    truth = rng.integers(C, size=n)
    out = np.lib.format.open_memmap(pool, "w+", np.float16, (n, D))
    for start in range(0, n, 10_000):
        some = truth[start : start + 10_000]
        out[start : start + 10_000] = (
            rng.normal(size=(len(some), D)).astype(np.float32) * scale + middles[some]
        ) @ turn
    out.flush()
    np.save(truths, truth)
    return pool, truths


def run(pool: Path, truths: Path, strategy: str) -> dict:
    command = [sys.executable, str(HERE / "one.py"), str(pool), str(truths), strategy]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def machine() -> dict:
    return {
        "load": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
