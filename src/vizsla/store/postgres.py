"""PostgreSQL: connections that are alive and durable, what its errors mean, roles that one session holds.

A database that restarts, or whose connections are cut, is away for some seconds; the servers and trainers that
share it are to get over that without a person's help.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)

from vizsla.errors import BadOption, DatabaseAway, DiskFull, NotWritable, VizslaError
from vizsla.store.lead import Lead

PATIENCE = 5.0  # seconds that a call waits for a database that is away
_PAUSE = 0.1  # seconds between two tries
_CONNECTIONS = 16  # all kept, for a new one is dear: PostgreSQL takes 100 of all servers and workers together
_QUIET = 1.0  # seconds after which a connection is asked whether it lives before it is used
_MIGRATING = 0x76697A736C61  # "vizsla": the lock that whoever migrates holds
_LOST_RACE = ("40001", "40P01", "23505")  # serialization failure, deadlock, unique violation
_FULL = "53100"
_READ_ONLY = "25006"
_AWAY = ("08", "57P", "53300")  # connection errors, restarts, too many connections

# A machine that dies says no goodbye. Both ends find out within 12 seconds, and what it held is free again.
_OURS = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}
_THEIRS = {
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 2,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # for keepalives say nothing while an answer waits to be taken
}


def engines(address: str) -> tuple[str, Engine, Engine]:
    """A name to show, and engines to read and to write with; nothing is asked of the server yet.

    Raises: BadOption for what is no address of PostgreSQL, or where psycopg is not installed.
    """
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise BadOption(_not_ours(address)) from None
    if url.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise BadOption(_not_ours(address))
    url = url.set(drivername="postgresql+psycopg")
    wanted = {name: value for name, value in _OURS.items() if name not in url.query}
    try:
        engine = create_engine(url, pool_size=_CONNECTIONS, max_overflow=0, connect_args=wanted)
    except ModuleNotFoundError:
        raise BadOption("psycopg is not installed. Run: pip install 'vizsla[postgres]'.") from None
    event.listen(engine, "connect", _settle)
    event.listen(engine, "checkin", _note)
    event.listen(engine, "checkout", partial(_ask, engine))
    reading = engine.execution_options(isolation_level="AUTOCOMMIT")  # no BEGIN and ROLLBACK to wait for
    return url.render_as_string(hide_password=True), reading, engine


def _not_ours(address: str) -> str:
    return f"{address.split('@')[-1]!r} is no project. Give a folder, or postgresql://user@host/name."


def _settle(connection: Any, _: object) -> None:
    """Wait for the disk even where the server does not, and have the server notice that we are gone."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') = 'off'"
        )
        for name, value in _THEIRS.items():  # a Unix socket takes them, too, and ignores them
            cursor.execute(f"SET {name} = {value}")
    connection.commit()


def _note(_: object, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _ask(engine: Engine, connection: Any, record: Any, _: object) -> None:
    """Have the pool replace a connection that has died; one that worked a moment ago is not asked."""
    if time.monotonic() - record.info.get("used", -_QUIET) < _QUIET:
        return
    try:
        engine.dialect.do_ping(connection)
    except engine.dialect.loaded_dbapi.Error:
        raise DisconnectionError from None


def connect(engine: Engine) -> Connection:
    """A connection; where the server is away, wait for it a few seconds."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return engine.connect()
        except DBAPIError as error:
            if not is_lost(error) or time.monotonic() > end:
                raise
        time.sleep(_PAUSE)


def is_lost(error: Exception) -> bool:
    """Whether it tells of a connection that was cut, or that could not be made."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    state = getattr(error.orig, "sqlstate", None)  # none where no server answered
    return error.connection_invalidated or state is None or state.startswith(_AWAY)


def explained(error: BaseException, name: str) -> VizslaError | None:
    """What an error means for the caller; None for one that tells of a fault of ours."""
    if not isinstance(error, DBAPIError):
        return None
    said, state = str(error.orig), getattr(error.orig, "sqlstate", None)
    if is_lost(error):
        return DatabaseAway(f"lost the connection to {name}; try again. It said: {said}")
    if state == _FULL:
        return DiskFull(f"no space left for {name}: {said.splitlines()[0]}. Free some space on its server.")
    if state == _READ_ONLY:
        return NotWritable(
            f"{name} takes no writes: {said.splitlines()[0]}. Give the address of the primary."
        )
    return None


def lost_race(error: DBAPIError) -> bool:
    """Whether another transaction was quicker, so that ours may start anew."""
    return getattr(error.orig, "sqlstate", None) in _LOST_RACE


def keep_others_out(conn: Connection) -> None:
    """Wait until no other process migrates; none will until this transaction ends."""
    conn.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATING})"))


@contextmanager
def lead(engine: Engine, role: str) -> Iterator[Lead]:
    """Try to get the role; it is ours as long as one connection lives."""
    key = int.from_bytes(hashlib.blake2b(role.encode(), digest_size=7).digest())
    conn, got = _lock(engine, key)
    with conn:
        leading = Lead(got, partial(_answers, conn))
        try:
            yield leading
        finally:
            if leading.held():
                with suppress(SQLAlchemyError):  # the server is gone, and the lock with it
                    conn.execute(text(f"SELECT pg_advisory_unlock({key})"))
                    conn.commit()


def _lock(engine: Engine, key: int) -> tuple[Connection, bool]:
    """A connection, and whether it has got the lock; one that turns out to be dead is replaced."""
    end = time.monotonic() + PATIENCE
    while True:
        conn = connect(engine)
        try:
            got = bool(conn.execute(text(f"SELECT pg_try_advisory_lock({key})")).scalar())
            conn.commit()
            return conn, got
        except DBAPIError as error:
            conn.close()
            if not is_lost(error) or time.monotonic() > end:
                raise


def _answers(conn: Connection) -> bool:
    """Whether the very connection is alive."""
    try:
        conn.execute(text("SELECT 1"))
        conn.commit()
    except SQLAlchemyError:
        return False
    return True
