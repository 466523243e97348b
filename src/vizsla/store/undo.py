"""Undo and redo, per annotator, for as long as the project lives: both append.

An undo takes back the annotator's newest answer that still stands for its image; what stood before it stands
again. A redo gives the answer anew, until the annotator answers something else. Answers given in one batch go
and come back together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Column, Connection, Row, Select, and_, exists, or_, select

from vizsla.errors import KeyTaken, UnknownName
from vizsla.store import answers, queue
from vizsla.store.database import batched
from vizsla.store.records import Change
from vizsla.store.schema import annotators, images, labels

_CHUNK = 500
_HANDED_BACK = 100  # of a large batch the rest is claimed like any other image


def undo(conn: Connection, annotator_id: int, key: UUID, now: datetime, until: datetime) -> Change:
    """Take back the newest answer and lease its image to the annotator again, to be shown first.

    Of a batch the oldest few images are leased.
    """
    _hold(conn, annotator_id)
    done = _of_key(conn, key, annotator_id, labels.c.undoes)
    if done:
        return _change(conn, [row.undoes for row in done])
    taken = _group(conn, _standing_of(annotator_id))
    if taken:
        _take_back(conn, taken, key, now)
        queue.renew(conn, annotator_id, now, until)
        queue.hand_back(conn, annotator_id, taken[:_HANDED_BACK], now, until)
    return _change(conn, [row.id for row in taken])


def redo(conn: Connection, annotator_id: int, key: UUID, now: datetime, until: datetime) -> Change:
    """Give again what was undone last, unless the annotator has answered something since."""
    _hold(conn, annotator_id)
    done = _of_key(conn, key, annotator_id, labels.c.redoes)
    if done:
        return _change(conn, [row.id for row in done])
    voids = _group(conn, _undone_by(annotator_id))
    if not voids or conn.execute(_answered_after(annotator_id, voids[-1].id)).first():
        return _change(conn, [])
    answers.lock(conn, (row.image_id for row in voids))
    firsts = _rows(conn, [row.undoes for row in voids])
    copies = _copies(firsts, key, now, answers.answered(conn))
    void_of = {row.undoes: row.id for row in voids}
    again = [
        {**copy, "undoes": None, "redoes": void_of[row.id]} for copy, row in zip(copies, firsts, strict=True)
    ]
    rows = answers.append_answers(conn, again)
    queue.renew(conn, annotator_id, now, until)
    return _change(conn, [row["id"] for row in rows])


def withdraw(conn: Connection, marks: Iterable[UUID], now: datetime) -> int:
    """Take back all answers that carry these marks, whoever gave them; returns how many."""
    void, taken = labels.alias(), list[Row[Any]]()
    query = select(labels).where(labels.c.status != "undone", ~exists().where(void.c.undoes == labels.c.id))
    for chunk in batched(marks, _CHUNK):
        taken += conn.execute(query.where(labels.c.batch.in_(chunk)).order_by(labels.c.id)).all()
    if taken:
        _take_back(conn, taken, uuid4(), now)
    return len(taken)


def _take_back(conn: Connection, taken: Sequence[Row[Any]], key: UUID, now: datetime) -> None:
    """Append what makes these answers void; what stood before them stands again."""
    answers.lock(conn, (row.image_id for row in taken))
    blank = {"status": "undone", "class_id": None, "lead_ms": None, "redoes": None}
    copies = _copies(taken, key, now, answers.answered(conn))
    voids = [{**copy, **blank, "undoes": row.id} for copy, row in zip(copies, taken, strict=True)]
    answers.append(conn, voids)
    answers.stand(conn, _left(conn, [row.image_id for row in taken]))


def _hold(conn: Connection, annotator_id: int) -> None:
    """Let an annotator's undos and redos go one after another."""
    one = select(annotators.c.id).where(annotators.c.id == annotator_id).with_for_update(key_share=True)
    if conn.execute(one).first() is None:
        raise UnknownName(f"no annotator has the id {annotator_id}.")


