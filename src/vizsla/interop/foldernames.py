"""Any name as the name of a folder or file that every system can hold, and back.

What cannot stand in a file name is written as its bytes, `%` and two hex digits each: control characters,
`/ \\ : * ? " < > |`, a leading dot, a trailing dot or blank, the first letter of the names that Windows keeps
for itself (`con`, `nul`, …), odd bytes, and a `%` before two hex digits. Of class folders also the first letter
of those that would mean something else: `_unlabeled`, `train` and `test`, or `0_collie` and `1_chow`, where these
are all. Other names stay as they are.

What is longer than 255 bytes, which is all that file systems take, is cut, and ends in `~` and the first 16 hex digits
of the SHA-256 of the whole name. Then `CLASSES.txt` beside the class folders says what they are called in full.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_to_bytes

from vizsla.data.folders import classes_in
from vizsla.data.splits import layout_of

UNLABELLED = "_unlabeled"
"""Where the images without a label go."""

NO_CLASS = frozenset({UNLABELLED, "_unlabelled", "no_label"})
"""Folders that are no classes; `no_label` is CVAT's."""

CLASSES = "CLASSES.txt"
"""A line for each class folder whose name was cut: the folder, a tab, and the class as a JSON string."""

LONGEST = 255
"""Bytes in the name of a folder or file."""
_SUFFIX = 16  # bytes of a file's suffix that is kept

_NEVER = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]|%(?=[0-9A-Fa-f]{2})|^\.|[. ]\Z')
_KEPT = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|\Z)", re.IGNORECASE)


def escape(name: str) -> str:
    """The name as a file system takes it.

    >>> escape("cat/dog"), escape("nul.txt"), escape("50% grey"), escape("..")
    ('cat%2Fdog', '%6Eul.txt', '50% grey', '%2E%2E')
    """
    safe = _NEVER.sub(lambda found: _percent(found[0]), name)
    return _percent(safe[0]) + safe[1:] if _KEPT.match(safe) else safe


def fitted(safe: str, name: str, suffix: str = "") -> str:
    """An escaped name no longer than file systems take.

    Args: name: the whole name, which the end of a cut one is made of. suffix: what it must still end in.

    >>> fitted("cat", "cat"), fitted("x" * 300 + ".jpg", "x", ".jpg")[-24:]
    ('cat', 'xxx~2d711642b726b044.jpg')
    """
    if len(os.fsencode(safe)) <= LONGEST:
        return safe
    mark = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
    end = f"~{mark}{suffix if len(os.fsencode(suffix)) <= _SUFFIX else ''}"
    head = os.fsencode(safe)[: LONGEST - len(end.encode())].decode(errors="ignore")
    return re.sub(r"%[0-9A-F]?\Z", "", head) + end


def fitted_file(name: str) -> str:
    """The name of a file, escaped and no longer than file systems take."""
    stem, _, suffix = name.rpartition(".")
    return fitted(escape(name), name, f".{escape(suffix)}" if stem else "")


def unescape(name: str) -> str:
    """The name that was escaped; any other stays as it is, `a%20b` for one.

    >>> unescape("cat%2Fdog"), unescape("a%20b")
    ('cat/dog', 'a%20b')
    """
    plain = _unquoted(name)
    return plain if escape(plain) == name else name


def folders(classes: Iterable[str], *, numbered: bool = True) -> dict[str, str]:
    """Class → its folder; no two are the same where capitals do not count. `numbered`: as `classes_of` will be told.

    >>> folders(["cat", "Cat", "_unlabeled"]), folders(["0_eyes", "1_eye"])
    ({'cat': 'cat', 'Cat': '%43at', '_unlabeled': '%5Funlabeled'}, {'0_eyes': '%30_eyes', '1_eye': '%31_eye'})
    """
    found: dict[str, str] = {}
    taken = set(NO_CLASS)
    for name in classes:
        folder = fitted(escape(name), name)
        found[name] = fitted(_shielded(name), name) if folder.casefold() in taken else folder
        taken.add(folder.casefold())
    said = classes_of(found.values(), numbered=numbered)
    mistaken = any(said[folder] != name for name, folder in found.items() if not _is_cut(folder, name))
    if mistaken or (numbered and layout_of(found.values()).splits):
        return {name: fitted(_shielded(name), name) for name in found}
    return found


def cut(folder_of: Mapping[str, str]) -> bytes:
    """What `CLASSES.txt` says: the classes whose folders were cut."""
    lines = (f"{folder}\t{json.dumps(name)}\n" for name, folder in folder_of.items() if _is_cut(folder, name))
    return "".join(lines).encode()


def in_full(lines: Iterable[str]) -> dict[str, str]:
    """What a cut folder is read as → the class, from the lines of `CLASSES.txt`; other lines are passed over."""
    found: dict[str, str] = {}
    for line in lines:
        folder, _, name = line.rstrip("\r\n").partition("\t")
        try:
            known = json.loads(name)
        except ValueError:
            continue
        if isinstance(known, str) and _is_cut(folder, known):
            found |= {folder: known, unescape(folder): known}
    return found


def _is_cut(folder: str, name: str) -> bool:
    return folder not in (escape(name), _shielded(name))


def classes_of(folders: Iterable[str], *, numbered: bool = True, known: Iterable[str] = ()) -> dict[str, str]:
    """Folder → its class: where `numbered`, as `vizsla.data.folders.classes_in` a project of the `known` classes."""
    names = sorted(set(folders))
    bare = classes_in(names, known) if numbered else {}
    return {name: _class_of(name, bare.get(name, name)) for name in names}


def _class_of(folder: str, bare: str) -> str:
    plain = _unquoted(folder)
    return plain if plain != folder and folder in (escape(plain), _shielded(plain)) else bare


def _shielded(name: str) -> str:
    """Escaped, and its first letter in any case."""
    safe = escape(name)
    return safe if safe.startswith(_percent(name[0])) else _percent(name[0]) + safe[1:]


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode(errors="surrogateescape"))


def _unquoted(name: str) -> str:
    return unquote_to_bytes(name.encode(errors="surrogateescape")).decode(errors="surrogateescape")
