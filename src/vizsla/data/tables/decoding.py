"""Bytes of a table as text: UTF-8, UTF-16 or UTF-32, and the letters of old Windows tables that can be told.

Names of files need not be text at all, so an odd byte is kept as Python keeps it in file names (a lone surrogate).
Words are another matter: what is no UTF-8 there is read as Windows-1252 where that is the only reading, else refused.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from vizsla.errors import BadTable

ODD = "surrogateescape"
_LOST = "\ufffd"
"""What programs write in place of a letter that they could not read; two classes may have become one by that."""
_MARKS = {  # UTF-32 before UTF-16, whose mark its own begins with
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_WINDOWS = ("cp1252", "cp1250", "cp1254", "cp1257")
"""Western and Central Europe, Turkish, Baltic: what spreadsheets write where Latin letters are."""


def _read_alike(byte: int) -> bool:
    letters = {bytes([byte]).decode(page, "replace") for page in _WINDOWS}
    return len(letters) == 1 and letters.pop().isalpha()


_SURE = frozenset(filter(_read_alike, range(0xA0, 0x100)))
"""Bytes that are one letter in all of them, as `ä` and `é`. `è` is `č` in another: who reads it may be wrong."""


@contextmanager
def opened(file: IO[bytes], name: str) -> Iterator[io.TextIOWrapper]:
    """The file as text, from its start on. Raises BadTable where it breaks off inside a character."""
    start = file.read(4)
    file.seek(0)
    encoding = next((kind for mark, kind in _MARKS.items() if start.startswith(mark)), None)
    encoding = encoding or _without_mark(start)
    errors = ODD if encoding.startswith("utf-8") else "surrogatepass"
    try:
        with io.TextIOWrapper(file, encoding, errors, newline="") as text:
            yield text
    except UnicodeDecodeError:
        raise BadTable(f"{name} breaks off inside a character of {encoding}. Save it as UTF-8.") from None


def _without_mark(start: bytes) -> str:
    empty = [byte == 0 for byte in start]
    return {(0, 1, 0, 1): "utf-16-le", (1, 0, 1, 0): "utf-16-be"}.get(tuple(empty), "utf-8-sig")  # type: ignore[arg-type]


def windows(text: str) -> str | None:
    """Odd bytes as the letters they are in Windows' tables; None where they may be others.

    Only words that are mostly ASCII: those of Cyrillic, Greek or Chinese tables have hardly any.

    >>> windows("H\\udce4her"), windows("ko\\udce8ka")
    ('Häher', None)
    """
    try:
        raw = text.encode("ascii", ODD)
    except UnicodeEncodeError:  # letters beside them that are UTF-8
        return None
    high = [byte for byte in raw if byte > 0x7F]
    plain = sum(bytes([byte]).isalpha() for byte in raw)
    return raw.decode("cp1252") if _SURE.issuperset(high) and len(high) <= plain else None


class Words:
    """Reads the words of one table, all in one encoding."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._proper = ""
        """Where the first word of UTF-8 beyond ASCII is."""
        self._windows: tuple[str, str] | None = None
        """The first word that is none, and where it is."""

    def read(self, word: str, where: str) -> str:
        """The word. Raises BadTable where its letters cannot be told."""
        if word.isascii():
            return word
        try:
            word.encode()
        except UnicodeEncodeError:
            found = windows(word)
            if found is None or self._proper:
                raise self._unknown(word, where) from None
            self._windows = self._windows or (found, where)
            return found
        if self._windows:
            raise self._unknown(word, where)
        self._proper = self._proper or where
        return word

    def read_class(self, word: str, where: str) -> str:
        """The name of a class. Raises BadTable where its letters cannot be told, or were lost before."""
        if _LOST in word:
            raise BadTable(
                f"{self._name} {where}: {word[:80]!r} has lost letters, in whose place \ufffd stands. Save it as "
                "CSV UTF-8 from where they are right."
            )
        return self.read(word, where)

    def _unknown(self, word: str, where: str) -> BadTable:
        shown = ascii(word[:80]).replace("\\udc", "\\x")
        mixed = ", as other words here are" if self._proper or self._windows else ""
        return BadTable(f"{self._name} {where}: {shown} is no text in UTF-8{mixed}. Save it as CSV UTF-8.")

    def notes(self) -> list[str]:
        """How they were read, where that is worth saying."""
        if self._windows is None:
            return []
        word, where = self._windows
        return [f"it is no UTF-8 and was read as Windows-1252, such as {word!r} ({where})"]
