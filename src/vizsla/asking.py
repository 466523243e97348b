"""Asking a person at a terminal: a picture, the classes, one short answer."""

from __future__ import annotations

import builtins
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from rich.cells import cell_len

from vizsla import terminal
from vizsla.data.sources import Source
from vizsla.errors import BadOption, NoLabel, UnreadableImage

COMMANDS = ("u", "s", "?", "q")
MENU = "number or name · u undo · s skip · ? help · q quit"
MOST_TABLE_ROWS = 8


class Choices:
    """What a person may type for a class: its number, its name, or the beginning of its name.

    Where classes are themselves named by numbers, a number means the name, and labels are written #0, #1, …

    >>> choices = Choices(["cat", "dog", "donkey"])
    >>> choices.parse("1"), choices.parse("don"), choices.parse("CAT")
    (1, 2, 0)
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        sign = "#" if any(name.isdigit() for name in self.classes) else ""
        self.keys = tuple(f"{sign}{label}" for label in range(len(self.classes)))

    def parse(self, text: str) -> int:
        """The label meant; raises NoLabel, saying what is allowed, where none or several may be meant."""
        if text in self.classes:
            return self.classes.index(text)
        if text in self.keys:
            return self.keys.index(text)
        folded = [name.casefold() for name in self.classes]
        meant = [label for label, name in enumerate(folded) if name == text.casefold()]
        meant = meant or [label for label, name in enumerate(folded) if name.startswith(text.casefold())]
        if len(meant) == 1 and text:
            return meant[0]
        if meant and text:
            raise NoLabel(f"{text!r} may be {some(self.classes[label] for label in meant)}. Type more of it.")
        raise NoLabel(
            f"{f'no class {text!r}. ' if text else ''}Type {self.keys[0]} to {self.keys[-1]}, "
            "or the beginning of a name; ? for help."
        )

    def table(self, width: int) -> list[str]:
        """The classes with their numbers, in as many even columns as fit."""
        key_width = len(self.keys[-1])
        cells = [f"{key:>{key_width}} {name}" for key, name in zip(self.keys, self.classes, strict=True)]
        widest = max(map(cell_len, cells)) + 3
        n_columns = min(max(1, (width + 3) // widest), len(cells))
        n_rows = -(-len(cells) // n_columns)
        padded = [cell + " " * (widest - cell_len(cell)) for cell in cells]
        return ["".join(padded[row::n_rows]).rstrip() for row in range(n_rows)]


def some(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


class Asker:
    """Shows an image with the classes to choose from, and reads what the person types.

    Args: classes: names, by label.
          input: asks for a line of text; the builtin of the moment if not given (a notebook changes it).
          show: puts an image on the screen, as `terminal.show` does.
          out: the screen; the standard output of the moment if not given.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        input: Callable[[str], str] | None = None,
        show: Callable[..., None] = terminal.show,
        out: TextIO | None = None,
    ) -> None:
        if not classes:
            raise BadOption("no classes to choose from. Give --classes cat,dog")
        if twice := [name for name, times in Counter(classes).items() if times > 1]:
            raise BadOption(f"the class {twice[0]!r} is given twice. Give each class once.")
        self.choices = Choices(classes)
        self._input, self._show, self._out = input, show, out

    def draw(self, source: Source, name: str, heading: str) -> None:
        """Put the image on the screen, with the heading above and the classes below."""
        out, size = self._out_now, shutil.get_terminal_size()
        table = self.choices.table(size.columns)
        if len(table) > MOST_TABLE_ROWS:
            table = [f"{len(self.choices.classes)} classes: type the beginning of a name; ? lists them all"]
        others = 7 + len(table)  # lines that are not the picture: heading, spaces, classes, menu, answer
        rows = min(terminal.MAX_ROWS, max(6, size.lines - others))
        terminal.clear(out)
        out.write(self._dim(heading) + "\n\n")
        try:
            image = source.load(name)
            self._show(image, out, columns=size.columns, rows=rows, name=source.where(name))
        except UnreadableImage as error:
            out.write(f"{error}\n")
        out.write("\n" + "\n".join(table) + "\n\n" + self._dim(MENU) + "\n")
        out.flush()

    def answer(self, *, may_undo: bool) -> int | str:
        """A label or a command; asks until it gets one."""
        while True:
            text = _ESCAPE_SEQUENCE.sub("", (self._input or builtins.input)("> ")).strip()
            if text not in self.choices.classes and text.lower() in COMMANDS:
                text = text.lower()
            if text == "u" and not may_undo:
                self._say("nothing to undo: this is your first answer here.")
            elif text == "?":
                self._say(self._help())
            elif text in COMMANDS:
                return text
            else:
                try:
                    return self.choices.parse(text)
                except NoLabel as problem:
                    self._say(str(problem))

    def new_line(self) -> None:
        """Leave the line that the person did not finish."""
        self._out_now.write("\n")

    def _say(self, text: str) -> None:
        self._out_now.write(text + "\n")
        self._out_now.flush()

    def _help(self) -> str:
        keys, classes = self.choices.keys, self.choices.classes
        taken = [f"The class {name!r} is number {keys[classes.index(name)]}; {name} alone is the command."
                 for name in COMMANDS if name in classes]  # fmt: skip
        return "\n".join(
            [
                "",
                f"a class   its number ({keys[0]} to {keys[-1]}), its name, or the beginning of its name",
                "u         undo: take the last answer back and ask again, as often as you like",
                "s         skip: leave this image without a label",
                "q         quit, as Ctrl-C does; every answer is already saved",
                *taken,
                "",
                *self.choices.table(shutil.get_terminal_size().columns),
                "",
            ]
        )

    def _dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self._out_now.isatty() else text

    @property
    def _out_now(self) -> TextIO:
        return self._out or sys.stdout


_ESCAPE_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[_P].*?\x1b\\|O.)")
"""Arrow keys, and a terminal's late answer to what `terminal.detect` asked: no part of what was typed."""
