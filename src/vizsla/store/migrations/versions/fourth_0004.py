"""Which image a task of another labelling tool is about."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Integer,
    PrimaryKeyConstraint,
    String,
)

revision = "0004"
down_revision = "0003"

ID = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "foreign_tasks",
        Column("origin", String(200), nullable=False),
        Column("task", BigInteger(), autoincrement=False, nullable=False),
        Column("image_id", ID, nullable=False),
        Column("shown", Boolean(), nullable=False),
        ForeignKeyConstraint(["image_id"], ["images.id"]),
        PrimaryKeyConstraint("origin", "task"),
    )
