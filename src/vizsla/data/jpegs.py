"""How many scans a JPEG is stored in: a decoder goes over the whole picture for each."""

from __future__ import annotations

import re
from typing import IO

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SCAN, _END = 0xDA, 0xD9
_NEXT = re.compile(
    rb"\xff[^\x00\xff\xd0-\xd7]"
)  # within a scan these bytes are data, or mark where to begin anew


def scans(file: IO[bytes], most: int) -> int:
    """The scans of a JPEG, counted up to one more than `most`. Of one that all is in its first scan only that is read.

    A file that is no sound JPEG counts as one scan: its decoder says what is wrong.
    """
    file.seek(2)
    components, progressive = 0, False
    while len(head := file.read(4)) == 4 and head[0] == 0xFF:
        mark, length = head[1], int.from_bytes(head[2:])
        if mark == 0xFF:  # filling
            file.seek(-3, 1)
        elif mark == _SCAN:
            inside = file.read(max(length - 2, 1))[:1]
            whole = not progressive and inside >= bytes([components])
            return 1 if whole or not inside else _count(file.read(), most)
        elif mark in _FRAMES:
            components = (file.read(max(length - 2, 6)) + bytes(6))[5]
            progressive = mark in _PROGRESSIVE
        else:
            file.seek(max(length - 2, 0), 1)
    return 1


def _count(content: bytes, most: int) -> int:
    """The same of what follows the head of the first scan."""
    count, place = 1, 0
    while count <= most and (found := _NEXT.search(content, place)) and found[0][1] != _END:
        count += found[0][1] == _SCAN
        place = found.end() + int.from_bytes(content[found.end() : found.end() + 2])
    return count
