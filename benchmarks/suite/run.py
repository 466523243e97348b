"""How long does the suite take, and where does the time go?

    python benchmarks/suite/run.py [--busy 2] [--out FILE.json] [PYTEST ARGUMENT…]

Runs pytest as `scripts/test` does, without installing and checking; `--busy`: with so many endless loops beside it.
Prints the table of README.md: the parts that take longest, in seconds of the two workers together.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
AS_EVER = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "-q"]
SHOWN = 12


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--report", type=Path, help="where pytest's report in XML is kept")
    given, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as beside:
        for _ in range(given.busy):
            loop = beside.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            beside.callback(loop.kill)
        report = given.report or Path(folder) / "report.xml"
        began = time.monotonic()
        command = [sys.executable, "-m", "pytest", *AS_EVER, f"--junitxml={report}", *more]
        status = subprocess.run(command, cwd=ROOT).returncode
        wall = time.monotonic() - began
        parts, tests = by_part(report)
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {
        "tests": tests,
        "cores": len(os.sched_getaffinity(0)),
        "busy_loops": given.busy,
        "seconds": round(wall),
        "cpu_seconds": None if given.busy else round(cpu.ru_utime + cpu.ru_stime),
        "parts": {part: round(seconds) for part, seconds in parts.most_common()},
    }
    print(table(found))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    return status


def by_part(report: Path) -> tuple[Counter[str], int]:
    """Seconds of each folder or file of tests, and the number of tests."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    parts: Counter[str] = Counter()
    for case in cases:
        names = case.get("classname", "").split(".")
        parts["/".join(names[:2]) if names[0] == "tests" else names[0]] += float(case.get("time", 0))
    return parts, len(cases)


def table(found: dict) -> str:
    rows = [f"| {part} | {seconds} |" for part, seconds in list(found["parts"].items())[:SHOWN]]
    return "\n".join(
        [
            f"{found['tests']} tests in {found['seconds']} s, {found['cpu_seconds']} s of CPU",
            "| part | s |",
            "| --- | --- |",
            *rows,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
