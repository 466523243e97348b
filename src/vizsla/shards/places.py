"""`Place`: where a folder of shards lies, on a disk that all machines see or in a bucket; files are written whole."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from vizsla.caching import alone_in, write_atomically
from vizsla.data.remote import Remote, is_url, not_there, patiently
from vizsla.errors import BadArray, BadOption, UserError

T = TypeVar("T")

_BLOCK = 2**20  # bytes that a look into a far file fetches, at the least


class Place(ABC):
    """A folder. Names have forward slashes. Making one touches no disk and no network."""

    address: str
    """What opens the same folder again, from whichever machine."""

    def file(self, name: str) -> str:
        """Path or URL of a file in it."""
        return f"{self.address}/{name}"

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The file as it is now. Raises OSError where there is none; Unreachable."""

    @abstractmethod
    def look(self, name: str, see: Callable[[BinaryIO], T]) -> T:
        """What `see` finds in the file, of which it may read parts. Raises as `read` does."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Have the file there, whole or not at all. Raises BadOption, DiskFull or Unreachable, with the mend."""

    @abstractmethod
    def names(self, folder: str) -> set[str]:
        """Names of the files in a folder of it; empty where there is no such folder."""

    @abstractmethod
    def alone(self) -> AbstractContextManager[None]:
        """Keep others from writing here meanwhile, where that can be. Raises BadOption where somebody writes."""


class OnDisk(Place):
    """A folder of a file system."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()  # workers have another current folder
        self.address = str(self.root)

    def read(self, name: str) -> bytes:
        return self.look(name, lambda file: file.read())

    def look(self, name: str, see: Callable[[BinaryIO], T]) -> T:
        try:
            with (self.root / name).open("rb") as file:
                return see(file)
        except NotADirectoryError as error:  # the place is a file
            raise FileNotFoundError(*error.args) from None

    def write(self, name: str, content: bytes) -> None:
        write_atomically(self.root / name, content)

    def names(self, folder: str) -> set[str]:
        inside = self.root / folder
        return {file.name for file in inside.iterdir()} if inside.is_dir() else set()

    def alone(self) -> AbstractContextManager[None]:
        busy = f"another embedding is writing to {self.root}. Wait for it, or choose another --out."
        return alone_in(self.root, busy)


class InBucket(Place):
    """Everything below a URL that fsspec opens. An object that is put is seen whole or not at all."""

    def __init__(self, url: str) -> None:
        self.address = url.rstrip("/")

    def read(self, name: str) -> bytes:
        with _told(self.file(name)):
            return _remote().fetch(self.file(name))

    def look(self, name: str, see: Callable[[BinaryIO], T]) -> T:
        url = self.file(name)

        def ask() -> T:
            with _remote().filesystem(url).open(url, "rb", block_size=_BLOCK) as file:
                return see(file)

        with _told(url):
            return patiently(url, ask)

    def write(self, name: str, content: bytes) -> None:
        try:
            _remote().put(self.file(name), content)
        except OSError as error:
            raise BadOption(not_there(self.file(name), error, "written")) from None

    def names(self, folder: str) -> set[str]:
        with _told(self.file(folder)):
            try:
                return {name for name, _ in _remote().listing(self.file(folder))}
            except FileNotFoundError:
                return set()

    def alone(self) -> AbstractContextManager[None]:
        return nullcontext()  # a bucket has no locks: two at once do everything twice, to the same end


def place_of(address: str | Path) -> Place:
    """The place that a path or a URL means."""
    return InBucket(address) if isinstance(address, str) and is_url(address) else OnDisk(address)


def vectors_at(file: str) -> np.ndarray:
    """The array in a .npy file: mapped from a disk, fetched whole from a bucket.

    Raises: BadArray where it is missing or damaged; Unreachable.
    """
    try:
        if is_url(file):
            found: np.ndarray = np.load(io.BytesIO(content_at(file)), allow_pickle=False)
        else:
            found = np.load(file, mmap_mode="r", allow_pickle=False)
        return found
    except UserError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise BadArray(
            f"{file} cannot be read ({error}). If vizsla embed made it, run that again: it makes only what is missing."
        ) from None


def content_at(file: str) -> bytes:
    """What a file holds: of a bucket, from this machine's cache where it was fetched before and has not changed."""
    if not is_url(file):
        return Path(file).read_bytes()
    with _told(file):
        return _remote().read(file, _remote().stamp(file))


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Say with its mend what keeps a bucket from being read; that a file is not there is for others to judge."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadOption(not_there(url, error)) from None


@cache
def _remote() -> Remote:
    return Remote()
