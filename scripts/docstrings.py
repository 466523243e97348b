"""Docstrings of this project as Markdown, for the reference page that mkdocstrings makes of them.

Ours are written to be read in an editor:

    Args:    probs: (n, c) class probabilities.
             n: how many.
    Returns: (n,) from 0 to 1.

    >>> margin(probs)

which becomes a list of arguments, paragraphs and a code block.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Class, Docstring, Extension, Function

SECTION = re.compile(r"^(Args|Fitted|Returns|Raises|Source):[ ]*", re.MULTILINE)


class OurDocstrings(Extension):
    """Rewrites each docstring once it is read."""

    def on_function(self, *, func: Function, **_: Any) -> None:
        rewrite(func.docstring, [parameter.name for parameter in func.parameters])

    def on_class(self, *, cls: Class, **_: Any) -> None:
        """Its arguments are those of `__init__`; where it has none written down, its fields."""
        made = cls.members.get("__init__")
        written = isinstance(made, Function)
        rewrite(cls.docstring, [one.name for one in made.parameters] if written else list(cls.members))


def rewrite(docstring: Docstring | None, names: list[str]) -> None:
    if docstring is not None:
        docstring.value = as_markdown(docstring.value, names)


def as_markdown(text: str, names: list[str]) -> str:
    """The docstring of something with arguments of these names."""
    return "\n\n".join(block for part in re.split(r"\n\s*\n", text) for block in blocks(part, names))


def blocks(paragraph: str, names: list[str]) -> list[str]:
    """What one paragraph becomes: sections, a code block, or itself."""
    if paragraph.lstrip().startswith(">>>"):
        return [f"```pycon\n{paragraph}\n```"]
    first, *sections = SECTION.split(paragraph)
    found = [first.rstrip()] if first.strip() else []
    for name, body in zip(sections[::2], sections[1::2], strict=True):
        found.append(arguments(body, names) if name == "Args" else f"**{name}** {one_line(body)}")
    return found


def arguments(body: str, names: list[str]) -> str:
    """`a: one. b: two.` as a list, where a and b are names of arguments (or several: `a, b: three.`)."""
    any_of = "|".join(map(re.escape, sorted(names, key=len, reverse=True))) or r"\w+"
    pieces = re.split(rf"(?:^|(?<=\s))((?:{any_of})(?:, (?:{any_of}))*):\s", one_line(body))
    items = [f"- `{name}`: {text.strip()}" for name, text in zip(pieces[1::2], pieces[2::2], strict=True)]
    return "\n".join(["**Arguments**\n", *items]) if items else f"**Arguments** {one_line(body)}"


def one_line(text: str) -> str:
    return " ".join(text.split())
