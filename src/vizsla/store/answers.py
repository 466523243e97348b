"""Answers: appended, never changed. The newest that nobody has taken back stands for its image.

`labels` is the truth; `images.status`, `.class_id` and `.label_id` repeat what stands, written in the same
transaction, so that claims and counts need not look for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, and_, bindparam, delete, func, insert, select, update

from vizsla.errors import BadOption, KeyTaken, UnknownName
from vizsla.store import classes as naming
from vizsla.store import queue
from vizsla.store.database import batched
from vizsla.store.records import Answer, Counts, Label, Saved
from vizsla.store.schema import annotators, images, labels, leases

_CHUNK = 500
_ANSWERS = ("labelled", "skipped", "flagged")

ABSTAINED = and_(labels.c.status == "skipped", labels.c.source == "relabel")
"""Asked again, someone cannot tell: that is kept, but what stood before stands."""


def give(
    conn: Connection,
    annotator_id: int,
    answers: Sequence[Answer],
    now: datetime,
    until: datetime,
    batch: UUID | None,
    count: Callable[[Connection], int],
) -> list[Saved]:
    """Append answers, all or none, and free what they answer. A known key gives its first acknowledgement.

    Args:
        count: gives the number of images that have an answer now.
        batch: what marks answers to be undone together; None for one that stands alone.
    Raises: KeyTaken where a key named another answer before, or names two of these.
    """
    known = _acknowledged(conn, answers)
    rows: list[dict[str, Any]] = []
    fresh = [answer for answer in _one_per_key(answers) if answer.key not in known]
    if fresh:
        before = lock(conn, [answer.image_id for answer in fresh])
        rows = append_answers(conn, _rows(conn, annotator_id, fresh, before, now, batch, count(conn)))
        known |= {row["key"]: Saved(row["id"], row["saved"], True) for row in rows}
    again = {row["source"] == "relabel" for row in rows}
    queue.renew(conn, annotator_id, now, until, relabel=again.pop() if len(again) == 1 else None)
    return [known[answer.key] for answer in answers]


def _one_per_key(answers: Iterable[Answer]) -> list[Answer]:
    """The answers, each once. Raises KeyTaken where a key names two."""
    first: dict[UUID, Answer] = {}
    for answer in answers:
        if _said(first.setdefault(answer.key, answer)) != _said(answer):
            raise taken(answer.key, "another answer of the same batch")
    return list(first.values())


def _said(answer: Answer) -> tuple[int, str, str | None]:
    return answer.image_id, answer.status, answer.label and naming.tidy(answer.label)


def _acknowledged(conn: Connection, answers: Sequence[Answer]) -> dict[UUID, Saved]:
    """The acknowledgements of those that were given before. Raises KeyTaken for a key of something else."""
    before: dict[UUID, Row[Any]] = {}
    for chunk in batched((answer.key for answer in answers), _CHUNK):
        before |= {row.key: row for row in conn.execute(select(labels).where(labels.c.key.in_(chunk)))}
    again = [answer for answer in answers if answer.key in before]
    if not again:
        return {}
    root = naming.roots(conn)
    named = naming.known_of(conn, {answer.label for answer in again if answer.label})
    for answer in again:
        row = before[answer.key]
        one = root[row.class_id] if row.class_id is not None else None
        same_class = one == named.get(answer.label) if answer.label else one is None
        if (row.image_id, row.status) != (answer.image_id, answer.status) or not same_class:
            what = "taken back" if row.status == "undone" else one.name if one else row.status
            raise taken(answer.key, f"of image {row.image_id} ({what})")
    return {row.key: Saved(row.id, row.saved, False) for row in before.values()}


def taken(key: UUID, by: str) -> KeyTaken:
    """The error for a key that comes with something else than before."""
    return KeyTaken(
        f"the key {key} names another answer already, {by}; this one was not saved. Make a new key for each answer."
    )


def lock(conn: Connection, image_ids: Iterable[int]) -> dict[int, str]:
    """Hold the images, so that rows of one image get rising ids; returns their standing status."""
    wanted = sorted(set(image_ids))
    held: dict[int, str] = {}
    for chunk in batched(wanted, _CHUNK):
        query = select(images.c.id, images.c.status).where(images.c.id.in_(chunk)).order_by(images.c.id)
        held |= {row.id: row.status for row in conn.execute(query.with_for_update(key_share=True))}
    if missing := [image_id for image_id in wanted if image_id not in held]:
        raise UnknownName(f"no image has the id {missing[0]}. Ask the queue for one.")
    return held


def _rows(
    conn: Connection,
    annotator_id: int,
    answers: list[Answer],
    before: dict[int, str],
    now: datetime,
    batch: UUID | None,
    saved: int,
) -> list[dict[str, Any]]:
    names = dict.fromkeys(checked(answer) for answer in answers)
    class_ids = {name: one.id for name, one in naming.found(conn, filter(None, names)).items()}
    held = _leases(conn, annotator_id, list(before))
    ranks = queue.published(conn)
    round_now = (ranks.model_version if ranks else None) or 0
    seen = {image_id for image_id, status in before.items() if status != "unlabelled"}
    rows = []
    for answer in answers:
        lease = held.get(answer.image_id)
        if lease is not None and not _is_of(lease, answer, batch):
            lease = None
        saved += answer.image_id not in seen
        seen.add(answer.image_id)
        rows.append(
            {
                "image_id": answer.image_id,
                "status": answer.status,
                "class_id": class_ids[answer.label] if answer.label else None,
                "annotator_id": annotator_id,
                "round": round_now if answer.round is None else answer.round,
                "source": answer.source or (lease.source if lease else "bulk" if batch else "al"),
                "model_version": answer.model_version or (lease.model_version if lease else None),
                "suggestion": lease.suggestion if lease else None,
                "suggestion_shown": answer.suggestion_shown,
                "lead_ms": answer.lead_ms,
                "key": answer.key,
                "batch": batch,
                "saved": saved,
                "created_at": now,
            }
        )
    return rows


def checked(answer: Answer) -> str | None:
    """The answer's class name. Raises BadOption where status and label do not go together."""
    if answer.status not in _ANSWERS:
        raise BadOption(f"status {answer.status!r} is none of {', '.join(_ANSWERS)}.")
    if answer.status == "labelled" and not answer.label:
        raise BadOption("a labelled image needs a label. Name a class, or use the status skipped or flagged.")
    if answer.status != "labelled" and answer.label:
        raise BadOption(f"a {answer.status} image takes no label. Leave it out.")
    return answer.label


