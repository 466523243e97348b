"""A whole project into an empty database, from SQLite to PostgreSQL or back: all of it, or nothing.

Rows keep their ids and their order, so history, undo and everything that points at an image stay true. Leases stay
behind: they say who looks at what at this moment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, select, text, update

from vizsla.errors import BadOption, VizslaError
from vizsla.store import overview
from vizsla.store.database import Database, batched, insert
from vizsla.store.schema import classes, images, labels, leases, metadata, ranking, settings

_CHUNK = 2000
_OF_A_MOMENT = (overview.TRAINING,)  # settings that tell of a process

Row = dict[str, Any]
OnRows = Callable[[int, int], None]


def copy(
    source: Database, target: Database, changed: Mapping[str, Any], progress: OnRows | None = None
) -> dict[str, int]:
    """Copy every row into an empty database, in one transaction; returns rows by table.

    What was written is read again and compared by checksum before it is committed.

    Args:
        changed: settings that are others in the new place.
        progress: called with (done, total) rows, perhaps from another thread.
    Raises: BadOption where the target holds anything, or where someone works on the source.
    """
    with source.lead("trainer") as alone, source.moment() as old:
        if not alone:
            raise BadOption(f"a trainer works on {source.name}. Stop its servers and workers, then move it.")
        before = overview.pulse(old)

        def job(conn: Connection) -> dict[str, int]:
            copied = _fill(conn, old, target.name, changed, progress)
            with source.read() as now:
                if overview.pulse(now) != before:
                    raise BadOption(
                        f"{source.name} changed while it was copied. Stop its servers, then move it again."
                    )
            return copied

        copied = target.write(job)
    for table in (images, labels, ranking):
        target.analyze(table)
    return copied


def _fill(
    conn: Connection, old: Connection, name: str, changed: Mapping[str, Any], progress: OnRows | None
) -> dict[str, int]:
    if held := [table.name for table in metadata.sorted_tables if _count(conn, table)]:
        raise BadOption(f"{name} is not empty: it has {', '.join(held)}. Name a new folder or database.")
    tables = [table for table in metadata.sorted_tables if table is not leases]
    total, done = sum(_count(old, table) for table in tables), 0
    copied: dict[str, int] = dict.fromkeys((table.name for table in tables), 0)
    for table in tables:
        written = hashlib.sha256()
        for chunk in batched(_rows(old, table, changed), _CHUNK):
            _note(written, chunk)
            _write(conn, table, chunk)
            copied[table.name] += len(chunk)
            done += len(chunk)
            if progress:
                progress(done, total)
        _number_on(conn, table)
        kept = hashlib.sha256()
        _note(kept, _rows(conn, table))
        if kept.digest() != written.digest():
            raise VizslaError(f"the rows of {table.name} came out otherwise in {name}; nothing was moved.")
    return copied


def _count(conn: Connection, table: Table) -> int:
    return int(conn.execute(select(func.count()).select_from(table)).scalar_one())


def _rows(conn: Connection, table: Table, changed: Mapping[str, Any] | None = None) -> Iterator[Row]:
    """The rows by their keys; of settings, with those that change."""
    query = select(table).order_by(*table.primary_key).execution_options(yield_per=_CHUNK)
    for row in conn.execute(query).mappings():
        if changed is None or table is not settings:
            yield dict(row)
        elif row["key"] not in _OF_A_MOMENT:
            yield {"key": row["key"], "value": changed.get(row["key"], row["value"])}


def _note(digest: Any, rows: Iterable[Row]) -> None:
    for row in rows:
        digest.update(repr(tuple(row.values())).encode(errors="surrogatepass"))


def _write(conn: Connection, table: Table, rows: list[Row]) -> None:
    if table is not classes:
        conn.execute(insert(conn, table), rows)
        return
    conn.execute(
        insert(conn, table), [row | {"merged_into": None} for row in rows]
    )  # perhaps into a later one
    merged = [{"one": row["id"], "into": row["merged_into"]} for row in rows if row["merged_into"]]
    if merged:
        into = update(classes).where(classes.c.id == bindparam("one")).values(merged_into=bindparam("into"))
        conn.execute(into, merged)


def _number_on(conn: Connection, table: Table) -> None:
    """Have PostgreSQL number new rows from the last on; SQLite does so by itself."""
    column = table.autoincrement_column
    if conn.dialect.name == "sqlite" or column is None:
        return
    last = conn.execute(select(func.coalesce(func.max(column), 0))).scalar_one()
    numbers = text("SELECT setval(pg_get_serial_sequence(:table, :column), :next, false)")
    conn.execute(numbers, {"table": table.name, "column": column.name, "next": last + 1})
