"""`vizsla move` and `pg_dump`: everything arrives, once, and work goes on in the new place."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.postgres import Postgres, run_sql

from vizsla.errors import BadOption
from vizsla.moving import move
from vizsla.project import Project
from vizsla.store import Answer, Ranked, Store
from vizsla.store.database import Database
from vizsla.store.schema import metadata

NOTHING = ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")


@pytest.fixture
def database(postgres_server: Postgres) -> Iterator[str]:
    """The URL of a database without a table."""
    run_sql(postgres_server.address, *NOTHING)
    yield postgres_server.address
    run_sql(postgres_server.address, *NOTHING)


def work_on(project: Project) -> str:
    """Something of everything that a project remembers; returns ada's token."""
    store = project.store
    project.add_classes(["blue", "green", "red", "rouge"])
    project.scan()
    store.merge_class("red", "rouge")  # into a later one
    store.rename_class("blue", "azure")
    ada, token = store.new_token("ada")
    items = store.claim(ada.id, 8)
    for item in items[:4]:
        store.label(ada.id, Answer(item.image_id, "red", lead_ms=700, suggestion_shown=False))
    store.label_batch(store.annotator("bob").id, [Answer(item.image_id, "green") for item in items[4:6]])
    store.undo(ada.id)
    store.redo(ada.id)
    store.undo(ada.id)
    model = store.start_model(6, "blend", "toy")
    store.keep_artifact(model.version, bytes(range(256)) * 100)
    store.finish_model(model.version, {"accuracy": 0.1 + 0.2, "label_id": 9, "none": None, "forecast": None})
    rows = [
        Ranked(image.id, 1 / (3 + image.id), "unsure: café", suggestion=((2, 0.3), (1, 1e-12)), cluster=1)
        for image in store.images()
    ]
    store.publish_ranking(model.version, rows)
    store.set_hashes({image.id: f"{image.id:064x}" for image in store.images()})
    return token


def everything(address: str) -> dict[str, list[Any]]:
    """All rows of all tables that are to arrive."""
    database = Database.open(address)
    with database.read() as conn:
        found = {
            table.name: [tuple(row) for row in conn.execute(select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
            if table.name != "leases"
        }
    database.close()
    found["settings"] = [row for row in found["settings"] if row[0] not in ("images", "training")]
    return found


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite"])
def ways(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> tuple[str, str]:
    """From where to where."""
    folder = str(tmp_path / "project")
    return (folder, database) if request.param.startswith("sqlite") else (database, folder)


def test_all_of_a_project_arrives_and_history_undo_and_tokens_go_on(
    ways: tuple[str, str], photos: Path, vizsla_here: Callable[..., Any]
) -> None:
    old, new = ways
    with Project.open(old, photos) as project:
        token = work_on(project)
        source, mark = project.source.address, project.mark
        counts, history = project.store.counts(), project.store.history()
        project.source.keep("7.png", b"brought by another tool")
    done = vizsla_here("move", "--project", old, "--to", new)
    assert done.returncode == 0, done.stderr
    assert "60 images" in done.stdout and "9 labels" in done.stdout
    assert everything(new) == everything(old)
    with Project.open(new) as moved:
        store = moved.store
        assert (moved.source.address, moved.mark) == (source, mark)
        assert moved.source.read(".fetched/7.png") == b"brought by another tool"
        assert (store.counts(), store.history()) == (counts, history)
        ada = store.who(token)
        assert ada is not None and ada.name == "ada"
        assert [row.label for row in store.redo(ada.id).labels] == ["rouge"]  # what she undid before the move
        assert [row.id for row in store.undo(ada.id).labels] == [history[0].id + 1]
        assert store.start_model(7, "blend", "toy").version == 2
        fresh = store.label(store.annotator("eve").id, Answer(store.claim(ada.id, 1)[0].image_id, "azure"))
        assert fresh.label_id == history[0].id + 3
        assert [one.name for one in store.annotators()] == ["ada", "bob", "eve"]
        assert [one.name for one in store.add_classes(["grey"])] == ["grey"]
        assert store.add_images([]) == 0


def test_leases_stay_behind(ways: tuple[str, str], photos: Path) -> None:
    old, new = ways
    with Project.open(old, photos) as project:
        work_on(project)
        held = {item.image_id for item in project.store.claim(project.store.annotator("ada").id, 5)}
        move(project, new)
        assert held == {item.image_id for item in project.store.claim(project.store.annotator("ada").id, 5)}
    with Store.open(new) as store:
        assert {item.image_id for item in store.claim(store.annotator("bob").id, 60)} >= held


def test_a_move_that_is_interrupted_leaves_the_new_place_empty(ways: tuple[str, str], photos: Path) -> None:
    old, new = ways

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise InterruptedError

    with Project.open(old, photos) as project:
        work_on(project)
        with pytest.raises(InterruptedError):
            move(project, new, stop)
        assert not any(everything(new).values())
        assert sum(move(project, new).values()) > 100
    assert everything(new) == everything(old)


def test_a_label_given_meanwhile_stops_the_move(ways: tuple[str, str], photos: Path) -> None:
    old, new = ways
    with Project.open(old, photos) as project, Store.open(old) as served:
        work_on(project)
        answer = Answer(project.store.images()[-1].id, "green")
        bob = served.annotator("bob").id
        with pytest.raises(BadOption, match=r"changed while it was copied. Stop its servers"):
            move(project, new, lambda done, total: served.label(bob, answer) and None)
    assert not any(everything(new).values())


def test_a_place_that_holds_something_and_a_project_at_work_are_refused(
    ways: tuple[str, str], photos: Path, vizsla_here: Callable[..., Any]
) -> None:
    old, new = ways
    with Project.open(old, photos) as project:
        project.scan()
        with Store.open(new) as other:
            other.add_classes(["mine"])
        refused = vizsla_here("move", "--project", old, "--to", new)
        assert refused.returncode == 2
        assert "is not empty: it has classes, class_history. Name a new folder or database." in refused.stderr
        with project.store.lead("trainer"):
            busy = vizsla_here("move", "--project", old, "--to", new)
        assert busy.returncode == 2 and "Stop its servers and workers" in busy.stderr


def test_a_dump_restored_into_a_new_database_is_the_same_project_and_goes_on(
    database: str, postgres_server: Postgres, photos: Path, tmp_path: Path
) -> None:
    def run(program: str, *words: str) -> None:
        subprocess.run([str(postgres_server.programs / program), *words], check=True, capture_output=True)

    with Project.open(database, photos) as project:
        token = work_on(project)
    dump, restored = tmp_path / "pets.dump", postgres_server.database("restored")
    run("pg_dump", "--format=custom", f"--file={dump}", database)
    run_sql(database, "CREATE DATABASE restored")
    try:
        run("pg_restore", "--exit-on-error", f"--dbname={restored}", str(dump))
        assert everything(restored) == everything(database)
        with Project.open(restored) as project:
            store = project.store
            ada = store.who(token)
            assert ada is not None
            newest = store.history()[0].id
            assert (
                store.label(ada.id, Answer(store.claim(ada.id, 1)[0].image_id, "green")).label_id
                == newest + 1
            )
            assert store.undo(ada.id).labels[0].id == newest + 1
    finally:
        run_sql(database, "DROP DATABASE restored WITH (FORCE)")
