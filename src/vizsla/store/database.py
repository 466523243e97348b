"""A connection to SQLite or PostgreSQL: migrated, durable, one way to read and one to write.

SQLite lets one writer in at a time, and each commit waits for the disk. One thread therefore does all the
writing, and what queued up while the disk was busy shares the next commit (group commit). A write returns
once its commit has, so what is acknowledged is on disk. PostgreSQL does the same by itself.

A SQLite database on a full disk, or that may not be written, is opened all the same: it can be read, and each write
looks whether it can be written by now.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self, TypeVar

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, Table, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.sqlite import insert as insert_into_sqlite
from sqlalchemy.exc import DBAPIError, OperationalError

from vizsla.caching import explain_write_errors
from vizsla.errors import BadOption, DiskFull, NotWritable, VizslaError
from vizsla.store import migrations, postgres, sqlite
from vizsla.store.lead import Lead

T = TypeVar("T")

FILE = "project.db"
_GROUP = 256  # writes that share a commit, at most
_TRIES = 20  # of a PostgreSQL transaction that lost a race
_LOOK_SECONDS = 2.0  # between two looks whether a database can be written by now


def batched(rows: Iterable[T], n: int) -> Iterator[list[T]]:
    """The rows in lists of n; the last may be shorter."""
    iterator = iter(rows)
    while batch := list(islice(iterator, n)):
        yield batch


def insert(conn: Connection, table: Table) -> Any:
    """An INSERT of the connection's dialect, which knows ON CONFLICT."""
    return insert_into_sqlite(table) if conn.dialect.name == "sqlite" else postgresql.insert(table)


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
        self._barred: VizslaError | None = None
        """Why it can only be read for now."""
        self._look_again = 0.0
        self._held = ExitStack()

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
        try:
            return cls._to_write(folder, path)
        except (DiskFull, NotWritable) as error:
            if path.is_file() and (opened := cls._to_read(path, error)) is not None:
                return opened
            raise

    @classmethod
    def _to_write(cls, folder: Path, path: Path) -> Self:
        """The database, made where there is none. One that is up to date is opened without a write or a lock."""
        with explain_write_errors(folder):
            there = path.is_file() and path.stat().st_size > 0
        if there:
            database = cls(str(path), *sqlite.engines(path))
            if database._is_current():
                return database
            database.close()
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / f".{FILE}.lock").acquire()
        with lock:
            sqlite.check_not_empty(path)
            return cls(str(path), *sqlite.engines(path))._prepared()

    @classmethod
    def _to_read(cls, path: Path, why: VizslaError) -> Self | None:
        """The database, to be read only; None where that cannot be, or its tables are of another version."""
        with ExitStack() as held:
            for connect in sqlite.reading(path, held):
                engine = sqlite.reader(connect)
                database = cls(str(path), engine, engine)
                with suppress(VizslaError, OSError):
                    if database._is_current(journal=None):
                        database._barred, database._held = why, held.pop_all()
                        database._look_again = time.monotonic() + _LOOK_SECONDS
                        return database
                database.close()
        return None

    def _is_current(self, journal: str | None = "wal") -> bool:
        """Whether its tables are up to date, and the journal is of that kind; closed where that cannot be told."""
        try:
            with self.read() as conn:
                found = conn.exec_driver_sql("PRAGMA journal_mode").scalar()
                revision, known = migrations.revisions(conn)
        except BaseException:
            self.close()
            raise
        return revision == known[-1] and journal in (None, found)

    def _unbar(self) -> None:
        """Write from now on, if that can be. Raises what is in the way."""
        with self._starting:
            if self._barred is None:
                return
            self._look_again = time.monotonic() + _LOOK_SECONDS
            path = Path(self.name)
            fresh = type(self)._to_write(path.parent, path)
            old, self._readers, self._writers = self._readers, fresh._readers, fresh._writers
            self._barred = None
            old.dispose()
            self._held.close()

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
        if self._barred is not None and time.monotonic() > self._look_again:
            with suppress(VizslaError):
                self._unbar()
        with self._explain(), self._connect(self._readers) as conn:
            try:
                yield conn
            except DBAPIError as error:
                _drop_if_lasting(conn, error)
                raise

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
        if self._barred is not None:
            self._unbar()
        try:
            with self._explain():
                return self._queued(job) if self._is_sqlite else self._at_once(job, repeatable)
        except NotWritable:  # connections of one process share what they know of a file
            self._readers.dispose()
            self._writers.dispose()
            raise

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
        while (job := self._queue.get()) is not None:
            jobs: list[_Job | None] = [job]
            while jobs[-1] is not None and len(jobs) < _GROUP:
                try:
                    jobs.append(self._queue.get_nowait())
                except Empty:
                    break
            self._commit([job for job in jobs if job is not None])
            if jobs[-1] is None:
                return

    def _commit(self, jobs: list[_Job]) -> None:
        try:
            with self._writers.connect() as conn:
                _commit_together(conn, jobs)
        except Exception as error:  # there is no connection
            for job in jobs:
                if not job.done.done():
                    job.done.set_exception(error)

    def analyze(self, table: Table) -> None:
        """Count a table that has grown at once, for PostgreSQL plans badly until it knows."""
        if not self._is_sqlite:
            self.write(lambda conn: conn.execute(text(f"ANALYZE {table.name}")))

    def lead(self, role: str) -> AbstractContextManager[Lead]:
        """Whether nobody else has that role; it is ours until the context, or the process, ends."""
        return self._lead_by_file(role) if self._is_sqlite else self._lead_by_session(role)

    @contextmanager
    def _lead_by_file(self, role: str) -> Iterator[Lead]:
        file = Path(self.name).with_name(f".{role}.lock")
        lock = FileLock(file)
        try:
            with explain_write_errors(file):
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
        self._held.close()

    @contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, sqlite3.DatabaseError) as error:
            known = (sqlite if self._is_sqlite else postgres).explained(error, self.name)
            if known is not None:
                raise known from None
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
        _drop_if_lasting(conn, error)
        outcomes = [(None, error)] * len(jobs)
    for job, (result, failure) in zip(jobs, outcomes, strict=True):
        if failure is None:
            job.done.set_result(result)
        else:
            job.done.set_exception(failure)


def _drop_if_lasting(conn: Connection, error: Exception) -> None:
    """Have the next connection open the file anew, where this one's is gone or overwritten."""
    if sqlite.is_lasting(getattr(error, "orig", None) or error):
        conn.invalidate()
