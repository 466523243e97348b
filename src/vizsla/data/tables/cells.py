"""What a cell of a table says: a name, a class, or 0 and 1."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from vizsla.data.images import IMAGE_SUFFIXES
from vizsla.data.leftout import suffix_of
from vizsla.data.remote import is_url

_ZERO_WIDTH = "\u200b\u2060\ufeff"
_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001)))) + _ZERO_WIDTH
_SURELY, _PERHAPS = ";|", ";|,"
"""What parts the classes of an image in one cell."""


class SeveralClasses(ValueError):
    """An answer that names more than one class, or none that can be told."""


def trimmed(text: str) -> str:
    """Without blanks around it, of whatever width, also none.

    >>> trimmed(" cat\\u00a0"), trimmed("\\tgreat dane")
    ('cat', 'great dane')
    """
    return text.strip(_BLANKS)


def text(value: Any) -> str | None:
    """Words; None for nothing. Numbers become words: whole ones without a point, as tables make floats of them.

    >>> text("cat"), text(7), text(7.0), text(float("nan")), text("")
    ('cat', '7', '7', None, None)
    """
    if isinstance(value, str):
        return value or None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = int(value) if value.is_integer() else value
    return str(value) if isinstance(value, int | float) else None


def one_class(value: Any) -> str | None:
    """The class of an answer: a name, a number, a list of one, or Label Studio's `{"choices": [name]}`.

    >>> one_class('{"choices": ["cat"]}'), one_class(["dog"]), one_class(7), one_class("")
    ('cat', 'dog', '7', None)
    """
    if isinstance(value, str) and value.startswith('{"choices"'):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, Mapping):
        value = value.get("choices")
    if isinstance(value, list):
        if len(value) > 1:
            raise SeveralClasses("names several classes")
        value = value[0] if value else None
    return text(value)


def is_one(value: Any) -> bool | None:
    """Whether it is 1, not 0; None where it is neither.

    >>> is_one("1"), is_one("0.0"), is_one(True), is_one("0,5"), is_one("")
    (True, False, True, None, None)
    """
    if isinstance(value, str):
        value = {"true": "1", "false": "0"}.get(trimmed(value).lower(), value.replace(",", "."))
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return {0.0: False, 1.0: True}.get(number)


def is_image_name(value: Any) -> bool:
    """Whether it is what images are called: a URL, or a name that ends as their files do."""
    if not isinstance(value, str):
        return False
    name = trimmed(value)
    return is_url(name) or suffix_of(name) in IMAGE_SUFFIXES


def stem(name: str) -> str:
    """The name without the suffix of image files, if it has one.

    >>> stem("a/b.c.jpg"), stem("a/b.c")
    ('a/b.c', 'a/b.c')
    """
    suffix = suffix_of(name)
    return name[: -len(suffix)] if suffix in IMAGE_SUFFIXES else name


def several_in_one(names: Collection[str]) -> list[str]:
    """Those class names that look like several classes in one cell.

    A comma is not enough: all that it parts must be classes elsewhere.

    >>> several_in_one(["cat;dog", "cat", "dog, large", "cat, fox", "fox"])
    ['cat;dog', 'cat, fox']
    """
    return [name for name in names if _parts(name, _SURELY) or _are_known(_parts(name, _PERHAPS), names)]


def _parts(name: str, marks: str) -> list[str]:
    """What these marks part the name into; none where they do not."""
    for mark in marks:
        parts = [part.strip() for part in name.split(mark)]
        if len(parts) > 1 and all(parts):
            return parts
    return []


def _are_known(parts: Iterable[str], names: Collection[str]) -> bool:
    parts = list(parts)
    return bool(parts) and all(part in names for part in parts)
