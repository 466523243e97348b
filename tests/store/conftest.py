"""Every test of the store runs on SQLite and on a real PostgreSQL of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from vizsla.store import ImageFile, Store
from vizsla.store.schema import metadata

NOTHING = ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")


def postgres_folder() -> Path | None:
    """Where initdb and pg_ctl lie: Debian keeps them off the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("pg_ctl")
    return debian[-1].parent if debian else Path(on_path).parent if on_path else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server on a Unix socket; yields the URL of its database."""
    programs = postgres_folder()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    root = os.name == "posix" and os.geteuid() == 0
    folder = Path(tempfile.mkdtemp(prefix="vizsla-pg"))
    if root:  # it refuses to run as root
        shutil.chown(folder, "postgres", "postgres")

    def run(program: str, *args: str) -> None:
        who = ["runuser", "-u", "postgres", "--"] if root else []
        log = (folder.parent / f"{folder.name}.log").open("ab")
        with log:
            subprocess.run(
                [*who, str(programs / program), "-D", f"{folder}/data", *args],
                check=True,
                cwd=folder,
                stdout=log,
                stderr=log,
            )

    run("initdb", "-A", "trust", "-U", "postgres", "-N")
    run("pg_ctl", "-w", "-o", f"-c listen_addresses='' -c unix_socket_directories={folder}", "start")
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)
        (folder.parent / f"{folder.name}.log").unlink()


def run_sql(address: str, *statements: str) -> None:
    """Run statements on a PostgreSQL that nobody else uses, not even a killed process it has yet to notice."""
    admin = create_engine(address.replace("://", "+psycopg://"), isolation_level="AUTOCOMMIT")
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    with admin.connect() as conn:
        conn.execute(text(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}"))
        for statement in statements:
            conn.execute(text(statement))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a project may be opened that does not exist yet."""
    if request.param == "sqlite":
        yield str(tmp_path / "project")
        return
    server: str = request.getfixturevalue("postgres")
    run_sql(server, *NOTHING)
    yield server
    run_sql(server, *NOTHING)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty project."""
    if request.param == "sqlite":
        return str(tmp_path / "project")
    server: str = request.getfixturevalue("postgres")
    Store.open(server).close()
    run_sql(server, f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY CASCADE")
    return server


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(address: str, clock: Clock) -> Iterator[Store]:
    """An empty project with leases of a minute, on the test's clock."""
    with Store.open(address, lease_seconds=60, clock=clock) as opened:
        yield opened


@pytest.fixture
def fill(store: Store) -> Callable[[int], list[int]]:
    """Put n images and the classes cat and dog into the store; returns the ids in order of their paths."""

    def fill(n: int) -> list[int]:
        store.add_images(ImageFile(f"{i:05}.jpg", 1000 + i, i) for i in range(n))
        store.add_classes(["cat", "dog"])
        return [image.id for image in sorted(store.images(), key=lambda image: image.path or "")]

    return fill
