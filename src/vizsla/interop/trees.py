"""What formats of many files share when they are written: contents, names that do not clash, folders."""

from __future__ import annotations

import hashlib
import os
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vizsla.caching import draft_of, explain_write_errors
from vizsla.data.sources import Source
from vizsla.errors import BadOption
from vizsla.interop.foldernames import escape, fitted, fitted_file
from vizsla.interop.zips import Member
from vizsla.store import Image

if TYPE_CHECKING:
    from vizsla.interop.outgoing import Outgoing

MISSING = "MISSING.txt"
GONE, REPLACED = "", "another image has taken its place since; rescan the folder"
_PIECE = 1 << 20


def content(images: Source, name: str, image: Image) -> bytes | str:
    """What the file holds, or why it is not the image's: `GONE` or `REPLACED`."""
    try:
        held = images.read(name)
    except OSError:
        return GONE
    return held if _is_still(image, held) else REPLACED


def _is_still(image: Image, held: bytes) -> bool:
    if image.sha256 is None:  # never read, and of a size that nobody knows where a server does not tell it
        return image.size in (-1, len(held))
    return hashlib.sha256(held).hexdigest() == image.sha256


def bare_name(path: str) -> str:
    """The file's name without its folders."""
    return path.rpartition("/")[2]


def stem(path: str) -> str:
    """The path without the file's suffix.

    >>> stem("a.b/c.d.jpg"), stem("a.b/c"), stem(".a/.b")
    ('a.b/c.d', 'a.b/c', '.a/.b')
    """
    return path[: len(path) - len(Path(bare_name(path)).suffix)]


class Shared:
    """Which names several images have, where capitals do not count. Eight bytes for each image."""

    def __init__(self, names: Iterable[str]) -> None:
        marks = sorted(array("q", map(_mark, names)))
        self._marks = {one for one, other in pairwise(marks) if one == other}

    def __contains__(self, name: str) -> bool:
        return _mark(name) in self._marks


def _mark(name: str) -> int:
    return hash(name.casefold())


def flat_name(path: str, shared: Shared, of: Callable[[str], str] = bare_name) -> str:
    """A file name for the image in a folder of many: its own, else, where others share it, its whole path.

    Args:    of: what must not be shared, of a path.
    """
    if of(path) not in shared:
        return fitted_file(bare_name(path))
    whole = escape(path if "/" in path else f"/{path}")
    suffix = path[len(stem(path)) :]
    end = f".{escape(suffix[1:])}" if suffix else ""
    return fitted(whole, path, end)  # an image whose name is cut is known by its content


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """All that was written to the file."""
    file.seek(0)
    while piece := file.read(_PIECE):
        yield piece


def kept(outgoing: Outgoing, image: Image, path: str) -> bytes | None:
    """What the image's file holds; one that is not what it was is noted as missing."""
    held = content(outgoing.images, path, image)
    if isinstance(held, bytes):
        return held
    outgoing.missing.append(f"{path}\t{held}" if held else path)
    return None


def missing_list(outgoing: Outgoing) -> Iterator[Member]:
    """A file that names the images which could not be written, where there are any."""
    if outgoing.missing:
        yield MISSING, 0, "".join(f"{line}\n" for line in outgoing.missing).encode(errors="surrogateescape")


def write_folder_atomically(path: Path, members: Iterable[Member]) -> None:
    """Write the files whole or not at all: a temporary folder, then a rename.

    Raises:  BadOption where there is something at that path already, but for an empty folder.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise BadOption(f"{path} is there already. Move it away, or give another --out.")
    temporary = draft_of(path)
    with explain_write_errors(path):
        try:
            temporary.mkdir(parents=True)
            for name, seconds, held in members:
                _write(temporary / name, seconds, [held] if isinstance(held, bytes) else held)
            if path.exists():
                path.rmdir()
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _write(path: Path, seconds: float, pieces: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        for piece in pieces:
            file.write(piece)
    if seconds > 0:
        os.utime(path, (seconds, seconds))
