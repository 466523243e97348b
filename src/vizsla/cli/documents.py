"""What commands print with `--json`: one document each. docs/ecosystem.md lists the keys; they stay, others may come.

Text for people and progress go to the standard error, so that a program may read the standard output whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vizsla.data.names import printable

if TYPE_CHECKING:
    from vizsla.curves import Comparison
    from vizsla.data.indexed import IndexedDataset
    from vizsla.doctor import Finding
    from vizsla.interop import Report
    from vizsla.predictions import Tally
    from vizsla.project import Project
    from vizsla.store import Annotator, Model
    from vizsla.store.records import Upcoming

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


def show(document: Any) -> None:
    """Print a document; what is no number, and what was never reached, is null."""
    click.echo(json.dumps(plain(document), indent=1, allow_nan=False))


def plain(value: Any) -> Any:
    """The same in what JSON knows.

    >>> plain({"low": float("nan"), "out": Path("a") / "b.csv", "names": ("é", "odd \\udcff")})
    {'low': None, 'out': 'a/b.csv', 'names': ['é', 'odd \\\\xff']}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):  # a file name may hold bytes that are no text
        return printable(value)
    if isinstance(value, Path):
        return plain(value.as_posix())
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {plain(key): plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def status(project: Project) -> dict[str, Any]:
    """Where a project stands."""
    from vizsla.standing import standing

    now = standing(project)
    counts = asdict(now.counts)
    return {
        "project": project.store.name,
        "folder": project.source.address,
        "images": counts.pop("total"),
        **counts,
        "model": _model(now.model) if now.model else None,
        "labels_to_next_model": now.labels_to_next,
        "accuracy": asdict(now.accuracy) if now.accuracy else None,
        "random_checks": now.checks,
        "advice": asdict(now.advice) if now.advice else None,
        "stopping_rules": [asdict(reason) for reason in now.reasons],
        "left_out": project.left_out,
    }


def _model(model: Model) -> dict[str, Any]:
    return {"version": model.version, "labels": model.labels_used}


def trained(model: Model) -> dict[str, Any]:
    """A model that was just trained, with its accuracy by random checks where there are enough to tell."""
    from vizsla.standing import accuracy_of

    measured = accuracy_of(model)
    return _model(model) | {"accuracy": asdict(measured) if measured else None}


def upcoming(images: Iterable[Upcoming]) -> dict[str, Any]:
    """The images whose labels would help most."""
    return {"images": [{"file_name": image.path, "reason": image.reason} for image in images]}


def predictions(rows: list[dict[str, Any]] | None, tally: Tally, out: Path | None) -> dict[str, Any]:
    """A table of predictions, or None where it lies in a file, and what it came to."""
    counts = {"images": tally.images, "not_sure": tally.unsure, "unreadable": tally.unreadable}
    return {"predictions": rows, "out": out, **counts}


def imported(report: Report) -> dict[str, Any]:
    """What an import took, or would take, and why it passed over the rest."""
    reasons = [{"reason": reason, **asdict(about)} for reason, about in report.reasons.items()]
    more = {"dry_run": True, "classes": report.counts, "others": report.others} if report.dry_run else {}
    return {
        "taken": report.taken,
        "skipped": report.skipped,
        "new_classes": report.new_classes,
        "reasons": reasons,
        "notes": report.notes,
        **more,
    }


def people(annotators: Iterable[Annotator]) -> dict[str, Any]:
    """Everyone who has labelled or may."""
    return {"users": [{"name": one.name, "since": one.created_at} for one in annotators]}


def embedded(dataset: IndexedDataset, dim: int) -> dict[str, Any]:
    """A folder whose features were computed."""
    return {
        "images": len(dataset) - len(dataset.unreadable),
        "features": dim,
        "unreadable": dataset.unreadable,
    }


def comparison(found: Comparison, files: Mapping[str, Path]) -> dict[str, Any]:
    """A comparison of strategies: the columns of summary.csv, a row per strategy."""
    return {"headline": found.headline(), "best": found.best, "strategies": found.summary(), "files": files}


def findings(found: Sequence[Finding]) -> dict[str, Any]:
    """What the doctor found, and the worst of it."""
    from vizsla.doctor import worst

    return {"state": worst(found), "findings": [asdict(one) for one in found]}
