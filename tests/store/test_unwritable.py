"""Disks that are full, databases that may not be written, are held by others, or are damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from vizsla.errors import BadOption, Damaged, DatabaseAway, DiskFull, NotWritable
from vizsla.store import Answer, ImageFile, Store
from vizsla.store.database import Database

AS_NOBODY_SPECIAL = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""Begin of a command that may write no more than the rights of files say, also where root runs it."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project with two images, one of them labelled, and closed."""
    with Store.open(tmp_path / "P") as store:
        store.add_images([ImageFile("a.jpg", 1, 1), ImageFile("b.jpg", 2, 2)])
        store.add_classes(["cat"])
        store.label(store.annotator("me").id, Answer(1, "cat"))
    return tmp_path / "P"


def bar(home: Path) -> None:
    """Have something in the way of the file that SQLite makes beside a database: as on a full or read-only disk."""
    (home / "project.db-shm").unlink(missing_ok=True)
    (home / "project.db-shm").symlink_to("nowhere/at all")


def unbar(home: Path) -> None:
    (home / "project.db-shm").unlink()


@pytest.fixture
def barred(home: Path) -> Path:
    """The same, and SQLite cannot make its file."""
    bar(home)
    return home


def told(store: Store) -> list[tuple[str | None, str | None]]:
    return [(label.path, label.label) for label in store.labels()]


def test_a_full_disk_is_named_with_its_file_and_its_room(home: Path) -> None:
    database = Database.open(home)
    pages = database.write(lambda conn: conn.exec_driver_sql("PRAGMA page_count").scalar())
    database.write(lambda conn: conn.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar())
    full = rf"no space left for {home}/project\.db: \d.* (bytes|[kMGT]B) are free where it lies\. Free some space"
    with pytest.raises(DiskFull, match=full):
        Store(database).add_images(ImageFile(f"{i}.jpg", i, i) for i in range(5000))
    database.close()


def test_a_project_that_cannot_be_written_is_read_and_goes_on_once_it_can(barred: Path) -> None:
    with Store.open(barred) as store:
        assert told(store) == [("a.jpg", "cat")]
        with pytest.raises(NotWritable, match=r"cannot write .*project\.db"):
            store.add_classes(["dog"])
        unbar(barred)
        store.add_classes(["dog"])
        assert [one.name for one in store.classes()] == ["cat", "dog"]
    with Store.open(barred) as store:
        assert [one.name for one in store.classes()] == ["cat", "dog"]


def test_a_file_that_only_cannot_be_written_is_no_lasting_trouble(home: Path) -> None:
    (home / "project.db-shm").unlink(missing_ok=True)
    (home / "project.db-shm").mkdir()  # which SQLite takes for one that it may read
    with Store.open(home) as store:
        assert told(store) == [("a.jpg", "cat")]
        with pytest.raises(NotWritable, match=r"cannot write .*project\.db"):
            store.add_classes(["dog"])
        (home / "project.db-shm").rmdir()
        store.add_classes(["dog"])
        assert [one.name for one in store.classes()] == ["cat", "dog"]


def test_reading_alone_finds_out_as_well_that_it_can_be_written(
    barred: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vizsla.store.database._LOOK_SECONDS", 0.0)
    with Store.open(barred) as store:
        assert told(store) == [("a.jpg", "cat")]
        unbar(barred)
        time.sleep(0.01)
        with Store.open(barred) as other:
            other.label(other.annotator("me").id, Answer(2, "cat"))
            assert told(store) == [("b.jpg", "cat"), ("a.jpg", "cat")]


def test_what_a_crash_left_in_the_log_is_read_too(home: Path) -> None:
    database = Database.open(home)
    store = Store(database)
    store.label(store.annotator("me").id, Answer(2, "cat"))
    crashed = home.with_name("crashed")
    shutil.copytree(home, crashed)  # as kill -9 leaves it
    store.close()
    assert (crashed / "project.db-wal").stat().st_size > 0
    bar(crashed)
    before = {path.name: path.lstat().st_size for path in crashed.iterdir()}
    with Store.open(crashed) as opened:
        assert told(opened) == [("b.jpg", "cat"), ("a.jpg", "cat")]
    assert {path.name: path.lstat().st_size for path in crashed.iterdir()} == before


def test_who_only_reads_waits_for_nobody_who_writes(home: Path) -> None:
    writer = sqlite3.connect(home / "project.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    began = (home / "project.db").stat().st_mtime_ns
    with Store.open(home) as store:
        assert told(store) == [("a.jpg", "cat")]
    writer.execute("ROLLBACK")
    writer.close()
    assert (home / "project.db").stat().st_mtime_ns == began


def test_a_database_that_another_process_holds_is_busy(home: Path) -> None:
    database = Database.open(home)
    database.write(lambda conn: conn.exec_driver_sql("PRAGMA busy_timeout=10").scalar())
    writer = sqlite3.connect(home / "project.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseAway, match=r"project\.db was held by another process"):
        Store(database).add_classes(["dog"])
    writer.execute("ROLLBACK")
    writer.close()
    Store(database).add_classes(["dog"])
    database.close()


def overwrite(file: Path, at: int, count: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(b"\xa5" * count)


def test_a_damaged_database_is_named_with_what_to_do(home: Path) -> None:
    file = home / "project.db"
    whole = file.read_bytes()
    overwrite(file, 0, 100)
    with pytest.raises(
        Damaged, match=rf"{file} is no Vizsla project, or it is damaged: .*vizsla doctor --project"
    ):
        Store.open(home)
    file.write_bytes(whole)
    overwrite(file, 4096, len(whole) - 4096)
    with pytest.raises(Damaged, match=rf"{file} is damaged .*vizsla doctor --project {home}"):
        Store.open(home)
    file.write_bytes(b"")
    with pytest.raises(Damaged, match=r"it is empty\. Put a backup in its place"):
        Store.open(home)
    assert file.read_bytes() == b"", "it is left alone"


def test_a_connection_to_a_database_that_was_damaged_is_made_anew_once_it_is_whole(home: Path) -> None:
    file = home / "project.db"
    whole = file.read_bytes()
    with Store.open(home) as store:
        overwrite(file, 0, len(whole))
        with pytest.raises(BadOption, match="vizsla doctor"):
            store.add_classes(["dog"])
        file.write_bytes(whole)
        store.add_classes(["emu"])
        assert [one.name for one in store.classes()] == ["cat", "emu"]


def test_a_database_of_an_older_version_that_cannot_be_written_is_not_read(barred: Path) -> None:
    unbar(barred)
    database = Database.open(barred)
    database.write(lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '0004'")))
    database.close()
    bar(barred)
    with pytest.raises(NotWritable, match="cannot write"):
        Store.open(barred)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="POSIX: rights of folders")
def test_status_reads_a_folder_that_may_not_be_written_and_other_commands_say_so(home: Path) -> None:
    with Store.open(home) as store:
        store.set_setting("images", "..")
    for path in (*home.iterdir(), home):
        path.chmod(path.stat().st_mode & ~0o222)
    begin = AS_NOBODY_SPECIAL if os.geteuid() == 0 else []

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*begin, sys.executable, "-m", "vizsla", *arguments, "--project", str(home)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    shown = run("status", "--json")
    assert (shown.returncode, '"labelled": 1' in shown.stdout) == (0, True), shown.stderr
    refused = run("users", "add", "ada")
    home.chmod(0o700)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"vizsla: cannot write {home}")
    assert refused.stderr.count("\n") == 1