def _standing_of(annotator_id: int) -> Select[Any]:
    void = labels.alias()
    return (
        select(labels)
        .join(images, images.c.id == labels.c.image_id)
        .where(
            or_(
                images.c.label_id == labels.c.id,
                and_(answers.ABSTAINED, ~exists().where(void.c.undoes == labels.c.id)),
            )
        )
        .where(labels.c.annotator_id == annotator_id, labels.c.source != "import")
    )


def _undone_by(annotator_id: int) -> Select[Any]:
    again = labels.alias()
    return (
        select(labels)
        .where(labels.c.annotator_id == annotator_id, labels.c.status == "undone")
        .where(~exists().where(again.c.redoes == labels.c.id))
    )


def _answered_after(annotator_id: int, label_id: int) -> Select[Any]:
    return (
        select(labels.c.id)
        .where(labels.c.annotator_id == annotator_id, labels.c.id > label_id, labels.c.source != "import")
        .where(labels.c.undoes.is_(None), labels.c.redoes.is_(None))
        .limit(1)
    )


def _group(conn: Connection, query: Select[Any]) -> list[Row[Any]]:
    """The newest row, with all of its batch, oldest first."""
    newest = conn.execute(query.order_by(labels.c.id.desc()).limit(1)).first()
    if newest is None or newest.batch is None:
        return [newest] if newest else []
    return list(conn.execute(query.where(labels.c.batch == newest.batch).order_by(labels.c.id)))


def _of_key(conn: Connection, key: UUID, annotator_id: int, step: Column[Any]) -> list[Row[Any]]:
    """What an earlier call with this key wrote.

    Args:   step: the column that is set in the rows of such a call.
    Raises: KeyTaken where the key was that of an answer, of another kind of step or of someone else.
    """
    row = conn.execute(select(labels).where(labels.c.key == key)).first()
    if row is None:
        return []
    if row.annotator_id != annotator_id or row._mapping[step] is None:
        raise KeyTaken(
            f"the key {key} names something else already; nothing was taken back or given again. "
            "Make a new key for each call."
        )
    if row.batch is None:
        return [row]
    return list(conn.execute(select(labels).where(labels.c.batch == row.batch).order_by(labels.c.id)))


def _rows(conn: Connection, ids: list[int]) -> list[Row[Any]]:
    found: list[Row[Any]] = []
    for chunk in batched(ids, _CHUNK):
        found += conn.execute(select(labels).where(labels.c.id.in_(chunk)))
    return sorted(found, key=lambda row: row.id)


def _copies(rows: Sequence[Row[Any]], key: UUID, now: datetime, saved: int) -> list[dict[str, Any]]:
    """The rows once more, under new keys of which the first is the given one."""
    batch = uuid4() if len(rows) > 1 else None
    keys = [key, *(uuid4() for _ in rows[1:])]
    copies = []
    for row, own in zip(rows, keys, strict=True):
        copy = dict(row._mapping) | {"key": own, "batch": batch, "saved": saved, "created_at": now}
        del copy["id"]
        copies.append(copy)
    return copies


def _left(conn: Connection, image_ids: list[int]) -> dict[int, tuple[str, int | None, int | None]]:
    """Status, class and label that stand for images, found in their history."""
    void = labels.alias()
    query = (
        select(labels.c.image_id, labels.c.status, labels.c.class_id, labels.c.id)
        .where(labels.c.status != "undone", ~exists().where(void.c.undoes == labels.c.id), ~answers.ABSTAINED)
        .order_by(labels.c.id)
    )
    left: dict[int, tuple[str, int | None, int | None]] = dict.fromkeys(image_ids, ("unlabelled", None, None))
    for chunk in batched(image_ids, _CHUNK):
        for row in conn.execute(query.where(labels.c.image_id.in_(chunk))):
            left[row.image_id] = (row.status, row.class_id, row.id)
    return left


def _change(conn: Connection, label_ids: list[int]) -> Change:
    return Change(answers.by_ids(conn, label_ids), answers.answered(conn))