def _is_of(lease: Row[Any], answer: Answer, batch: UUID | None) -> bool:
    """Whether the answer is to what was leased.

    One of a batch must say so, for it may come from a grid; and one to an image asked again, for it may come from
    Review, where the label that stands is in sight.
    """
    if answer.lease_id is not None or batch is not None:
        return bool(answer.lease_id == lease.lease_id)
    return lease.source != "relabel" or lease.reason == queue.UNDONE or answer.status == "skipped"


def _leases(conn: Connection, annotator_id: int, image_ids: list[int]) -> dict[int, Row[Any]]:
    """What this annotator was shown, live or not: a late answer is as good as any."""
    held: dict[int, Row[Any]] = {}
    for chunk in batched(image_ids, _CHUNK):
        query = select(leases).where(leases.c.annotator_id == annotator_id, leases.c.image_id.in_(chunk))
        held |= {row.image_id: row for row in conn.execute(query)}
    return held


def append(conn: Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write rows; they come back with their ids, oldest first."""
    ids: dict[UUID, int] = {}
    for row in conn.execute(insert(labels).returning(labels.c.key, labels.c.id), rows):
        ids[row.key] = row.id
    return sorted(({**row, "id": ids[row["key"]]} for row in rows), key=lambda row: row["id"])


def append_answers(conn: Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write answers, make them stand and end the leases of their images."""
    done = append(conn, rows)
    standing = [row for row in done if not (row["status"] == "skipped" and row["source"] == "relabel")]
    stand(conn, {row["image_id"]: (row["status"], row["class_id"], row["id"]) for row in standing})
    for chunk in batched((row["image_id"] for row in done), _CHUNK):
        conn.execute(delete(leases).where(leases.c.image_id.in_(chunk)))
    return done


def stand(conn: Connection, standing: dict[int, tuple[str, int | None, int | None]]) -> None:
    """Set the status, class and label that stand for images."""
    if not standing:
        return
    values = [
        {"image": image_id, "now": status, "as": class_id, "by": label_id}
        for image_id, (status, class_id, label_id) in standing.items()
    ]
    conn.execute(
        update(images)
        .where(images.c.id == bindparam("image"))
        .values(status=bindparam("now"), class_id=bindparam("as"), label_id=bindparam("by")),
        values,
    )


def answered(conn: Connection) -> int:
    """Images that have an answer and are there."""
    query = (
        select(func.count())
        .select_from(images)
        .where(images.c.state.in_(["present", "unreadable"]), images.c.status.in_(_ANSWERS))
    )
    return int(conn.execute(query).scalar_one())


def counts(conn: Connection) -> Counts:
    """Images that are there, by standing answer and class."""
    query = (
        select(images.c.state, images.c.status, images.c.class_id, func.count().label("n"))
        .where(images.c.state.in_(["present", "unreadable"]))
        .group_by(images.c.state, images.c.status, images.c.class_id)
    )
    root = naming.roots(conn)
    parts = dict.fromkeys(("unlabelled", *_ANSWERS), 0)
    per_class = {one.name: 0 for one in naming.listed(conn)}
    for row in conn.execute(query):
        unread = row.state == "unreadable" and row.status == "unlabelled"
        parts["flagged" if unread else row.status] += row.n
        if row.class_id is not None:
            per_class[root[row.class_id].name] += row.n
    return Counts(total=sum(parts.values()), **parts, classes=per_class)


def standing(conn: Connection, before: int | None, limit: int | None) -> list[Label]:
    """The label that stands for each image that is there, newest first, from the first below `before`."""
    query = _select().where(images.c.label_id == labels.c.id, images.c.state != "missing")
    return _labels(conn, _page(query, before, limit))


def standing_of(conn: Connection, image_ids: Iterable[int]) -> dict[int, Label]:
    """Image id → the label that stands for it, also where its file is gone."""
    found: dict[int, Label] = {}
    for chunk in batched(image_ids, _CHUNK):
        query = _select().where(images.c.label_id == labels.c.id, images.c.id.in_(chunk))
        found |= {label.image_id: label for label in _labels(conn, query)}
    return found


def history(conn: Connection, annotator_id: int | None, before: int | None, limit: int | None) -> list[Label]:
    """Every row, newest first, from the first below `before`."""
    query = _page(_select(), before, limit)
    return _labels(
        conn, query if annotator_id is None else query.where(labels.c.annotator_id == annotator_id)
    )


def by_ids(conn: Connection, ids: Iterable[int]) -> tuple[Label, ...]:
    """These rows, oldest first."""
    found: list[Label] = []
    for chunk in batched(ids, _CHUNK):
        found += _labels(conn, _select().where(labels.c.id.in_(chunk)))
    return tuple(sorted(found, key=lambda label: label.id))


def _select() -> Select[Any]:
    return (
        select(labels, images.c.path, annotators.c.name.label("annotator"))
        .join(images, images.c.id == labels.c.image_id)
        .join(annotators, annotators.c.id == labels.c.annotator_id)
    )


def _page(query: Select[Any], before: int | None, limit: int | None) -> Select[Any]:
    query = query.order_by(labels.c.id.desc()).limit(limit)
    return query if before is None else query.where(labels.c.id < before)


def _labels(conn: Connection, query: Select[Any]) -> list[Label]:
    root = naming.roots(conn)
    return [
        Label(
            id=row.id,
            image_id=row.image_id,
            path=row.path,
            status=row.status,
            class_id=row.class_id,
            label=root[row.class_id].name if row.class_id is not None else None,
            annotator=row.annotator,
            round=row.round,
            source=row.source,
            model_version=row.model_version,
            suggestion=row.suggestion and tuple((int(class_id), prob) for class_id, prob in row.suggestion),
            suggestion_shown=row.suggestion_shown,
            lead_ms=row.lead_ms,
            key=row.key,
            undoes=row.undoes,
            created_at=row.created_at,
        )
        for row in conn.execute(query)
    ]
