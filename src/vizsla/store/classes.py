"""Classes: added, renamed and merged without touching a label."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, func, select, update

from vizsla.errors import BadOption, NoLabel
from vizsla.store.database import batched, insert
from vizsla.store.records import ClassChange, ImageClass
from vizsla.store.schema import class_history, classes, legible

_CHUNK = 500


def listed(conn: Connection) -> tuple[ImageClass, ...]:
    """The classes one can answer with, in the order of their keys."""
    return tuple(sorted(set(roots(conn).values()), key=lambda one: one.position))


def roots(conn: Connection) -> dict[int, ImageClass]:
    """Class id → the class it is now, through all merges.

    Of classes merged in a circle, as opposite merges at one moment once could, it is the oldest.
    """
    rows = {row.id: row for row in conn.execute(select(classes))}

    def root(class_id: int) -> ImageClass:
        way = [class_id]
        while (above := rows[way[-1]].merged_into) is not None and above not in way:
            way.append(above)
        end = way[-1] if above is None else min(way[way.index(above) :])
        return ImageClass(end, rows[end].name, rows[end].position)

    return {class_id: root(class_id) for class_id in rows}


def find(conn: Connection, name: str) -> ImageClass:
    """The class of that name, or the one that was last called so: late labels know old names."""
    return found(conn, [name])[name]


def found(conn: Connection, names: Iterable[str]) -> dict[str, ImageClass]:
    """Name → class as `find` knows it, for many names at once. Raises NoLabel for the first that is none."""
    wanted = list(dict.fromkeys(names))
    known = known_of(conn, wanted)
    for name in wanted:
        if name not in known:
            raise _unknown(conn, name)
    return known


def known_of(conn: Connection, names: Iterable[str]) -> dict[str, ImageClass]:
    """Name → class as `find` knows it, of those names that are or were a class's."""
    tidied = {name: tidy(name) for name in names}
    root = roots(conn)
    now = {one.name: one for one in root.values()}
    missing = {plain for plain in tidied.values() if plain not in now}
    formerly: dict[str, ImageClass] = {}
    for chunk in batched(sorted(missing), _CHUNK):
        query = select(class_history.c.name, class_history.c.class_id).order_by(class_history.c.id)
        rows = conn.execute(query.where(class_history.c.name.in_(chunk)))
        formerly |= {row.name: root[row.class_id] for row in rows}
    known = formerly | now
    return {name: known[plain] for name, plain in tidied.items() if plain in known}


def _unknown(conn: Connection, name: str) -> NoLabel:
    names = [one.name for one in listed(conn)]
    close = difflib.get_close_matches(tidy(name), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return NoLabel(f"no class named {name!r}.{hint} Known: {', '.join(names) or 'none yet'}.")


def add(conn: Connection, names: Iterable[str], now: datetime) -> tuple[ImageClass, ...]:
    """Add the classes that are not there yet; returns those named, in order."""
    wanted = [tidy(name) for name in names]
    there = {one.name for one in listed(conn)}
    top = conn.execute(select(func.coalesce(func.max(classes.c.position), -1))).scalar_one()
    new = [name for name in dict.fromkeys(wanted) if name not in there]
    if new:
        rows = [{"name": name, "position": place} for place, name in enumerate(new, top + 1)]
        conn.execute(insert(conn, classes), rows)
        query = select(classes.c.id, classes.c.name).where(classes.c.position > top)
        added = conn.execute(query.order_by(classes.c.position)).all()
        history = [{"class_id": row.id, "change": "added", "name": row.name, "at": now} for row in added]
        conn.execute(insert(conn, class_history), history)
    by_name = {one.name: one for one in listed(conn)}
    return tuple(by_name[name] for name in wanted)


def rename(conn: Connection, name: str, to: str, now: datetime) -> ImageClass:
    """Give the class another name; its labels, its id and its key stay."""
    one, new = find(conn, name), tidy(to)
    if new == one.name:
        return one
    if any(other.name == new for other in listed(conn)):
        raise BadOption(
            f"there is a class {new!r} already. Merge {one.name!r} into it, or choose another name."
        )
    conn.execute(update(classes).where(classes.c.id == one.id).values(name=new))
    _remember(conn, one.id, "renamed", new, now)
    return ImageClass(one.id, new, one.position)


def merge(conn: Connection, name: str, into: str, now: datetime) -> ImageClass:
    """Count the class as another from now on; its labels keep what was answered."""
    one, target = _held(conn, name, into)
    if one.id == target.id:
        raise BadOption(f"{name!r} and {into!r} are one class already. Choose two.")
    conn.execute(update(classes).where(classes.c.id == one.id).values(merged_into=target.id))
    _remember(conn, one.id, "merged", one.name, now)
    return target


def _held(conn: Connection, name: str, into: str) -> tuple[ImageClass, ImageClass]:
    """The two classes, held so that no other merge changes them: two opposite ones would make a circle."""
    pair = find(conn, name), find(conn, into)
    while True:
        wanted = classes.c.id.in_([one.id for one in pair])
        held = select(classes.c.id).where(wanted).order_by(classes.c.id).with_for_update(key_share=True)
        conn.execute(held).all()
        before, pair = pair, (find(conn, name), find(conn, into))
        if pair == before:
            return pair


def history(conn: Connection) -> tuple[ClassChange, ...]:
    """Everything that happened to the classes, oldest first."""
    rows = conn.execute(select(class_history).order_by(class_history.c.id))
    return tuple(ClassChange(row.class_id, row.change, row.name, row.at) for row in rows)


def tidy(name: str) -> str:
    """The name without outer blanks, composed: macOS folder names come decomposed, typed ones do not."""
    clean = unicodedata.normalize("NFC", legible(name).strip())
    if not clean or "\0" in clean:
        raise BadOption(f"{name!r} is no class name. Give it at least one visible letter.")
    return clean


def _remember(conn: Connection, class_id: int, change: str, name: str, now: datetime) -> None:
    conn.execute(insert(conn, class_history).values(class_id=class_id, change=change, name=name, at=now))
