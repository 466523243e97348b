"""Bring a database's tables to what this version knows: an ordered list of Alembic revisions."""

from __future__ import annotations

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from vizsla.errors import BadOption


def upgrade(conn: Connection, name: str, to: str = "head") -> None:
    """Run the revisions that are still to come, in the connection's transaction: all of them or none.

    The caller keeps other processes out. `name` is what an error calls the database, `to` the last revision to run.
    """
    scripts = ScriptDirectory(str(Path(__file__).parent))
    known = {script.revision: script for script in scripts.walk_revisions()}
    context = MigrationContext.configure(conn)
    current = context.get_current_revision()
    if current is not None and current not in known:
        raise BadOption(f"{name} was written by a newer Vizsla. Run: pip install --upgrade vizsla.")
    pending = list(scripts.iterate_revisions(to, current))
    with Operations.context(context):
        for script in reversed(pending):
            script.module.upgrade()
    if pending:
        context.stamp(scripts, to)


def revisions(conn: Connection) -> tuple[str | None, list[str]]:
    """The revision of a database, None for one without our tables, and all that this version knows, oldest first."""
    scripts = ScriptDirectory(str(Path(__file__).parent))
    known = [script.revision for script in scripts.walk_revisions()]
    return MigrationContext.configure(conn).get_current_revision(), known[::-1]
