"""A PostgreSQL server of one's own on a Unix socket, for tests and benchmarks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import create_engine, text


def programs() -> Path | None:
    """Where initdb, pg_ctl and pg_dump lie: Debian keeps them off the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("pg_ctl")
    return debian[-1].parent if debian else Path(on_path).parent if on_path else None


class Postgres:
    """Runs while the context lasts, and leaves nothing behind.

    Args: host: an address of this machine to listen on as well, for whoever comes over a network.
    """

    def __init__(self, host: str = "") -> None:
        found = programs()
        if found is None:
            raise FileNotFoundError("PostgreSQL is not installed")
        self.programs = found
        self._root = os.name == "posix" and os.geteuid() == 0
        self._folder = Path(tempfile.mkdtemp(prefix="vizsla-pg"))
        if self._root:  # it refuses to run as root
            shutil.chown(self._folder, "postgres", "postgres")
        self._host, self._port = host, _free_port(host) if host else 5432
        self._options = f"-c listen_addresses='{host}' -c port={self._port}"
        self._options += f" -c unix_socket_directories={self._folder}"
        self.address = self.database("postgres")
        self.remote = f"postgresql://postgres@{host}:{self._port}/postgres"

    def database(self, name: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://postgres@/{name}?host={self._folder}&port={self._port}"

    def __enter__(self) -> Self:
        self._run("initdb", "-A", "trust", "-U", "postgres", "-N")
        if self._host:
            with (self._folder / "data/pg_hba.conf").open("a") as access:
                access.write("host all all samenet trust\n")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop("immediate")
        shutil.rmtree(self._folder)
        self._log.unlink()

    @property
    def _log(self) -> Path:
        return self._folder.parent / f"{self._folder.name}.log"

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-o", self._options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Args: mode: `fast` ends all sessions; `immediate` is a crash, which the next start recovers from."""
        self._run("pg_ctl", "-m", mode, "stop")

    def _run(self, program: str, *args: str) -> None:
        who = ["runuser", "-u", "postgres", "--"] if self._root else []
        with self._log.open("ab") as log:
            subprocess.run(
                [*who, str(self.programs / program), "-D", f"{self._folder}/data", *args],
                check=True,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def run_sql(address: str, *statements: str) -> None:
    """Run statements on a database that nobody else uses, not even a killed process it has yet to notice."""
    admin = create_engine(address.replace("://", "+psycopg://"), isolation_level="AUTOCOMMIT")
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    with admin.connect() as conn:
        conn.execute(text(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}"))
        for statement in statements:
            conn.execute(text(statement))
    admin.dispose()
