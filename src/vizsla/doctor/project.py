"""A project's images, trainer and clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from vizsla.doctor.finding import Finding, ok, problem, warning
from vizsla.errors import UserError
from vizsla.project import Project
from vizsla.store.overview import TRAINING

_AHEAD = 60.0  # seconds by which an answer may lie in the future


def health(address: str) -> Iterator[Finding]:
    """Everything about a project whose database is sound."""
    with Project.open(address) as project:
        yield from _images(project)
        yield from _trainer(project)
        yield from _clock(project)


def _images(project: Project) -> Iterator[Finding]:
    folder = project.source.address
    facts: dict[str, Any] = {"folder": folder}
    try:
        project.source.visit()
    except UserError as error:
        mend = "Put it back, or name where the images have moved to: vizsla label IMAGES --project P"
        yield problem("images", str(error).partition(". ")[0], mend, **facts)
        return
    unreadable = project.store.images(state="unreadable")
    missing = len(project.store.images(state="missing"))
    text = f"{project.store.counts().total:,} in {folder}"
    facts |= {"unreadable": [one.path for one in unreadable], "missing": missing}
    if missing:
        text += f", {missing:,} more are gone"
    if unreadable:
        first = unreadable[0]
        mend = "Replace the files: they are looked at again once they change."
        yield warning(
            "images",
            f"{text}; {len(unreadable):,} cannot be read, such as {first.path}: {first.problem}",
            mend,
            **facts,
        )
    else:
        yield ok("images", text, **facts)


def _trainer(project: Project) -> Iterator[Finding]:
    said = project.store.setting(TRAINING) or {}
    with project.store.lead("trainer") as nobody_else:
        at_work = not nobody_else
    model = project.store.model()
    facts = {"at_work": at_work, "said": said or None, "model": model and model.version}
    newest = f"model {model.version} from {model.labels_used:,} labels" if model else "no model yet"
    if said.get("state") == "failed":
        mend = "Mend what it says, then run: vizsla train"
        yield problem("trainer", f"{newest}; the last training failed: {said.get('error')}", mend, **facts)
    elif at_work:
        yield ok("trainer", f"{newest}; a trainer is at work ({said.get('state', 'starting')})", **facts)
    else:
        yield ok("trainer", f"{newest}; none is at work: vizsla label, serve and worker start one", **facts)


def _clock(project: Project) -> Iterator[Finding]:
    now = datetime.now(UTC)
    newest = max((label.created_at for label in project.store.history(limit=1)), default=now)
    ahead = (newest - now).total_seconds()
    text = f"{now.astimezone():%Y-%m-%d %H:%M:%S %Z}"
    if ahead > _AHEAD:
        mend = "Set the clocks of all machines by NTP: leases of images end too early or too late."
        yield warning(
            "clock", f"{text}; the newest answer was given {ahead:,.0f} s in the future", mend, ahead=ahead
        )
    else:
        yield ok("clock", text, now=now)
