"""Versions, extras, processor, memory, devices."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from vizsla.caching import in_units
from vizsla.doctor.finding import Finding, ok, problem, warning

SHOWN = ("torch", "torchvision", "timm", "onnxruntime", "numpy", "scikit-learn", "pillow", "sqlalchemy")
_LITTLE = 2e9
"""Bytes of memory below which a backbone, its runtime and a batch of large photos may not fit."""


def versions() -> Iterator[Finding]:
    """What is installed, and whether it is what this version asks for."""
    have = {name: _version(name) for name in ("vizsla", *SHOWN)}
    known = {name: found for name, found in have.items() if found}
    python, system = platform.python_version(), platform.platform()
    text = f"{known['vizsla']}, Python {python}, {platform.system()} {platform.release()}"
    yield ok("vizsla", text, python=python, system=system)
    listed = ", ".join(f"{name} {found}" for name, found in known.items() if name != "vizsla")
    if lacking := unmet(None):
        told = ", ".join(f"{one.name} {what}" for one, what in lacking.items())
        mend = f"Run: pip install --force-reinstall {' '.join(repr(str(one)) for one in lacking)}"
        yield problem("libraries", told, mend, versions=known)
    else:
        yield ok("libraries", listed, versions=known)


def extras() -> Iterator[Finding]:
    """Which extras are there; to lack one is no fault."""
    groups = [name for name in metadata("vizsla").get_all("Provides-Extra") or () if name != "dev"]
    lacking = {name: unmet(name) for name in groups}
    there = [name for name in groups if not lacking[name]]
    absent = [name for name in groups if lacking[name]]
    text = f"installed: {', '.join(there) or 'none'}"
    if absent:
        text += f"; not: {', '.join(absent)} (pip install 'vizsla[{','.join(absent)}]')"
    yield ok(
        "extras",
        text,
        installed=there,
        missing={name: [f"{one.name}{one.specifier}" for one in lacking[name]] for name in absent},
    )


def unmet(extra: str | None) -> dict[Requirement, str]:
    """What is wrong with packages of an extra, or with those always needed."""
    wanted = [Requirement(line) for line in requires("vizsla") or ()]
    return {one: what for one in wanted if _belongs(one, extra) and (what := _lack(one))}


def _belongs(requirement: Requirement, extra: str | None) -> bool:
    always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    if extra is None:
        return always
    return not always and requirement.marker is not None and requirement.marker.evaluate({"extra": extra})


def _lack(requirement: Requirement) -> str | None:
    try:
        found = distribution(requirement.name)
    except PackageNotFoundError:
        return "is missing"
    if not requirement.specifier.contains(found.version, prereleases=True):
        return f"is {found.version}, and must be {requirement.specifier}"
    lost = sorted(module for module in _modules(found) if not _is_found(module))
    return f"is there, but Python cannot import {', '.join(lost)}" if lost else None


def _modules(found: Distribution) -> Iterable[str]:
    """Names that the package is imported by."""
    inside = (file.parts for file in found.files or ())
    return {parts[0] for parts in inside if len(parts) == 2 and parts[1] == "__init__.py"}


def _is_found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def processor() -> Iterator[Finding]:
    """How many cores this process may use: less than there are where an affinity or a container says so."""
    import joblib

    there, usable = os.cpu_count() or 1, int(joblib.cpu_count())
    name = platform.processor() or platform.machine()
    text = f"{usable} of {there} cores may be used" if usable < there else f"{there} cores"
    yield ok(
        "processor", f"{text}, {name}", cores=usable, cores_of_machine=there, architecture=platform.machine()
    )


def memory() -> Iterator[Finding]:
    """Memory that this process may use, within the limit of its container."""
    total, free = memory_of_machine()
    limits = [one for one in memory_limits() if total is None or one < total]
    usable = min([*limits, *([total] if total else [])], default=None)
    if usable is None:
        yield ok("memory", "not known on this system", total=None, available=None)
        return
    free = None if free is None else min(free, usable)
    text = in_units(usable) + (" (limit of the container)" if limits else "")
    text += "" if free is None else f", {in_units(free)} free"
    facts = {"total": usable, "available": free}
    if (usable if free is None else free) < _LITTLE:
        yield warning(
            "memory", text, "Close other programs: batches that do not fit are halved, and slower.", **facts
        )
    else:
        yield ok("memory", text, **facts)


def memory_of_machine() -> tuple[int | None, int | None]:
    """Bytes in all and bytes free, each None where the system does not tell."""
    try:
        lines = (line.split() for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        told = {name.rstrip(":"): 1024 * int(number) for name, number, *_ in lines}
        return told.get("MemTotal"), told.get("MemAvailable")
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
    except (AttributeError, ValueError, OSError):
        return None, None


def memory_limits(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Limits in bytes of the control groups that this process is in, and of those around them."""
    files = {root / "memory.max", root / "memory" / "memory.limit_in_bytes"}
    for line in _lines(own):
        _, controllers, path = line.split(":", 2)
        parts = Path(path.lstrip("/"))
        for around in (parts, *parts.parents):
            if "memory" in controllers.split(","):
                files.add(root / "memory" / around / "memory.limit_in_bytes")
            elif not controllers:
                files.add(root / around / "memory.max")
    return [int(line) for file in files for line in _lines(file) if line.isdigit()]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("ascii").splitlines()
    except (OSError, ValueError):
        return []


def device() -> Iterator[Finding]:
    """What computes: a GPU that PyTorch finds, else the processor."""
    import torch

    from vizsla.models.runtime import best_device

    best = best_device()
    if best == "cuda":
        about = torch.cuda.get_device_properties(0)
        text = f"CUDA: {about.name}, {in_units(about.total_memory)}"
        count = torch.cuda.device_count()
        yield ok(
            "device", text + (f", the first of {count}" if count > 1 else ""), device=best, name=about.name
        )
    elif best == "mps":
        yield ok("device", "Apple GPU (MPS)", device=best)
    elif Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi"):
        mend = "Install PyTorch for your driver's CUDA: https://pytorch.org/get-started/locally"
        built = torch.version.cuda or "none"
        yield warning("device", f"an NVIDIA GPU that PyTorch (CUDA {built}) cannot use", mend, device=best)
    else:
        yield ok("device", "no GPU: the processor computes", device=best)
