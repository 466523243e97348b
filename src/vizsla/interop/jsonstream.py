"""Reading JSON text a value at a time, so that a file of any length needs little memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

_BYTES = 1 << 16
_BLANKS = " \t\r\n"
_decode = json.JSONDecoder().raw_decode


class Stream:
    """JSON text that is read from its start on. What is no JSON raises ValueError, too deep JSON RecursionError.

    >>> import io
    >>> stream = Stream(io.BytesIO(b'{"a": [1, 2], "b": 3}'))
    >>> [(key, list(stream.elements()) if key == "a" else stream.value()) for key in stream.members()]
    [('a', [1, 2]), ('b', 3)]
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._text = ""
        self._at = 0

    def next(self) -> str:
        """The next character that is not blank, not taken yet; nothing at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANKS:
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def value(self) -> Any:
        """The next value."""
        self.next()
        while True:
            try:
                value, end = _decode(self._text, self._at)
            except ValueError:
                if self._more():
                    continue
                raise
            if end == len(self._text) and self._more():  # 12 may go on as 123
                continue
            self._at = end
            return value

    def elements(self) -> Iterator[Any]:
        """The values of the array that comes next."""
        self._take("[")
        if self.next() == "]":
            return self._take("]")
        while True:
            yield self.value()
            if self.next() == "]":
                return self._take("]")
            self._take(",")

    def members(self) -> Iterator[str]:
        """The keys of the object that comes next; after each its value has to be read."""
        self._take("{")
        if self.next() == "}":
            return self._take("}")
        while True:
            key = self.value()
            if not isinstance(key, str):
                raise ValueError(f"{key!r} is no key")
            self._take(":")
            yield key
            if self.next() == "}":
                return self._take("}")
            self._take(",")

    def end(self) -> None:
        """Raises ValueError where something follows."""
        if rest := self.next():
            raise ValueError(f"{rest!r} comes after its end")

    def _take(self, character: str) -> None:
        if self.next() != character:
            raise ValueError(f"{character!r} is missing")
        self._at += 1

    def _more(self) -> bool:
        """Read on, as much again as is held, so that a long value is not looked at too often."""
        rest = self._text[self._at :]
        fresh = self._file.read(max(_BYTES, len(rest)))
        self._text, self._at = rest + self._decoder.decode(fresh, final=not fresh), 0
        return bool(fresh)
