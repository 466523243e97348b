"""Which image of the project a foreign name means."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from vizsla.interop.base import Row
from vizsla.interop.outgoing import pages
from vizsla.interop.trees import stem
from vizsla.store import Image, Store

NOT_HERE = "its image is not in the project"
SEVERAL = "several images are called so"
DISPUTED = "another row may mean the same image, and says something else"

_UPLOAD = re.compile(r"(?:^|.*/)upload/\d+/[0-9a-f]{8}-([^/]+)$")
_LOCAL = "/local-files/"


@dataclass(frozen=True)
class Match:
    """Which image a row of a file may mean, and how well its name says so."""

    image_ids: tuple[int, ...] = ()
    """Several where it cannot be told; none where the project has no such image."""
    rank: int = 0
    """`EXACT`; `NEARLY` for the whole path by another name; else how many parts the ends of the two paths share."""
    elsewhere: bool = False
    """Whether the row names another folder than the one that the image lies in."""

    @property
    def image_id(self) -> int | None:
        """The one image that it is."""
        return self.image_ids[0] if len(self.image_ids) == 1 else None

    def __bool__(self) -> bool:
        return bool(self.image_ids)


EXACT, NEARLY = 1 << 20, 1 << 19
"""Ranks above those of any number of shared parts."""


class Catalogue:
    """The images of a project that are there, by all that files may know of them."""

    def __init__(self, images: Iterable[Image]) -> None:
        self.images: dict[int, Image] = {}
        self._by_path: dict[str, int] = {}
        self._by_sha256: dict[str, list[int]] = {}
        for image in images:
            if image.path is not None and image.state != "missing":
                self.images[image.id] = image
                self._by_path[image.path] = image.id
                if image.sha256:
                    self._by_sha256.setdefault(image.sha256, []).append(image.id)

    @classmethod
    def of(cls, store: Store) -> Self:
        """The images that a store knows of."""
        return cls(pages(store))

    def find(self, row: Row) -> int | None:
        """The image's id; None where it cannot be told."""
        return self.match(row).image_id

    def match(self, row: Row, *, by_content: bool = True) -> Match:
        """The image that the row means, taken by itself; `together` decides between rows of one file.

        By its exact path, but for a content that lies elsewhere; else by content; else by the other names it
        may have; else by the path that shares the longest end with its name.
        """
        exact = self._exactly(row.file_name)
        same = self._of_content(row) if by_content else []
        if exact is not None:
            return Match((same[0] if same and exact not in same else exact,), EXACT)
        if same:
            return Match((self._closest(row, same),), EXACT)
        names = names_of(row)
        for name in names:
            if (found := self._by_path.get(name)) is not None:
                return Match((found,), NEARLY)
        matches = [match for name in names if (match := self._by_tail(name))]
        return next((match for match in matches if match.image_id), matches[0] if matches else Match())

    def folder(self, image_id: int) -> str:
        """The folder that the image lies in; nothing for one that lies in none."""
        return _key(self.images[image_id].path or "").rpartition("/")[0]

    def _exactly(self, name: str) -> int | None:
        """The image of that path, also spelled as other systems do: `./a/b.jpg`, `a\\b.jpg`."""
        if (found := self._by_path.get(name)) is not None:
            return found
        plain = _tidied(name)
        return self._by_path.get(plain, self._by_path.get(plain.replace("\\", "/")))

    def _of_content(self, row: Row) -> list[int]:
        sha256 = row.sha256
        if sha256 is None and row.digest and row.size in self._hashed_sizes:
            sha256 = row.digest()
        return self._by_sha256.get(sha256, []) if sha256 else []

    @cached_property
    def _hashed_sizes(self) -> set[int]:
        """A file of another size need not be read."""
        return {self.images[ids[0]].size for ids in self._by_sha256.values()}

    def _closest(self, row: Row, ids: list[int]) -> int:
        """Of copies the one of the same name, else the first."""
        names = names_of(row)
        exact = [one for name in names if (one := self._by_path.get(name)) in ids]
        bases = {_key(_base(name)) for name in names}
        alike = [one for one in ids if _key(_base(self.images[one].path or "")) in bases]
        return next(one for one in (*exact, *alike, *ids) if one is not None)

    def _by_tail(self, name: str) -> Match:
        *folders, base = _key(name).split("/")
        ids = self._by_base.get(base) or self._by_tame.get(base) or self._by_stem.get(base, [])
        if not ids:
            return Match()
        inside = {one: folder.split("/") if (folder := self.folder(one)) else [] for one in ids}
        shared = {one: _shared_tail(folders, theirs) for one, theirs in inside.items()}
        best = max(shared.values())
        winners = tuple(one for one, n in shared.items() if n == best)
        return Match(winners, 1 + best, best < min(len(folders), len(inside[winners[0]])))

    @cached_property
    def _by_base(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for path, image_id in self._by_path.items():
            found.setdefault(_key(_base(path)), []).append(image_id)
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[int]]:
        """By the names without suffix, as some tables have them."""
        found: dict[str, list[int]] = {}
        for base, ids in self._by_base.items():
            found.setdefault(stem(base), []).extend(ids)
        return found

    @cached_property
    def _by_tame(self) -> dict[str, list[int]]:
        """By the names that Label Studio gives to uploads: underscores for blanks, other signs left out."""
        found: dict[str, list[int]] = {}
        for base, ids in self._by_base.items():
            if (tame := re.sub(r"[^-\w.]", "", base.strip().replace(" ", "_"))) != base:
                found.setdefault(tame, []).extend(ids)
        return found


