"""Rows as named cells, the common ground of tables and JSON: our columns, and what others call them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from vizsla.errors import BadOption
from vizsla.interop.base import Row

COLUMNS = (
    "file_name",
    "sha256",
    "label",
    "status",
    "annotator",
    "labelled_at",
    "lead_ms",
    "round",
    "model_version",
    "source",
    "suggestion",
    "suggestion_prob",
    "suggestion_shown",
    "split",
)

ALIASES: Mapping[str, tuple[str, ...]] = {column: (column,) for column in COLUMNS} | {
    "file_name": ("file_name", "filename", "filepath", "file_path", "path", "file", "image"),
    "sha256": ("sha256", "sha-256", "hash"),
    "label": ("label", "class", "class_name", "category", "choice"),
    "annotator": ("annotator", "completed_by"),
    "labelled_at": ("labelled_at", "labeled_at", "created_at"),
}
"""Column → names it goes by, the first that is there counts. `choice` … `lead_time` are Label Studio's."""

_LEAD_SECONDS = "lead_time"
_LARGEST = 2**31 - 1  # what every database takes


class SeveralClasses(ValueError):
    """An answer that names more than one class, or none that can be told."""


def columns(names: Iterable[str]) -> dict[str, str]:
    """Our column → the name it goes by here, for those that are there; capitals and blanks do not matter."""
    here = {name.strip().lower().replace(" ", "_"): name for name in names}
    found = {
        column: next((here[alias] for alias in aliases if alias in here), None)
        for column, aliases in ALIASES.items()
    }
    found["lead_seconds"] = here.get(_LEAD_SECONDS)
    return {column: name for column, name in found.items() if name is not None}


def suffice(columns: Iterable[str]) -> bool:
    """Whether these columns of ours name images and their labels."""
    return not {"file_name", "sha256"}.isdisjoint(columns) and not {"label", "status"}.isdisjoint(columns)


def no_labels(name: str, header: Iterable[str]) -> BadOption:
    """The error of a file whose columns do not suffice."""
    told = ", ".join(cell[:40] for cell in list(header)[:20])
    files, labels = ("|".join(ALIASES[column]) for column in ("file_name", "label"))
    return BadOption(
        f"{name} has no header that names images and labels: {told}. Needed: {files} and {labels}."
    )


def cells(row: Row) -> list[Any]:
    """The row's values in the order of `COLUMNS`; the time in ISO 8601."""
    values = {**vars(row), "labelled_at": row.labelled_at and row.labelled_at.isoformat()}
    return [values[column] for column in COLUMNS]


def to_row(cells: Mapping[str, Any], where: str) -> Row:
    """The row in cells that are named as ours. Numbers and times that make no sense count as absent.

    Raises: SeveralClasses.
    """
    seconds = decimal(cells.get("lead_seconds"))
    return Row(
        file_name=text(cells.get("file_name")) or "",
        sha256=(text(cells.get("sha256")) or "").strip().lower() or None,
        label=one_class(cells.get("label")),
        status=(text(cells.get("status")) or "").strip().lower(),
        annotator=text(cells.get("annotator")),
        labelled_at=moment(cells.get("labelled_at")),
        lead_ms=whole(cells.get("lead_ms")) if seconds is None else whole(seconds * 1000),
        round=whole(cells.get("round")),
        model_version=whole(cells.get("model_version")),
        source=text(cells.get("source")),
        suggestion=text(cells.get("suggestion")),
        suggestion_prob=decimal(cells.get("suggestion_prob")),
        suggestion_shown=truth(cells.get("suggestion_shown")),
        split=text(cells.get("split")),
        where=where,
    )


def text(value: Any) -> str | None:
    """Words; None for nothing. Numbers become words: whole ones without a point, as tables make floats of them.

    >>> text("cat"), text(7), text(7.0), text(float("nan")), text("")
    ('cat', '7', '7', None, None)
    """
    if isinstance(value, str):
        return value or None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = int(value) if value.is_integer() else value
    return str(value) if isinstance(value, int | float) else None


def whole(value: Any) -> int | None:
    """A whole number from 0 on that a database takes, rounded."""
    number = decimal(value)
    return round(number) if number is not None and 0 <= number <= _LARGEST else None


def decimal(value: Any) -> float | None:
    """A finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def truth(value: Any) -> bool | None:
    """True or false in any of their spellings."""
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
        str(value).strip().lower()
    )


def moment(value: Any) -> datetime | None:
    """A moment, also in ISO 8601; one without a zone is in UTC."""
    try:
        when = value if isinstance(value, datetime) else datetime.fromisoformat(value.strip())
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
    except (AttributeError, ValueError, OverflowError):
        return None


def one_class(value: Any) -> str | None:
    """The class of an answer: a name, a number, a list of one, or Label Studio's `{"choices": [name]}`.

    >>> one_class('{"choices": ["cat"]}'), one_class(["dog"]), one_class(7), one_class("")
    ('cat', 'dog', '7', None)
    """
    if isinstance(value, str) and value.startswith('{"choices"'):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, Mapping):
        value = value.get("choices")
    if isinstance(value, list):
        if len(value) > 1:
            raise SeveralClasses
        value = value[0] if value else None
    return text(value)
