"""Parquet: a row per answer, with the columns of the CSV, typed. Needs pyarrow, the extra `parquet`.

Text in Parquet is UTF-8: odd bytes of a file name are written `\\xff`, and found again by that. In are also tables of
Hugging Face data sets: classes as numbers with their names in the schema, and images inside the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vizsla.data.names import as_text
from vizsla.data.tables.parquet import pyarrow
from vizsla.errors import BadOption
from vizsla.interop import fields, tables
from vizsla.interop.base import Format, formats, importers
from vizsla.interop.outgoing import Outgoing
from vizsla.interop.tables import Columns, Found
from vizsla.store.database import batched

_ROWS = 5000  # per row group
_TYPES = {
    "labelled_at": "timestamp",
    "lead_ms": "int64",
    "round": "int64",
    "model_version": "int64",
    "suggestion_prob": "float64",
    "suggestion_shown": "bool",
}


def write(outgoing: Outgoing) -> Iterator[bytes]:
    """A row for each image with an answer."""
    pyarrow("writing")  # now: once the first bytes are out an error comes too late
    return _written(outgoing)


def _written(outgoing: Outgoing) -> Iterator[bytes]:
    sink = _Sink()
    with table_writer(sink, fields.COLUMNS) as writer:
        for page in batched(outgoing.answers(), _ROWS):
            write_rows(writer, [[getattr(row, column) for column in fields.COLUMNS] for _, row in page])
            yield sink.drain()
    yield sink.drain()


def table_writer(file: Any, columns: Sequence[str]) -> Any:
    """A writer of these columns of ours, to be used as a context. `file`: has `write`, `flush` and `closed`."""
    pa = pyarrow("writing")
    from pyarrow import parquet

    types = {
        "timestamp": pa.timestamp("us", "UTC"),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
    }
    schema = pa.schema([(column, types.get(_TYPES.get(column, ""), pa.string())) for column in columns])
    return parquet.ParquetWriter(file, schema, compression="zstd")


def write_rows(writer: Any, rows: Iterable[Iterable[Any]]) -> None:
    """Add rows of cells, in the order of the writer's columns."""
    pa = pyarrow("writing")
    columns = [
        [as_text(cell) if isinstance(cell, str) else cell for cell in column]
        for column in zip(*rows, strict=True)
    ]
    arrays = [pa.array(cells, field.type) for cells, field in zip(columns, writer.schema, strict=True)]
    writer.write_batch(pa.record_batch(arrays, schema=writer.schema))


class _Sink:
    """A file that hands on what is written to it."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def drain(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


formats.register("parquet")(
    Format("parquet", ".parquet", "application/vnd.apache.parquet", "a typed table, a row per answer", write)
)


@importers.register("parquet")
def read(path: Path, columns: Columns | None = None) -> Iterator[Found]:
    """a Parquet file, or a folder of them, with the columns of the CSV"""
    parts = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not parts:
        raise BadOption(f"{path} holds no .parquet file. Check the path.")
    for part in parts:
        yield from tables.read(part, "parquet", columns)
