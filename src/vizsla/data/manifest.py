"""`Manifest`: a list of images in a CSV, JSON Lines or Parquet file, with a class for each, or none."""

from __future__ import annotations

import csv
import errno
import io
import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from vizsla.data.images import IMAGE_SUFFIXES
from vizsla.data.remote import AT_ONCE, Remote, is_url
from vizsla.data.sources import Source, Stamp, stamp_of
from vizsla.errors import BadOption, NoImages, NoLabel, Unreachable

log = logging.getLogger("vizsla")

SUFFIXES = (".csv", ".jsonl", ".parquet")

NAME_COLUMNS = ("file_name", "filename", "filepath", "file_path", "path", "file", "image")
LABEL_COLUMNS = ("label", "class", "class_name", "category", "choice")
"""What the two columns may be called, the first that is there counts; capitals and blanks do not matter."""

_DOWN_SECONDS = 60.0  # that a host which did not answer is left alone
_UNKNOWN: Stamp = (-1, 0, 0)  # of a URL: taken to show the same image for good

Cells = tuple[Any, Any]
"""Name and class of a row, as they stand there."""


@dataclass(frozen=True)
class Rows:
    """What a manifest says."""

    classes: Mapping[str, str | None]
    """Image → class, in the order of the file."""
    hosts: frozenset[str]
    """That its URLs lead to."""


class Manifest(Source):
    """Images that a file lists. Paths are relative to the file, absolute, or URLs.

    An image at a URL is taken to stay as it is: the server is not asked whether it has changed.
    """

    def __init__(self, file: str | Path, remote: Remote | None = None) -> None:
        self.path = None if is_url(str(file)) else Path(file)
        self.file = str(file)
        self.remote = remote or Remote()
        self._rows: tuple[Stamp, Rows] | None = None
        self._down: dict[str, float] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    @property
    def address(self) -> str:
        return self.file if self.path is None else str(self.path.resolve())

    @property
    def title(self) -> str:
        return PurePosixPath(self.address.replace(os.sep, "/")).stem

    @property
    def at_once(self) -> int:
        return AT_ONCE if self._known.hosts else 0

    def visit(self) -> None:
        self._look()

    def files(self) -> Iterator[tuple[str, Stamp]]:
        gone = []
        for name in self._look().classes:
            try:
                yield name, self.stamp(name)
            except OSError:
                gone.append(name)
        if gone:
            log.warning(
                "left out %d images of %s that are not there, such as %s", len(gone), self.file, gone[0]
            )
        if len(gone) == len(self._known.classes):
            raise NoImages(
                f"none of the images in {self.file} is there, such as {self.where(gone[0])}. Check its paths."
            )

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._look().classes))

    def expect(self, stamps: Mapping[str, Stamp]) -> None:
        """Nothing: no server is asked."""

    def where(self, name: str) -> str:
        if is_url(name) or Path(name).is_absolute():
            return name
        return f"{self.file.rpartition('/')[0]}/{name}" if self.path is None else str(self.path.parent / name)

    def stamp(self, name: str) -> Stamp:
        where = self.where(name)
        if is_url(where):
            return _UNKNOWN
        return stamp_of(Path(where).stat())

    def read(self, name: str) -> bytes:
        where = self.where(name)
        if not is_url(where):
            return Path(where).read_bytes()
        if self._is_down(host := urlsplit(where).netloc):
            raise OSError(errno.EHOSTUNREACH, f"{host} does not answer")
        try:
            return self.remote.read(where, _UNKNOWN)
        except Unreachable as error:
            if len(self._known.hosts) < 2:
                raise
            self._down[host] = time.monotonic()
            raise OSError(errno.EHOSTUNREACH, str(error).partition(". ")[0]) from None

    def _is_down(self, host: str) -> bool:
        """Whether it did not answer a moment ago; the images of others are not to wait for it each time."""
        return time.monotonic() < self._down.get(host, -_DOWN_SECONDS) + _DOWN_SECONDS

    def key(self, name: str) -> bytes:
        where = self.where(name)
        return os.fsencode(where if is_url(where) else Path(where).absolute())

    def class_of(self, name: str) -> str | None:
        return self._known.classes.get(name)

    def class_names(self) -> Sequence[str]:
        return sorted({name for name in self._known.classes.values() if name is not None})

    def lacks_class(self, name: str) -> str:
        return f"{name} has no class in {self.file}. Fill its column {LABEL_COLUMNS[0]!r}."

    @property
    def _known(self) -> Rows:
        return self._look() if self._rows is None else self._rows[1]

    def _look(self) -> Rows:
        """Read the file, unless it is as it was."""
        with self._lock:
            try:
                stamp = self.remote.stamp(self.file) if self.path is None else stamp_of(self.path.stat())
                if self._rows is None or self._rows[0] != stamp:
                    content = (
                        self.remote.read(self.file, stamp) if self.path is None else self.path.read_bytes()
                    )
                    self._rows = stamp, self._parsed(content)
            except OSError as error:
                raise NoImages(
                    f"cannot read {self.file}: {error.strerror or error}. Check the path."
                ) from None
            return self._rows[1]

    def _parsed(self, content: bytes) -> Rows:
        suffix = PurePosixPath(self.file.lower()).suffix
        cells = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}[suffix](content, self.file)
        classes: dict[str, str | None] = {}
        for number, (given, said) in enumerate(cells, 1):
            name, label = _name(given), None if said is None else str(said).strip() or None
            if not name:
                raise NoImages(f"row {number} of {self.file} names no image. Fill or remove it.")
            if classes.setdefault(name, label) != label:
                raise NoLabel(
                    f"{self.file} says that {name} is {classes[name]} and {label}. Keep one of the rows."
                )
        if not classes:
            raise NoImages(f"{self.file} lists no image. Give a row for each: file_name,label.")
        urls = (urlsplit(where).netloc for name in classes if is_url(where := self.where(name)))
        return Rows(classes, frozenset(urls))


