"""The cache folder, and the features in it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vizsla.caching import cache_dir, explain_write_errors, in_units
from vizsla.doctor.finding import Finding, ok, problem, warning
from vizsla.errors import UserError

_SCARCE, _NONE_LEFT = 1e9, 50e6  # bytes free on the disk
_SKEW = 5.0  # seconds between this clock and that of the file system


def folder() -> Iterator[Finding]:
    """Whether the cache may be written, how large it is, and how much room is left."""
    where = cache_dir()
    try:
        skew = write_and_remove(where)
    except UserError as error:
        yield problem("cache", str(error), "", folder=where, writable=False)
        return
    used, free = _bytes_below(where), shutil.disk_usage(where).free
    facts = {"folder": where, "writable": True, "bytes": used}
    yield space(
        "cache", f"{where}: {in_units(used)}", free, "Delete the folder: all in it is made again", **facts
    )
    if abs(skew) > _SKEW:
        text = f"the clock of the disk of {where} is {skew:+.0f} s from this machine's"
        yield warning("clock", text, "Set both by NTP: files that change may look unchanged.", skew=skew)


def write_and_remove(where: Path) -> float:
    """Write a file there as any command would; seconds by which the file system's clock is ahead.

    Raises: UserError where that is not possible, with the mend.
    """
    with explain_write_errors(where):
        where.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=where, prefix=".doctor-") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_mtime - time.time()


def space(topic: str, text: str, free: int, mend: str, **facts: Any) -> Finding:
    """A finding on a disk's free space."""
    text += f", {in_units(free)} free on its disk"
    facts["free"] = free
    if free < _NONE_LEFT:
        return problem(topic, text, mend + ", or move it to another disk.", **facts)
    if free < _SCARCE:
        return warning(topic, text, mend + ", or move it to another disk.", **facts)
    return ok(topic, text, **facts)


def _bytes_below(where: Path) -> int:
    total = 0
    for folder, _, files in os.walk(where):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 — a Path for each takes as long again
            except OSError:
                continue  # another process is at work here
    return total


def features() -> Iterator[Finding]:
    """The embeddings in the cache, and whether their checksums hold."""
    homes = sorted(file.parent for file in (cache_dir() / "embeddings").glob("*/index.bin"))
    stores = [_store(home) for home in homes]
    rows, checked, damaged = (sum(one[part] for one in stores) for part in ("rows", "checked", "damaged"))
    facts = {"rows": rows, "checked": checked, "damaged": damaged, "stores": stores}
    names = sorted({one["backbone"] for one in stores})
    text = f"{rows:,} rows of {', '.join(names)}" if stores else "none yet"
    if checked < rows:
        text += f"; {checked:,} of them checked"
    if damaged:
        mend = "Nothing breaks: they are computed again when they are next needed. Is the disk sound?"
        yield warning("features", f"{text}; {damaged:,} damaged", mend, **facts)
    else:
        yield ok("features", text, **facts)


def _store(home: Path) -> dict[str, Any]:
    from vizsla.models.embed import VectorStore

    about = json.loads((home / "backbone.json").read_text("utf-8"))
    checked, damaged = (store := VectorStore(home, about["dim"])).check()
    return {
        "backbone": about["backbone"],
        "folder": home,
        "rows": len(store),
        "checked": checked,
        "damaged": damaged,
    }
