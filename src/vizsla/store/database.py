"""A connection to SQLite or PostgreSQL: migrated, durable, one way to read and one to write.

SQLite lets one writer in at a time, and each commit waits for the disk. One thread therefore does all the
writing, and what queued up while the disk was busy shares the next commit (group commit). A write returns
once its commit has, so what is acknowledged is on disk. PostgreSQL does the same by itself.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self, TypeVar

from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError

from vizsla.caching import explain_write_errors
from vizsla.errors import BadOption, DatabaseAway, DiskFull, VizslaError
from vizsla.store import migrations, postgres
from vizsla.store.lead import Lead

T = TypeVar("T")

FILE = "project.db"
_GROUP = 256  # writes that share a commit, at most
_TRIES = 20  # of a PostgreSQL transaction that lost a race
_BUSY_SECONDS = 30


def batched(rows: Iterable[T], n: int) -> Iterator[list[T]]:
    """The rows in lists of n; the last may be shorter."""
    iterator = iter(rows)
    while batch := list(islice(iterator, n)):
        yield batch


def insert(conn: Connection, table: Table) -> Any:
    """An INSERT of the connection's dialect, which knows ON CONFLICT."""
    return sqlite.insert(table) if conn.dialect.name == "sqlite" else postgresql.insert(table)


