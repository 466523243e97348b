"""Tasks of another labelling tool: which images they are about, and what is said of them there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, exists, func, select, update

from vizsla.errors import NoLabel
from vizsla.store import classes as naming
from vizsla.store import imports, queue
from vizsla.store.database import batched, insert
from vizsla.store.records import Imported, Place, Places, TakenIn, Task
from vizsla.store.schema import foreign_tasks, images, labels, ranking

_CHUNK = 500


def link(conn: Connection, origin: str, image_of: Mapping[int, int]) -> None:
    """Remember which image each task is about."""
    new = insert(conn, foreign_tasks)
    new = new.on_conflict_do_update(
        index_elements=["origin", "task"], set_={"image_id": new.excluded.image_id}
    )
    for chunk in batched(sorted(image_of.items()), _CHUNK):
        rows = [{"origin": origin, "task": task, "image_id": one, "shown": False} for task, one in chunk]
        conn.execute(new, rows)


def tasks(conn: Connection, origin: str, wanted: Iterable[int]) -> dict[int, Task]:
    """What is known of these tasks."""
    found: dict[int, Task] = {}
    for chunk in batched(wanted, _CHUNK):
        query = select(foreign_tasks).where(foreign_tasks.c.origin == origin, foreign_tasks.c.task.in_(chunk))
        found |= {row.task: Task(row.image_id, row.shown) for row in conn.execute(query)}
    return found


def show(conn: Connection, origin: str, shown: Collection[int]) -> None:
    """Note that a suggestion was handed out for these tasks."""
    for chunk in batched(shown, _CHUNK):
        these = (foreign_tasks.c.origin == origin, foreign_tasks.c.task.in_(chunk))
        conn.execute(update(foreign_tasks).where(*these).values(shown=True))


def at(conn: Connection, paths: Iterable[str]) -> dict[str, int]:
    """Path → image id, of images that are there."""
    found: dict[str, int] = {}
    for chunk in batched(paths, _CHUNK):
        query = select(images.c.path, images.c.id).where(
            images.c.path.in_(chunk), images.c.state != "missing"
        )
        found |= {row.path: row.id for row in conn.execute(query)}
    return found


def places(conn: Connection, image_ids: Iterable[int]) -> Places:
    """Where these images stand in the ranking that claims follow."""
    current = queue.published(conn)
    if current is None:
        return Places(None, 0, {})
    here = ranking.c.edition == current.edition
    size = conn.execute(select(func.coalesce(func.max(ranking.c.rank) + 1, 0)).where(here)).scalar_one()
    root, found = naming.roots(conn), {}
    query = (
        select(ranking.c.image_id, ranking.c.rank, ranking.c.audit, ranking.c.suggestion)
        .join(images, images.c.id == ranking.c.image_id)
        .where(here, images.c.status == "unlabelled", images.c.state == "present")
    )
    for chunk in batched(image_ids, _CHUNK):
        for row in conn.execute(query.where(ranking.c.image_id.in_(chunk))):
            suggestion = None if row.audit else queue.named(row.suggestion, root)
            found[row.image_id] = Place(row.rank, suggestion)
    return Places(current.model_version, int(size), found)


def take_in(conn: Connection, rows: Sequence[Imported], now: datetime) -> TakenIn:
    """Append what answers say now that each carry a mark of their own, but for those that said so before."""
    newest = _newest(conn, [row.batch for row in rows if row.batch])
    fresh = [row for row in rows if row.batch not in newest or not _same(conn, newest[row.batch], row)]
    return imports.take_in(conn, fresh, now, None)


def _newest(conn: Connection, marks: list[UUID]) -> dict[UUID, Row[Any]]:
    """The last row of each mark that nobody has taken back."""
    void, found = labels.alias(), dict[UUID, Row[Any]]()
    standing = ~exists().where(void.c.undoes == labels.c.id)
    query = select(labels).where(labels.c.status != "undone", standing).order_by(labels.c.id)
    for chunk in batched(marks, _CHUNK):
        found |= {row.batch: row for row in conn.execute(query.where(labels.c.batch.in_(chunk)))}
    return found


def _same(conn: Connection, row: Row[Any], now: Imported) -> bool:
    answer = now.answer
    if (row.image_id, row.status) != (answer.image_id, answer.status):
        return False
    if answer.label is None:
        return True
    try:
        return naming.find(conn, answer.label).id == naming.roots(conn)[row.class_id].id
    except NoLabel:
        return False
