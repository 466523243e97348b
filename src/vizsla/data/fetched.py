"""`WithFetched`: a source, and beside it a folder of images that another tool has brought."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from PIL import Image

from vizsla.caching import write_atomically
from vizsla.data.sources import Folder, Source, Stamp
from vizsla.data.splits import Layout
from vizsla.errors import NoImages

PREFIX = ".fetched/"
"""Begin of the names of what was brought; no source gives hidden names of its own."""


class WithFetched(Source):
    """Reads both. What it says of itself it says of the source, and classes are read off nothing else."""

    def __init__(self, base: Source, folder: Path) -> None:
        self.base = base
        self.fetched = Folder(folder)
        self.path = base.path

    def keep(self, file_name: str, content: bytes) -> str:
        """Write an image into the folder; returns its name here."""
        write_atomically(self.fetched.root / file_name, content)
        return PREFIX + file_name

    def _of(self, name: str) -> tuple[Source, str]:
        return (self.fetched, name.removeprefix(PREFIX)) if name.startswith(PREFIX) else (self.base, name)

    @property
    def at_once(self) -> int:
        return self.base.at_once

    @property
    def address(self) -> str:
        return self.base.address

    @property
    def title(self) -> str:
        return self.base.title

    def visit(self) -> None:
        self.base.visit()

    def files(self) -> Iterator[tuple[str, Stamp]]:
        """All of both. A source without images will do where some were brought."""
        brought = list(self._brought())
        found = False
        try:
            for name, stamp in self.base.files():
                found = True
                yield name, stamp
        except NoImages:
            if found or not brought:
                raise
        yield from brought

    def _brought(self) -> Iterator[tuple[str, Stamp]]:
        with suppress(NoImages):  # nothing was brought yet
            yield from ((PREFIX + name, stamp) for name, stamp in self.fetched.files())

    def expect(self, stamps: Mapping[str, Stamp]) -> None:
        self.base.expect({name: stamp for name, stamp in stamps.items() if not name.startswith(PREFIX)})

    def where(self, name: str) -> str:
        source, own = self._of(name)
        return source.where(own)

    def stamp(self, name: str) -> Stamp:
        source, own = self._of(name)
        return source.stamp(own)

    def read(self, name: str) -> bytes:
        source, own = self._of(name)
        return source.read(own)

    def digest(self, name: str) -> str:
        source, own = self._of(name)
        return source.digest(own)

    def key(self, name: str) -> bytes:
        source, own = self._of(name)
        return source.key(own)

    @property
    def left_out(self) -> tuple[str, ...]:
        return self.base.left_out

    def layout(self) -> Layout:
        return self.base.layout()

    def with_splits(self, splits: bool) -> Self:
        twin = super().with_splits(splits)
        twin.base = self.base.with_splits(splits)
        return twin

    def class_of(self, name: str) -> str | None:
        return None if name.startswith(PREFIX) else self.base.class_of(name)

    def class_names(self) -> Sequence[str]:
        return self.base.class_names()

    def lacks_class(self, name: str) -> str:
        return self.base.lacks_class(name)

    def signed(self, name: str, seconds: int) -> str:
        source, own = self._of(name)
        return source.signed(own, seconds)

    def load(self, name: str, size: int | None = None) -> Image.Image:
        source, own = self._of(name)
        return source.load(own, size)

    def check(self, name: str) -> str | None:
        source, own = self._of(name)
        return source.check(own)
