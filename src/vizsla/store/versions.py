"""Model versions, with where each came from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from vizsla.errors import UnknownName
from vizsla.store.records import Model
from vizsla.store.schema import artifacts, legible, models

_KEPT = 3  # trained heads of a few megabytes each


def start(conn: Connection, labels_used: int, head: str, backbone_key: str, now: datetime) -> Model:
    """Number a model whose training begins. One that was still training was cut off, and has failed."""
    cut = update(models).where(models.c.state == "training")
    conn.execute(cut.values(state="failed", error="the training was cut off"))
    new = insert(models).values(
        labels_used=labels_used,
        head=head,
        backbone_key=backbone_key,
        metrics={},
        state="training",
        created_at=now,
    )
    return Model(**conn.execute(new.returning(models)).one()._mapping)


def finish(conn: Connection, version: int, metrics: Mapping[str, Any]) -> Model:
    """Note that a model is ready, and forget what all but the newest few ready ones consisted of."""
    done = _end(conn, version, {"state": "ready", "metrics": dict(metrics)})
    ready = select(models.c.version).where(models.c.state == "ready")
    kept = ready.order_by(models.c.version.desc()).limit(_KEPT)
    old = (artifacts.c.version < version, artifacts.c.version.not_in(kept))
    conn.execute(delete(artifacts).where(*old))
    return done


def fail(conn: Connection, version: int, error: str) -> Model:
    """Note why a model came to nothing."""
    return _end(conn, version, {"state": "failed", "error": legible(error).replace("\0", "\ufffd")})


def keep(conn: Connection, version: int, content: bytes) -> None:
    """Store what a model consists of."""
    conn.execute(insert(artifacts).values(version=version, content=content))


def content(conn: Connection, version: int) -> bytes | None:
    """What a model consists of; None where it was never kept, or is forgotten."""
    found: bytes | None = conn.execute(
        select(artifacts.c.content).where(artifacts.c.version == version)
    ).scalar()
    return found


def _end(conn: Connection, version: int, values: dict[str, Any]) -> Model:
    ended = update(models).where(models.c.version == version).values(values | {"error": values.get("error")})
    row = conn.execute(ended.returning(models)).first()
    if row is None:
        raise UnknownName(f"no model has the version {version}.")
    return Model(**row._mapping)


def listed(conn: Connection) -> tuple[Model, ...]:
    """All models, oldest first."""
    rows = conn.execute(select(models).order_by(models.c.version))
    return tuple(Model(**row._mapping) for row in rows)


def newest(conn: Connection) -> Model | None:
    """The newest model that is ready."""
    query = select(models).where(models.c.state == "ready").order_by(models.c.version.desc()).limit(1)
    row = conn.execute(query).first()
    return None if row is None else Model(**row._mapping)
