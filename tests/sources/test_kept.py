"""The cache of far files: what is kept, what goes first, and what crashes and neighbours do to it."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from vizsla.data.kept import LIMIT, Kept, limit_in_bytes
from vizsla.errors import BadOption

HEAD = 40  # bytes of mark and checksum before each content


def used(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.name != "lock" and file.is_file())


def test_a_content_comes_back_in_another_process_s_cache(tmp_path: Path) -> None:
    Kept(tmp_path, limit=1000).put("s3://b/ä", b"abc")
    assert Kept(tmp_path, limit=1000).get("s3://b/ä") == b"abc"
    assert Kept(tmp_path, limit=1000).get("s3://b/a") is None


def test_of_ten_the_one_not_used_for_longest_makes_room_for_the_eleventh(tmp_path: Path) -> None:
    kept = Kept(tmp_path, limit=10 * (60 + HEAD))
    for letter in "abcdefghij":
        kept.put(letter, letter.encode() * 60)
    assert kept.get("a") is not None
    kept.put("k", b"k" * 60)
    assert [letter for letter in "abcdefghijk" if kept.get(letter) is None] == ["b"]


def test_what_is_kept_was_always_used_after_what_is_not_and_never_exceeds_the_limit(tmp_path: Path) -> None:
    rng = random.Random(0)
    kept, last_use, contents = Kept(tmp_path, limit=20_000), {}, {}
    for turn in range(400):
        key = str(rng.randrange(60))
        if key in contents and kept.get(key) is not None:
            last_use[key] = turn
        else:
            contents[key] = rng.randbytes(rng.randrange(1500))
            kept.put(key, contents[key])
            last_use[key] = turn
        if turn % 10 == 0:
            assert used(tmp_path) <= 20_000
    there = {key for key in contents if kept._file(key).exists()}
    assert 10 < len(there) < len(contents)
    assert min(last_use[key] for key in there) > max(last_use[key] for key in contents.keys() - there)
    assert all(kept.get(key) == contents[key] for key in there)


def test_what_is_larger_than_the_limit_is_not_kept_and_drives_nothing_out(tmp_path: Path) -> None:
    kept = Kept(tmp_path, limit=1000)
    kept.put("small", b"x" * 100)
    kept.put("large", b"x" * 1000)
    assert (kept.get("small"), kept.get("large")) == (b"x" * 100, None)


@pytest.mark.parametrize(
    "damage", [lambda old: old[:-1], lambda old: old[:20], lambda old: b"", lambda old: old[:-1] + b"!"]
)
def test_a_damaged_entry_counts_as_missing_and_can_be_kept_anew(tmp_path: Path, damage) -> None:
    kept = Kept(tmp_path, limit=1000)
    kept.put("a", b"content")
    [file] = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != "lock"]
    file.write_bytes(damage(file.read_bytes()))
    assert kept.get("a") is None
    kept.put("a", b"content")
    assert kept.get("a") == b"content"


FILL = textwrap.dedent(
    """
    import hashlib, itertools, random, sys
    from pathlib import Path
    from vizsla.data.kept import Kept

    def content(key):
        return hashlib.sha256(key.encode()).digest() * 30

    kept, rng = Kept(Path(sys.argv[1]), limit=int(sys.argv[2])), random.Random(sys.argv[3])
    print("begun", flush=True)
    for _ in range(int(sys.argv[4])):
        key = str(rng.randrange(300))
        found = kept.get(key)
        assert found is None or found == content(key)
        if found is None:
            kept.put(key, content(key))
    """
)


def fill(folder: Path, limit: int, seed: int, times: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FILL, folder, limit, seed, times]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)


def right(kept: Kept) -> int:
    """How many are there; each must be what it should be."""
    import hashlib

    found = {str(n): kept.get(str(n)) for n in range(300)}
    there = {key: content for key, content in found.items() if content is not None}
    assert all(content == hashlib.sha256(key.encode()).digest() * 30 for key, content in there.items())
    return len(there)


@pytest.mark.slow
def test_two_processes_fill_one_cache_and_neither_damages_it(tmp_path: Path) -> None:
    limit = 100 * (960 + HEAD)
    fillers = [fill(tmp_path, limit, seed, 1000) for seed in range(2)]
    assert [(filler.communicate(timeout=60), filler.returncode)[1] for filler in fillers] == [0, 0]
    assert 80 <= right(Kept(tmp_path, limit)) <= 105
    assert used(tmp_path) <= 1.05 * limit


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_nothing_that_is_taken_for_an_image(tmp_path: Path) -> None:
    for seed in range(3):
        filler = fill(tmp_path, 50_000, seed, 10**9)
        assert filler.stdout is not None
        with filler.stdout as said:
            said.readline()
            time.sleep(0.1)
            filler.kill()
            filler.wait()
    kept = Kept(tmp_path, 50_000)
    assert right(kept) > 10
    abandoned = tmp_path / "00" / ".half"
    abandoned.parent.mkdir(exist_ok=True)
    abandoned.write_bytes(b"x" * 500)
    os.utime(abandoned, (time.time() - 7200,) * 2)
    kept.put("another", b"y")
    assert not abandoned.exists()


def test_where_nothing_can_be_written_all_goes_on_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    kept = Kept(tmp_path / "file" / "below", limit=1000)
    with caplog.at_level(logging.WARNING):
        kept.put("a", b"abc")
        kept.put("b", b"abc")
    assert kept.get("a") is None
    assert [record.message.partition("(")[0] for record in caplog.records] == [
        f"cannot keep files in {tmp_path / 'file' / 'below'} "
    ]


@pytest.mark.parametrize(
    ("said", "bytes"),
    [("500MB", 5 * 10**8), ("2.5 gb", 25 * 10**8), ("123", 123), ("1TiB", 10**12), ("0", 0)],
)
def test_the_limit_is_read_from_the_environment(
    said: str, bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, said)
    assert limit_in_bytes() == bytes


def test_ten_gigabytes_unless_told_otherwise_and_no_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIMIT, raising=False)
    assert limit_in_bytes() == 10**10
    monkeypatch.setenv(LIMIT, "a lot")
    with pytest.raises(BadOption, match="VIZSLA_CACHE_LIMIT=a lot is no size"):
        limit_in_bytes()
