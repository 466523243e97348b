"""Annotators, and the tokens that let them in."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from itertools import count

from sqlalchemy import Connection, Row, select, update

from vizsla.errors import BadOption, UnknownName
from vizsla.store.database import insert
from vizsla.store.records import Annotator
from vizsla.store.schema import annotators


def ensure(conn: Connection, name: str, now: datetime) -> Annotator:
    """The annotator of that name, made if there is none; without a token of its own."""
    new = insert(conn, annotators).values(name=_checked(name), created_at=now)
    conn.execute(new.on_conflict_do_nothing(index_elements=["name"]))
    row = conn.execute(select(annotators).where(annotators.c.name == name)).one()
    return _annotator(row)


def set_token(conn: Connection, name: str, now: datetime) -> tuple[Annotator, str]:
    """Give an annotator, made if there is none, a new token; only its hash is kept, and an old one is void."""
    token = secrets.token_urlsafe(32)
    one = ensure(conn, name, now)
    conn.execute(update(annotators).where(annotators.c.id == one.id).values(token_hash=_hash(token)))
    return one, token


def newcomer(conn: Connection, base: str, token: str, now: datetime) -> Annotator:
    """Whose token it is, or a new annotator with it: `base`, or `base 2`, `base 3`, … where that is taken."""
    if (known := by_token(conn, token)) is not None:
        return known
    taken = {one.name for one in listed(conn)}
    names = (base if n == 1 else f"{base} {n}" for n in count(1))
    for name in (name for name in names if name not in taken):
        new = insert(conn, annotators).values(name=_checked(name), token_hash=_hash(token), created_at=now)
        row = conn.execute(new.on_conflict_do_nothing().returning(annotators)).first()
        one = (
            by_token(conn, token) if row is None else _annotator(row)
        )  # another was quicker: with this token?
        if one is not None:
            return one
    raise AssertionError("unreachable")


def revoke(conn: Connection, name: str) -> None:
    """Make the annotator's token void; the labels stay."""
    gone = update(annotators).where(annotators.c.name == name).values(token_hash=None)
    if not conn.execute(gone).rowcount:
        known = ", ".join(one.name for one in listed(conn)) or "none yet"
        raise UnknownName(f"no annotator named {name!r}. Known: {known}.")


def by_token(conn: Connection, token: str) -> Annotator | None:
    """Whose token it is; None for nobody's."""
    row = conn.execute(select(annotators).where(annotators.c.token_hash == _hash(token))).first()
    return None if row is None else _annotator(row)


def listed(conn: Connection) -> tuple[Annotator, ...]:
    """Everyone who has labelled or may, in the order they came."""
    return tuple(_annotator(row) for row in conn.execute(select(annotators).order_by(annotators.c.id)))


def _annotator(row: Row[tuple[object, ...]]) -> Annotator:
    return Annotator(row.id, row.name, row.created_at)


def _checked(name: str) -> str:
    if not name.strip() or "\0" in name:
        raise BadOption(f"{name!r} is no name for an annotator. Give it at least one visible letter.")
    return name


def _hash(token: str) -> str:
    """SHA-256: tokens are 256 random bits, which no slow hash would make harder to guess."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
