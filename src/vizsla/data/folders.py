"""From a folder tree to image paths and class names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vizsla.data.images import IMAGE_SUFFIXES
from vizsla.errors import BadOption, NoImages, NoLabel

_NUMBERED = re.compile(r"([0-9]+)[_\-. ]?(.*)", re.DOTALL)
_LARGEST_NUMBER = 9999  # a larger one is a date or a serial number: it would make as many classes
_NOT_OURS = {"@eaDir", "__MACOSX"}  # thumbnails of NAS boxes and of macOS archives


@dataclass(frozen=True)
class FolderClasses:
    """What the folder names say about classes."""

    names: tuple[str, ...]
    """Class names; position = label."""
    labels: Mapping[str, int]
    """Class folder → label."""


def scan(root: Path) -> tuple[str, ...]:
    """Every image file below the folder, as sorted relative paths with forward slashes.

    Hidden files and folders are left out. Links to folders are followed, but never into a folder that
    the link itself lies in.
    """
    return tuple(sorted(walk(root)))


def walk(root: Path) -> Iterator[str]:
    """What `scan` finds, one by one as the folder is read.

    Raises: NoImages before the first where there is no such folder, after the last where there was none.
    """
    root = Path(root)
    if not root.exists():
        raise NoImages(f"there is no folder {root}. Check the path.")
    if not root.is_dir():
        raise NoImages(f"{root} is a file. Give the folder that holds the images.")
    found = False
    for path in _walk(root, "", frozenset()):
        found = True
        yield path
    if not found:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise NoImages(f"no image in {root} or the folders below it. Vizsla reads {suffixes}.")


def _walk(folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    try:
        about = folder.stat()
        entries = list(os.scandir(folder))
    except OSError as error:
        raise NoImages(
            f"cannot read the folder {folder}: {error.strerror}. Allow it or move it away."
        ) from None
    here = (about.st_dev, about.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _NOT_OURS:
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", above | {here})
        elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and entry.is_file():
            yield prefix + entry.name


def is_hidden(path: str) -> bool:
    """Whether a relative path leads through what is hidden, or what archives and NAS boxes add."""
    return any(part.startswith(".") or part in _NOT_OURS for part in path.split("/"))


def class_folder(path: str) -> str | None:
    """The first folder of a relative path: the image's class. None for an image beside the folders.

    >>> class_folder("6_great_dane/puppies/a.jpg")
    '6_great_dane'
    """
    folder, slash, _ = path.partition("/")
    return folder if slash else None


def folder_classes(paths: Iterable[str], names: Sequence[str] | None = None) -> FolderClasses | None:
    """Read classes and labels off the class folders; None where there are no class folders.

    >>> folder_classes(["chow/a.jpg", "collie/b.jpg"]).labels
    {'chow': 0, 'collie': 1}
    """
    return number_classes((folder for path in paths if (folder := class_folder(path)) is not None), names)


def number_classes(said: Iterable[str], names: Sequence[str] | None = None) -> FolderClasses | None:
    """Classes and labels from what folders are called, or what a list says of its images; None from nothing.

    Where every folder starts with a number (up to 9999), that number is the label and the rest the name,
    and labels that no folder has are named by their number. Otherwise labels count the sorted names.
    With `names`, a class's label is its position there, and folders of other names get no label.

    >>> number_classes(["2_chow", "0_collie"]).names
    ('collie', '1', 'chow')
    """
    folders = sorted(set(said))
    if names is not None:
        return _classes_among(tuple(names), folders)
    if not folders:
        return None
    numbers = _numbers(folders)
    if numbers is None:
        return FolderClasses(tuple(folders), {folder: label for label, folder in enumerate(folders)})
    folder_of = {number: folder for folder, number in numbers.items()}
    labels = range(max(folder_of) + 1)
    short = tuple(_bare_name(folder_of[n]) if n in folder_of else str(n) for n in labels)
    whole = tuple(folder_of.get(n, str(n)) for n in labels)
    return FolderClasses(short if len(set(short)) == len(short) else whole, numbers)


def _classes_among(names: tuple[str, ...], folders: list[str]) -> FolderClasses:
    label_of = {name: label for label, name in enumerate(names)}
    if len(label_of) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadOption(f"classes holds {twice!r} twice. Give each class once.")
    labels = {folder: label_of.get(folder, label_of.get(_bare_name(folder))) for folder in folders}
    return FolderClasses(names, {folder: label for folder, label in labels.items() if label is not None})


def _numbers(folders: list[str]) -> dict[str, int] | None:
    """Folder → leading number, or None unless every folder has one."""
    matches = [_NUMBERED.fullmatch(folder) for folder in folders]
    numbers = [int(match[1]) for match in matches if match]
    if len(numbers) < len(folders) or max(numbers) > _LARGEST_NUMBER:
        return None
    folder_of: dict[int, str] = {}
    for folder, number in zip(folders, numbers, strict=True):
        if number in folder_of:
            raise NoLabel(
                f"the folders {folder_of[number]!r} and {folder!r} both have the number {number}. "
                "Give each class folder a number of its own."
            )
        folder_of[number] = folder
    return dict(zip(folders, numbers, strict=True))


def _bare_name(folder: str) -> str:
    """The folder's name without its number: `6_great_dane` → `great_dane`, `7` → `7`."""
    match = _NUMBERED.fullmatch(folder)
    return match[2] or folder if match else folder
