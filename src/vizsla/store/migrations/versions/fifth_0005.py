"""When a file's name or content was last touched, which tells swapped files from unchanged ones."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("images", Column("ctime_ns", BigInteger(), nullable=True))
