"""File names as text, and back."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from vizsla.data.names import as_text, from_text

PIECES = st.sampled_from(
    ["\\", "x", "u", "e", "9", "5", "c", "d8", "\udce9", "\udc5c", "\ud83d", "é", "犬", "%E9"]
)


@given(st.lists(PIECES, max_size=12).map("".join))
@settings(max_examples=500, deadline=None)
def test_any_name_is_text_and_comes_back(name: str) -> None:
    assert from_text(as_text(name).encode().decode()) == name


def test_names_that_differ_in_a_byte_that_is_no_text_stay_different() -> None:
    names = [b"h\xe4her.png", b"h\xfcher.png", rb"h\xe4her.png", b"h%E4her.png"]
    assert [as_text(os.fsdecode(name)) for name in names] == [
        r"h\xe4her.png",
        r"h\xfcher.png",
        r"h\x5cxe4her.png",
        "h%E4her.png",
    ]


def test_names_in_letters_are_what_they_are() -> None:
    for name in ["Häher.png", r"a\b\c.png", r"C:\xylophone\uno.png", "100%25.png", "K%C3%A4fer.jpg"]:
        assert as_text(name) == from_text(name) == name
