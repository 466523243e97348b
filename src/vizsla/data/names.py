"""File names as text that every table, JSON reader and screen takes, and back.

A file name on Linux is bytes, and need not be text: `café.png` of an old disk may hold the byte E9. Python holds such
a byte as a lone surrogate, which UTF-8 cannot write. As text it is `caf\\xe9.png`, as Python itself shows bytes; so two
names that differ stay different. A backslash that looks like the begin of one is written `\\x5c`. All other names are
what they are.
"""

from __future__ import annotations

import re

_ODD = re.compile(r"[\ud800-\udfff]|\\(?=x[0-9a-f]{2}|ud[89a-f][0-9a-f]{2})")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_WRITTEN = re.compile(r"\\x([89a-f][0-9a-f]|5c)|\\u(d[89a-f][0-9a-f]{2})")


def as_text(name: str) -> str:
    r"""The name in letters that UTF-8 has.

    >>> as_text("caf\udce9.png"), as_text("café.png"), as_text("a\\b.png")
    ('caf\\xe9.png', 'café.png', 'a\\b.png')
    """
    return _ODD.sub(lambda odd: _written(ord(odd[0])), name)


def from_text(text: str) -> str:
    r"""The name that `as_text` wrote.

    >>> from_text(as_text("caf\udce9.png")) == "caf\udce9.png"
    True
    >>> from_text(as_text(r"caf\xe9.png"))
    'caf\\xe9.png'
    """
    return _WRITTEN.sub(lambda found: _odd(found[1], found[2]), text)


def printable(text: str) -> str:
    r"""Any text that file names stand in, with their odd bytes written as `as_text` does; twice is as good as once.

    >>> printable("cannot read caf\udce9.png"), printable(r"caf\xe9.png")
    ('cannot read caf\\xe9.png', 'caf\\xe9.png')
    """
    return _SURROGATE.sub(lambda odd: _written(ord(odd[0])), text)


def _written(letter: int) -> str:
    if letter < 0x80:  # the backslash
        return rf"\x{letter:02x}"
    return rf"\x{letter - 0xDC00:02x}" if 0xDC80 <= letter <= 0xDCFF else rf"\u{letter:04x}"


def _odd(byte: str | None, half: str | None) -> str:
    if half:
        return chr(int(half, 16))
    return "\\" if byte == "5c" else chr(0xDC00 + int(byte or "", 16))
