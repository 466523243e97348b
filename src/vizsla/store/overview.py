"""What a page shows beside the queue: what changed, images in groups, answers that differ."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

from sqlalchemy import Connection, Select, and_, exists, func, or_, select

from vizsla.errors import BadOption
from vizsla.store import classes as naming
from vizsla.store import queue
from vizsla.store.records import Disagreement, Group, Pulse, Tile
from vizsla.store.schema import annotators, class_history, images, labels, models, ranking, rankings, settings

By = Literal["class", "cluster", "status"]

TRAINING = "training"
"""The setting under which a trainer says what it does."""

_STATUSES = ("unlabelled", "labelled", "skipped", "flagged")
_THERE = images.c.state == "present"
_MOST_ID, _MOST_CLUSTER = 2**63 - 1, 2**31 - 1  # what the columns hold


def pulse(conn: Connection) -> Pulse:
    """What changes while people label and a trainer trains."""
    newest = func.coalesce(func.max(models.c.version), 0)
    ready = select(newest).where(models.c.state == "ready").scalar_subquery()
    edition = select(func.coalesce(func.max(rankings.c.edition), 0)).where(
        rankings.c.published_at.is_not(None)
    )
    row = conn.execute(
        select(
            select(func.coalesce(func.max(labels.c.id), 0)).scalar_subquery(),
            edition.scalar_subquery(),
            ready,
            select(newest).scalar_subquery(),
            select(func.coalesce(func.max(class_history.c.id), 0)).scalar_subquery(),
        )
    ).one()
    said = conn.execute(select(settings.c.value).where(settings.c.key == TRAINING)).scalar()
    return Pulse(*row, said)


def groups(conn: Connection, by: By) -> tuple[Group, ...]:
    """The parts of the overview with how many images each has; the largest first, classes by their keys."""
    if by == "status":
        query = select(images.c.status, func.count()).where(_THERE).group_by(images.c.status)
        counts = {status: int(n) for status, n in conn.execute(query)}
        checks = conn.execute(_ranked(conn, func.count(), audit=True)).scalar_one()
        counts["unlabelled"] = counts.get("unlabelled", 0) - int(checks)
        return tuple(Group(status, counts.get(status, 0)) for status in _STATUSES)
    column = ranking.c.class_id if by == "class" else ranking.c.cluster
    rows = conn.execute(_ranked(conn, column, func.count()).where(column.is_not(None)).group_by(column)).all()
    if by == "cluster":
        return tuple(Group(str(n), int(size)) for n, size in sorted(rows, key=lambda row: (-row[1], row[0])))
    root = naming.roots(conn)
    sums = {one.name: 0 for one in naming.listed(conn)}
    for class_id, size in rows:
        sums[root[class_id].name] += int(size)
    return tuple(Group(name, size) for name, size in sums.items())


def tiles(conn: Connection, by: By, group: str, limit: int, after: str | None) -> list[Tile]:
    """Images of one group from after the cursor."""
    if by == "status":
        if group not in _STATUSES:
            raise BadOption(f"status {group!r} is none of {', '.join(_STATUSES)}.")
        query = _all(conn).where(_THERE, images.c.status == group)
        if group == "unlabelled":
            query = query.where(ranking.c.audit.is_not(True))
        return _tiles(conn, _by_id(query, after).limit(limit))
    query = _ranked(conn, *_COLUMNS)
    if by == "cluster":
        cluster = _whole(group, _MOST_CLUSTER)
        if cluster is None:
            raise BadOption(f"{group!r} is no cluster. Take one of the groups that the answer names.")
        return _tiles(conn, _by_id(query.where(ranking.c.cluster == cluster), after).limit(limit))
    wanted = naming.find(conn, group).id
    members = [class_id for class_id, root in naming.roots(conn).items() if root.id == wanted]
    query = query.where(ranking.c.class_id.in_(members))
    if after is not None:
        prob, image_id = _cursor(after)
        later = and_(ranking.c.prob == prob, images.c.id > image_id)
        query = query.where(or_(ranking.c.prob < prob, later))
    return _tiles(conn, query.order_by(ranking.c.prob.desc(), images.c.id).limit(limit))


def named(conn: Connection, image_ids: list[int]) -> dict[int, Tile]:
    """Tiles of these images that are there."""
    query = _all(conn).where(images.c.id.in_(image_ids), images.c.path.is_not(None))
    return {tile.image_id: tile for tile in _tiles(conn, query)}


def suggestions(conn: Connection, image_ids: list[int]) -> dict[int, tuple[str, float]]:
    """Class and probability that the model suggests for those of these images that have no answer.

    Nothing for those that are to be answered without a suggestion.
    """
    columns = (images.c.id, ranking.c.class_id, ranking.c.prob)
    query = _ranked(conn, *columns).where(images.c.id.in_(image_ids), ranking.c.class_id.is_not(None))
    root = naming.roots(conn)
    return {row.id: (root[row.class_id].name, row.prob) for row in conn.execute(query)}


_COLUMNS = (
    images.c.id,
    images.c.path,
    images.c.status,
    images.c.class_id.label("labelled_as"),
    images.c.label_id,
    ranking.c.class_id.label("predicted"),
    ranking.c.prob,
)


def _all(conn: Connection) -> Select[Any]:
    """Every image, with its prediction in the current ranking where there is one."""
    current = queue.published(conn)
    edition = current.edition if current else 0
    here = and_(ranking.c.edition == edition, ranking.c.image_id == images.c.id)
    return select(*_COLUMNS).select_from(images.outerjoin(ranking, here))


def _ranked(conn: Connection, *columns: Any, audit: bool = False) -> Select[Any]:
    """Unanswered images of the current ranking: the random checks, or those that are none."""
    current = queue.published(conn)
    return (
        select(*columns)
        .select_from(ranking.join(images, images.c.id == ranking.c.image_id))
        .where(ranking.c.edition == (current.edition if current else 0))
        .where(_THERE, images.c.status == "unlabelled", ranking.c.audit.is_(audit))
    )


def _by_id(query: Select[Any], after: str | None) -> Select[Any]:
    query = query.order_by(images.c.id)
    return query if after is None else query.where(images.c.id > _cursor(after)[1])


def _cursor(text: str) -> tuple[float, int]:
    prob, _, after = text.partition(":")
    image_id = _whole(after, _MOST_ID)
    with suppress(ValueError):
        if image_id is not None:
            return float(prob), image_id
    raise BadOption(f"{text!r} is no cursor. Use the `next` of an earlier answer.")


def _whole(text: str, most: int) -> int | None:
    """The number from 0 to `most` that the text is; None for anything else."""
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most))):
        return None
    return n if (n := int(text)) <= most else None


def _tiles(conn: Connection, query: Select[Any]) -> list[Tile]:
    root = naming.roots(conn)
    return [
        Tile(
            image_id=row.id,
            path=row.path,
            status=row.status,
            label=None if row.labelled_as is None else root[row.labelled_as].name,
            suggestion=None if row.predicted is None else (root[row.predicted].name, row.prob),
            label_id=row.label_id,
            cursor=f"{row.prob or 0.0!r}:{row.id}",
        )
        for row in conn.execute(query)
    ]


def disagreements(conn: Connection, limit: int) -> list[Disagreement]:
    """Images with answers of several classes, each the newest of its annotator and not taken back.

    Of someone who was asked again both answers count: the second was given without the first in sight.
    """
    void, later = labels.alias(), labels.alias()
    newest = (
        select(labels.c.image_id, labels.c.class_id, labels.c.id, annotators.c.name)
        .join(annotators, annotators.c.id == labels.c.annotator_id)
        .where(labels.c.status == "labelled", ~exists().where(void.c.undoes == labels.c.id))
        .where(
            ~exists().where(
                later.c.image_id == labels.c.image_id,
                later.c.annotator_id == labels.c.annotator_id,
                later.c.id > labels.c.id,
                later.c.status != "undone",
                later.c.source != "relabel",
            )
        )
    )
    asked = newest.subquery()
    several = (
        select(asked.c.image_id, func.max(asked.c.id).label("last"))
        .group_by(asked.c.image_id)
        .having(func.count(asked.c.class_id.distinct()) > 1)
        .order_by(func.max(asked.c.id).desc())
        .limit(limit)
    )
    order = [row.image_id for row in conn.execute(several)]
    root, tile = naming.roots(conn), named(conn, order)
    given: dict[int, list[tuple[str, str]]] = {image_id: [] for image_id in order}
    for row in conn.execute(newest.where(labels.c.image_id.in_(order)).order_by(labels.c.id)):
        given[row.image_id].append((row.name, root[row.class_id].name))
    return [
        Disagreement(image_id, tile[image_id].path, tile[image_id].label, tuple(pairs))
        for image_id, pairs in given.items()
        if image_id in tile and len({name for _, name in pairs}) > 1
    ]


def labels_since(conn: Connection, label_id: int) -> tuple[int, int]:
    """Labelled images by whether their answer is newer than that one."""
    newer = images.c.label_id > label_id
    query = select(newer, func.count()).where(_THERE, images.c.status == "labelled").group_by(newer)
    found = {bool(fresh): int(n) for fresh, n in conn.execute(query)}
    return found.get(True, 0), found.get(False, 0)


def anchored(conn: Connection) -> frozenset[int]:
    """Images whose first label was given with a suggestion in sight."""
    earlier, void = labels.alias(), labels.alias()
    query = select(labels.c.image_id).where(
        labels.c.status == "labelled",
        labels.c.suggestion_shown.is_(True),
        ~exists().where(void.c.undoes == labels.c.id),
        ~exists().where(
            earlier.c.image_id == labels.c.image_id,
            earlier.c.id < labels.c.id,
            earlier.c.status == "labelled",
        ),
    )
    return frozenset(conn.execute(query).scalars())


def confirmed(conn: Connection) -> frozenset[int]:
    """Images that were given the same label more than once, not taken back: someone has looked twice."""
    void = labels.alias()
    again = (
        select(labels.c.image_id)
        .where(labels.c.status == "labelled", ~exists().where(void.c.undoes == labels.c.id))
        .group_by(labels.c.image_id, labels.c.class_id)
        .having(func.count() > 1)
    )
    return frozenset(conn.execute(again).scalars())
