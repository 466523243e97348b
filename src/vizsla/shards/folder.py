"""The folder of shards that an embedding makes, on a disk or in a bucket.

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
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float16

from vizsla.data.names import as_text, from_text
from vizsla.errors import BadArray, BadOption, UserError
from vizsla.shards.places import content_at, place_of
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

    def __init__(self, place: str | Path) -> None:
        self.place = place_of(place)

    # --- the plan

    def plan(self) -> Plan | None:
        """What was planned; None where nothing was."""
        try:
            return Plan(**json.loads(self.place.read("plan.json")))
        except FileNotFoundError:
            return None

    def begin(self, plan: Plan, names: Sequence[str]) -> None:
        """Write the plan down, or see that it is the one that was begun here. Raises BadOption where it is another."""
        before = self.plan()
        if before is None:
            self._write_names(plan, names)
            self._write_document("plan.json", asdict(plan))
            return
        changed = [field for field, value in asdict(plan).items() if getattr(before, field) != value]
        if changed:
            field = changed[0]
            raise BadOption(
                f"{self.place.address} holds another embedding ({field} was {getattr(before, field)!r}, now "
                f"{getattr(plan, field)!r}). Choose another --out, or delete that folder."
            )

    def _write_names(self, plan: Plan, names: Sequence[str]) -> None:
        pa, parquet = _arrow()
        table, file = pa.table({"file_name": _texts(pa, names)}), io.BytesIO()
        parquet.write_table(table, file, row_group_size=plan.shard)
        self.place.write("names.parquet", file.getvalue())

    def names(self, shard: int) -> list[str]:
        """The images that are planned for a shard."""
        _, parquet = _arrow()

        def see(file: BinaryIO) -> list[str]:
            column = parquet.ParquetFile(file).read_row_group(shard).column("file_name")
            return [from_text(name) for name in column.to_pylist()]

        return self.place.look("names.parquet", see)

    # --- shards

    def write(
        self,
        shard: int,
        vectors: Float16[np.ndarray, "n d"],
        names: Sequence[str],
        sha256: Sequence[str],
        unreadable: dict[str, str],
    ) -> Record:
        """Have a shard there, whole."""
        pa, parquet = _arrow()
        rows, table = io.BytesIO(), io.BytesIO()
        np.save(rows, vectors, allow_pickle=False)
        columns = {"file_name": _texts(pa, names), "sha256": pa.array(sha256, pa.string())}
        parquet.write_table(pa.table(columns), table)
        sums = []
        for suffix, content in ((".npy", rows.getvalue()), (".parquet", table.getvalue())):
            self.place.write(_name(shard, suffix), content)
            sums.append(hashlib.sha256(content).hexdigest())
        record = Record(shard, len(vectors), sums[0], sums[1], unreadable)
        self.place.write(_name(shard, ".json"), json.dumps(asdict(record)).encode())
        return record

    def record(self, shard: int) -> Record | None:
        """What is known of a finished shard; None where there is none, or its files are not what was written."""
        try:
            record = Record(**json.loads(self.place.read(_name(shard, ".json"))))
            sums = [self._sum(shard, suffix) for suffix in (".npy", ".parquet")]
        except UserError:
            raise
        except (OSError, ValueError, TypeError):
            return None
        return record if sums == [record.vectors, record.names] else None

    def _sum(self, shard: int, suffix: str) -> str:
        return hashlib.sha256(self.place.read(_name(shard, suffix))).hexdigest()

    # --- the whole

    def finish(self, plan: Plan, records: Sequence[Record]) -> None:
        """Write the manifest."""
        shards = [{**asdict(record), "unreadable": len(record.unreadable)} for record in records]
        document = asdict(plan) | {"rows": sum(record.rows for record in records), "shards": shards}
        self._write_document("manifest.json", document)

    def _write_document(self, name: str, document: dict[str, Any]) -> None:
        self.place.write(name, json.dumps(document, indent=1).encode())

    def manifest(self) -> dict[str, Any]:
        """Raises BadArray where the embedding is not finished, or none was begun."""
        try:
            found: dict[str, Any] = json.loads(self.place.read("manifest.json"))
            return found
        except FileNotFoundError:
            raise self._unfinished() from None

    def _unfinished(self) -> BadArray:
        begun, where = self.plan(), self.place.address
        if begun is None:
            return BadArray(f"{where} holds no embedding. Make one: vizsla embed IMAGES --out {where}")
        done = sum(name.endswith(".json") for name in self.place.names("shards"))
        return BadArray(
            f"the embedding in {where} is not finished: {done} of {begun.shards} shards. Run the same "
            "vizsla embed again; it goes on where it stopped."
        )

    def unreadable(self) -> dict[str, str]:
        """Name → reason, of all images without features."""
        shards = (one["shard"] for one in self.manifest()["shards"] if one["unreadable"])
        records = (json.loads(self.place.read(_name(shard, ".json"))) for shard in shards)
        return {name: reason for record in records for name, reason in record["unreadable"].items()}

    def pool(self) -> Shards:
        """The rows of all shards."""
        shards = self.manifest()["shards"]
        return numbered([(self.place.file(_name(one["shard"], ".npy")), one["rows"]) for one in shards])


def _name(shard: int, suffix: str) -> str:
    return f"shards/{shard:05}{suffix}"


def names_of(file: str) -> list[str]:
    """Names of the rows of a shard's .npy file."""
    _, parquet = _arrow()
    beside = content_at(file.removesuffix(".npy") + ".parquet")
    table = parquet.read_table(io.BytesIO(beside), columns=["file_name"])
    return [from_text(name) for name in table.column("file_name").to_pylist()]


def _texts(pa: Any, names: Sequence[str]) -> Any:
    return pa.array([as_text(name) for name in names], pa.string())


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise BadOption(
            "a folder of shards needs pyarrow. Run: pip install 'vizsla[parquet]' (vizsla[ray] brings it)."
        ) from None
    return pa, parquet
