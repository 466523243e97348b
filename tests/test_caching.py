from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import platformdirs
import pytest

from vizsla.caching import cache_dir, explain_write_errors, write_atomically
from vizsla.errors import BadOption, DiskFull


def test_the_cache_lies_where_vizsla_cache_says_else_where_the_platform_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    for unset in ("", None):
        monkeypatch.delenv("VIZSLA_CACHE") if unset is None else monkeypatch.setenv("VIZSLA_CACHE", unset)
        assert cache_dir() == Path(platformdirs.user_cache_dir()) / "vizsla"


def test_text_and_bytes_arrive_whole_in_folders_made_for_them(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a/b.txt", "Ḱäse\n")
    write_atomically(tmp_path / "a/c.bin", b"\x00\xff")
    assert (tmp_path / "a/b.txt").read_bytes() == "Ḱäse\n".encode()
    assert (tmp_path / "a/c.bin").read_bytes() == b"\x00\xff"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b.txt", "c.bin"]


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="POSIX only: limits the size of files")
    file = tmp_path / "labels.jsonl"
    write_atomically(file, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_atomically(file, "new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only: /dev/full is a disk that is always full")
def test_a_full_disk_is_named_with_its_mend() -> None:
    with (
        pytest.raises(DiskFull, match=r"no space left while writing /dev/full\. .* VIZSLA_CACHE="),
        explain_write_errors(Path("/dev/full")),
        Path("/dev/full").open("wb", buffering=0) as file,
    ):
        file.write(b"x")


def test_a_file_in_the_way_of_a_folder_is_named_with_its_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadOption, match=r"cannot write .*x\.txt: .* Choose a folder you may write to"):
        write_atomically(tmp_path / "file" / "x.txt", "x")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_one_may_not_write_to_is_named_with_its_mend(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(BadOption, match=r"cannot write .*x\.txt: Permission denied\. Choose a folder"):
        write_atomically(tmp_path / "locked" / "x.txt", "x")


def test_other_errors_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, explain_write_errors(tmp_path):
        (tmp_path / "missing").read_text()
    assert caught.value.errno == errno.ENOENT
