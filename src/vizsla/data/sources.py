"""`Source`: where images are. A name for each, with forward slashes, and what lies behind the name."""

from __future__ import annotations

import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

from PIL import Image

from vizsla.data import images
from vizsla.data.folders import scan, walk
from vizsla.data.leftout import LeftOut, is_set_apart, suffix_of
from vizsla.data.splits import Layout, is_split, layout_of
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

    splits: bool = True
    """Whether outermost folders that are all called like parts of a data set, `train` and `test`, are no classes."""

    _layout: Layout | None = None
    _left_out: tuple[str, ...] = ()

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

    @property
    def left_out(self) -> tuple[str, ...]:
        """What the last look at all of it passed over, a line for each kind; they are logged, too."""
        return self._left_out

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

    def layout(self) -> Layout:
        """What its folders mean: splits are known by all of the outermost folders."""
        if not self.splits:
            return Layout()
        if self._layout is None:
            self._layout = layout_of(tops(self.names()))
        return self._layout

    def with_splits(self, splits: bool) -> Self:
        """The same, with this for `splits`."""
        twin = copy(self)
        twin.splits = splits
        return twin

    def class_of(self, name: str) -> str | None:
        """The class that the source itself says the image is of."""
        return self.layout().class_folder(name)

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
        if not _is_folder(self.root):
            next(walk(self.root), None)  # says what is wrong

    def files(self) -> Iterator[tuple[str, Stamp]]:
        left_out, above = LeftOut(), set[str]()
        for name in walk(self.root, left_out):
            above |= tops([name])
            try:
                yield name, self.stamp(name)
            except OSError:
                continue  # gone between two looks
        self._layout, self._left_out = layout_of(above), left_out.say()

    def names(self) -> tuple[str, ...]:
        left_out = LeftOut()
        names = scan(self.root, left_out)
        self._layout, self._left_out = layout_of(tops(names)), left_out.say()
        return names

    def layout(self) -> Layout:
        if self.splits and self._layout is None:  # to look at every image would take long
            plain = any(_holds_images(self.root / name) for name in _folders(self.root) if not is_split(name))
            self._layout = Layout() if plain else layout_of(_folders_with_images(self.root))
        return super().layout()

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
        above = self.layout().splits
        roots = [self.root / split for split in above] if above else [self.root]
        return sorted({folder for root in roots for folder in _folders_with_images(root)})

    def _file(self, name: str) -> images.Source:
        return Path(self.root, name)


def tops(names: Iterable[str]) -> set[str]:
    """The outermost folders of these images.

    >>> tops(["train/cat/1.jpg", "train/2.jpg", "3.jpg"])
    {'train'}
    """
    return {name.partition("/")[0] for name in names if "/" in name}


def _folders_with_images(root: Path) -> Iterator[str]:
    return (name for name in _folders(root) if _holds_images(root / name))


def _folders(root: Path) -> list[str]:
    return [entry.name for entry in _entries(root) if _is_folder(entry) and not is_set_apart(entry.name)]


def _holds_images(folder: Path) -> bool:
    """Quick where one lies in the folder itself: nothing is sorted, and nothing below it looked at."""
    if any(map(_is_image, _entries(folder))):
        return True
    try:
        return next(walk(folder), None) is not None
    except NoImages:
        return False


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What lies in it; nothing where it cannot be read, which a scan says."""
    with suppress(OSError), os.scandir(folder) as entries:
        yield from entries


def _is_image(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith(".") or suffix_of(entry.name) not in images.IMAGE_SUFFIXES:
        return False
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _is_folder(path: Path | os.DirEntry[str]) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a link that leads to itself, or what lies in a folder that may not be read
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
