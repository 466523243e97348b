"""Which image of the project a foreign name means."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cached_property
from urllib.parse import parse_qs, unquote, urlsplit

from vizsla.interop.base import Row
from vizsla.interop.outgoing import pages
from vizsla.interop.trees import stem
from vizsla.store import Image, Store

NOT_HERE = "its image is not in the project"
SEVERAL = "several images are called so"

_UPLOAD = re.compile(r"(?:^|.*/)upload/\d+/[0-9a-f]{8}-([^/]+)$")
_LOCAL = "/local-files/"


class Catalogue:
    """The images of a project that are there, by all that files may know of them."""

    def __init__(self, store: Store) -> None:
        self.images: dict[int, Image] = {}
        self._by_path: dict[str, int] = {}
        self._by_sha256: dict[str, list[int]] = {}
        for image in pages(store):
            if image.path is not None and image.state != "missing":
                self.images[image.id] = image
                self._by_path[image.path] = image.id
                if image.sha256:
                    self._by_sha256.setdefault(image.sha256, []).append(image.id)

    def find(self, row: Row) -> int | str:
        """The image's id, or why it cannot be told.

        By its exact path, but for a content that lies elsewhere; else by content; else by the other names it
        may have; else by the one path that shares the longest tail with its name.
        """
        exact = self._exact(row.file_name)
        same = self._of_content(row)
        if exact is not None:
            return same[0] if same and exact not in same else exact
        if same:
            return self._closest(row, same)
        names = [plain for name in (*row.other_names, row.file_name) for plain in plain_names(name)]
        for name in names:
            if (found := self._exact(name)) is not None:
                return found
        found_or_not: int | str = NOT_HERE
        for name in names:
            found_or_not = self._by_tail(name)
            if isinstance(found_or_not, int):
                break
        return found_or_not

    def _exact(self, name: str) -> int | None:
        return self._by_path.get(name)

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
        names = [plain for name in (*row.other_names, row.file_name) for plain in plain_names(name)]
        exact = [one for name in names if (one := self._exact(name)) in ids]
        bases = {_key(_base(name)) for name in names}
        alike = [one for one in ids if _key(_base(self.images[one].path or "")) in bases]
        return next(one for one in (*exact, *alike, *ids) if one is not None)

    def _by_tail(self, name: str) -> int | str:
        parts = _key(name).split("/")
        base = parts[-1]
        ids = self._by_base.get(base) or self._by_tame.get(base) or self._by_stem.get(base, [])
        if len(ids) < 2:
            return ids[0] if ids else NOT_HERE
        shared = {one: _shared_tail(parts, _key(self.images[one].path or "").split("/")) for one in ids}
        best = max(shared.values())
        winners = [one for one, n in shared.items() if n == best]
        return winners[0] if len(winners) == 1 else SEVERAL

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