class Database:
    """Engines for reading and writing. Open one per process, share it among threads, close it."""

    def __init__(self, name: str, readers: Engine, writers: Engine) -> None:
        self.name = name
        self._readers = readers
        self._writers = writers
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closed = False

    @classmethod
    def open(cls, where: str | Path) -> Self:
        """Connect and bring the tables up to date.

        Args:
            where: a project folder (made if absent; SQLite inside) or a database URL.
        """
        if isinstance(where, str) and "://" in where:
            return cls._open_server(where)
        return cls._open_folder(Path(where))

    @classmethod
    def _open_folder(cls, folder: Path) -> Self:
        path = folder / FILE
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
        url = URL.create("sqlite", database=str(path))
        database = cls(str(path), _sqlite(url, "BEGIN"), _sqlite(url, "BEGIN IMMEDIATE"))
        with FileLock(folder / f".{FILE}.lock"):
            return database._prepared()

    @classmethod
    def _open_server(cls, address: str) -> Self:
        database = cls(*postgres.engines(address))
        try:
            database._writers.connect().close()
        except OperationalError as error:
            raise BadOption(f"cannot reach {database.name}: {str(error.orig).splitlines()[0]}") from None
        return database._prepared()

    def _prepared(self) -> Self:
        """This database with its tables up to date; closed again where that fails."""
        try:
            with self._explain():
                if self._is_sqlite:  # the mode of the journal cannot change within a transaction
                    raw = self._writers.raw_connection()
                    raw.cursor().execute("PRAGMA journal_mode=WAL")
                    raw.close()
                with self._writers.begin() as conn:
                    if not self._is_sqlite:
                        postgres.keep_others_out(conn)
                    migrations.upgrade(conn, self.name)
        except BaseException:
            self.close()
            raise
        return self

    @property
    def _is_sqlite(self) -> bool:
        return self._writers.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one moment of the database on SQLite, and only reads."""
        with self._explain(), self._connect(self._readers) as conn:
            yield conn

    @contextmanager
    def moment(self) -> Iterator[Connection]:
        """A connection that sees one moment of the database, however long it reads."""
        if self._is_sqlite:
            with self.read() as conn:
                yield conn
            return
        with self._explain(), self._connect(self._writers) as conn:
            yield conn.execution_options(isolation_level="REPEATABLE READ")

    def _connect(self, engine: Engine) -> Connection:
        return engine.connect() if self._is_sqlite else postgres.connect(engine)

    def write(self, job: Callable[[Connection], T], *, repeatable: bool = False) -> T:
        """Run the job in a transaction; what it returned comes back once that is on disk.

        The job may run more than once (a PostgreSQL transaction that lost a race starts anew), so it must
        do nothing but work on its connection.

        Args:
            repeatable: that the job is done twice is as good as once, for it has a key or sets what it sets. Where
                PostgreSQL is lost in mid-commit, nobody knows whether it was done; then it is done again.
        """
        if self._closed:
            raise VizslaError(f"{self.name} is closed.")
        with self._explain():
            return self._queued(job) if self._is_sqlite else self._at_once(job, repeatable)

    def _at_once(self, job: Callable[[Connection], T], repeatable: bool) -> T:
        races, end = 0, time.monotonic() + postgres.PATIENCE
        while True:
            try:
                with self._connect(self._writers) as conn, conn.begin():
                    return job(conn)
            except DBAPIError as error:
                if postgres.lost_race(error):
                    races += 1
                    if races < _TRIES:
                        continue
                elif repeatable and postgres.is_lost(error) and time.monotonic() < end:
                    continue
                raise

    def _queued(self, job: Callable[[Connection], T]) -> T:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_forever, name="vizsla-writer", daemon=True)
                self._thread.start()
        entry = _Job(job)
        self._queue.put(entry)
        return entry.done.result()

    def _write_forever(self) -> None:
        with self._writers.connect() as conn:
            while (job := self._queue.get()) is not None:
                jobs: list[_Job | None] = [job]
                while jobs[-1] is not None and len(jobs) < _GROUP:
                    try:
                        jobs.append(self._queue.get_nowait())
                    except Empty:
                        break
                _commit_together(conn, [job for job in jobs if job is not None])
                if jobs[-1] is None:
                    return

    def analyze(self, table: Table) -> None:
        """Count a table that has grown at once, for PostgreSQL plans badly until it knows."""
        if not self._is_sqlite:
            self.write(lambda conn: conn.execute(text(f"ANALYZE {table.name}")))

    def lead(self, role: str) -> AbstractContextManager[Lead]:
        """Whether nobody else has that role; it is ours until the context, or the process, ends."""
        return self._lead_by_file(role) if self._is_sqlite else self._lead_by_session(role)

    @contextmanager
    def _lead_by_file(self, role: str) -> Iterator[Lead]:
        lock = FileLock(Path(self.name).with_name(f".{role}.lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield Lead(False)
            return
        try:
            yield Lead(True)
        finally:
            lock.release()

    @contextmanager
    def _lead_by_session(self, role: str) -> Iterator[Lead]:
        with ExitStack() as stack:
            with self._explain():
                leading = stack.enter_context(postgres.lead(self._writers, role))
            yield leading

    def close(self) -> None:
        """Finish what is queued and let go of the database."""
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        self._readers.dispose()
        self._writers.dispose()

    @contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, sqlite3.DatabaseError) as error:
            said = str(getattr(error, "orig", error))
            if not self._is_sqlite and isinstance(error, DBAPIError) and postgres.is_lost(error):
                raise DatabaseAway(
                    f"lost the connection to {self.name}; try again. It said: {said}"
                ) from None
            if "disk is full" in said or "No space left" in said:
                raise DiskFull(f"no space left for {self.name}. Free some space and try again.") from None
            if "readonly" in said or "unable to open" in said:
                raise BadOption(
                    f"cannot write {self.name}: {said}. Choose a folder you may write to (--project)."
                ) from None
            if "is locked" in said:
                raise VizslaError(
                    f"{self.name} was held by another process for {_BUSY_SECONDS} s. Try again."
                ) from None
            if "not a database" in said:
                raise BadOption(f"{self.name} is no Vizsla project. Choose another folder.") from None
            if "malformed" in said:
                raise VizslaError(
                    f"{self.name} is damaged ({said}). To see what can be done: vizsla doctor --project P."
                ) from None
            raise


class _Job:
    """A write that waits for its commit."""

    def __init__(self, run: Callable[[Connection], Any]) -> None:
        self.run = run
        self.done: Future[Any] = Future()


def _commit_together(conn: Connection, jobs: list[_Job]) -> None:
    """Run all jobs in one transaction, each undone on its own if it fails, and tell them after the commit."""
    outcomes: list[tuple[Any, Exception | None]] = []
    try:
        with conn.begin():
            for job in jobs:
                savepoint = conn.begin_nested()
                try:
                    outcomes.append((job.run(conn), None))
                    savepoint.commit()
                except Exception as error:
                    if not conn.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]
                        raise  # SQLite gave up the whole transaction (full disk): nobody's work is kept
                    savepoint.rollback()
                    outcomes.append((None, error))
    except Exception as error:
        conn.rollback()
        outcomes = [(None, error)] * len(jobs)
    for job, (result, failure) in zip(jobs, outcomes, strict=True):
        if failure is None:
            job.done.set_result(result)
        else:
            job.done.set_exception(failure)


def _sqlite(url: URL, begin: str) -> Engine:
    engine = create_engine(url, pool_size=16, max_overflow=32)

    @event.listens_for(engine, "connect")
    def settle(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # else the driver begins transactions when it sees fit
        connection.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000}")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
