"""`Source`: where images are. A name for each, with forward slashes, and what lies behind the name."""

from __future__ import annotations

import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from PIL import Image

from vizsla.data import images
from vizsla.data.folders import class_folder, scan, walk
from vizsla.errors import BadOption, NoImages, UnreadableImage

Stamp = tuple[int, int, int]
"""Size, and times of the last change of content and of status, ns: a file that keeps all three is the same.

Where there are no times, as in a bucket, the second number is one below 0 that stands for the content, and the
third is 0."""


def stamp_of(found: os.stat_result, system: str = os.name) -> Stamp:
    """The stamp of a file on this machine.

    Windows has no time of the last change of status. The number of the file, below 0, tells as well that another
    one was renamed into its place.
    """
    status = found.st_ctime_ns if system != "nt" else -(found.st_ino % 2**62)
    return found.st_size, found.st_mtime_ns, status


class Source(ABC):
    """A set of images. Making one touches no disk and no network."""

    path: Path | None = None
    """The folder or file that it is, where that lies on this machine."""

    @property
    def at_once(self) -> int:
        """How many images should be read at once because reading waits for a network; 0: it does not."""
        return 0

    @property
    @abstractmethod
    def address(self) -> str:
        """What opens the same source again, from whatever folder."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What people call it."""

    @abstractmethod
    def visit(self) -> None:
        """See that it is there at all; quick. Raises NoImages or Unreachable, with the mend."""

    @abstractmethod
    def files(self) -> Iterator[tuple[str, Stamp]]:
        """Every image there is now, as it is found. Raises NoImages where there is none."""

    def names(self) -> tuple[str, ...]:
        """The names of all of them, sorted."""
        return tuple(sorted(name for name, _ in self.files()))

    @abstractmethod
    def expect(self, stamps: Mapping[str, Stamp]) -> None:
        """Take these stamps as known, where finding them out would cost a question over the network."""

    @abstractmethod
    def where(self, name: str) -> str:
        """Its path or URL, for people and for programs that can open one."""

    @abstractmethod
    def stamp(self, name: str) -> Stamp:
        """What tells whether the image has changed. Raises OSError where there is none of that name."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The file's content.

        Raises: OSError where there is none, or it may not be read; Unreachable where nobody answers.
        """

    def digest(self, name: str) -> str:
        """SHA-256 of the file's content, in hex. Raises as `read`."""
        return hashlib.sha256(self.read(name)).hexdigest()

    def key(self, name: str) -> bytes:
        """Names the image on this machine, whichever source it is met through."""
        return os.fsencode(self.where(name))

    def class_of(self, name: str) -> str | None:
        """The class that the source itself says the image is of."""
        return class_folder(name)

    def class_names(self) -> Sequence[str]:
        """The classes it speaks of, sorted; without looking at every image, where that can be."""
        return sorted({found for name in self.names() if (found := self.class_of(name)) is not None})

    def lacks_class(self, name: str) -> str:
        """What to tell a person about an image that `class_of` knows no class of."""
        return (
            f"{name} lies in no class folder of {self.where('').rstrip('/')}, so its label cannot be read. "
            "Put every image in a folder named after its class."
        )

    def signed(self, name: str, seconds: int) -> str:
        """A URL that lets a browser read the file for a while. Raises BadOption where there are none."""
        raise BadOption(f"only buckets have signed URLs, not {self.address}. Leave out --signed-urls.")

    def load(self, name: str, size: int | None = None) -> Image.Image:
        """The image as `images.load` gives it. Raises UnreadableImage, Unreachable."""
        return images.load(self._file(name), size)

    def check(self, name: str) -> str | None:
        """Why the image cannot be decoded, or None if it can."""
        try:
            return images.check(self._file(name))
        except UnreadableImage as error:
            return str(error)

    def _file(self, name: str) -> images.Source:
        try:
            file = io.BytesIO(self.read(name))
        except OSError as error:
            raise UnreadableImage(f"cannot read {self.where(name)}: {error.strerror or error}.") from None
        file.name = self.where(name)  # what error messages say
        return file


class Folder(Source):
    """A folder on this machine: the plain and fast case."""

    def __init__(self, root: str | Path) -> None:
        self.root = self.path = Path(root)

    @cached_property
    def _absolute(self) -> str:
        return str(self.root.absolute()).rstrip(os.sep) + os.sep

    @property
    def address(self) -> str:
        return str(self.root.resolve())

    @property
    def title(self) -> str:
        return self.root.resolve().name

    def visit(self) -> None:
        if not self.root.is_dir():
            next(walk(self.root), None)  # says what is wrong

    def files(self) -> Iterator[tuple[str, Stamp]]:
        for name in walk(self.root):
            try:
                yield name, self.stamp(name)
            except OSError:
                continue  # gone between two looks

    def names(self) -> tuple[str, ...]:
        return scan(self.root)

    def expect(self, stamps: Mapping[str, Stamp]) -> None:
        """Nothing: the disk is asked each time."""

    def where(self, name: str) -> str:
        return str(Path(self.root, name))

    def stamp(self, name: str) -> Stamp:
        return stamp_of(Path(self.root, name).stat())

    def read(self, name: str) -> bytes:
        return Path(self.root, name).read_bytes()

    def digest(self, name: str) -> str:
        with Path(self.root, name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def key(self, name: str) -> bytes:
        return os.fsencode(f"{self._absolute}{name}")  # a Path for each would take longer than all the rest

    def class_names(self) -> Sequence[str]:
        entries = (entry for entry in os.scandir(self.root) if entry.is_dir() and entry.name[0] != ".")
        return sorted(entry.name for entry in entries if _holds_images(self.root / entry.name))

    def _file(self, name: str) -> images.Source:
        return Path(self.root, name)


def _holds_images(folder: Path) -> bool:
    try:
        return next(walk(folder), None) is not None
    except NoImages:
        return False


def source_of(given: str | Path | Source) -> Source:
    """The source that a person means: a folder, a list of images (.csv, .jsonl, .parquet), or a URL for fsspec."""
    from vizsla.data.manifest import SUFFIXES, Manifest  # here: they are sources themselves
    from vizsla.data.remote import Bucket, is_url

    if isinstance(given, Source):
        return given
    if isinstance(given, str) and given.startswith("file://"):
        given = url2pathname(urlsplit(given).path)
    if str(given).lower().endswith(SUFFIXES) and not Path(given).is_dir():
        return Manifest(given)
    return Bucket(given) if isinstance(given, str) and is_url(given) else Folder(given)
