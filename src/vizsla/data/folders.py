"""From a folder tree to image paths and class names."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vizsla.data.images import IMAGE_SUFFIXES
from vizsla.data.leftout import LeftOut, hides_one_thing, is_set_apart, suffix_of
from vizsla.data.splits import Layout
from vizsla.errors import BadOption, NoImages

_NUMBERED = re.compile(r"([0-9]{1,9})_(.+)", re.DOTALL)
"""A class folder of the layout that numbers its classes."""

_WITH_A_NUMBER = re.compile(r"[0-9]+(?![0-9])[_\-. ]?(.+)", re.DOTALL)
"""A folder that may be called after a class, with a number before its name."""

_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class FolderClasses:
    """What the folder names say about classes."""

    names: tuple[str, ...]
    """Class names; position = label."""
    labels: Mapping[str, int]
    """Class folder → label."""


# ---------------------------------------------------------------- files


def scan(root: Path, left_out: LeftOut | None = None) -> tuple[str, ...]:
    """Every image file below the folder, as sorted relative paths with forward slashes.

    Hidden files and folders are left out, so are recycle bins and the like. Links to folders are followed, but never
    into a folder that the link itself lies in. What nobody may look into is passed over, unless it is the folder
    itself; `left_out` counts it.
    """
    return tuple(sorted(walk(root, left_out)))


def walk(root: Path, left_out: LeftOut | None = None) -> Iterator[str]:
    """What `scan` finds, one by one as the folder is read.

    Raises: NoImages before the first where there is no such folder, after the last where there was none.
    """
    left_out = LeftOut() if left_out is None else left_out
    found = False
    for name in files_below(root, left_out):
        suffix = suffix_of(name)
        if suffix in IMAGE_SUFFIXES:
            found = True
            yield name
        else:
            left_out.other_file(name, suffix)
    if not found:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise NoImages(
            f"no image in {root} or the folders below it{left_out.aside()}. Vizsla reads {suffixes}."
        )


def files_below(root: Path, left_out: LeftOut) -> Iterator[str]:
    """Every file below the folder that is not hidden, as relative paths; folder by folder, each in order.

    Raises: NoImages where the folder is not there or cannot be read.
    """
    todo: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while todo:
        prefix, above = todo.pop()
        folder = Path(root, prefix)
        try:
            about = folder.stat()
            here = about.st_dev, about.st_ino
            if here in above:
                left_out.circle(prefix[:-1])
                continue
            folders, files = _sorted_out(_listed(folder), prefix, left_out)
        except OSError as error:
            if not prefix or not hides_one_thing(error):
                raise NoImages(_cannot_read(folder, error)) from None
            left_out.closed(prefix[:-1], error)
            continue
        yield from files
        todo += [(f"{inner}/", above | {here}) for inner in reversed(folders)]


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=_by_name)


def _by_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _sorted_out(
    entries: Iterable[os.DirEntry[str]], prefix: str, left_out: LeftOut
) -> tuple[list[str], list[str]]:
    """Folders to look into, and files."""
    folders, files = [], []
    for entry in entries:
        name = prefix + entry.name
        try:
            if entry.is_dir():
                if is_set_apart(entry.name):
                    left_out.set_apart(name)
                else:
                    folders.append(name)
            elif entry.name.startswith("."):
                left_out.hidden_file(name)
            elif entry.is_file():
                files.append(name)
            elif entry.is_symlink() and not Path(entry.path).exists():
                left_out.dead_link(name)
        except OSError as error:
            if not hides_one_thing(error):
                raise
            left_out.closed(name, error)
    return folders, files


def _cannot_read(folder: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no folder {folder}. Check the path."
    if isinstance(error, NotADirectoryError):
        return f"{folder} is a file. Give the folder that holds the images."
    return f"cannot read the folder {folder}: {error.strerror}. Allow it or move it away."


# ---------------------------------------------------------------- classes


def class_folder(path: str) -> str | None:
    """The first folder of a relative path: the image's class. None for an image beside the folders.

    >>> class_folder("6_great_dane/puppies/a.jpg")
    '6_great_dane'
    """
    return Layout().class_folder(path)


def folder_classes(paths: Iterable[str], names: Sequence[str] | None = None) -> FolderClasses | None:
    """Read classes and labels off the class folders; None where there are no class folders.

    >>> folder_classes(["chow/a.jpg", "collie/b.jpg"]).labels
    {'chow': 0, 'collie': 1}
    """
    return number_classes((folder for path in paths if (folder := class_folder(path)) is not None), names)


def number_classes(said: Iterable[str], names: Sequence[str] | None = None) -> FolderClasses | None:
    """Classes and labels from what folders are called, or what a list says of its images; None from nothing.

    Labels count the sorted names; those that are only digits are sorted as numbers. Digits are part of a name, but
    in one layout: where every folder is `<digits>_<name>` and the numbers are exactly 0 to n − 1, the number is the
    label and the rest the name. With `names`, a class's label is its position there, `matched` says which folder
    is which, and the others get no label.

    >>> number_classes(["1_chow", "0_collie"]).names, number_classes(["1_chow", "3_collie"]).names
    (('collie', 'chow'), ('1_chow', '3_collie'))
    """
    folders = set(said)
    if names is not None:
        return _classes_among(tuple(names), folders)
    if not folders:
        return None
    bare = _numbered_layout(folders)
    if bare is not None:
        return FolderClasses(tuple(bare.values()), {folder: label for label, folder in enumerate(bare)})
    ordered = sorted(folders, key=_as_number if all(map(_DIGITS.fullmatch, folders)) else None)
    return FolderClasses(tuple(ordered), {folder: label for label, folder in enumerate(ordered)})


def matched(folders: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Folder → the one of these classes that it is called after.

    It has the same name, or that name with a number before it where no other folder could mean the same class.

    >>> matched(["chow", "3_collie", "fox"], ["collie", "chow"])
    {'chow': 'chow', '3_collie': 'collie'}
    >>> matched(["3_collie", "collie"], ["collie"]), matched(["1_collie", "3_collie"], ["collie"])
    ({'collie': 'collie'}, {})
    """
    names, classes = sorted(set(folders)), set(known)
    exact = {folder: folder for folder in names if folder in classes}
    bare = {
        folder: name for folder in names if folder not in exact and (name := _bare_name(folder)) in classes
    }
    meant = Counter([*exact.values(), *bare.values()])
    return exact | {folder: name for folder, name in bare.items() if meant[name] == 1}


