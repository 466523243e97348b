"""`Manifest`: a list of images in a CSV, JSON Lines or Parquet file, with a class for each, or none."""

from __future__ import annotations

import errno
import io
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from vizsla.data import tables
from vizsla.data.remote import AT_ONCE, Remote, is_url
from vizsla.data.sources import Source, Stamp, stamp_of
from vizsla.errors import BadTable, NoImages, NoLabel, Unreachable

log = logging.getLogger("vizsla")

SUFFIXES = tuple(f".{kind}" for kind in tables.KINDS)

NAME_COLUMNS = tables.ALIASES["file_name"]
LABEL_COLUMNS = tables.ALIASES["label"]
"""What the two columns may be called, the first that is there counts; capitals and blanks do not matter."""

_DOWN_SECONDS = 60.0  # that a host which did not answer is left alone
_UNKNOWN: Stamp = (-1, 0, 0)  # of a URL: taken to show the same image for good


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

    Args: columns: `file_name` and `label` → what these columns are called, where their names do not tell.
    """

    def __init__(
        self, file: str | Path, remote: Remote | None = None, *, columns: Mapping[str, str] | None = None
    ) -> None:
        self.path = None if is_url(str(file)) else Path(file)
        self.file = str(file)
        self.remote = remote or Remote()
        self.columns = columns or {}
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
        return f"{name} has no class in {self.file}. Fill its column {self.columns.get('label', 'label')!r}."

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
        classes: dict[str, str | None] = {}
        try:
            folders: dict[Path, dict[str, list[str]]] = {}
            for record in self._records(content):
                name, label = self._name(record, folders), record.label
                if classes.setdefault(name, label) != label:
                    raise NoLabel(
                        f"{self.file} says that {name} is {classes[name]} and {label}. Keep one of the rows."
                    )
        except BadTable as error:
            raise NoImages(str(error)) from None
        if not classes:
            raise NoImages(f"{self.file} lists no image. Give a row for each: file_name,label.")
        for name in tables.several_in_one({name for name in classes.values() if name}):
            log.warning("%s: the class %r looks like several; an image has one here", self.file, name)
        urls = (urlsplit(where).netloc for name in classes if is_url(where := self.where(name)))
        return Rows(classes, frozenset(urls))

    def _records(self, content: bytes) -> Iterator[tables.Record]:
        """The rows, each of which names an image."""
        wanted = tables.Wanted(labels=False, chosen=self.columns)
        for found in tables.read(io.BytesIO(content), self.file, tables.kind_of(self.file), wanted):
            if isinstance(found, tables.Note):
                log.warning("%s: %s", self.file, found.text)
            elif isinstance(found, tables.Unreadable):
                raise NoImages(f"{self.file} {found.where} {found.reason}. Correct or remove it.")
            elif not found.names or "\0" in found.names[0]:
                why = "has a NUL character in a name" if found.names else "names no image"
                raise NoImages(f"{self.file} {found.where} {why}. Fill or remove it.")
            else:
                yield found

    def _name(self, record: tables.Record, folders: dict[Path, dict[str, list[str]]]) -> str:
        """The image that a row means: of its names the first that is there, without blanks if none is.

        Args: folders: names by those without suffix, of the folders that were looked at.
        """
        names = [_as_ours(name) for name in record.names]
        bare = names[min(1, len(names) - 1)]
        if len(names) == 1 and tables.is_image_name(bare):
            return bare  # most are so, and none needs a look at the disk
        if found := next((name for name in names if self._is_there(name)), None):
            return found
        where = Path(self.where(bare))
        if where.parent not in folders:
            folders[where.parent] = _by_stem(where.parent)
        whole = folders[where.parent].get(where.name, [])
        return f"{bare.removesuffix(where.name)}{whole[0]}" if len(whole) == 1 else bare

    def _is_there(self, name: str) -> bool:
        try:
            return self.stamp(name) != _UNKNOWN
        except OSError:
            return False


def _by_stem(folder: Path) -> dict[str, list[str]]:
    """Names of the images in a folder, by their names without suffix, as some tables have them."""
    found: dict[str, list[str]] = {}
    try:
        for entry in os.scandir(folder):
            if tables.is_image_name(entry.name):
                found.setdefault(tables.stem(entry.name), []).append(entry.name)
    except OSError:
        pass
    return found


def _as_ours(name: str) -> str:
    """An image as we name it: with forward slashes; `file:///` is a path."""
    if name.startswith("file://"):
        name = url2pathname(urlsplit(name).path)
    return name if is_url(name) else name.replace("\\", "/").removeprefix("./")
