"""What the page shows of a model's view of the pool, and the trained heads themselves."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
)

revision = "0002"
down_revision = "0001"

ID = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.add_column("ranking", Column("class_id", ID))
    op.add_column("ranking", Column("prob", Float()))
    op.add_column("ranking", Column("cluster", Integer()))
    op.create_index("ranking_class", "ranking", ["edition", "class_id", "prob"])
    op.create_index("ranking_cluster", "ranking", ["edition", "cluster"])
    op.create_table(
        "artifacts",
        Column("version", Integer(), autoincrement=False, nullable=False),
        Column("content", LargeBinary(), nullable=False),
        ForeignKeyConstraint(["version"], ["models.version"]),
        PrimaryKeyConstraint("version"),
    )
