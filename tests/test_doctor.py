"""`vizsla doctor` on real damage: what it finds, what it says to do, and that it changes nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine

from vizsla.doctor.finding import Finding
from vizsla.doctor.machine import memory_limits
from vizsla.doctor.speed import images_per_second
from vizsla.models.backbones import load_backbone
from vizsla.models.runtime import Exported
from vizsla.project import Project
from vizsla.store import Answer, Store, migrations
from vizsla.testing import TOY_BACKBONE


@pytest.fixture
def doctor(vizsla_here, monkeypatch, tmp_path):
    """`vizsla doctor --quick --json` with a cache of its own: its exit code, and the findings by topic."""
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, dict[str, Finding]]:
        done = vizsla_here("doctor", "--quick", "--json", *arguments)
        found = json.loads(done.stdout)
        assert found["state"] == ("problem" if done.returncode else "ok" if _all_ok(found) else "warning")
        return done.returncode, {one["topic"]: Finding(**one) for one in found["findings"]}

    return run


def _all_ok(found: dict) -> bool:
    return all(one["state"] == "ok" for one in found["findings"])


def label_some(project: Project, n: int = 30) -> None:
    me = project.store.annotator("me").id
    for item in project.store.claim(me, n):
        project.store.label(me, Answer(item.image_id, item.path[4:-4], lease_id=item.lease_id))


# --- a healthy one


def test_a_healthy_project_has_no_problem_and_its_counts_are_told(project, doctor):
    label_some(project)
    code, found = doctor("--project", project.address)
    assert code == 0
    assert {"vizsla", "libraries", "extras", "processor", "memory", "device", "cache", "features"} < set(
        found
    )
    assert found["database"].state == found["images"].state == found["trainer"].state == "ok"
    assert found["database"].facts["images"] == 60
    assert found["database"].facts["labels"] == 30
    assert found["database"].facts["integrity"] == ["ok"]
    assert found["database"].facts["journal"] == "wal"
    assert found["processor"].facts["cores"] <= found["processor"].facts["cores_of_machine"]


def test_people_get_a_row_each_and_a_project_in_the_current_folder_is_found(
    project, photos, tmp_path, monkeypatch, vizsla_here
):
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(photos)
    Project.open(None, photos).close()
    said = vizsla_here("doctor", "--quick").stdout
    topics = [line.split()[1] for line in said.splitlines() if line.startswith(("ok", "warning", "problem"))]
    assert topics[:4] == ["vizsla", "libraries", "extras", "processor"]
    assert topics[-4:] == ["database", "images", "trainer", "clock"]


def test_on_postgresql_it_says_the_same(postgres, photos, new_address, doctor):
    with Project.open(new_address, photos) as opened:
        opened.add_classes(["blue", "green", "red"])
        opened.scan()
        label_some(opened, 5)
        code, found = doctor("--project", new_address)
    assert code == 0
    kind = found["database"].facts["kind"]
    assert kind == "SQLite" or kind.startswith("PostgreSQL 1")
    assert (found["database"].facts["images"], found["database"].facts["labels"]) == (60, 5)
    assert found["images"].text.startswith("60 in ")


# --- the cache


@pytest.mark.parametrize("inside", [".", "below"])
def test_a_file_where_the_cache_folder_should_be_is_a_problem_with_its_mend(
    doctor, tmp_path, monkeypatch, inside
):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path / "file" / inside))
    code, found = doctor()
    assert code == 1
    assert found["cache"].state == "problem"
    assert "VIZSLA_CACHE" in found["cache"].text
    assert found["cache"].facts["writable"] is False


def test_a_damaged_row_is_counted_until_it_is_computed_again(doctor, toys, tmp_path, vizsla_here):
    assert vizsla_here("embed", toys, "--backbone", TOY_BACKBONE).returncode == 0
    code, found = doctor()
    assert found["features"].facts | {"stores": []} == {"rows": 36, "checked": 36, "damaged": 0, "stores": []}
    [vectors] = (tmp_path / "cache").rglob("vectors.f16")
    content = bytearray(vectors.read_bytes())
    content[100] ^= 0xFF
    vectors.write_bytes(content)
    code, found = doctor()
    assert code == 0  # it heals by itself
    assert (found["features"].state, found["features"].facts["damaged"]) == ("warning", 1)
    assert "computed again" in found["features"].mend
    assert vizsla_here("embed", toys, "--backbone", TOY_BACKBONE).returncode == 0
    _, found = doctor()
    assert (found["features"].state, found["features"].facts["rows"]) == ("ok", 36)


def test_what_cannot_be_looked_at_is_a_problem_and_keeps_nothing_else_from_being_looked_at(
    doctor, project, toys, tmp_path, vizsla_here
):
    vizsla_here("embed", toys, "--backbone", TOY_BACKBONE)
    [note] = (tmp_path / "cache").rglob("backbone.json")
    note.write_text("{")
    code, found = doctor("--project", project.address)
    assert code == 1
    assert found["features"].state == "problem"
    assert "JSONDecodeError" in found["features"].text
    assert found["database"].state == "ok"


def test_an_exported_network_that_is_damaged_is_named(tmp_path, monkeypatch, vizsla_here):
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path / "cache"))
    exported = Exported(load_backbone()).file
    exported.parent.mkdir(parents=True)
    exported.write_bytes(b"no network")
    done = vizsla_here("doctor", "--json")
    [speed] = [one for one in json.loads(done.stdout)["findings"] if one["topic"] == "speed"]
    assert (done.returncode, speed["state"]) == (1, "problem")
    assert str(exported) in speed["text"]
    exported.unlink()
    done = vizsla_here("doctor", "--json")
    [speed] = [one for one in json.loads(done.stdout)["findings"] if one["topic"] == "speed"]
    assert (done.returncode, speed["state"], speed["facts"]["exported"]) == (0, "ok", False)
    assert speed["facts"]["images_per_second"] > 0.1


# --- the database


def cut_in_half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def overwrite_pages(file: Path) -> None:
    with file.open("r+b") as content:
        content.seek(5 * 4096)
        content.write(b"\x55" * 4096 * 10)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (cut_in_half, "malformed"),
        (overwrite_pages, "is damaged"),
        (lambda file: file.write_bytes(b"no database" * 999), "not a database"),
        (lambda file: file.write_bytes(b""), "no Vizsla project"),
        (lambda file: file.unlink(), "there is no project"),
    ],
    ids=["half of it", "overwritten pages", "another file", "an empty file", "gone"],
)
def test_a_spoilt_database_is_a_problem_with_its_mend_and_is_left_as_it_is(project, doctor, spoil, says):
    label_some(project)
    project.close()
    file = Path(project.address) / "project.db"
    spoil(file)
    before = file.read_bytes() if file.exists() else None
    code, found = doctor("--project", project.address)
    assert code == 1
    assert found["database"].state == "problem"
    assert says in found["database"].text
    assert found["database"].mend
    assert "images" not in found  # it is not opened
    assert (file.read_bytes() if file.exists() else None) == before


def test_any_other_command_on_a_damaged_database_is_one_line_that_names_the_doctor(project, vizsla_here):
    project.close()
    cut_in_half(Path(project.address) / "project.db")
    done = vizsla_here("status", "--project", project.address)
    assert done.returncode == 1
    assert done.stderr.startswith("vizsla: ")
    assert "is damaged" in done.stderr
    assert "vizsla doctor" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_newer_database_is_a_problem_and_an_older_one_is_not_brought_up_to_date(tmp_path, photos, doctor):
    newer, older = tmp_path / "newer", tmp_path / "older"
    Project.open(newer, photos).close()
    with sqlite3.connect(newer / "project.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    code, found = doctor("--project", newer)
    assert (code, found["database"].mend) == (1, "Run: pip install --upgrade vizsla")
    older.mkdir()
    engine = create_engine(f"sqlite:///{older / 'project.db'}")
    with engine.begin() as conn:
        migrations.upgrade(conn, "older", to="0001")
    engine.dispose()
    code, found = doctor("--project", older)
    assert (code, found["database"].facts["revision"]) == (0, "0001")
    with sqlite3.connect(older / "project.db") as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]


def test_a_server_that_does_not_answer_is_a_problem_without_its_password(doctor):
    code, found = doctor("--project", "postgresql://me:hunter2@127.0.0.1:1/nothing")
    assert code == 1
    assert "cannot reach" in found["database"].text
    assert "hunter2" not in str(found)


# --- the project


def test_images_that_are_gone_or_unreadable_are_named(project, photos, doctor):
    broken = photos / "000-blue.png"
    [first] = [image for image in project.store.images() if image.path == broken.name]
    project.store.set_unreadable(first.id, "it is cut off")
    code, found = doctor("--project", project.address)
    assert code == 0
    assert found["images"].state == "warning"
    assert "1 cannot be read, such as 000-blue.png: it is cut off" in found["images"].text
    photos.rename(photos.with_name("elsewhere"))
    code, found = doctor("--project", project.address)
    assert (code, found["images"].state) == (1, "problem")
    assert str(photos) in found["images"].text


def test_a_training_that_failed_is_a_problem_and_one_at_work_is_told(project, brittle, doctor, vizsla_here):
    backbone, crash = brittle
    project.change(backbone=backbone)
    label_some(project)
    crash.touch()
    assert vizsla_here("train", "--project", project.address).returncode == 1
    code, found = doctor("--project", project.address)
    assert code == 1
    assert "the network caught fire" in found["trainer"].text
    crash.unlink()
    assert vizsla_here("train", "--project", project.address).returncode == 0
    with project.store.lead("trainer"):
        code, found = doctor("--project", project.address)
    assert (code, found["trainer"].facts["at_work"]) == (0, True)
    assert "from 30 labels" in found["trainer"].text


def test_an_answer_from_the_future_shows_that_clocks_differ(project, doctor):
    with Store.open(project.address, clock=lambda: datetime.now(UTC) + timedelta(hours=2)) as ahead:
        ahead.label(ahead.annotator("ada").id, Answer(1, "blue"))
    code, found = doctor("--project", project.address)
    assert (code, found["clock"].state) == (0, "warning")
    assert 7000 < found["clock"].facts["ahead"] <= 7200


# --- the installation


def without(*modules: str, tmp_path: Path) -> dict[str, str]:
    """An environment in which these modules cannot be imported, as if they were not installed."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {modules!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "VIZSLA_CACHE": str(tmp_path / "cache")}


