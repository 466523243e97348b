"""Opening what a person wants to import: a file, a folder of files, or a zip of them.

A zip is read where it lies. Nothing is ever unpacked or written, so names in it cannot reach outside.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, Self

from vizsla.data.folders import files_below
from vizsla.data.images import IMAGE_SUFFIXES
from vizsla.data.leftout import LeftOut, is_hidden, suffix_of
from vizsla.errors import BadOption
from vizsla.interop.base import Unreadable

OUTSIDE = "has a name that leads out of the folder"

_UNREADABLE = (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError)
"""What opening or reading a member of a damaged, encrypted or exotic zip may raise."""


def open_file(path: Path) -> io.BufferedReader:
    """The file, open for reading bytes. Raises BadOption where that cannot be."""
    try:
        return path.open("rb")
    except OSError as error:
        raise BadOption(f"cannot read {path}: {error.strerror}. Check the path.") from None


@dataclass(frozen=True)
class File:
    """A file in a folder or zip."""

    parts: tuple[str, ...]
    """Of its path there."""
    size: int
    """Bytes; −1 where it cannot be told."""
    open: Callable[[], IO[bytes]]

    @property
    def name(self) -> str:
        return "/".join(self.parts)

    @property
    def suffix(self) -> str:
        return suffix_of(self.parts[-1])

    @property
    def is_image(self) -> bool:
        return self.suffix in IMAGE_SUFFIXES

    def below(self, depth: int) -> Self:
        """The same, without its outermost folders."""
        return replace(self, parts=self.parts[depth:])

    def digest(self) -> str:
        """SHA-256 in hex; nothing where it cannot be read."""
        try:
            with self.open() as file:
                return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        except _UNREADABLE:
            return ""

    @contextmanager
    def reading(self) -> Iterator[IO[bytes]]:
        """The file, open for reading bytes. Raises BadOption where that cannot be."""
        try:
            with self.open() as file:
                yield file
        except RecursionError:  # of whoever reads, not of the file
            raise
        except _UNREADABLE as error:
            raise BadOption(f"cannot read {self.name}: {error}. Make the file or zip anew.") from None


class Found(NamedTuple):
    """What a folder or zip holds."""

    files: list[File]
    """By name, without hidden ones."""
    refused: list[Unreadable]
    """Names that lead out of the zip."""


@contextmanager
def opened(path: Path, *, alone: bool = False) -> Iterator[Found]:
    """The files of a folder or zip.

    Args:   alone: a file that is no zip counts as one in a folder of its own.
    Raises: BadOption where it cannot be read.
    """
    if path.is_dir():
        yield Found(sorted(_on_disk(path), key=_by_name), [])
        return
    with open_file(path) as file:
        if alone and path.suffix.lower() != ".zip" and not zipfile.is_zipfile(file):
            yield Found([_at(path, (path.name,))], [])
            return
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(_zipped(archive), key=_by_name)
            refused = [Unreadable(file.name, OUTSIDE) for file in members if ".." in file.parts]
            yield Found([file for file in members if ".." not in file.parts], refused)
    except _UNREADABLE as error:
        why = getattr(error, "strerror", None) or error
        raise BadOption(f"{path} is no zip that can be read: {why}. Unpack it and give the folder.") from None


def _by_name(file: File) -> tuple[str, ...]:
    return file.parts


def _on_disk(root: Path) -> Iterator[File]:
    left_out = LeftOut()
    for name in files_below(root, left_out):
        file = _at(root / name, tuple(name.split("/")))
        left_out.other_file(name, file.suffix)
        yield file
    left_out.say()


def _at(path: Path, parts: tuple[str, ...]) -> File:
    try:
        size = path.stat().st_size
    except OSError:
        size = -1
    return File(parts, size, lambda: path.open("rb"))


def _zipped(archive: zipfile.ZipFile) -> Iterator[File]:
    left_out = LeftOut()
    for member in archive.infolist():
        parts = tuple(part for part in member.filename.replace("\\", "/").split("/") if part)
        if not parts or member.is_dir():
            continue
        file = File(parts, member.file_size, partial(archive.open, member))
        inside = "/".join(part for part in parts if part != "..")  # what leads outside is refused by name
        if is_hidden(inside):
            left_out.hidden_path(inside)
        else:
            left_out.other_file(inside, file.suffix)
            yield file
    left_out.say()
