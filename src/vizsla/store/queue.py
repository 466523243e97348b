"""The queue: a published ranking, and leases on what annotators look at."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Executable,
    Row,
    Select,
    String,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    update,
)

from vizsla.errors import BadOption
from vizsla.store import classes as naming
from vizsla.store.database import Database, batched
from vizsla.store.database import insert as insert_or
from vizsla.store.records import ImageClass, Item, Published, Ranked, Upcoming
from vizsla.store.schema import images, labels, leases, ranking, rankings, settings

_CHUNK = 1000
_BREATH = 0.005  # seconds between chunks: other processes that wait for SQLite poll, and must find it free
_TRIES = 3  # on PostgreSQL another claim may be quicker to an image

REVIEW = "review"
"""The setting under which a trainer says what to look at again: `errors`, worst first, known up to `label_id`."""

NEAREST = "nearest"
"""The setting under which a trainer keeps, for labelled images, the cosine to the image most similar to each."""

_AGAIN = "random check, skipped before"
_RELABEL = "relabel"
UNDONE = "undone"
"""Why an image is leased whose answer was taken back."""
_SECOND = "asked again: what do you see?"

_FREE = (images.c.state == "present", images.c.status == "unlabelled", images.c.class_id.is_(None))
_LEASED = ("image_id", "annotator_id", "lease_id", "expires_at", "turn", "rank", "source", "reason")
_COLUMNS = (*_LEASED, "suggestion", "model_version")


def published(conn: Connection) -> Published | None:
    """The ranking that claims follow now."""
    newest = (
        select(rankings)
        .where(rankings.c.published_at.is_not(None))
        .order_by(rankings.c.edition.desc())
        .limit(1)
    )
    row = conn.execute(newest).first()
    return None if row is None else Published(row.edition, row.model_version, row.published_at)


def publish(
    database: Database, model_version: int | None, rows: Iterable[Ranked], now: datetime
) -> Published:
    """Write a ranking aside, in small transactions, then let claims follow it in one step."""
    new = insert(rankings).values(model_version=model_version).returning(rankings.c.edition)
    edition: int = database.write(lambda conn: conn.execute(new).scalar_one())
    fill = insert(ranking).returning(ranking.c.rank)  # returning: then many rows go in one statement
    rank = 0
    for chunk in batched(rows, _CHUNK):
        values = [_ranked(edition, rank + place, row) for place, row in enumerate(chunk)]
        database.write(partial(_write, statement=fill, rows=values))
        rank += len(chunk)
        time.sleep(_BREATH)
    database.analyze(ranking)
    swap = update(rankings).where(rankings.c.edition == edition).values(published_at=now)
    database.write(partial(_write, statement=swap))
    _forget_before(database, edition)
    return Published(edition, model_version, now)


def _write(conn: Connection, statement: Executable, rows: list[dict[str, Any]] | None = None) -> None:
    conn.execute(statement, rows)


def _ranked(edition: int, rank: int, row: Ranked) -> dict[str, Any]:
    class_id, prob = row.suggestion[0] if row.suggestion else (None, None)
    return {
        "edition": edition,
        "rank": rank,
        "image_id": row.image_id,
        "score": row.score,
        "reason": row.reason,
        "audit": row.audit,
        "suggestion": row.suggestion,
        "class_id": class_id,
        "prob": prob,
        "cluster": row.cluster,
    }


def _forget_before(database: Database, edition: int) -> None:
    with database.read() as conn:
        old = [
            (row.edition, row.last)
            for row in conn.execute(
                select(ranking.c.edition, func.max(ranking.c.rank).label("last"))
                .where(ranking.c.edition < edition)
                .group_by(ranking.c.edition)
            )
        ]
    for which, last in old:
        for top in range(_CHUNK, last + _CHUNK + 1, _CHUNK):
            gone = delete(ranking).where(ranking.c.edition == which, ranking.c.rank < top)
            database.write(partial(_write, statement=gone))
            time.sleep(_BREATH)


def claim(
    conn: Connection, annotator_id: int, n: int, now: datetime, until: datetime, *, relabel: bool = False
) -> list[Item]:
    """Up to n images for this annotator: those already leased first, then the best that nobody holds.

    Args: relabel: labelled images that are worth asking again, in place of unanswered ones.
    """
    if n < 1:
        raise BadOption(f"asked for {n} images. Ask for at least 1.")
    renew(conn, annotator_id, now, until, relabel=relabel)
    held = len(_items(conn, annotator_id, n, now, relabel))
    tries = 1 if conn.dialect.name == "sqlite" else _TRIES
    for offer in _offers(relabel):
        candidates = offer(conn) if held < n else None
        for _ in range(tries):
            if held < n and candidates is not None:
                held += _lease(conn, annotator_id, n - held, now, until, candidates)
    return _items(conn, annotator_id, n, now, relabel)


def upcoming(conn: Connection, n: int, *, relabel: bool = False) -> list[Upcoming]:
    """What would be claimed next, were nobody else there; nothing is leased."""
    found: list[Upcoming] = []
    seen: set[int] = set()
    for offer in _offers(relabel):
        if len(found) >= n or (candidates := offer(conn)) is None:
            continue
        for row in conn.execute(candidates.add_columns(images.c.path).limit(n + len(found))):
            if row.id not in seen and len(found) < n:
                seen.add(row.id)
                found.append(Upcoming(row.id, row.path, row.reason))
    return found


def _by_rank(conn: Connection) -> Select[Any] | None:
    """What the published ranking offers, best first; None where there is no ranking."""
    current = published(conn)
    if current is None:
        return None
    chosen = "random" if current.model_version is None else "al"
    return (
        select(
            images.c.id,
            cast(ranking.c.rank, BigInteger).label("rank"),
            case((ranking.c.audit, "audit"), else_=chosen).label("source"),
            ranking.c.reason,
            case((ranking.c.audit, null()), else_=ranking.c.suggestion).label("suggestion"),
            literal(current.model_version, ranking.c.rank.type).label("model_version"),
        )
        .join(ranking, ranking.c.image_id == images.c.id)
        .where(ranking.c.edition == current.edition, *_FREE)
        .order_by(ranking.c.rank)
    )


def _by_shuffle(_: Connection) -> Select[Any]:
    """Images in a random order that is always the same, for those that no ranking names."""
    by_index = (
        images.c.class_id,
        images.c.shuffle,
    )  # PostgreSQL does not see that class_id is always null here
    return _plain("random", "random").where(*_FREE).order_by(*by_index)


def _skipped_checks(_: Connection) -> Select[Any]:
    """Random checks that were skipped, once and no more: one that stays open makes the accuracy less sure."""
    earlier, answer = labels.alias(), labels.alias()
    again = exists().where(
        earlier.c.image_id == images.c.id, earlier.c.status == "skipped", earlier.c.id < images.c.label_id
    )
    check = exists().where(answer.c.id == images.c.label_id, answer.c.source.in_(["audit", "random"]))
    skipped = (images.c.state == "present", images.c.status == "skipped", check, ~again)
    return _plain("audit", _AGAIN).where(*skipped).order_by(images.c.shuffle)


def _suspects(conn: Connection) -> Select[Any] | None:
    """Labelled images whose label the newest model doubts, unless someone has answered or was asked again since."""
    review = conn.execute(select(settings.c.value).where(settings.c.key == REVIEW)).scalar() or {}
    rank_of = {one["image"]: rank for rank, one in enumerate(review.get("errors", []))}
    if not rank_of:
        return None
    void = labels.alias()
    asked = exists().where(
        labels.c.image_id == images.c.id,
        labels.c.source == _RELABEL,
        labels.c.status != "undone",
        ~exists().where(void.c.undoes == labels.c.id),
    )
    doubted = (images.c.id.in_(rank_of), images.c.label_id <= review["label_id"])
    rank = cast(case(rank_of, value=images.c.id), BigInteger).label("rank")
    return (
        _plain(_RELABEL, _SECOND, rank)
        .where(images.c.state == "present", images.c.status == "labelled", *doubted, ~asked)
        .order_by(rank)
    )


def suspects(conn: Connection) -> int:
    """How many images are worth asking again, whoever holds them."""
    found = _suspects(conn)
    if found is None:
        return 0
    return int(conn.execute(select(func.count()).select_from(found.order_by(None).subquery())).scalar_one())


def _plain(source: str, reason: str, rank: ColumnElement[Any] = images.c.shuffle) -> Select[Any]:
    return select(
        images.c.id,
        rank.label("rank"),
        literal(source).label("source"),
        literal(reason).label("reason"),
        cast(null(), ranking.c.suggestion.type).label("suggestion"),
        cast(null(), ranking.c.rank.type).label("model_version"),
    )


def _offers(relabel: bool) -> tuple[Callable[[Connection], Select[Any] | None], ...]:
    return (_suspects,) if relabel else (_by_rank, _by_shuffle, _skipped_checks)


def _lease(
    conn: Connection, annotator_id: int, n: int, now: datetime, until: datetime, candidates: Select[Any]
) -> int:
    """Lease the first n candidates that are free, in one statement; returns how many it got."""
    free = (
        candidates.where(~exists().where(leases.c.image_id == images.c.id, leases.c.expires_at > now))
        .limit(n)
        .with_for_update(of=images, skip_locked=True, key_share=True)
        .subquery()
    )
    rows = select(
        free.c.id,
        literal(annotator_id),
        literal(f"{uuid4().hex}-") + cast(free.c.id, String),
        literal(until, leases.c.expires_at.type),
        literal(time.time_ns()),
        free.c.rank,
        free.c.source,
        free.c.reason,
        free.c.suggestion,
        cast(free.c.model_version, ranking.c.rank.type),
    ).where(literal(True))  # SQLite cannot tell ON CONFLICT from a join without it
    taken = insert_or(conn, leases).from_select(list(_COLUMNS), rows)
    over = {name: taken.excluded[name] for name in _COLUMNS[1:]}
    taken = taken.on_conflict_do_update(
        index_elements=["image_id"], set_=over, where=leases.c.expires_at <= now
    )
    return len(conn.execute(taken.returning(leases.c.image_id)).all())


def _items(conn: Connection, annotator_id: int, n: int, now: datetime, relabel: bool) -> list[Item]:
    query = (
        select(leases, images.c.path, images.c.state, images.c.status)
        .join(images, images.c.id == leases.c.image_id)
        .where(leases.c.annotator_id == annotator_id, leases.c.expires_at > now, _of_queue(relabel))
        .order_by(leases.c.turn, leases.c.rank)
    )  # a condition on images here would have SQLite search all of them for the few that are leased
    rows = [row for row in conn.execute(query) if row.state == "present" and _is_open(row)][:n]
    root = naming.roots(conn) if any(row.suggestion for row in rows) else {}
    return [
        Item(
            row.image_id,
            row.path,
            row.lease_id,
            row.expires_at,
            row.source,
            row.reason,
            row.model_version,
            named(row.suggestion, root),
        )
        for row in rows
    ]


def _of_queue(relabel: bool) -> ColumnElement[bool]:
    return leases.c.source == _RELABEL if relabel else leases.c.source != _RELABEL


def _is_open(row: Row[Any]) -> bool:
    if row.source == _RELABEL:  # an answer ends the lease, so whatever stands has been standing
        return row.status in ("unlabelled", "labelled")
    return row.status == "unlabelled" or (row.status == "skipped" and row.reason == _AGAIN)


def named(
    suggestion: list[list[float]] | None, root: dict[int, ImageClass]
) -> tuple[tuple[str, float], ...] | None:
    """Class ids to names; what was merged since is added up."""
    if suggestion is None:
        return None
    sums: dict[str, float] = {}
    for class_id, prob in suggestion:
        name = root[int(class_id)].name
        sums[name] = sums.get(name, 0.0) + prob
    return tuple(sorted(sums.items(), key=lambda pair: -pair[1]))


def renew(
    conn: Connection, annotator_id: int, now: datetime, until: datetime, *, relabel: bool | None = None
) -> int:
    """Keep what the annotator holds until then; returns how many images that is.

    Args: relabel: only those of that queue, or of the other: nobody works on both, and what is left expires.
    """
    held = update(leases).where(leases.c.annotator_id == annotator_id, leases.c.expires_at > now)
    if relabel is not None:
        held = held.where(_of_queue(relabel))
    return conn.execute(held.values(expires_at=until)).rowcount


def held(conn: Connection, now: datetime) -> tuple[int, int]:
    """Images that annotators hold, and how many annotators that are."""
    query = select(func.count(), func.count(leases.c.annotator_id.distinct())).where(
        leases.c.expires_at > now
    )
    images_held, holders = conn.execute(query).one()
    return int(images_held), int(holders)


def release(conn: Connection, annotator_id: int, keep: Collection[str], until: datetime | None = None) -> int:
    """Give back what the annotator holds, but the leases to keep and those that last longer; returns how many."""
    given = delete(leases).where(leases.c.annotator_id == annotator_id, leases.c.lease_id.not_in(list(keep)))
    if until is not None:
        given = given.where(leases.c.expires_at <= until)
    return conn.execute(given).rowcount


def hand_back(
    conn: Connection, annotator_id: int, taken_back: Iterable[Any], now: datetime, until: datetime
) -> None:
    """Lease images whose answer was undone to who undid it, to be shown before all others, in this order."""
    turn = -time.time_ns()
    values = [
        {
            "image_id": row.image_id,
            "annotator_id": annotator_id,
            "lease_id": f"{uuid4().hex}-{row.image_id}",
            "expires_at": until,
            "turn": turn,
            "rank": place,
            "source": row.source if row.source in ("al", "random", "audit", _RELABEL) else "al",
            "reason": UNDONE,
            "suggestion": row.suggestion,
            "model_version": row.model_version,
        }
        for place, row in enumerate(taken_back)
    ]
    held = insert_or(conn, leases)
    free = held.on_conflict_do_update(
        index_elements=["image_id"],
        set_={name: held.excluded[name] for name in _COLUMNS[1:]},
        where=leases.c.expires_at <= now,
    )
    conn.execute(free, values)
