"""Answers to images that are asked about again have a source of their own."""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"

OLD = "source IN ('al', 'random', 'audit', 'bulk', 'import')"
NEW = "source IN ('al', 'random', 'audit', 'relabel', 'bulk', 'import')"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _write_anew()
    else:
        op.drop_constraint("labels_source", "labels", type_="check")
        op.create_check_constraint("labels_source", "labels", NEW)


def _write_anew() -> None:
    """SQLite changes no constraint. The old table goes with its indexes, which its foreign keys are checked by."""
    conn = op.get_bind()
    of_labels = "SELECT sql FROM sqlite_master WHERE tbl_name = 'labels' AND type = :type AND sql IS NOT NULL"
    [table] = conn.execute(text(of_labels), {"type": "table"}).scalars()
    indexes = conn.execute(text(of_labels), {"type": "index"}).scalars().all()
    op.rename_table("labels", "labels_before")
    conn.exec_driver_sql(table.replace(OLD, NEW))
    conn.exec_driver_sql("INSERT INTO labels SELECT * FROM labels_before ORDER BY id")
    op.drop_table("labels_before")
    for index in indexes:
        conn.exec_driver_sql(index)
