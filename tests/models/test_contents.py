"""What is known of files without reading them; the other side is the file system itself."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from pathlib import Path

import pytest

from vizsla.data.sources import Folder, Stamp
from vizsla.models.contents import Contents

AN_HOUR_AGO = time.time_ns() - 3_600_000_000_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that has not changed for an hour, as far as its content goes."""
    made = tmp_path / "image.png"
    made.write_bytes(b"abc")
    os.utime(made, ns=(AN_HOUR_AGO, AN_HOUR_AGO))
    return made


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once: a test cannot set their status time back."""
    monkeypatch.setattr("vizsla.models.contents._SETTLED_NS", 0)


def stamp(file: Path) -> Stamp | None:
    try:
        return Folder(file.parent).stamp(file.name)
    except OSError:
        return None


def key(file: Path) -> bytes:
    return Folder(file.parent).key(file.name)


def noted(contents: Contents, file: Path) -> bytes:
    sha = hashlib.sha256(file.read_bytes()).digest()
    contents.note([key(file)], [stamp(file)], [sha])
    return sha


def test_a_file_is_known_to_the_next_process_until_it_changes(tmp_path: Path, file: Path) -> None:
    sha = noted(Contents(tmp_path / "c"), file)
    again = Contents(tmp_path / "c")
    assert again.find([key(file), key(tmp_path / "other")], [stamp(file), stamp(tmp_path / "other")]) == [
        sha,
        None,
    ]
    file.write_bytes(b"abcd")
    assert again.find([key(file)], [stamp(file)]) == [None]


def test_another_content_of_the_same_size_and_time_is_noticed(tmp_path: Path, file: Path) -> None:
    contents = Contents(tmp_path / "c")
    noted(contents, file)
    time.sleep(0.02)
    file.write_bytes(b"xyz")
    os.utime(file, ns=(AN_HOUR_AGO, AN_HOUR_AGO))
    assert contents.find([key(file)], [stamp(file)]) == [None]


def test_a_file_that_has_just_changed_is_not_trusted_yet(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vizsla.models.contents._SETTLED_NS", 2_000_000_000)
    contents = Contents(tmp_path / "c")
    noted(contents, file)
    assert contents.find([key(file)], [stamp(file)]) == [None]


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_a_damaged_database_is_forgotten(tmp_path: Path, file: Path, content: bytes) -> None:
    (tmp_path / "c").write_bytes(content)
    contents = Contents(tmp_path / "c")
    assert contents.find([key(file)], [stamp(file)]) == [None]
    contents = Contents(tmp_path / "c")
    sha = noted(contents, file)
    assert contents.find([key(file)], [stamp(file)]) == [sha]


def test_what_cannot_be_written_is_read_each_time(tmp_path: Path, file: Path) -> None:
    contents = Contents(file / "c")  # below a file
    noted(contents, file)
    assert contents.find([key(file)], [stamp(file)]) == [None]


def test_who_holds_the_database_only_keeps_others_from_remembering(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = Contents(tmp_path / "c")
    other = sqlite3.connect(tmp_path / "c", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    contents._run("PRAGMA busy_timeout = 10")
    noted(contents, file)
    other.execute("ROLLBACK")
    assert contents.find([key(file)], [stamp(file)]) == [None]
    assert Contents(tmp_path / "c").find([key(file)], [stamp(file)]) == [None]
