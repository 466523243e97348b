"""One strategy of one library, once, in this fresh process: how long it takes, how much memory, which rows.

Used by run.py: python one.py LIBRARY STRATEGY FOLDER PARTS BATCH LIMIT_GB. Prints "ready" before the timed call and
a line of JSON after it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import inputs
import numpy as np

QUICK = 1.0
"""Seconds for more calls of what is quicker than that; the first alone counts for memory."""
CALLS = 20


def main() -> None:
    library, strategy, folder, parts, batch, limit = sys.argv[1:]
    data = inputs.load(Path(folder), set(parts.split(",")))
    prepare = ours(strategy) if library == "vizsla" else peer(library, strategy)
    prepare(data.small(500), 10)()
    call = prepare(data, int(batch))
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    room = int(status("VmSize") * 1e6 + float(limit) * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    print("ready", flush=True)
    try:
        busy = time.process_time()
        picks, seconds = timed(call)
        busy = time.process_time() - busy
        peak = status("VmHWM") - before
        while len(seconds) < CALLS and sum(seconds) < QUICK:
            seconds += timed(call)[1]
    except MemoryError as error:
        print(json.dumps({"does_not_run": f"more than {limit} GB: {error}"}))
        return
    rows = [int(row) for row in picks]
    fresh = len(set(rows) - set(data.labelled.tolist()))
    found = {
        "seconds": seconds,
        "cpu_seconds": round(busy, 6),
        "peak_mb": round(peak, 1),
        "inputs_mb": round(data.megabytes, 1),
        "picks": rows,
    }
    print(json.dumps(found if fresh == int(batch) else found | {"unlabelled_picked": fresh}))


def timed(call: Callable[[], np.ndarray]) -> tuple[np.ndarray, list[float]]:
    began = time.perf_counter()
    picks = call()
    return picks, [round(time.perf_counter() - began, 6)]


def ours(strategy: str) -> Callable[[inputs.Inputs, int], Callable[[], np.ndarray]]:
    import vizsla

    def prepare(data: inputs.Inputs, n: int) -> Callable[[], np.ndarray]:
        parts = {name: getattr(data, name) for name in ("embeddings", "probs", "draws")}
        given = {name: part for name, part in parts.items() if part is not None}
        return lambda: vizsla.select(strategy, labelled=data.labelled, labels=data.labels, n=n, **given)

    return prepare


def peer(library: str, strategy: str) -> Callable[[inputs.Inputs, int], Callable[[], np.ndarray]]:
    from peers import PEERS

    return PEERS[library][strategy]


def status(field: str) -> float:
    """A line of /proc/self/status, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise KeyError(field)


if __name__ == "__main__":
    main()
