"""The folder of shards that an embedding makes.

    plan.json        what is embedded, by which network, in shards of how many images; written first
    names.parquet    all names, one row group per shard
    shards/00000.npy, .parquet, .json
                     features; name and SHA-256 of the file of each row; checksums of both, and what has no row
    manifest.json    all shards with their checksums; written last: an embedding without it is not finished

A shard counts once its .json is there, which is written after the two others, each whole or not at all. Whoever
computes a shard again writes the same, so no row is ever there twice.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16

from vizsla.caching import write_atomically
from vizsla.errors import BadArray, BadOption
from vizsla.shards.pool import Shards, numbered


@dataclass(frozen=True)
class Plan:
    """What decides every byte of an embedding."""

    source: str
    backbone: str
    image_size: int | None
    precision: str
    key: str
    """Of the features: network, weights, transform, precision."""
    dim: int
    images: int
    names: str
    """SHA-256 of all names."""
    shard: int
    """Images of a shard."""

    @property
    def shards(self) -> int:
        return -(-self.images // self.shard)


@dataclass(frozen=True)
class Record:
    """A finished shard."""

    shard: int
    rows: int
    """Images with features: the others are named in `unreadable`."""
    vectors: str
    """SHA-256 of its .npy file."""
    names: str
    """SHA-256 of its .parquet file."""
    unreadable: dict[str, str]
    """Name → reason."""


class ShardFolder:
    """Reads and writes such a folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def file(self, shard: int, suffix: str) -> Path:
        return self.root / "shards" / f"{shard:05}{suffix}"

    # --- the plan

    def plan(self) -> Plan | None:
        """What was planned; None where nothing was."""
        file = self.root / "plan.json"
        return Plan(**json.loads(file.read_text("utf-8"))) if file.exists() else None

    def begin(self, plan: Plan, names: Sequence[str]) -> None:
        """Write the plan down, or see that it is the one that was begun here. Raises BadOption where it is another."""
        before = self.plan()
        if before is None:
            self._write_names(plan, names)
            write_atomically(self.root / "plan.json", json.dumps(asdict(plan), indent=1))
            return
        changed = [field for field, value in asdict(plan).items() if getattr(before, field) != value]
        if changed:
            field = changed[0]
            raise BadOption(
                f"{self.root} holds another embedding ({field} was {getattr(before, field)!r}, now "
                f"{getattr(plan, field)!r}). Choose another --out, or delete that folder."
            )

    def _write_names(self, plan: Plan, names: Sequence[str]) -> None:
        pa, parquet = _arrow()
        table, file = pa.table({"file_name": pa.array(names, pa.string())}), io.BytesIO()
        parquet.write_table(table, file, row_group_size=plan.shard)
        write_atomically(self.root / "names.parquet", file.getvalue())

    def names(self, shard: int) -> list[str]:
        """The images that are planned for a shard."""
        _, parquet = _arrow()
        with parquet.ParquetFile(self.root / "names.parquet") as file:
            found: list[str] = file.read_row_group(shard).column("file_name").to_pylist()
        return found

    # --- shards

    def write(
        self,
        shard: int,
        vectors: Float16[np.ndarray, "n d"],
        names: Sequence[str],
        sha256: Sequence[str],
        unreadable: dict[str, str],
    ) -> Record:
        """Have a shard on the disk, whole."""
        pa, parquet = _arrow()
        rows, table = io.BytesIO(), io.BytesIO()
        np.save(rows, vectors, allow_pickle=False)
        columns = {"file_name": pa.array(names, pa.string()), "sha256": pa.array(sha256, pa.string())}
        parquet.write_table(pa.table(columns), table)
        sums = []
        for suffix, content in ((".npy", rows.getvalue()), (".parquet", table.getvalue())):
            write_atomically(self.file(shard, suffix), content)
            sums.append(hashlib.sha256(content).hexdigest())
        record = Record(shard, len(vectors), sums[0], sums[1], unreadable)
        write_atomically(self.file(shard, ".json"), json.dumps(asdict(record)))
        return record

    def record(self, shard: int) -> Record | None:
        """What is known of a finished shard; None where there is none, or its files are not what was written."""
        try:
            record = Record(**json.loads(self.file(shard, ".json").read_text("utf-8")))
            whole = record.vectors == self._sum(shard, ".npy") and record.names == self._sum(
                shard, ".parquet"
            )
        except (OSError, ValueError, TypeError):
            return None
        return record if whole else None

    def _sum(self, shard: int, suffix: str) -> str:
        with self.file(shard, suffix).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    # --- the whole

    def finish(self, plan: Plan, records: Sequence[Record]) -> None:
        """Write the manifest."""
        shards = [{**asdict(record), "unreadable": len(record.unreadable)} for record in records]
        document = asdict(plan) | {"rows": sum(record.rows for record in records), "shards": shards}
        write_atomically(self.root / "manifest.json", json.dumps(document, indent=1))

    @property
    def finished(self) -> bool:
        return (self.root / "manifest.json").exists()

    def manifest(self) -> dict[str, Any]:
        """Raises BadArray where the embedding is not finished, or none was begun."""
        if not self.finished:
            begun = self.plan()
            if begun is None:
                raise BadArray(
                    f"{self.root} holds no embedding. Make one: vizsla embed IMAGES --out {self.root}"
                )
            done = sum(self.file(shard, ".json").exists() for shard in range(begun.shards))
            raise BadArray(
                f"the embedding in {self.root} is not finished: {done} of {begun.shards} shards. Run the same "
                "vizsla embed again; it goes on where it stopped."
            )
        found: dict[str, Any] = json.loads((self.root / "manifest.json").read_text("utf-8"))
        return found

    def unreadable(self) -> dict[str, str]:
        """Name → reason, of all images without features."""
        shards = (one["shard"] for one in self.manifest()["shards"] if one["unreadable"])
        records = (json.loads(self.file(shard, ".json").read_text("utf-8")) for shard in shards)
        return {name: reason for record in records for name, reason in record["unreadable"].items()}

    def pool(self) -> Shards:
        """The rows of all shards."""
        root = ShardFolder(self.root.absolute())
        return numbered([(root.file(one["shard"], ".npy"), one["rows"]) for one in self.manifest()["shards"]])


def names_of(file: str) -> list[str]:
    """Names of the rows of a shard's .npy file."""
    _, parquet = _arrow()
    table = parquet.read_table(Path(file).with_suffix(".parquet"), columns=["file_name"])
    found: list[str] = table.column("file_name").to_pylist()
    return found


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise BadOption(
            "a folder of shards needs pyarrow. Run: pip install 'vizsla[parquet]' (vizsla[ray] brings it)."
        ) from None
    return pa, parquet
