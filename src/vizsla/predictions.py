"""Predictions of a folder as a table: CSV, JSONL or Parquet, piece by piece, in memory that does not grow.

| column | holds |
| --- | --- |
| `file_name` | the image's path below the folder, with forward slashes |
| `label` | the likeliest class; empty where the model is not sure, or the file cannot be read |
| `prob` | its calibrated probability |
| `not_sure` | only where a threshold was given: whether `prob` lies below it |
| `prob_CLASS` | of each class, in the model's order; in JSONL an object `probs` |
| `error` | why the file cannot be read; else empty |
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vizsla.caching import write_stream_atomically
from vizsla.data.names import as_text
from vizsla.data.sources import Source
from vizsla.errors import BadOption
from vizsla.models.classifier import Classifier
from vizsla.types import Progress

AT_ONCE = 2048
"""Images between two pieces of the table."""
_NAMED = 10  # unreadable files in the summary


@dataclass(frozen=True, eq=False)
class Piece:
    """Predictions of some files."""

    names: Sequence[str]
    probs: Float32[np.ndarray, "n c"]
    """NaN in the rows of unreadable files."""
    errors: Mapping[int, str]

    def rows(self, classes: Sequence[str], not_sure: float | None) -> Iterator[Row]:
        """One for each file."""
        for place, (name, probs) in enumerate(zip(self.names, self.probs, strict=True)):
            if place in self.errors:
                yield Row(name, error=self.errors[place])
                continue
            best = int(np.argmax(probs))
            unsure = not_sure is not None and float(probs[best]) < not_sure
            yield Row(name, None if unsure else classes[best], float(probs[best]), unsure, probs)


@dataclass(frozen=True, eq=False)
class Row:
    """One file of the table."""

    name: str
    label: str | None = None
    prob: float | None = None
    unsure: bool | None = None
    probs: Float32[np.ndarray, " c"] | None = None
    error: str | None = None


def predicted(model: Classifier, source: Source, progress: Progress | None = None) -> Iterator[Piece]:
    """The images of a folder or another source, sorted by name, a few thousand at a time.

    Args:   progress: called with (images done, images).
    Raises: NoImages where there are none.
    """
    names = source.names()
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]

        def tell(done: int, _: int, before: int = start) -> None:
            if progress:
                progress(before + done, len(names))

        more = len(names) - start - len(some)
        found = model.predict_images(source, some, more=more, progress=tell)
        tell(len(some), len(some))
        yield Piece(some, found.probs, found.errors)


@dataclass
class Tally:
    """What a table came to."""

    images: int = 0
    unsure: int = 0
    unreadable: int = 0
    named: list[str] = field(default_factory=list)
    """The first unreadable files, with the reasons."""

    def add(self, row: Row) -> None:
        """Count one file."""
        if row.error is None:
            self.images += 1
            self.unsure += bool(row.unsure)
            return
        self.unreadable += 1
        if len(self.named) < _NAMED:
            self.named.append(f"{as_text(row.name)}: {row.error}")

    @property
    def sentence(self) -> str:
        """
        >>> Tally(120, 7, 2).sentence
        '120 predictions, 7 of them not sure; 2 files cannot be read'
        """
        unsure = f", {self.unsure:,} of them not sure" if self.unsure else ""
        files = "file" if self.unreadable == 1 else "files"
        broken = f"; {self.unreadable:,} {files} cannot be read" if self.unreadable else ""
        return f"{self.images:,} predictions{unsure}{broken}"


@dataclass(frozen=True)
class Table:
    """How predictions are written down."""

    classes: Sequence[str]
    not_sure: float | None
    """Probability below which no label is given; None: always one."""
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        if self.not_sure is not None and not 0 < self.not_sure <= 1:
            raise BadOption(f"--not-sure is a probability above 0, such as 0.6, not {self.not_sure:g}.")

    def columns(self) -> list[str]:
        """Names of the columns of CSV and Parquet."""
        flag = [] if self.not_sure is None else ["not_sure"]
        return ["file_name", "label", "prob", *flag, *(f"prob_{name}" for name in self.classes), "error"]

    def rows(self, piece: Piece) -> Iterator[Row]:
        """Those of a piece, counted."""
        for row in piece.rows(self.classes, self.not_sure):
            self.tally.add(row)
            yield row

    def csv(self, pieces: Iterable[Piece]) -> Iterator[bytes]:
        """Probabilities with six digits."""
        yield _csv_lines([self.columns()])
        for piece in pieces:
            yield _csv_lines(self._cells(row) for row in self.rows(piece))

    def _cells(self, row: Row) -> list[str]:
        flag = [] if self.not_sure is None else ["" if row.unsure is None else str(row.unsure).lower()]
        each = [""] * len(self.classes) if row.probs is None else [f"{p:.6f}" for p in row.probs]
        prob = "" if row.prob is None else f"{row.prob:.6f}"
        return [as_text(row.name), row.label or "", prob, *flag, *each, row.error or ""]

    def jsonl(self, pieces: Iterable[Piece]) -> Iterator[bytes]:
        """An object on each line; null where CSV is empty."""
        for piece in pieces:
            lines = (json.dumps(found, ensure_ascii=False) for found in self.objects(piece))
            yield "".join(f"{line}\n" for line in lines).encode()

    def objects(self, piece: Piece) -> Iterator[dict[str, Any]]:
        """What JSON has for each file."""
        return (self._object(row) for row in self.rows(piece))

    def _object(self, row: Row) -> dict[str, Any]:
        flag = {} if self.not_sure is None else {"not_sure": row.unsure}
        probs = None
        if row.probs is not None:
            probs = {name: round(float(p), 6) for name, p in zip(self.classes, row.probs, strict=True)}
        prob = None if row.prob is None else round(row.prob, 6)
        told = {"file_name": as_text(row.name), "label": row.label, "prob": prob}
        return told | flag | {"probs": probs, "error": row.error}

    def parquet(self, pieces: Iterable[Piece]) -> Iterator[bytes]:
        """Probabilities in float32, null where CSV is empty; a row group for each piece."""
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise BadOption("Parquet needs pyarrow. Run: pip install 'vizsla[parquet]'") from None
        texts = {"file_name": pa.string(), "label": pa.string(), "error": pa.string(), "not_sure": pa.bool_()}
        schema = pa.schema([(name, texts.get(name, pa.float32())) for name in self.columns()])
        sink = _Tap()
        with pq.ParquetWriter(pa.PythonFile(sink, "w"), schema) as writer:
            for piece in pieces:
                arrays = zip(*(self._values(row) for row in self.rows(piece)), strict=True)
                columns = [pa.array(values, kind.type) for values, kind in zip(arrays, schema, strict=True)]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                yield sink.taken()
        yield sink.taken()

    def _values(self, row: Row) -> list[Any]:
        flag = [] if self.not_sure is None else [row.unsure]
        each: Sequence[Any] = [None] * len(self.classes) if row.probs is None else row.probs.tolist()
        return [as_text(row.name), row.label, row.prob, *flag, *each, row.error]


class _Tap(io.RawIOBase):
    """A file that hands on what was written to it since it was last asked."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def tell(self) -> int:
        return self._written

    def taken(self) -> bytes:
        """The bytes that nobody has asked for yet."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


FORMATS: dict[str, Callable[[Table, Iterable[Piece]], Iterator[bytes]]] = {
    ".csv": Table.csv,
    ".jsonl": Table.jsonl,
    ".parquet": Table.parquet,
}


def write_predictions(
    model: Classifier,
    source: Source,
    out: Path,
    *,
    not_sure: float | None = None,
    progress: Progress | None = None,
) -> Tally:
    """Predict all images of a source and write the table that the file's suffix asks for, whole or not at all.

    Interrupted, the same call goes on where it stopped: features are kept in the cache.

    Args:   not_sure: probability of the likeliest class below which no label is given.
    Raises: BadOption for another suffix; NoImages.
    """
    if out.suffix not in FORMATS:
        raise BadOption(f"--out {out} must end in {', '.join(FORMATS)}.")
    table = Table(model.classes, not_sure)
    write_stream_atomically(out, FORMATS[out.suffix](table, predicted(model, source, progress)))
    return table.tally


def _csv_lines(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
