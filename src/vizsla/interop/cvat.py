"""CVAT's "ImageNet 1.0": a folder per class, images without a label in `no_label/`; or labels alone as lists.

The lists are `synsets.txt`, a class per line, and for each part of the data set `<part>.txt` with lines
`path number`, where the number is a class's line from 0 on; a path with blanks is quoted up to its suffix, as
Datumaro does: `"my photo".jpg 0`. Line breaks in class names are written `%0A` and `%0D`.

Class folders stand directly at the top: CVAT takes a folder above them for a part of the class's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO

from vizsla.errors import BadOption
from vizsla.interop import folders
from vizsla.interop.base import Row, Unreadable, files_in_folders, formats, importers
from vizsla.interop.files import File, opened
from vizsla.interop.foldernames import escape, unescape
from vizsla.interop.outgoing import Outgoing
from vizsla.interop.trees import bare_name, pieces, stem
from vizsla.interop.zips import IN_MEMORY, Member

SYNSETS = "synsets.txt"
_NO_LABEL, _NO_SPLIT = "no_label", "default"
_KEEP_ODD_BYTES = "surrogateescape"
_BREAKS = re.compile("[\r\n]|%(?=0A|0D|25)")
_QUOTED = re.compile(r'"([^"]*)"(\S*)(.*)', re.DOTALL)


def write(outgoing: Outgoing) -> Iterator[Member]:
    """The images by their classes, or the lists."""
    if outgoing.labels_only:
        return _lists(outgoing)
    return folders.by_class(outgoing, _NO_LABEL, numbered=False, differs=lambda path: stem(bare_name(path)))


def _lists(outgoing: Outgoing) -> Iterator[Member]:
    number: dict[str, int] = {}
    with ExitStack() as stack:
        lists: dict[str, IO[bytes]] = {}
        for _, row in outgoing.answers():
            part = row.split or _NO_SPLIT
            if part not in lists:
                lists[part] = stack.enter_context(SpooledTemporaryFile(IN_MEMORY))
            code = number.setdefault(row.label, len(number)) if row.label is not None else ""
            lists[part].write(f"{_quoted(row.file_name)} {code}\n".encode(errors=_KEEP_ODD_BYTES))
        for part, file in lists.items():
            yield f"{part}.txt", 0, pieces(file)
    yield SYNSETS, 0, "".join(f"{_one_line(name)}\n" for name in number).encode()


def _quoted(path: str) -> str:
    """The path as a word.

    >>> _quoted("a/b.jpg"), _quoted("my cat.jpg"), _quoted('12".jpg')
    ('a/b.jpg', '"my cat".jpg', '12%22.jpg')
    """
    safe = "/".join(escape(part) for part in path.split("/"))
    name = stem(safe)
    return safe if len(safe.split()) == 1 and not safe[0].isspace() else f'"{name}"{safe[len(name) :]}'


def _one_line(name: str) -> str:
    return _BREAKS.sub(lambda found: f"%{ord(found[0]):02X}", name)


def _lines_again(name: str) -> str:
    return re.sub("%(0A|0D|25)", lambda found: chr(int(found[1], 16)), name)


formats.register("cvat")(
    files_in_folders("cvat", "ImageNet 1.0: a folder per class; labels only: lists of paths", imagenet=write)
)


@importers.register("cvat")
def read(path: Path) -> Iterator[Row | Unreadable]:
    """ImageNet 1.0 of CVAT, a folder or zip: images in a folder per class, or lists with synsets.txt"""
    with opened(path) as (files, refused):
        yield from refused
        synsets = next((file for file in files if file.parts[-1] == SYNSETS), None)
        if synsets is None:
            images = folders.unwrapped([file for file in files if file.is_image])
            found = folders.rows(images, path, folders.deeper(images), numbered=False, folder="/".join)
            yield from folders.named_in_full(map(_without_class, found), files)
            return
        beside = synsets.parts[:-1]
        lists = [
            file for file in files if file.suffix == ".txt" and file.parts[:-1] == beside and file != synsets
        ]
        if not lists:
            raise BadOption(f"{path} has {SYNSETS}, but no list such as train.txt beside it. Export it anew.")
        names = [_lines_again(line.strip()) for line in _lines(synsets)]
        for file in lists:
            yield from _rows(file, names)


def _without_class(row: Row) -> Row:
    """CVAT writes `cat/cat_1.jpg` for `1.jpg`: the image may be called so, too."""
    base = bare_name(row.file_name)
    if row.label and base.startswith(f"{row.label}_"):
        return replace(row, other_names=(*row.other_names, base.removeprefix(f"{row.label}_")))
    return row


def _lines(file: File) -> Iterator[str]:
    with file.reading() as lines:
        for line in lines:
            yield line.decode("utf-8-sig", errors=_KEEP_ODD_BYTES)


def _rows(file: File, names: list[str]) -> Iterator[Row | Unreadable]:
    part = file.parts[-1].removesuffix(file.suffix)
    for number, line in enumerate(_lines(file), 1):
        if line.strip():
            yield _row(line, names, part, f"{file.parts[-1]} line {number}")


def _row(line: str, names: list[str], part: str, where: str) -> Row | Unreadable:
    if quoted := _QUOTED.match(line.strip()):
        path, codes = quoted[1] + quoted[2], quoted[3].split()
    else:
        path, *codes = line.split()
    numbers = [int(code) for code in codes if code.isascii() and code.isdecimal()]
    if len(numbers) < len(codes):
        return Unreadable(where, "is not a path and a number")
    if len(numbers) > 1:
        return Unreadable(where, "names several classes")
    if any(code >= len(names) for code in numbers):
        return Unreadable(where, f"has a number that {SYNSETS} does not have")
    label = names[numbers[0]] if numbers else None
    split = None if part == _NO_SPLIT else part
    return Row(path, label=label, split=split, where=where, other_names=_others(path))


def _others(path: str) -> tuple[str, ...]:
    original = "/".join(unescape(part) for part in path.split("/"))
    return (original,) if original != path else ()
