"""What is well and what is not: this installation, this machine, the cache, and a project.

finding.py   what a look has found
machine.py   versions, extras, processor, memory, devices
cache.py     the cache folder, and the features in it
speed.py     how fast the backbone runs here
database.py  a project's database, looked at without changing it
project.py   a project's images, trainer and clock
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from vizsla.doctor import cache, machine, speed
from vizsla.doctor.finding import Finding, State, problem, worst
from vizsla.errors import VizslaError

__all__ = ["Finding", "State", "examine", "worst"]

Look = Callable[[], Iterable[Finding]]


def examine(address: str | None, *, seconds: float = 2.0) -> Iterator[Finding]:
    """Look at everything, one thing after the other; what cannot be looked at is a problem, and no end.

    Args: address: folder or URL of a project; None: no project is looked at.
          seconds: how long to measure the backbone's speed; 0: not at all.
    """
    looks: list[tuple[str, Look]] = [
        ("versions", machine.versions),
        ("extras", machine.extras),
        ("processor", machine.processor),
        ("memory", machine.memory),
        ("device", machine.device),
        ("cache", cache.folder),
        ("features", cache.features),
    ]
    if seconds > 0:
        looks.append(("speed", partial(speed.speed, seconds)))
    for topic, look in looks:
        yield from _guarded(topic, look)
    if address is not None:
        yield from _guarded("project", partial(_project, address))


def _project(address: str) -> Iterator[Finding]:
    """The database, and the rest where that may be opened without being changed."""
    from vizsla.doctor import database, project  # here, for what they need may be what is missing

    found = list(_guarded("database", partial(database.health, address)))
    yield from found
    if worst(found) != "problem" and database.is_current(found):
        yield from project.health(address)


def _guarded(topic: str, look: Look) -> Iterator[Finding]:
    try:
        yield from look()
    except VizslaError as error:
        yield problem(topic, str(error), "")
    except ImportError as error:
        yield problem(
            topic, f"cannot be looked at: {error}", "Mend the installation: pip install --upgrade vizsla"
        )
    except Exception as error:  # a look must not keep the others from being taken
        said = " ".join(str(error).split())[:300]
        yield problem(
            topic, f"cannot be looked at: {type(error).__name__}: {said}", "Please report this line."
        )
