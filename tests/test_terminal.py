from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Iterator
from typing import TextIO

import numpy as np
import pytest
from PIL import Image

from vizsla import terminal
from vizsla.errors import BadOption

TERMINAL_VARIABLES = ("VIZSLA_IMAGES", "TERM", "TERM_PROGRAM", "LC_TERMINAL", "TMUX")


@pytest.fixture(autouse=True)
def unknown_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TERMINAL_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tty() -> Iterator[TextIO]:
    pty = pytest.importorskip("pty", reason="pseudo-terminals are POSIX")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        yield stream
    os.close(ours)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def shown(image: Image.Image, protocol: str, columns: int = 80, rows: int = 40) -> str:
    out = io.StringIO()
    terminal.show(image, out, columns=columns, rows=rows, protocol=protocol)
    return out.getvalue()


def decode_blocks(text: str) -> list[list[tuple[int, ...]]]:
    """Rows of RGB pixels: the foregrounds, then the backgrounds, of each line of half blocks."""
    pattern = r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀"
    pixels: list[list[tuple[int, ...]]] = []
    for line in text.splitlines():
        assert re.fullmatch(rf"({pattern})+\x1b\[0m", line)
        cells = [tuple(map(int, cell)) for cell in re.findall(pattern, line)]
        pixels += [[cell[:3] for cell in cells], [cell[3:] for cell in cells]]
    return pixels


def test_half_blocks_of_four_pixels_have_their_four_colours() -> None:
    colors = [[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (9, 99, 199)]]
    image = Image.fromarray(np.array(colors, dtype=np.uint8))
    assert decode_blocks(shown(image, "blocks")) == colors


def test_terminal_app_which_has_no_24_bit_colour_gets_the_nearest_of_256(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM_PROGRAM", "Apple_Terminal")
    image = Image.fromarray(np.array([[[250, 5, 0]], [[255, 255, 255]]], dtype=np.uint8))
    assert shown(image, "blocks") == "\x1b[38;5;196;48;5;231m▀\x1b[0m\n"


@pytest.mark.parametrize(
    ("size", "cells"),
    [
        ((500, 375), (80, 30)),  # 80 columns wide: 60 pixels, so 30 rows, tall
        ((375, 500), (60, 40)),  # 40 rows tall: 80 pixels, so 60 wide
        ((32, 32), (32, 16)),  # never more columns than pixels
        ((10_000, 1), (80, 1)),
        ((1, 10_000), (1, 40)),
    ],
)
def test_half_blocks_keep_proportions_and_bounds(size: tuple[int, int], cells: tuple[int, int]) -> None:
    pixels = decode_blocks(shown(Image.new("RGB", size), "blocks"))
    assert (len(pixels[0]), len(pixels) // 2) == cells


def test_iterm2_receives_the_picture_itself() -> None:
    image = noise(90, 60)
    match = re.fullmatch(
        r"\x1b\]1337;File=inline=1;size=(\d+);width=(\d+);(.*):(.*)\x07\n", shown(image, "iterm2")
    )
    assert match is not None
    payload = base64.b64decode(match[4])
    assert (int(match[1]), match[2], match[3]) == (len(payload), "80", "height=auto;preserveAspectRatio=1")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(payload))), np.asarray(image))


def test_kitty_receives_the_picture_itself_in_chunks() -> None:
    image = noise(200, 150)
    packets = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", shown(image, "kitty"))
    assert packets[0][0] == "a=T,f=100,q=2,c=80,m=1"
    assert [keys for keys, _ in packets[1:]] == ["m=1"] * (len(packets) - 2) + ["m=0"]
    assert max(len(chunk) for _, chunk in packets) == 4096
    payload = base64.b64decode("".join(chunk for _, chunk in packets))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(payload))), np.asarray(image))


def test_a_large_photo_is_sent_no_finer_than_the_screen() -> None:
    packets = re.findall(r"\x1b_G[^;]*;([^\x1b]*)\x1b\\", shown(Image.new("RGB", (4000, 3000)), "kitty"))
    assert Image.open(io.BytesIO(base64.b64decode("".join(packets)))).size == (1280, 960)


def test_sixels_of_a_red_picture_are_red_and_twice_as_wide_as_tall() -> None:
    match = re.search(
        r'\x1bP[\d;]*q"1;1;(\d+);(\d+)(.*?)\x1b\\', shown(Image.new("RGB", (60, 30), "red"), "sixel")
    )
    assert match is not None
    assert int(match[1]) == pytest.approx(2 * int(match[2]), rel=0.1)
    assert re.findall(r"#\d+;2;(\d+;\d+;\d+)", match[3]) == ["100;0;0"]


def test_a_stream_that_is_no_terminal_gets_the_name_only() -> None:
    out = io.StringIO()
    terminal.show(Image.new("RGB", (4, 4)), out, name="dogs/rex.jpg")
    terminal.clear(out)
    assert out.getvalue() == "dogs/rex.jpg\n"


@pytest.mark.parametrize(
    ("variables", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, "blocks"),
        ({"TERM": "screen-256color", "LC_TERMINAL": "iTerm2"}, "blocks"),
        ({"TERM": "xterm-kitty", "TMUX": "/run/tmux-0/default,1,0"}, "blocks"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TERM": "dumb"}, "none"),
        ({"TERM": "xterm-kitty", "VIZSLA_IMAGES": "sixel"}, "sixel"),
    ],
)
def test_each_terminal_gets_the_protocol_it_speaks(
    variables: dict[str, str], protocol: str, tty: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert terminal.detect(tty) == protocol


def test_an_unknown_protocol_is_answered_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIZSLA_IMAGES", "ascii")
    with pytest.raises(BadOption, match=r"VIZSLA_IMAGES is 'ascii'\. Known: kitty, iterm2, sixel"):
        terminal.detect(io.StringIO())
