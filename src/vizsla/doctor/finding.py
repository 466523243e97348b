"""What a look has found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["ok", "warning", "problem"]
_ORDER: tuple[State, ...] = ("ok", "warning", "problem")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    state: State
    """`warning`: all works, but something is slow, near its end, or not as it should be. `problem`: something fails."""
    text: str
    mend: str = ""
    """What to do about it; empty where nothing needs to be done, or the text says it."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The same for programs."""


def ok(topic: str, text: str, **facts: Any) -> Finding:
    return Finding(topic, "ok", text, "", facts)


def warning(topic: str, text: str, mend: str, **facts: Any) -> Finding:
    return Finding(topic, "warning", text, mend, facts)


def problem(topic: str, text: str, mend: str, **facts: Any) -> Finding:
    return Finding(topic, "problem", text, mend, facts)


def worst(findings: Iterable[Finding]) -> State:
    """The worst state of all.

    >>> worst([ok("a", ""), warning("b", "", "")])
    'warning'
    """
    return _ORDER[max((_ORDER.index(one.state) for one in findings), default=0)]
