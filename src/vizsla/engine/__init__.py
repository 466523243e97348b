"""Engines: run a function over shards, on this machine or on many. They know nothing of active learning."""

from __future__ import annotations

from vizsla.engine.base import Engine
from vizsla.engine.local import LocalEngine
from vizsla.errors import BadOption

ENGINES = ("local", "ray")

__all__ = ["ENGINES", "Engine", "LocalEngine", "engine_named"]


def engine_named(name: str, address: str | None = None) -> Engine:
    """The engine of that name, to be entered with `with`.

    Args:    address: of a running Ray cluster; default: `$RAY_ADDRESS`, else a cluster on this machine alone that
             ends with the engine.
    Raises:  BadOption with the mend.
    """
    if name == "ray":
        from vizsla.engine.ray import RayEngine

        return RayEngine(address)
    if name != "local":
        raise BadOption(f"no engine named {name!r}. Known: {', '.join(ENGINES)}.")
    if address is not None:
        raise BadOption("--address names a Ray cluster. Add --engine ray, or leave it out.")
    return LocalEngine()