def together(catalogue: Catalogue, rows: Sequence[tuple[Row, Match]]) -> list[Match | str]:
    """The match of each row of a file, or why it has none, now that all rows are known.

    A name that only resembles a path takes no image that another row names better. One in another folder than the
    image's takes none from a folder that the file knows by its own name. Rows that match an image equally well by
    different names, and say different things, are all refused.
    """
    known = _folders_named(rows) if any(match.elsewhere for _, match in rows) else set()
    found = [
        Match() if match.elsewhere and match.image_id and catalogue.folder(match.image_id) in known else match
        for _, match in rows
    ]
    best: dict[int, int] = {}
    for match in found:
        if match.image_id is not None:
            best[match.image_id] = max(match.rank, best.get(match.image_id, 0))
    said: dict[int, dict[str, set[str]]] = {}
    for (row, _), match in zip(rows, found, strict=True):
        if match.image_id is not None and match.rank == best[match.image_id] < EXACT:
            answers = said.setdefault(match.image_id, {}).setdefault(row.file_name, set())
            if told := (row.label or "").strip() or row.status:
                answers.add(told)
    disputed = {
        image_id for image_id, names in said.items() if len({frozenset(one) for one in names.values()}) > 1
    }

    def decided(match: Match) -> Match | str:
        if match.image_id is None:
            return SEVERAL if match else NOT_HERE
        if match.rank < best[match.image_id]:
            return NOT_HERE
        return DISPUTED if match.image_id in disputed else match

    return [decided(match) for match in found]


def _folders_named(rows: Iterable[tuple[Row, Match]]) -> set[str]:
    """The folders that the rows' names lie in, and the ends of these: `a/b` and `b`."""
    folders = {_key(name).rpartition("/")[0] for row, _ in rows for name in names_of(row)}
    parts = [folder.split("/") for folder in folders if folder]
    return {"/".join(one[at:]) for one in parts for at in range(len(one))}


def names_of(row: Row) -> list[str]:
    """What path each name of the row may mean, likeliest first."""
    return [plain for name in (*row.other_names, row.file_name) for plain in plain_names(name)]


def plain_names(name: str) -> list[str]:
    """What path a name may mean: URIs without scheme, host and quoting, Windows paths with forward slashes.

    >>> plain_names("/data/local-files/?d=photos/a%20b.jpg"), plain_names("/data/upload/3/1a2b3c4d-cat.jpg")
    (['photos/a b.jpg'], ['cat.jpg'])
    >>> plain_names("s3://bucket/photos/a.jpg"), plain_names("./a/b.jpg"), plain_names("a\\\\b.jpg")
    (['photos/a.jpg'], ['a/b.jpg'], ['a\\\\b.jpg', 'a/b.jpg'])
    """
    return list(dict.fromkeys(_tidied(plain) for plain in _without_uri(name)))


def _without_uri(name: str) -> Iterator[str]:
    if _LOCAL in name and (where := parse_qs(urlsplit(name).query, errors="surrogateescape").get("d")):
        yield where[0]
        return
    path = name
    if "://" in name:
        parts = urlsplit(name)
        path = _unquoted(parts.path)
    if upload := _UPLOAD.match(path):
        yield upload[1]
        yield _unquoted(upload[1])
        return
    yield path
    if "\\" in path:
        yield path.replace("\\", "/")


def _unquoted(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def _tidied(path: str) -> str:
    return path.removeprefix("./").lstrip("/")


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _key(path: str) -> str:
    """Composed: macOS keeps file names decomposed."""
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def _shared_tail(one: list[str], other: list[str]) -> int:
    """How many parts two paths share at their ends."""
    n = 0
    while n < min(len(one), len(other)) and one[-1 - n] == other[-1 - n]:
        n += 1
    return n
