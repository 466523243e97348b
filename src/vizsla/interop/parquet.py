"""Parquet: a row per answer, with the columns of the CSV, typed. Needs pyarrow, the extra `parquet`.

Text in Parquet is UTF-8: odd bytes of a file name are written `%FF`, and found again by that. In are also tables of
Hugging Face data sets: classes as numbers with their names in the schema, and images inside the table.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from vizsla.data.names import as_text, from_text
from vizsla.errors import BadOption
from vizsla.interop import fields
from vizsla.interop.base import Format, Row, Unreadable, formats, importers
from vizsla.interop.files import open_file
from vizsla.interop.outgoing import Outgoing
from vizsla.store.database import batched

_ROWS = 5000  # per row group
_AT_ONCE = 500  # rows that are held when reading: there may be images in them
_ESCAPED = re.compile("%([89A-F][0-9A-F])")  # how older versions wrote odd bytes
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
    _pyarrow("writing")  # now: once the first bytes are out an error comes too late
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
    pa = _pyarrow("writing")
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
    pa = _pyarrow("writing")
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
def read(path: Path) -> Iterator[Row | Unreadable]:
    """a Parquet file, or a folder of them, with the columns of the CSV"""
    parts = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not parts:
        raise BadOption(f"{path} holds no .parquet file. Check the path.")
    for part in parts:
        with open_file(part) as file:
            yield from rows(file, str(part))


def rows(file: IO[bytes], name: str) -> Iterator[Row | Unreadable]:
    """The rows of a table that is open. `name`: what errors call it."""
    pa = _pyarrow("reading")
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as table:
            yield from _rows(table, name)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadOption(
            f"{name} is no Parquet file that can be read: {why.rstrip('.')}. Write it anew."
        ) from None


def _rows(table: Any, name: str) -> Iterator[Row | Unreadable]:
    schema = table.schema_arrow
    names = fields.columns(schema.names)
    if not fields.suffice(names):
        raise fields.no_labels(name, schema.names)
    class_names = _class_names(schema, names.get("label"))
    number = 0
    for batch in table.iter_batches(_AT_ONCE, columns=list(dict.fromkeys(names.values()))):
        columns = {column: batch.column(alias).to_pylist() for column, alias in names.items()}
        for cells in zip(*columns.values(), strict=True):
            number += 1
            yield _row(dict(zip(columns, cells, strict=True)), class_names, f"row {number}")


def _row(cells: dict[str, Any], class_names: Sequence[str], where: str) -> Row | Unreadable:
    if class_names and isinstance(code := cells.get("label"), int):
        cells["label"] = class_names[code] if 0 <= code < len(class_names) else None
    picture = cells.get("file_name")
    if isinstance(picture, Mapping):  # an image inside the table
        cells["file_name"] = picture.get("path")
    try:
        row = fields.to_row(cells, where)
    except fields.SeveralClasses:
        return Unreadable(where, "names several classes")
    if isinstance(picture, Mapping) and isinstance(held := picture.get("bytes"), bytes):
        row = replace(row, size=len(held), digest=partial(_sha256, held))
    names = (from_text(row.file_name), _original(row.file_name))
    return replace(row, other_names=tuple(name for name in names if name != row.file_name))


def _sha256(held: bytes) -> str:
    return hashlib.sha256(held).hexdigest()


def _original(name: str) -> str:
    """The name with the odd bytes that older versions wrote `%FF`."""
    return _ESCAPED.sub(lambda found: chr(0xDC00 + int(found[1], 16)), name)


def _class_names(schema: Any, column: str | None) -> Sequence[str]:
    """The names of classes that are numbers, as Hugging Face notes them; none where it does not."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = noted["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return ()
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _pyarrow(doing: str) -> ModuleType:
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise BadOption(f"{doing} Parquet needs pyarrow. Run: pip install 'vizsla[parquet]'.") from None
    return pyarrow
