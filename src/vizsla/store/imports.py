"""Answers that were given elsewhere, by people whom the project may not know, of classes it may not have.

Of two answers about an image the one given later stands, whichever came in first. An answer without a time counts
as given when it comes in; where it stands, one with a time takes its place, for nobody knows which is the later.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection, Row, select

from vizsla.store import answers, people, queue
from vizsla.store import classes as naming
from vizsla.store.database import batched
from vizsla.store.records import ImageClass, Imported, TakenIn
from vizsla.store.schema import annotators, class_history, images, labels

_CHUNK = 2000
_KEYS = UUID("8f6cf0f5-54a7-5d0e-9c0e-2a1d5c0b7e11")
_OF_CONTENT = 5  # the version of a UUID that is made from what it names


def take_in(
    conn: Connection, rows: Sequence[Imported], now: datetime, progress: Callable[[int, int], None] | None
) -> TakenIn:
    """Append the answers in their order, with annotators and classes that are new.

    Known keys are passed over, and so are answers that were given before the one that stands.

    All of it is one transaction, so that a file is taken in whole or not at all. On SQLite nobody else writes
    meanwhile: a label that comes in waits for some seconds where the file has tens of thousands of rows.
    """
    known = _known(conn, rows)
    before = answers.lock(conn, (row.answer.image_id for row in rows if row.answer.key not in known))
    plan = _planned(conn, rows, known)
    if not plan.rows:
        return plan.told()
    who = {name: people.ensure(conn, name, now).id for name in {row.annotator: None for row in plan.rows}}
    named = plan.named | {one.name: one for one in naming.add(conn, plan.new_classes, now)}
    ranks = queue.published(conn)
    round_now = (ranks.model_version if ranks else None) or 0
    saved = answers.answered(conn)
    done = 0
    for chunk in batched(plan.rows, _CHUNK):
        values = []
        for row in chunk:
            saved += before[row.answer.image_id] == "unlabelled"
            before[row.answer.image_id] = row.answer.status
            values.append(_values(row, who[row.annotator], named, round_now, saved, now))
        answers.append_answers(conn, values)
        done += len(chunk)
        if progress:
            progress(done, len(plan.rows))
    return plan.told()


def preview(conn: Connection, rows: Sequence[Imported]) -> TakenIn:
    """What `take_in` would write. Nothing is."""
    return _planned(conn, rows, _known(conn, rows)).told()


def key_of(image_id: int, status: str, label: str | None, who: str, when: datetime | None) -> UUID:
    """The same for the same answer, so that importing a file twice adds nothing."""
    told = [image_id, status, label, who, when.astimezone(UTC).isoformat() if when else None]
    return uuid5(_KEYS, json.dumps(told))


def _known(conn: Connection, rows: Iterable[Imported]) -> set[UUID]:
    found: set[UUID] = set()
    for chunk in batched((row.answer.key for row in rows), _CHUNK):
        found |= set(conn.execute(select(labels.c.key).where(labels.c.key.in_(chunk))).scalars())
    return found


@dataclass
class _Plan:
    """What an import will write, and what it passes over."""

    known: tuple[UUID, ...]
    named: dict[str, ImageClass]
    """Of the names in use, old ones too."""
    rows: list[Imported] = field(default_factory=list)
    older: list[UUID] = field(default_factory=list)
    replacing: list[UUID] = field(default_factory=list)

    @property
    def new_classes(self) -> tuple[str, ...]:
        names = (naming.tidy(row.answer.label) for row in self.rows if row.answer.label)
        return tuple(dict.fromkeys(name for name in names if name not in self.named))

    def told(self) -> TakenIn:
        counts = Counter(self._name(row) for row in self.rows if row.answer.label)
        others = Counter(str(row.answer.status) for row in self.rows if not row.answer.label)
        return TakenIn(
            len(self.rows),
            self.known,
            self.new_classes,
            tuple(self.older),
            tuple(self.replacing),
            dict(counts),
            dict(others),
        )

    def _name(self, row: Imported) -> str:
        name = naming.tidy(row.answer.label or "")
        return self.named[name].name if name in self.named else name

    def says(self, row: Imported) -> tuple[str, str | None]:
        """Status and class name of an answer."""
        return row.answer.status, self._name(row) if row.answer.label else None


def _planned(conn: Connection, rows: Sequence[Imported], known: set[UUID]) -> _Plan:
    fresh = list({row.answer.key: row for row in rows if row.answer.key not in known}.values())
    given = {answers.checked(row.answer) for row in fresh}
    there = {one.name: one for one in naming.listed(conn)}
    plan = _Plan(tuple(known), there | naming.known_of(conn, {naming.tidy(name) for name in given if name}))
    current = _Current(conn, (row.answer.image_id for row in fresh))
    for row in fresh:
        if current.is_later(row):
            plan.older.append(row.answer.key)
            continue
        if row.created_at is None and current.says_else(row.answer.image_id, plan.says(row)):
            plan.replacing.append(row.answer.key)
        current.put(row)
        plan.rows.append(row)
    return plan


class _Current:
    """The answers that stand for some images, also as more come in."""

    def __init__(self, conn: Connection, image_ids: Iterable[int]) -> None:
        self._conn = conn
        self._rows: dict[int, Row[Any]] = {}
        self._newest: dict[int, datetime | None] = {}
        """Of those that came in: when they were given; None: at the import."""
        query = (
            select(labels, annotators.c.name.label("annotator"))
            .join(images, images.c.label_id == labels.c.id)
            .join(annotators, annotators.c.id == labels.c.annotator_id)
        )
        for chunk in batched(dict.fromkeys(image_ids), _CHUNK):
            self._rows |= {row.image_id: row for row in conn.execute(query.where(images.c.id.in_(chunk)))}

    def is_later(self, row: Imported) -> bool:
        """Whether what stands was given after this answer."""
        image_id = row.answer.image_id
        if row.created_at is None:
            return False
        if image_id in self._newest:
            newest = self._newest[image_id]
            return newest is not None and newest > row.created_at
        before = self._rows.get(image_id)
        return before is not None and before.created_at > row.created_at and not self._is_undated(before)

    def says_else(self, image_id: int, said: tuple[str, str | None]) -> bool:
        """Whether what stood before the import is another answer than that status and class."""
        before = self._rows.get(image_id)
        if before is None:
            return False
        name = None if before.class_id is None else self._roots[before.class_id].name
        return (before.status, name) != said

    def put(self, row: Imported) -> None:
        if not (row.answer.status == "skipped" and row.answer.source == "relabel"):  # it abstains
            self._newest[row.answer.image_id] = row.created_at

    @cached_property
    def _roots(self) -> dict[int, ImageClass]:
        return naming.roots(self._conn)

    @cached_property
    def _names(self) -> Mapping[int, set[str]]:
        """Id of a class → all names that it, and those merged into it, ever had."""
        names: dict[int, set[str]] = {}
        for row in self._conn.execute(select(class_history.c.class_id, class_history.c.name)):
            names.setdefault(self._roots[row.class_id].id, set()).add(row.name)
        return names

    def _is_undated(self, row: Row[Any]) -> bool:
        """Whether the answer came in without a time: its key, made from what it said, tells."""
        if row.key.version != _OF_CONTENT:
            return False
        names = [None] if row.class_id is None else self._names[self._roots[row.class_id].id]

        def is_key(when: datetime | None) -> bool:
            keys = (key_of(row.image_id, row.status, name, row.annotator, when) for name in names)
            return row.key in keys

        return is_key(None) or (row.source == "import" and not is_key(row.created_at))


def _values(
    row: Imported,
    annotator_id: int,
    named: Mapping[str, ImageClass],
    round_now: int,
    saved: int,
    now: datetime,
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
