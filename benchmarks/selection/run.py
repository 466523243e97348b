"""Times every strategy of ours beside the libraries that have it: fresh processes, in turn, on the same inputs.

Adds a line of JSON per run to the results file and skips what is in it, so that it can be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from inputs import DRAWS, make
from peers import PEERS, needed_bytes

HERE = Path(__file__).parent
BATCH = 100
REPETITIONS = 3
LONG = 60.0
"""Seconds from which a run is made once only."""
OURS = "vizsla"

READS: dict[str, tuple[str, ...]] = {
    "random": ("probs",),
    "least_confidence": ("probs",),
    "margin": ("probs",),
    "ratio": ("probs",),
    "entropy": ("probs",),
    "bald": ("draws",),
    "power_bald": ("draws",),
    "mean_std": ("draws",),
    "variation_ratio": ("draws",),
    "query_by_committee": ("draws",),
    "batchbald": ("draws",),
    "coreset": ("embeddings",),
    "kmeans": ("embeddings",),
    "typiclust": ("embeddings",),
    "probcover": ("embeddings",),
    "maxherding": ("embeddings",),
    "badge": ("embeddings", "probs"),
    "cluster_margin": ("embeddings", "probs"),
    "uherding": ("embeddings", "probs"),
    "bait": ("embeddings", "probs"),
    "density_weighted": ("embeddings", "probs"),
    "expected_gradient": ("embeddings", "probs"),
    "alfamix": ("embeddings", "probs"),
    "dropquery": ("embeddings", "probs", "head"),
    "auto": ("embeddings", "probs"),
}
"""Which inputs a strategy is given, the same for every library. Only peers get the head: ours fits its own."""


@dataclass(frozen=True)
class Setting:
    n: int
    d: int
    c: int

    def reads(self, strategy: str) -> bool:
        """Whether this setting says more about the strategy than one with another C or D would."""
        parts = READS[strategy]
        return ("embeddings" in parts or self.d == 512) and (parts != ("embeddings",) or self.c == 10)


QUICK = [Setting(20_000, 512, 10)]
GRID = [Setting(n, d, c) for n in (20_000, 50_000) for d in (512, 1280) for c in (10, 100)]
GROWTH = [Setting(n, 512, 10) for n in (100_000, 300_000, 1_000_000)]


@dataclass(frozen=True)
class Run:
    library: str
    strategy: str
    setting: Setting
    repetition: int

    @property
    def key(self) -> tuple:
        return (self.library, self.strategy, *asdict(self.setting).values(), self.repetition)


class Results:
    """The file: what is done, and where the next line goes."""

    def __init__(self, path: Path, again: str) -> None:
        self.path = path
        self.rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        library, _, strategy = again.partition("/")
        self.rows = [
            row
            for row in self.rows
            if not (again and row.get("library") == library and strategy in ("", row["strategy"]))
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in self.rows))

    def add(self, row: dict) -> None:
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def done(self, run: Run) -> bool:
        """It ran, or one like it took long or failed, so that another repetition says nothing new."""
        for row in self.rows:
            if row.get("library") is None or row["key"][:-1] != list(run.key[:-1]):
                continue
            failed = "does_not_run" in row
            if failed and run.library == OURS:
                continue  # a fault to mend, not a finding
            if row["key"][-1] == run.repetition or failed or row["seconds"][0] > LONG:
                return True
        return False


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="20,000 × 512 and 10 classes only")
    options.add_argument("--growth", action="store_true", help="also ours alone up to a million rows")
    options.add_argument("--strategies", default="", help="only these, with commas between")
    options.add_argument("--libraries", default="", help="only these, with commas between")
    options.add_argument("--again", default="", help="forget LIBRARY or LIBRARY/STRATEGY and run it anew")
    options.add_argument("--repetitions", type=int, default=REPETITIONS)
    options.add_argument("--seconds", type=float, default=600, help="limit of a run")
    options.add_argument("--gigabytes", type=float, default=16, help="limit of a run beside its inputs")
    options.add_argument("--peers", type=Path, default=Path("out/selection/peers"), help="their environment")
    options.add_argument("--scratch", type=Path, help="where the inputs are put for a while")
    options.add_argument("--out", type=Path, default=HERE / f"{os.cpu_count()}cores.jsonl")
    chosen = options.parse_args()
    python = environment(chosen.peers)
    results = Results(chosen.out, chosen.again)
    results.add(machine(python))
    known = set(strategies())
    settings = QUICK if chosen.quick else GRID + (GROWTH if chosen.growth else [])
    for setting in settings:
        todo = [
            run
            for run in plan(setting, known, chosen.repetitions, alone=setting in GROWTH)
            if not results.done(run)
            and (not chosen.strategies or run.strategy in chosen.strategies.split(","))
            and (not chosen.libraries or run.library in chosen.libraries.split(","))
        ]
        if not todo:
            continue
        with tempfile.TemporaryDirectory(dir=chosen.scratch) as folder:
            print(f"making {setting}", flush=True)
            make(
                Path(folder),
                **asdict(setting),
                with_draws=any("draws" in READS[run.strategy] for run in todo),
            )
            for number, run in enumerate(todo, 1):
                if results.done(run):
                    continue
                row = perform(run, Path(folder), python, chosen.seconds, chosen.gigabytes)
                results.add(row)
                print(
                    f"{number}/{len(todo)} {setting.n}×{setting.d} C={setting.c} {told(run, row)}", flush=True
                )


def strategies() -> list[str]:
    import vizsla

    return sorted(vizsla.strategies)


def plan(setting: Setting, known: set[str], repetitions: int, alone: bool) -> Iterator[Run]:
    """Ours, a peer, ours, the next peer and so on, that many times over; ours stands first in each round."""
    for strategy in READS:
        if not setting.reads(strategy):
            continue
        ours = [OURS] if strategy in known else []
        peers = [] if alone else [library for library in PEERS if strategy in PEERS[library]]
        for repetition in range(repetitions):
            for library in ours + peers:
                yield Run(library, strategy, setting, repetition)


def perform(run: Run, folder: Path, python: Path, seconds: float, gigabytes: float) -> dict:
    """The run's line for the results: what it measured, or why it does not run."""
    setting = run.setting
    row = asdict(setting) | {
        "library": run.library,
        "strategy": run.strategy,
        "batch": BATCH,
        "key": list(run.key),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": round(os.getloadavg()[0], 1),
    }
    need = needed_bytes(run.library, run.strategy, **asdict(setting), draws=DRAWS) / 1e9
    if need:
        row["computed_need_gb"] = round(need, 1)
    if need > gigabytes:
        return row | {"does_not_run": f"needs {need:.1f} GB beside its inputs"}
    parts = [part for part in READS[run.strategy] if run.library != OURS or part != "head"]
    interpreter = sys.executable if run.library == OURS else str(python)
    command = [interpreter, str(HERE / "one.py"), run.library, run.strategy, str(folder), ",".join(parts)]
    process = subprocess.Popen(
        [*command, str(BATCH), str(gigabytes)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    return row | outcome(process, seconds)


def outcome(process: subprocess.Popen[str], seconds: float) -> dict:
    """What the process says; the limit counts from when it says that it is ready."""
    assert process.stdout is not None
    assert process.stderr is not None
    complaints: list[str] = []
    drain = threading.Thread(target=lambda: complaints.extend(process.stderr or ()), daemon=True)
    drain.start()
    while (line := process.stdout.readline()) and line != "ready\n":
        pass
    limit = threading.Timer(seconds, process.kill)
    limit.start()
    said = process.stdout.read().strip().splitlines()
    process.wait()
    late = not limit.is_alive()
    limit.cancel()
    drain.join()
    if process.returncode == 0 and said:
        found: dict = json.loads(said[-1])
        return found
    reason = complaints[-1].strip() if complaints else f"ended with {process.returncode}"
    return {"does_not_run": f"not done after {seconds:.0f} s" if late else reason}


def told(run: Run, row: dict) -> str:
    name = f"{run.strategy:18} {run.library:16}"
    if "does_not_run" in row:
        return f"{name} does not run: {row['does_not_run']}"
    return f"{name} {min(row['seconds']):9.4f} s {row['peak_mb']:8.0f} MB"


def environment(folder: Path) -> Path:
    """Python of the peers' environment, which is made from peers.txt if it is not there."""
    python = folder.absolute() / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "-r", str(HERE / "peers.txt")], check=True
        )
    return python


def machine(python: Path) -> dict:
    """What the numbers depend on."""
    names = [line.split("==")[0] for line in (HERE / "peers.txt").read_text().splitlines() if "==" in line]
    script = f"from importlib.metadata import version; print(*[f'{{n}}=={{version(n)}}' for n in {names}])"
    peers = subprocess.run(
        [str(python), "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "processor": processor(),
        "python": platform.python_version(),
        "ours": [f"{name}=={version(name)}" for name in ("vizsla", "numpy", "torch")],
        "peers": peers,
        "copy_gb_per_s": round(copy_bandwidth(), 2),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "not set"),
    }


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def copy_bandwidth() -> float:
    """10⁹ bytes read per second by a copy of half a gigabyte: the best of five, by NumPy and by torch on all cores."""
    source = np.ones(1 << 26, np.float64)
    target = np.empty_like(source)
    a, b = torch.from_numpy(source), torch.from_numpy(target)
    times = []
    for copy in [lambda: np.copyto(target, source), lambda: b.copy_(a)] * 5:
        began = time.perf_counter()
        copy()
        times.append(time.perf_counter() - began)
    return float(source.nbytes / min(times) / 1e9)


if __name__ == "__main__":
    main()
