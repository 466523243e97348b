"""How long do many labels take to go out and to come in? Each measurement is one `vizsla` command, in turn.

    python benchmarks/formats/run.py [--rows 100000] [--out FILE.json] [FORMAT[:FORM] …]

Prints the table of README.md: CPU seconds out and in, seconds of the whole commands, and most MB held.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from vizsla.interop import import_labels
from vizsla.project import Project

FORMATS = (
    "csv",
    "jsonl",
    "parquet",
    "label-studio",
    "imagefolder:jsonl",
    "imagefolder:csv",
    "imagefolder:parquet",
    "fiftyone:dataset",
    "cvat",
)
CLASSES = 100


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("formats", nargs="*", default=FORMATS)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        maker = get_context("spawn").Process(target=make, args=(home, given.rows))
        maker.start()  # in a process of its own: what a parent holds counts for its children's memory, too
        maker.join()
        assert maker.exitcode == 0
        for name in given.formats:
            found[name] = measured(name, home, given.rows)
            print(line(name, found[name]), flush=True)
    if given.out:
        about = {"rows": given.rows, "cores": len(os.sched_getaffinity(0)), "classes": CLASSES}
        given.out.write_text(json.dumps(about | {"formats": found}, indent=1) + "\n")


def make(home: Path, n: int) -> None:
    projects(home, pictures(home / "images", n), n)


def pictures(folder: Path, n: int) -> Path:
    """Files of a few bytes, a thousand to a folder: their content is never looked at here."""
    for k in range(n):
        path = folder / name(k)
        if not k % 1000:
            path.parent.mkdir(parents=True)
            Image.new("L", (1, 1)).save(path)
            content = path.read_bytes()
        path.write_bytes(content)
    return folder


def name(k: int) -> str:
    return f"folder {k // 1000}/image {k}.png"


def projects(home: Path, images: Path, n: int) -> None:
    """One in which every image has a label, and one without labels, both scanned."""
    with Project.open(home / "blank", images) as project:
        project.scan()
    shutil.copytree(home / "blank", home / "labelled")
    with Project.open(home / "labelled", images) as project:
        rows = "".join(
            f"{name(k)},class {k % CLASSES},{when(k)},{'ab'[k % 2]}@example.org\n" for k in range(n)
        )
        (home / "labels.csv").write_text("path,label,labelled_at,annotator\n" + rows)
        assert import_labels(project.store, "csv", home / "labels.csv").taken == n


def when(k: int) -> str:
    return f"2026-01-{1 + k // 86400:02}T{k // 3600 % 24:02}:{k // 60 % 60:02}:{k % 60:02}Z"


def measured(name: str, home: Path, n: int) -> dict[str, dict[str, float]]:
    format, _, form = name.partition(":")
    out, fresh = home / f"out-{format}-{form}", home / "fresh"
    options = ["--form", form] if form else []
    wrote = timed("export", format, "--project", home / "labelled", "--out", out, "--labels-only", *options)
    shutil.copytree(home / "blank", fresh)
    took = timed("import", format, out, "--project", fresh)
    with Project.open(fresh) as project:
        assert project.store.counts().labelled == n
    shutil.rmtree(fresh)
    return {"export": wrote, "import": took}


def timed(*arguments: object) -> dict[str, float]:
    """Seconds, CPU seconds and most MB of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "vizsla", *map(str, arguments)], stdout=subprocess.DEVNULL
    )
    _, code, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    assert process.returncode == 0, arguments
    seconds = time.perf_counter() - start
    return {
        "seconds": round(seconds, 1),
        "cpu": round(used.ru_utime + used.ru_stime, 1),
        "mb": round(used.ru_maxrss / 1024),
    }


def line(name: str, found: dict[str, dict[str, float]]) -> str:
    cells = [f"{found[way][what]:g}" for what in ("cpu", "seconds", "mb") for way in ("export", "import")]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