def doctor_in(env: dict[str, str], *arguments: str) -> tuple[int, dict[str, Finding]]:
    command = [sys.executable, "-m", "vizsla", "doctor", "--json", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    return done.returncode, {one["topic"]: Finding(**one) for one in json.loads(done.stdout)["findings"]}


@pytest.mark.slow
def test_missing_extras_are_no_problem_until_they_are_needed(tmp_path):
    env = without("psycopg", "pyarrow", tmp_path=tmp_path)
    code, found = doctor_in(env, "--quick")
    assert code == 0
    assert found["extras"].facts["missing"]["parquet"] == ["pyarrow>=15"]
    assert "postgres" in found["extras"].facts["missing"]
    assert "notebook" in found["extras"].facts["installed"]
    assert "pip install 'vizsla[" in found["extras"].text
    code, found = doctor_in(env, "--quick", "--project", "postgresql://me@127.0.0.1/nothing")
    assert code == 1
    assert found["database"].mend == "Run: pip install 'vizsla[postgres]'"


@pytest.mark.slow
def test_a_library_that_is_missing_is_named_and_all_that_works_without_it_is_still_looked_at(tmp_path):
    code, found = doctor_in(without("torch", tmp_path=tmp_path))
    assert code == 1
    assert found["libraries"].state == "problem"
    assert "'torch>=" in found["libraries"].mend
    assert found["speed"].state == found["device"].state == "problem"
    assert found["cache"].state == "ok"


@pytest.mark.slow
def test_without_the_library_of_databases_a_project_is_a_problem_and_no_traceback(project, tmp_path):
    env = without("sqlalchemy", tmp_path=tmp_path)
    code, found = doctor_in(env, "--quick", "--project", project.address)
    assert code == 1
    assert "sqlalchemy is there, but Python cannot import sqlalchemy" in found["libraries"].text
    assert "No module named 'sqlalchemy'" in found["project"].text
    assert found["cache"].state == "ok"


@pytest.mark.slow
def test_a_library_that_is_too_old_is_told_with_the_version_it_must_have(tmp_path):
    about = tmp_path / "timm-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 0.1\n")
    code, found = doctor_in(without(tmp_path=tmp_path), "--quick")
    assert code == 1
    assert found["libraries"].text == "timm is 0.1, and must be >=1.0.9"
    assert "'timm>=1.0.9'" in found["libraries"].mend


# --- figures


def test_the_speed_is_that_of_the_runtime():
    class Slow:
        name, at_once, batch = "slow", 1, 5

        def __call__(self, pixels):
            time.sleep(0.02)
            return np.zeros((len(pixels), 3), np.float32)

    assert 50 < images_per_second(Slow(), 32, 0.5) <= 250  # five in 20 ms at best


def test_the_memory_of_a_process_ends_where_that_of_any_group_around_it_does(tmp_path):
    for folder, name, limit in (
        ("", "memory.max", "max"),
        ("slice", "memory.max", "3000000000"),
        ("slice/pod", "memory.max", "max"),
        ("memory/pod", "memory.limit_in_bytes", "2000000000"),
        ("memory", "memory.limit_in_bytes", "9223372036854771712"),
        ("another", "memory.max", "1"),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_text(limit + "\n")
    own = tmp_path / "own"
    own.write_text("4:memory:/pod\n1:cpu:/\n0::/slice/pod\n")
    assert sorted(memory_limits(tmp_path, own)) == [2_000_000_000, 3_000_000_000, 9223372036854771712]
    assert memory_limits(tmp_path / "nothing", tmp_path / "none") == []
