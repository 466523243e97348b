"""The first tables."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKeyConstraint,
    Integer,
    PrimaryKeyConstraint,
    String,
    Text,
    Uuid,
    text,
)

revision = "0001"
down_revision = None

ID = BigInteger().with_variant(Integer, "sqlite")
MOMENT = DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "annotators",
        Column("id", ID, nullable=False),
        Column("name", Text(), nullable=False),
        Column("token_hash", String(length=64)),
        Column("created_at", MOMENT, nullable=False),
        PrimaryKeyConstraint("id"),
    )
    op.create_index("annotators_name", "annotators", ["name"], unique=True)
    op.create_index("annotators_token_hash", "annotators", ["token_hash"], unique=True)
    op.create_table(
        "classes",
        Column("id", ID, nullable=False),
        Column("name", Text(), nullable=False),
        Column("position", Integer(), nullable=False),
        Column("merged_into", ID),
        ForeignKeyConstraint(["merged_into"], ["classes.id"]),
        PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "classes_name",
        "classes",
        ["name"],
        unique=True,
        sqlite_where=text("merged_into IS NULL"),
        postgresql_where=text("merged_into IS NULL"),
    )
    op.create_index("classes_position", "classes", ["position"], unique=True)
    op.create_table(
        "models",
        Column("version", Integer(), nullable=False),
        Column("labels_used", Integer(), nullable=False),
        Column("head", Text(), nullable=False),
        Column("backbone_key", Text(), nullable=False),
        Column("metrics", JSON(), nullable=False),
        Column("state", String(length=16), nullable=False),
        Column("error", Text()),
        Column("created_at", MOMENT, nullable=False),
        CheckConstraint("state IN ('training', 'ready', 'failed')", name="models_state"),
        PrimaryKeyConstraint("version"),
    )
    op.create_table(
        "settings",
        Column("key", String(length=64), nullable=False),
        Column("value", JSON(), nullable=False),
        PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "class_history",
        Column("id", ID, nullable=False),
        Column("class_id", ID, nullable=False),
        Column("change", String(length=16), nullable=False),
        Column("name", Text(), nullable=False),
        Column("at", MOMENT, nullable=False),
        CheckConstraint("change IN ('added', 'renamed', 'merged')", name="class_history_change"),
        ForeignKeyConstraint(["class_id"], ["classes.id"]),
        PrimaryKeyConstraint("id"),
    )
    op.create_index("class_history_name", "class_history", ["name"])
    op.create_table(
        "images",
        Column("id", ID, nullable=False),
        Column("path", Text()),
        Column("sha256", String(length=64)),
        Column("size", BigInteger(), nullable=False),
        Column("mtime_ns", BigInteger(), nullable=False),
        Column("state", String(length=16), nullable=False),
        Column("problem", Text()),
        Column("shuffle", BigInteger(), nullable=False),
        Column("status", String(length=16), server_default="unlabelled", nullable=False),
        Column("class_id", ID),
        Column("label_id", BigInteger()),
        CheckConstraint("state IN ('present', 'missing', 'unreadable')", name="images_state"),
        CheckConstraint("status IN ('unlabelled', 'labelled', 'skipped', 'flagged')", name="images_status"),
        ForeignKeyConstraint(["class_id"], ["classes.id"]),
        PrimaryKeyConstraint("id"),
    )
    op.create_index("images_path", "images", ["path"], unique=True)
    op.create_index("images_sha256", "images", ["sha256"])
    op.create_index("images_standing", "images", ["state", "status", "class_id", "shuffle"])
    op.create_table(
        "rankings",
        Column("edition", Integer(), nullable=False),
        Column("model_version", Integer()),
        Column("published_at", MOMENT),
        ForeignKeyConstraint(["model_version"], ["models.version"]),
        PrimaryKeyConstraint("edition"),
    )
    op.create_table(
        "labels",
        Column("id", ID, nullable=False),
        Column("image_id", ID, nullable=False),
        Column("status", String(length=16), nullable=False),
        Column("class_id", ID),
        Column("annotator_id", ID, nullable=False),
        Column("round", Integer(), nullable=False),
        Column("source", String(length=16), nullable=False),
        Column("model_version", Integer()),
        Column("suggestion", JSON(none_as_null=True)),
        Column("suggestion_shown", Boolean()),
        Column("lead_ms", BigInteger()),
        Column("key", Uuid(), nullable=False),
        Column("batch", Uuid()),
        Column("undoes", ID),
        Column("redoes", ID),
        Column("saved", Integer(), nullable=False),
        Column("created_at", MOMENT, nullable=False),
        CheckConstraint("(status = 'labelled') = (class_id IS NOT NULL)", name="labels_class"),
        CheckConstraint("source IN ('al', 'random', 'audit', 'bulk', 'import')", name="labels_source"),
        CheckConstraint("status IN ('labelled', 'skipped', 'flagged', 'undone')", name="labels_status"),
        ForeignKeyConstraint(["annotator_id"], ["annotators.id"]),
        ForeignKeyConstraint(["class_id"], ["classes.id"]),
        ForeignKeyConstraint(["image_id"], ["images.id"]),
        ForeignKeyConstraint(["redoes"], ["labels.id"]),
        ForeignKeyConstraint(["undoes"], ["labels.id"]),
        PrimaryKeyConstraint("id"),
    )
    op.create_index("labels_batch", "labels", ["batch"])
    op.create_index("labels_key", "labels", ["key"], unique=True)
    op.create_index("labels_of_annotator", "labels", ["annotator_id", "id"])
    op.create_index("labels_of_image", "labels", ["image_id", "id"])
    op.create_index("labels_redoes", "labels", ["redoes"], unique=True)
    op.create_index("labels_undoes", "labels", ["undoes"], unique=True)
    op.create_table(
        "leases",
        Column("image_id", ID, autoincrement=False, nullable=False),
        Column("annotator_id", ID, nullable=False),
        Column("lease_id", String(length=64), nullable=False),
        Column("expires_at", MOMENT, nullable=False),
        Column("turn", BigInteger(), nullable=False),
        Column("rank", BigInteger(), nullable=False),
        Column("source", String(length=16), nullable=False),
        Column("reason", Text(), nullable=False),
        Column("suggestion", JSON(none_as_null=True)),
        Column("model_version", Integer()),
        ForeignKeyConstraint(["annotator_id"], ["annotators.id"]),
        ForeignKeyConstraint(["image_id"], ["images.id"]),
        PrimaryKeyConstraint("image_id"),
    )
    op.create_index("leases_of_annotator", "leases", ["annotator_id"])
    op.create_table(
        "ranking",
        Column("edition", Integer(), autoincrement=False, nullable=False),
        Column("rank", Integer(), autoincrement=False, nullable=False),
        Column("image_id", ID, nullable=False),
        Column("score", Float(), nullable=False),
        Column("reason", Text(), nullable=False),
        Column("audit", Boolean(), nullable=False),
        Column("suggestion", JSON(none_as_null=True)),
        ForeignKeyConstraint(["edition"], ["rankings.edition"]),
        ForeignKeyConstraint(["image_id"], ["images.id"]),
        PrimaryKeyConstraint("edition", "rank"),
    )
    op.create_index("ranking_image", "ranking", ["edition", "image_id"], unique=True)
