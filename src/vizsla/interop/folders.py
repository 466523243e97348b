"""Class folders: `<class>/<file name>`, images without a label in `_unlabeled/`.

Out it is a zip. An image keeps its bare file name where no other image of the project has the same, else its
whole path makes the name, `holiday%2F1.jpg` (`%2F1.jpg` where it lies in no folder). Names that file systems do
not take are escaped (`foldernames`). `MISSING.txt` names the images that are no longer on disk, or replaced by
others. Skipped and flagged images count as unlabelled here, and who answered when is not told.

In it is such a folder or zip, also with folders for splits above the classes and with numbers before their names.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO

from vizsla.data.folders import walk
from vizsla.data.images import IMAGE_SUFFIXES
from vizsla.data.sources import Source
from vizsla.errors import BadOption
from vizsla.interop import zips
from vizsla.interop.base import SPLITS, Format, Row, Unreadable, formats, importers
from vizsla.interop.foldernames import NO_CLASS, UNLABELLED, classes_of, escape, folders, unescape
from vizsla.interop.matching import pages
from vizsla.store import Image, Store

MISSING = "MISSING.txt"
_REPLACED = "\tanother image has taken its place since; rescan the folder"


def write(store: Store, images: Source) -> Iterator[bytes]:
    """A zip of all images of the project, by their classes."""
    return zips.stream(_members(store, images))


def _members(store: Store, images: Source) -> Iterator[tuple[str, float, bytes]]:
    folder_of = folders(name for name, n in store.counts().classes.items() if n)
    shared = _shared_names(store)
    missing = []
    for image in pages(store):
        if image.path is None:
            continue
        name = _file_name(image.path, shared)
        labelled = image.status == "labelled" and image.label is not None
        folder = folder_of.get(image.label or "", escape(image.label or "")) if labelled else UNLABELLED
        content = _content(images, image.path, image)
        if isinstance(content, bytes):
            yield f"{folder}/{name}", image.mtime_ns / 1e9, content
        else:
            missing.append(f"{image.path}{content}\n")
    if missing:
        lines = "".join(missing)
        yield MISSING, 0, lines.encode(errors="surrogateescape")


def _content(images: Source, name: str, image: Image) -> bytes | str:
    """What the file holds, or what `MISSING.txt` says after its name."""
    try:
        size, changed, _ = images.stamp(name)
        content = images.read(name)
    except OSError:
        return ""
    if (size, changed) == (image.size, image.mtime_ns):
        return content
    if image.sha256 is None:  # never decoded: as a rescan sees it, another time alone is no other image
        return _REPLACED if size != image.size else content
    replaced = hashlib.sha256(content).hexdigest() != image.sha256
    return _REPLACED if replaced else content


def _file_name(path: str, shared: set[int]) -> str:
    _, slash, base = path.rpartition("/")
    if _mark(base) not in shared:
        return escape(base)
    return escape(path if slash else f"/{path}")


def _shared_names(store: Store) -> set[int]:
    """Marks of the file names that several images have, where capitals do not count."""
    marks = array("q", (_mark(image.path.rpartition("/")[2]) for image in pages(store) if image.path))
    ordered = sorted(marks)
    return {one for one, other in pairwise(ordered) if one == other}


def _mark(base: str) -> int:
    return hash(base.casefold())


formats.register("folders")(Format("folders", ".zip", "application/zip", write))


@importers.register("folders")
def read(path: Path) -> Iterator[Row | Unreadable]:
    """The images of a folder or zip, with the classes that their folders say."""
    if path.is_dir():
        yield from _rows([_on_disk(path, name) for name in walk(path)], path)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            yield from _rows(_unwrapped(_zipped(archive)), path)
    except OSError as error:
        raise BadOption(f"cannot read {path}: {error.strerror or error}. Check the path.") from None
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # damaged, encrypted, exotic
        raise BadOption(
            f"{path} is no zip that can be read: {error}. Unpack it and give the folder."
        ) from None


@dataclass(frozen=True)
class _File:
    """An image file in a folder or zip."""

    parts: tuple[str, ...]
    """Of its path there."""
    size: int
    open: Callable[[], IO[bytes]]

    def digest(self) -> str:
        """SHA-256 in hex; nothing where it cannot be read."""
        try:
            with self.open() as file:
                return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError):
            return ""


def _on_disk(root: Path, name: str) -> _File:
    path = root / name
    try:
        size = path.stat().st_size
    except OSError:
        size = -1
    return _File(tuple(name.split("/")), size, lambda: path.open("rb"))


def _zipped(archive: zipfile.ZipFile) -> list[_File]:
    found = []
    for member in archive.infolist():
        parts = tuple(part for part in member.filename.replace("\\", "/").split("/") if part)
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
        if not hidden and not member.is_dir() and Path(parts[-1]).suffix.lower() in IMAGE_SUFFIXES:
            found.append(_File(parts, member.file_size, partial(archive.open, member)))
    return found


def _unwrapped(files: list[_File]) -> list[_File]:
    """Without the one folder that all the others lie in."""
    tops = {file.parts[0] for file in files}
    if len(tops) == 1 and not tops & SPLITS and all(len(file.parts) > 2 for file in files):
        return [replace(file, parts=file.parts[1:]) for file in files]
    return files


def _rows(files: list[_File], path: Path) -> Iterator[Row]:
    inside = [file.parts for file in files if len(file.parts) > 1]
    if not inside:
        raise BadOption(
            f"{path} has no class folders with images in them. Give a folder like cat/a.jpg, dog/b.jpg."
        )
    depth = int(all(parts[0].lower() in SPLITS and len(parts) > 2 for parts in inside))
    class_of = classes_of({parts[depth] for parts in inside} - NO_CLASS)
    for file in files:
        folder = file.parts[depth] if len(file.parts) > depth + 1 else ""
        yield Row(
            file_name="/".join(file.parts),
            label=class_of.get(folder),
            split=file.parts[0] if depth and folder else None,
            other_names=("/".join(unescape(part) for part in file.parts[depth + 1 :]),) if folder else (),
            size=file.size,
            digest=file.digest,
        )