def classes_in(folders: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Folder → class, in a project that has these classes already.

    The classes are those of `number_classes`, but for folders that are called like a known class. Earlier versions
    took the numbers off all folders that had one: where the project's classes were named so, they still are.

    >>> classes_in(["3_cat", "10_dog"], []), classes_in(["3_cat", "10_dog", "5_fox"], ["cat", "dog"])
    ({'10_dog': '10_dog', '3_cat': '3_cat'}, {'10_dog': 'dog', '3_cat': 'cat', '5_fox': 'fox'})
    """
    names, known = sorted(set(folders)), set(known)
    found = number_classes(names)
    if found is None:
        return {}
    bare = {folder: _bare_name(folder) for folder in names}
    numbered = all(folder != name for folder, name in bare.items()) and len(set(bare.values())) == len(bare)
    if numbered and not known & set(names) and known & set(bare.values()):
        return bare
    return {name: name if name in known else found.names[found.labels[name]] for name in names}


def _classes_among(names: tuple[str, ...], folders: Iterable[str]) -> FolderClasses:
    label_of = {name: label for label, name in enumerate(names)}
    if len(label_of) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadOption(f"classes holds {twice!r} twice. Give each class once.")
    return FolderClasses(names, {folder: label_of[name] for folder, name in matched(folders, names).items()})


def _numbered_layout(folders: Collection[str]) -> dict[str, str] | None:
    """Folder → its name, in the order of the numbers before them; None where these are no labels.

    Names that differ by nothing else keep their numbers.
    """
    found = {folder: match for folder in folders if (match := _NUMBERED.fullmatch(folder))}
    ordered = sorted(found, key=lambda folder: int(found[folder][1]))
    if len(found) < len(folders) or [int(found[folder][1]) for folder in ordered] != [*range(len(ordered))]:
        return None
    bare = {folder: found[folder][2] for folder in ordered}
    return bare if len(set(bare.values())) == len(bare) else {folder: folder for folder in ordered}


def _as_number(digits: str) -> tuple[int, str, str]:
    """Sorts texts of digits as the numbers that they are, however long."""
    significant = digits.lstrip("0")
    return len(significant), significant, digits


def _bare_name(folder: str) -> str:
    """The folder's name without a number before it: `6_great_dane` → `great_dane`, `7` → `7`."""
    match = _WITH_A_NUMBER.fullmatch(folder)
    return match[1] if match else folder
