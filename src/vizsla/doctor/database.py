"""A project's database, looked at without changing it: neither made nor brought up to date."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, func, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from vizsla.caching import in_units
from vizsla.doctor.cache import space, write_and_remove
from vizsla.doctor.finding import Finding, ok, problem, warning, worst
from vizsla.errors import UserError
from vizsla.store import migrations
from vizsla.store.schema import images, labels

FILE = "project.db"
_LARGE_LOG = 256e6  # bytes; SQLite empties its log at 4 MB
_RECOVER = (
    "Copy the folder away first. A backup is best; without one SQLite may save what is left: "
    "sqlite3 project.db .recover | sqlite3 mended.db, and put mended.db in its place."
)


def is_current(found: Iterable[Finding]) -> bool:
    """Whether what was found is a database that may be opened without being changed."""
    return any(
        "newest_revision" in one.facts and one.facts["revision"] == one.facts["newest_revision"]
        for one in found
    )


def health(address: str) -> Iterator[Finding]:
    """Whether it can be reached, is sound, and of a version that this Vizsla knows."""
    yield from _server(address) if "://" in address else _folder(Path(address))


def _folder(home: Path) -> Iterator[Finding]:
    file = home / FILE
    if not file.is_file():
        yield problem(
            "database", f"there is no project in {home}", f"Start one: vizsla label DIR --project {home}"
        )
        return
    engine = create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
    )
    try:
        with engine.connect() as conn:
            found = list(_sound(conn, file)) or list(_known(conn, str(file), _facts(conn, file)))
    except DBAPIError as error:
        found = [problem("database", f"{file} cannot be read: {error.orig}", _RECOVER)]
    finally:
        engine.dispose()
    yield from found
    if worst(found) != "problem":
        yield from _room(home, file)


def _sound(conn: Connection, file: Path) -> Iterator[Finding]:
    """SQLite's own check of every page; nothing where all is well."""
    said = [str(row[0]) for row in conn.execute(text("PRAGMA integrity_check(5)"))]
    if said != ["ok"]:
        yield problem("database", f"{file} is damaged: {'; '.join(said)}", _RECOVER, integrity=said)


def _facts(conn: Connection, file: Path) -> dict[str, Any]:
    mode = conn.execute(text("PRAGMA journal_mode")).scalar()
    return {"kind": "SQLite", "bytes": file.stat().st_size, "integrity": ["ok"], "journal": mode}


def _known(conn: Connection, name: str, facts: dict[str, Any]) -> Iterator[Finding]:
    """Its tables' version, and what is in them."""
    revision, known = migrations.revisions(conn)
    facts |= {"name": name, "revision": revision, "newest_revision": known[-1]}
    if revision is None:
        yield problem(
            "database", f"{name} is no Vizsla project", "Give the folder of one: --project P", **facts
        )
    elif revision not in known:
        mend = "Run: pip install --upgrade vizsla"
        yield problem(
            "database", f"{name} was written by a newer Vizsla (revision {revision})", mend, **facts
        )
    elif revision != known[-1]:
        text = (
            f"{name}, of an older Vizsla (revision {revision}); the next command on it brings it up to date"
        )
        yield ok("database", text, **facts)
    else:
        counts = {
            one.name: conn.execute(select(func.count()).select_from(one)).scalar_one()
            for one in (images, labels)
        }
        held = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        kind = f"{facts['kind']}, {in_units(facts['bytes'])}, revision {revision}"
        yield ok("database", f"{name}: {held} ({kind}), sound", **facts, **counts)


def _room(home: Path, file: Path) -> Iterator[Finding]:
    """Whether answers can be written, and how long the write-ahead log has grown."""
    try:
        write_and_remove(home)
    except UserError as error:
        yield problem("database", str(error), "")
        return
    log = file.with_name(f"{FILE}-wal")
    length = log.stat().st_size if log.exists() else 0
    if length > _LARGE_LOG:
        mend = "Stop every vizsla process on this project, then run: vizsla status"
        yield warning("database", f"its log has grown to {in_units(length)}", mend, log=length)
    free = shutil.disk_usage(home).free
    room = space("database", f"log of {in_units(length)}", free, "Make room", log=length)
    if room.state != "ok":
        yield room


def _server(address: str) -> Iterator[Finding]:
    try:
        url = make_url(address).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        yield problem("database", "the address is no URL", "Write postgresql://user@host/name")
        return
    name = url.render_as_string(hide_password=True)
    try:
        engine = create_engine(url, connect_args={"connect_timeout": 10})
    except ImportError:
        yield problem("database", "psycopg is not installed", "Run: pip install 'vizsla[postgres]'")
        return
    yield from _answered(engine, name)


def _answered(engine: Engine, name: str) -> Iterator[Finding]:
    try:
        with engine.connect() as conn:
            version = conn.execute(text("SHOW server_version")).scalar()
            used = conn.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
            yield from _known(conn, name, {"kind": f"PostgreSQL {version}", "bytes": int(used)})
    except DBAPIError as error:
        said = str(error.orig).splitlines()[0]
        mend = "Is the server running, and is the address right? Try it with: psql ADDRESS"
        yield problem("database", f"cannot reach {name}: {said}", mend)
    finally:
        engine.dispose()
