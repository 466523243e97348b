"""The tables, as SQLAlchemy Core. `migrations/` brings a database to this state; a test keeps the two equal.

An image id names a *content*: it follows the content when the file is renamed, and a file whose content
changes gets another id. So whatever is kept per id (labels, embeddings, thumbnails) never goes stale.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    text,
)

_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # of UTF-16 pairs; the other surrogates are odd bytes
_PRIVATE = 0x100000  # where a lone surrogate moves to: plane 16, private use


class Utc(TypeDecorator[datetime]):
    """A moment in UTC, with its zone in Python on every database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC))


def legible(text: str) -> str:
    """The text as UTF-8 can say it: U+FFFD for odd bytes and for the lone surrogates of Windows file names.

    >>> legible("caf\\udcc3\\udca9 \\udcff \\ud83d") == "café \\ufffd \\ufffd"
    True
    """
    return _HALVES.sub("\ufffd", text).encode(errors="surrogateescape").decode(errors="replace")


class Name(TypeDecorator[str]):
    """Text from file names, which need not be UTF-8.

    Python holds an odd byte as a lone surrogate, which no database takes; here it rests in the private use
    plane and comes back as it was.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return value and "".join(chr(_PRIVATE + ord(c)) if "\ud800" <= c <= "\udfff" else c for c in value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:
        return value and "".join(
            chr(ord(c) - _PRIVATE) if "\U0010d800" <= c <= "\U0010dfff" else c for c in value
        )


metadata = MetaData()
_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only under this name


def _one_of(name: str, column: str, *values: str) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(map(repr, values))})", name=name)


images = Table(
    "images",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("path", Name),  # null once a file of other content lies there
    Column("sha256", String(64)),  # null until the first decode
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("problem", Text),  # why it is unreadable
    Column("shuffle", BigInteger, nullable=False),  # order without a ranking: from the path, so repeatable
    # The newest answer that stands, kept in step with `labels` so that claims and counts need no search:
    Column("status", String(16), nullable=False, server_default="unlabelled"),
    Column("class_id", ForeignKey("classes.id")),
    Column("label_id", BigInteger),
    Column("ctime_ns", BigInteger),  # null until a scan of a version that looks at it
    _one_of("images_state", "state", "present", "missing", "unreadable"),
    _one_of("images_status", "status", "unlabelled", "labelled", "skipped", "flagged"),
    Index("images_path", "path", unique=True),
    Index("images_sha256", "sha256"),
    Index("images_standing", "state", "status", "class_id", "shuffle"),
)

classes = Table(
    "classes",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", Name, nullable=False),
    Column("position", Integer, nullable=False),  # its key on the page: never changes, never given again
    Column("merged_into", ForeignKey("classes.id")),
    Index(
        "classes_name",
        "name",
        unique=True,
        sqlite_where=text("merged_into IS NULL"),
        postgresql_where=text("merged_into IS NULL"),
    ),
    Index("classes_position", "position", unique=True),
)

class_history = Table(
    "class_history",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("class_id", ForeignKey("classes.id"), nullable=False),
    Column("change", String(16), nullable=False),
    Column("name", Name, nullable=False),  # what it was called from then on
    Column("at", Utc, nullable=False),
    _one_of("class_history_change", "change", "added", "renamed", "merged"),
    Index("class_history_name", "name"),
)

annotators = Table(
    "annotators",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", Name, nullable=False),
    Column("token_hash", String(64)),  # null: this annotator has no way in
    Column("created_at", Utc, nullable=False),
    Index("annotators_name", "name", unique=True),
    Index("annotators_token_hash", "token_hash", unique=True),
)

labels = Table(
    "labels",  # rows are only ever added
    metadata,
    Column("id", _ID, primary_key=True),
    Column("image_id", ForeignKey("images.id"), nullable=False),
    Column("status", String(16), nullable=False),
    Column("class_id", ForeignKey("classes.id")),  # as answered; renames and merges do not touch it
    Column("annotator_id", ForeignKey("annotators.id"), nullable=False),
    Column("round", Integer, nullable=False),
    Column("source", String(16), nullable=False),
    Column("model_version", Integer),  # a client's word, so it may be of a version we never had
    Column("suggestion", JSON(none_as_null=True)),
    Column("suggestion_shown", Boolean),
    Column("lead_ms", BigInteger),
    Column("key", Uuid, nullable=False),
    Column("batch", Uuid),  # answers that are undone together
    Column("undoes", ForeignKey("labels.id")),
    Column("redoes", ForeignKey("labels.id")),
    Column("saved", Integer, nullable=False),  # the count this answer was acknowledged with
    Column("created_at", Utc, nullable=False),
    _one_of("labels_status", "status", "labelled", "skipped", "flagged", "undone"),
    _one_of("labels_source", "source", "al", "random", "audit", "relabel", "bulk", "import"),
    CheckConstraint("(status = 'labelled') = (class_id IS NOT NULL)", name="labels_class"),
    Index("labels_key", "key", unique=True),
    Index("labels_undoes", "undoes", unique=True),
    Index("labels_redoes", "redoes", unique=True),
    Index("labels_batch", "batch"),
    Index("labels_of_image", "image_id", "id"),
    Index("labels_of_annotator", "annotator_id", "id"),
)

leases = Table(
    "leases",
    metadata,
    Column("image_id", ForeignKey("images.id"), primary_key=True, autoincrement=False),
    Column("annotator_id", ForeignKey("annotators.id"), nullable=False),
    Column("lease_id", String(64), nullable=False),
    Column("expires_at", Utc, nullable=False),
    Column("turn", BigInteger, nullable=False),  # an annotator sees low turns first, then low ranks
    Column("rank", BigInteger, nullable=False),
    Column("source", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("suggestion", JSON(none_as_null=True)),
    Column("model_version", Integer),
    Index("leases_of_annotator", "annotator_id"),
)

models = Table(
    "models",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("labels_used", Integer, nullable=False),
    Column("head", Text, nullable=False),
    Column("backbone_key", Text, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("error", Text),
    Column("created_at", Utc, nullable=False),
    _one_of("models_state", "state", "training", "ready", "failed"),
)

rankings = Table(
    "rankings",  # the newest published edition is the one that claims follow
    metadata,
    Column("edition", Integer, primary_key=True),
    Column("model_version", ForeignKey("models.version")),
    Column("published_at", Utc),
)

ranking = Table(
    "ranking",
    metadata,
    Column("edition", ForeignKey("rankings.edition"), primary_key=True, autoincrement=False),
    Column("rank", Integer, primary_key=True, autoincrement=False),
    Column("image_id", ForeignKey("images.id"), nullable=False),
    Column("score", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("audit", Boolean, nullable=False),
    Column("suggestion", JSON(none_as_null=True)),
    Column("class_id", _ID),  # the likeliest class and its probability, for the grid
    Column("prob", Float),
    Column("cluster", Integer),
    Index("ranking_image", "edition", "image_id", unique=True),
    Index("ranking_class", "edition", "class_id", "prob"),
    Index("ranking_cluster", "edition", "cluster"),
)

artifacts = Table(
    "artifacts",  # the newest few trained heads
    metadata,
    Column("version", ForeignKey("models.version"), primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
)

foreign_tasks = Table(
    "foreign_tasks",  # what another labelling tool calls our images
    metadata,
    Column("origin", String(200), primary_key=True),  # which project of which tool
    Column("task", BigInteger, primary_key=True, autoincrement=False),
    Column("image_id", ForeignKey("images.id"), nullable=False),
    Column("shown", Boolean, nullable=False),  # whether a suggestion was handed out for it
)

settings = Table(
    "settings",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", JSON, nullable=False),
)
