"""Pictures inside a terminal, by the best means it has.

Kitty's and iTerm2's protocols and half blocks are a few lines each and are ours, so that a picture goes to
the stream it is meant for. Sixels, and asking a terminal what it can do, come from `textual-image`. That
library sends its question when it is imported, so it is imported late, and only where someone can answer.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import sys
from functools import cache
from types import ModuleType
from typing import TextIO

import numpy as np
from PIL import Image
from rich.console import Console

from vizsla.errors import BadOption

PROTOCOLS = ("kitty", "iterm2", "sixel", "blocks", "none")
MAX_ROWS = 40
_PIXELS_PER_COLUMN = 16
"""Finer than nearly every terminal's cell, so that shrinking to it loses nothing."""


def show(
    image: Image.Image,
    out: TextIO,
    *,
    columns: int | None = None,
    rows: int = MAX_ROWS,
    protocol: str | None = None,
    name: str = "",
) -> None:
    """Write the image to a terminal, whole and in its own proportions.

    Args:
        image: any picture.
        out: where to; anything but a terminal gets only the name.
        columns: widest it may be, in character cells; the terminal's width if not given.
        rows: tallest it may be, in character cells.
        protocol: one of PROTOCOLS; found out if not given.
        name: what to write where no picture can be shown.
    """
    protocol = protocol or detect(out)
    if protocol == "notebook":
        _show_in_notebook(image)
    elif protocol == "none":
        out.write(f"{name.encode(errors='replace').decode()}\n")
    else:
        _draw(image, out, protocol, fit(*image.size, columns or shutil.get_terminal_size().columns, rows))
    out.flush()


def detect(out: TextIO) -> str:
    """How pictures reach this stream: `$VIZSLA_IMAGES`, else what the terminal is known or found to do."""
    if chosen := os.environ.get("VIZSLA_IMAGES"):
        if chosen not in PROTOCOLS:
            raise BadOption(f"VIZSLA_IMAGES is {chosen!r}. Known: {', '.join(PROTOCOLS)}.")
        return chosen
    if in_notebook():
        return "notebook"
    if not out.isatty() or os.environ.get("TERM") == "dumb":
        return "none"
    return _known_terminal() or _ask_terminal()


def fit(width: int, height: int, columns: int, rows: int) -> tuple[int, int]:
    """Cells (columns, rows) for an image, with cells twice as tall as wide and at most one column a pixel.

    >>> fit(500, 375, 80, 40)
    (80, 30)
    >>> fit(375, 500, 80, 30)
    (45, 30)
    """
    scale = min(columns / width, 2 * rows / height, 1)
    return max(1, round(width * scale)), max(1, round(height * scale / 2))


def clear(out: TextIO) -> None:
    """Begin a new page: empties a terminal or a notebook cell, leaves any other stream as it is."""
    if in_notebook():
        from IPython.display import clear_output

        clear_output()
    elif out.isatty():
        out.write("\x1b[2J\x1b[H")


def in_notebook() -> bool:
    """Whether this code runs in an IPython kernel, as in Jupyter."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")


def _show_in_notebook(image: Image.Image) -> None:
    from IPython.display import display

    small = image.convert("RGB")
    small.thumbnail((480, 480))
    display(small)


def _draw(image: Image.Image, out: TextIO, protocol: str, cells: tuple[int, int]) -> None:
    library = _textual_image() if protocol == "sixel" else None
    if protocol == "kitty":
        out.write(_kitty(image, cells))
    elif protocol == "iterm2":
        out.write(_iterm2(image, cells))
    elif library:
        console = Console(file=out, force_terminal=True, width=cells[0], height=cells[1])
        console.print(library.SixelImage(image.convert("RGB"), width="auto", height="auto"), end="")
    else:
        out.write(_blocks(image, cells))


def _blocks(image: Image.Image, cells: tuple[int, int]) -> str:
    """Two pixels a cell: an upper half block in the upper colour, on a ground of the lower colour."""
    columns, rows = cells
    color = _color_256 if os.environ.get("TERM_PROGRAM") == "Apple_Terminal" else _color_24_bit
    small = image.convert("RGB").resize((columns, 2 * rows), Image.Resampling.LANCZOS)
    lines = np.asarray(small).tolist()

    def line(upper: list[list[int]], lower: list[list[int]]) -> str:
        pairs = zip(upper, lower, strict=True)
        return "".join(f"\x1b[38;{color(above)};48;{color(below)}m▀" for above, below in pairs) + "\x1b[0m\n"

    return "".join(map(line, lines[::2], lines[1::2]))


def _color_24_bit(rgb: list[int]) -> str:
    return "2;{};{};{}".format(*rgb)


def _color_256(rgb: list[int]) -> str:
    red, green, blue = (round(value / 51) for value in rgb)
    return f"5;{16 + 36 * red + 6 * green + blue}"


def _kitty(image: Image.Image, cells: tuple[int, int]) -> str:
    """Kitty's graphics protocol: a PNG in chunks of 4096 characters; the terminal works out the rows."""
    data = base64.b64encode(_png(image, cells)).decode()
    chunks = [data[start : start + 4096] for start in range(0, len(data), 4096)]
    keys = [f"a=T,f=100,q=2,c={cells[0]},", *[""] * (len(chunks) - 1)]
    more = [*[1] * (len(chunks) - 1), 0]
    packets = zip(keys, more, chunks, strict=True)
    return "".join(f"\x1b_G{key}m={m};{chunk}\x1b\\" for key, m, chunk in packets) + "\n"


def _iterm2(image: Image.Image, cells: tuple[int, int]) -> str:
    """iTerm2's inline file, which WezTerm and others read too."""
    png = _png(image, cells)
    head = f"inline=1;size={len(png)};width={cells[0]};height=auto;preserveAspectRatio=1"
    return f"\x1b]1337;File={head}:{base64.b64encode(png).decode()}\x07\n"


def _png(image: Image.Image, cells: tuple[int, int]) -> bytes:
    small = image.convert("RGB")
    small.thumbnail((cells[0] * _PIXELS_PER_COLUMN, cells[1] * 2 * _PIXELS_PER_COLUMN))
    file = io.BytesIO()
    small.save(file, format="png", compress_level=2)
    return file.getvalue()


def _known_terminal() -> str | None:
    """What the environment says outright. Inside tmux or screen it describes the terminal outside."""
    environ = os.environ
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if "TMUX" in environ or term.startswith(("screen", "tmux")):
        return None
    if term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm") or environ.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    if program == "Apple_Terminal" or term == "linux":
        return "blocks"
    return None


@cache
def _ask_terminal() -> str:
    library = _textual_image()
    if library is None:
        return "blocks"
    return {library.SixelImage: "sixel", library.TGPImage: "kitty"}.get(library.Image, "blocks")


def _textual_image() -> ModuleType | None:
    """The library, unless its import would ask a terminal that has no keyboard to answer by."""
    if _is_terminal(sys.__stdout__) and not _is_terminal(sys.__stdin__):
        return None
    from textual_image import renderable

    return renderable


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()