def _name(given: Any) -> str:
    """An image as we name it: with forward slashes; `file:///` is a path."""
    text = "" if given is None else str(given).strip()
    if text.startswith("file://"):
        text = url2pathname(urlsplit(text).path)
    return text if is_url(text) else text.replace("\\", "/").removeprefix("./")


def _csv(content: bytes, file: str) -> Iterator[Cells]:
    try:
        rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        first = next(rows, [])
        header = _columns(first)
        if header is None and first and not _is_name(first[0]):
            raise NoImages(_no_column(file, first))
        name, label = header or (0, 1)
        for row in rows if header else [first, *rows]:
            if row:
                yield _cell(row, name), _cell(row, label)
    except UnicodeDecodeError:
        raise NoImages(f"{file} is no text in UTF-8. Save it as CSV UTF-8.") from None
    except csv.Error as error:
        raise NoImages(f"{file} is no CSV file that can be read ({error}).") from None


def _jsonl(content: bytes, file: str) -> Iterator[Cells]:
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"))
            keys = list(row) if isinstance(row, dict) else []
        except ValueError:
            raise NoImages(f"line {number} of {file} is no JSON. Write one object per line.") from None
        columns = _columns(keys)
        if columns is None:
            raise NoImages(f"line {number} of " + _no_column(file, keys))
        name, label = columns
        yield row[keys[name]], None if label is None else row[keys[label]]


def _parquet(content: bytes, file: str) -> Iterator[Cells]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise BadOption("reading Parquet needs pyarrow. Run: pip install 'vizsla[parquet]'.") from None
    try:
        table = parquet.ParquetFile(io.BytesIO(content))
    except (pa.ArrowException, OSError):
        raise NoImages(f"{file} is no Parquet file that can be read.") from None
    keys = table.schema_arrow.names
    columns = _columns(keys)
    if columns is None:
        raise NoImages(_no_column(file, keys))
    wanted = [keys[column] for column in columns if column is not None]
    for batch in table.iter_batches(columns=wanted):
        values = [batch.column(name).to_pylist() for name in wanted]
        yield from zip(values[0], values[1] if len(values) > 1 else [None] * len(batch), strict=True)


def _columns(names: Sequence[str]) -> tuple[int, int | None] | None:
    """Where image and class stand; None where no column is called after images."""
    here = {name.strip().lower().replace(" ", "_"): place for place, name in reversed(list(enumerate(names)))}
    found = [
        next((here[alias] for alias in aliases if alias in here), None)
        for aliases in (NAME_COLUMNS, LABEL_COLUMNS)
    ]
    return None if found[0] is None else (found[0], found[1])


def _no_column(file: str, names: Iterable[str]) -> str:
    return f"{file} has no column {NAME_COLUMNS[0]!r}, only {', '.join(map(repr, names)) or 'none'}. Name one so."


def _is_name(text: str) -> bool:
    return is_url(text) or PurePosixPath(text.strip()).suffix.lower() in IMAGE_SUFFIXES


def _cell(row: Sequence[str], column: int | None) -> str | None:
    return row[column] if column is not None and column < len(row) else None
