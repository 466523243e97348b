"""Names for things that users choose by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from vizsla.errors import UnknownName

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from name to thing that also finds third-party entries.

    Entries come from the `register` decorator and from installed packages that declare an entry point
    in the group `vizsla.<plural>`. A name taken twice is an error; a name missed gets a suggestion.

    >>> shapes = Registry[int]("shape", "shapes")
    >>> _ = shapes.register("square")(4)
    >>> shapes["sqare"]
    Traceback (most recent call last):
    vizsla.errors.UnknownName: no shape named 'sqare'. Did you mean 'square'? Known: square.
    """

    def __init__(self, noun: str, plural: str) -> None:
        self._noun = noun
        self._group = f"vizsla.{plural}"
        self._entries: dict[str, T] = {}
        self._plugins_loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files a thing under `name`."""

        def add(thing: T) -> T:
            if name in self._entries:
                raise UnknownName(f"two {self._noun}s are named {name!r}. Rename one of them.")
            self._entries[name] = thing
            return thing

        return add

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for point in entry_points(group=self._group):
            self.register(point.name)(point.load())

    def __getitem__(self, name: str) -> T:
        self._load_plugins()
        if name in self._entries:
            return self._entries[name]
        close = difflib.get_close_matches(str(name), self._entries, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UnknownName(f"no {self._noun} named {name!r}.{hint} Known: {', '.join(sorted(self))}.")

    def __contains__(self, name: object) -> bool:
        self._load_plugins()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load_plugins()
        return len(self._entries)
