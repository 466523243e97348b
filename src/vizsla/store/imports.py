"""Answers that were given elsewhere, by people whom the project may not know, of classes it may not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from vizsla.errors import NoLabel
from vizsla.store import answers, people, queue
from vizsla.store import classes as naming
from vizsla.store.database import batched
from vizsla.store.records import ImageClass, Imported, TakenIn
from vizsla.store.schema import labels

_CHUNK = 2000


def take_in(
    conn: Connection, rows: Sequence[Imported], now: datetime, progress: Callable[[int, int], None] | None
) -> TakenIn:
    """Append the answers in their order, with annotators and classes that are new; known keys are passed over.

    All of it is one transaction, so that a file is taken in whole or not at all. On SQLite nobody else writes
    meanwhile: a label that comes in waits for some seconds where the file has tens of thousands of rows.
    """
    keys = _known(conn, [row.answer.key for row in rows])
    fresh = list({row.answer.key: row for row in rows if row.answer.key not in keys}.values())
    if not fresh:
        return TakenIn(0, tuple(keys), ())
    before = answers.lock(conn, (row.answer.image_id for row in fresh))
    who = {name: people.ensure(conn, name, now).id for name in {row.annotator: None for row in fresh}}
    named, new = _classes(conn, {answers.checked(row.answer): None for row in fresh}, now)
    ranks = queue.published(conn)
    round_now = (ranks.model_version if ranks else None) or 0
    saved = answers.answered(conn)
    done = 0
    for chunk in batched(fresh, _CHUNK):
        values = []
        for row in chunk:
            saved += before[row.answer.image_id] == "unlabelled"
            before[row.answer.image_id] = row.answer.status
            values.append(_values(row, who[row.annotator], named, round_now, saved, now))
        answers.append_answers(conn, values)
        done += len(chunk)
        if progress:
            progress(done, len(fresh))
    return TakenIn(len(fresh), tuple(keys), new)


def _known(conn: Connection, keys: list[UUID]) -> set[UUID]:
    found: set[UUID] = set()
    for chunk in batched(keys, _CHUNK):
        found |= set(conn.execute(select(labels.c.key).where(labels.c.key.in_(chunk))).scalars())
    return found


def _classes(
    conn: Connection, names: Iterable[str | None], now: datetime
) -> tuple[dict[str, ImageClass], tuple[str, ...]]:
    """Name → class, also for old names and for those that are added; and the names of these."""
    named = {one.name: one for one in naming.listed(conn)}
    wanted = {naming.tidy(name): None for name in names if name}
    missing = [name for name in wanted if name not in named]
    for name in missing:
        try:
            named[name] = naming.find(conn, name)
        except NoLabel:
            continue
    new = [name for name in missing if name not in named]
    named |= {one.name: one for one in naming.add(conn, new, now)}
    return named, tuple(new)


def _values(
    row: Imported, annotator_id: int, named: dict[str, ImageClass], round_now: int, saved: int, now: datetime
) -> dict[str, Any]:
    answer = row.answer
    suggestion = [(named[name].id, prob) for name, prob in row.suggestion if name in named]
    return {
        "image_id": answer.image_id,
        "status": answer.status,
        "class_id": named[naming.tidy(answer.label)].id if answer.label else None,
        "annotator_id": annotator_id,
        "round": round_now if answer.round is None else answer.round,
        "source": answer.source or "import",
        "model_version": answer.model_version,
        "suggestion": suggestion or None,
        "suggestion_shown": answer.suggestion_shown,
        "lead_ms": answer.lead_ms,
        "key": answer.key,
        "batch": row.batch,
        "saved": saved,
        "created_at": row.created_at or now,
    }
