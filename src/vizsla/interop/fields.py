"""Rows as named cells, the common ground of tables and JSON: our columns, and what others call them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vizsla.data.tables.cells import SeveralClasses, one_class, text
from vizsla.data.tables.columns import ALIASES, COLUMNS, columns
from vizsla.interop.base import Row

__all__ = [
    "ALIASES",
    "COLUMNS",
    "SeveralClasses",
    "cells",
    "columns",
    "decimal",
    "moment",
    "one_class",
    "text",
    "to_row",
    "truth",
    "whole",
]

_LARGEST = 2**31 - 1  # what every database takes


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
