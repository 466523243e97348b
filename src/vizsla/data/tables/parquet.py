"""Parquet, also as Hugging Face writes it: classes as numbers, whose names the schema holds. Needs pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import IO, Any

from vizsla.data.tables.columns import Wanted, layout
from vizsla.data.tables.lines import Header, Line
from vizsla.errors import BadOption, BadTable

_AT_ONCE = 500  # rows that are held: there may be images in them


def lines(file: IO[bytes], name: str, wanted: Wanted) -> Iterator[Line]:
    """The header and the rows of a table that is open. Raises BadTable."""
    pa = pyarrow("reading")
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as table:
            yield from _lines(table, name, wanted)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadTable(
            f"{name} is no Parquet file that can be read: {why.rstrip('.')}. Write it anew."
        ) from None


def _lines(table: Any, name: str, wanted: Wanted) -> Iterator[Line]:
    schema = table.schema_arrow
    yield Line("its schema", tuple(schema.names), None)
    header = _needed(schema, name, wanted)
    class_names = [_class_names(schema, column) for column in header]
    number = 0
    for batch in table.iter_batches(_AT_ONCE, columns=list(header)):
        columns = [
            [_named(value, names) for value in values] if names else values
            for values, names in zip(
                (batch.column(column).to_pylist() for column in header), class_names, strict=True
            )
        ]
        for values in zip(*columns, strict=True):
            number += 1
            yield Line(f"row {number}", header, values)


def _needed(schema: Any, name: str, wanted: Wanted) -> Header:
    """The wanted columns; of a table that says nothing of classes also those of numbers, which may be classes."""
    import pyarrow as pa

    found = layout(schema.names, wanted, name)
    needed = {schema.names[at] for at in found.place.values()}
    if not found.labels:
        kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
        needed |= {field.name for field in schema if any(is_kind(field.type) for is_kind in kinds)}
    return tuple(name for name in schema.names if name in needed)


def _named(code: Any, names: Sequence[str]) -> Any:
    if not isinstance(code, int):
        return code
    return names[code] if 0 <= code < len(names) else None


def _class_names(schema: Any, column: str) -> Sequence[str]:
    """The names of classes that are numbers, as Hugging Face notes them; none where it does not."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = noted["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return ()
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def pyarrow(doing: str) -> ModuleType:
    """The package. Raises BadOption with what to install; `doing`: reading or writing."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise BadOption(f"{doing} Parquet needs pyarrow. Run: pip install 'vizsla[parquet]'.") from None
    return pyarrow
