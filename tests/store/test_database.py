"""Opening, migrating, crashing: what is acknowledged is there afterwards."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import IntegrityError
from tests.postgres import run_sql

from vizsla.errors import BadOption, DiskFull, NoLabel, UnknownName, VizslaError
from vizsla.store import Answer, ImageFile, Ranked, Rescanned, Store, migrations, people
from vizsla.store.database import Database
from vizsla.store.schema import annotators, metadata, models

Fill = Callable[[int], list[int]]
WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture
def database(address: str) -> Iterator[Database]:
    opened = Database.open(address)
    yield opened
    opened.close()


def test_the_migrations_lead_to_the_schema(database: Database) -> None:
    with database.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []


def test_the_database_itself_refuses_an_unknown_state(database: Database) -> None:
    row = {"labels_used": 1, "head": "", "backbone_key": "", "metrics": {}, "created_at": datetime.now(UTC)}
    with pytest.raises(IntegrityError, match="models_state"):
        database.write(lambda conn: conn.execute(insert(models).values(row | {"state": "asleep"})))
    database.write(lambda conn: conn.execute(insert(models).values(row | {"state": "ready"})))


def test_moments_keep_their_zone(database: Database) -> None:
    noon = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    database.write(lambda conn: conn.execute(insert(annotators).values(name="ada", created_at=noon)))
    with database.read() as conn:
        (stored,) = conn.execute(select(annotators.c.created_at)).one()
    assert stored == noon and stored.utcoffset() == timedelta(0)


def test_a_project_that_is_opened_again_has_everything(address: str) -> None:
    with Store.open(address) as store:
        store.add_images([ImageFile("a.jpg", 1, 1)])
        store.add_classes(["cat"])
        store.label(store.annotator("me").id, Answer(1, "cat"))
        store.set_setting("strategy", {"name": "auto", "audit": 0.1})
        store.set_setting("strategy", {"name": "margin", "audit": 0.1})
        before = store.history()
    with Store.open(address) as store:
        assert store.history() == before
        assert store.setting("strategy") == {"name": "margin", "audit": 0.1}
        assert store.setting("unheard of", 7) == 7


@pytest.mark.slow
def test_eight_processes_that_open_a_new_project_at_once_migrate_it_once(new_address: str) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [
        subprocess.Popen([sys.executable, WORKER, "open_only", new_address], **pipes) for _ in range(8)
    ]  # type: ignore[call-overload]
    assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 8
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    assert [worker.communicate()[0] for worker in workers] == ["1 ['cat', 'dog']\n"] * 8
    assert [worker.returncode for worker in workers] == [0] * 8


def test_a_project_of_a_newer_version_says_to_upgrade(new_address: str) -> None:
    database = Database.open(new_address)
    database.write(lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    database.close()
    with pytest.raises(BadOption, match="pip install --upgrade vizsla"):
        Store.open(new_address)


def test_a_project_of_an_older_version_keeps_every_answer_and_takes_new_ones(
    new_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vizsla.store.migrations.upgrade", partial(migrations.upgrade, to="0002"))
        with Store.open(new_address) as store:
            store._db.write(
                lambda conn: conn.execute(
                    text(
                        "INSERT INTO images (path, size, mtime_ns, state, shuffle) "
                        "VALUES (:path, 1, :n, 'present', :n)"
                    ),
                    [{"path": f"{n}.jpg", "n": n} for n in range(4)],
                )
            )
            store.add_classes(["cat", "dog"])
            me = store.annotator("me").id
            for n in (1, 2, 3):
                store.label(me, Answer(n, "cat"))
            for _ in range(2):
                store.undo(me)
                store.redo(me)
            before, counts = store.history(), store.counts()
            with pytest.raises(IntegrityError, match="labels_source"):
                store.label(me, Answer(1, "dog", source="relabel"))
    with Store.open(new_address) as store:
        assert (store.history(), store.counts()) == (before, counts)
        saved = store.label(me, Answer(1, "dog", source="relabel"))
        assert saved.label_id > before[0].id
        assert [label.id for label in store.undo(me).labels] == [saved.label_id]
        with pytest.raises(IntegrityError, match="labels_source"):
            store.label(me, Answer(1, "dog", source="guess"))  # type: ignore[arg-type]
        there = [ImageFile(f"{n}.jpg", 1, n, 1_000_000 + n) for n in range(4)]
        assert store.rescan(there, lambda _: None) == Rescanned(0, 0, 0, 0, 0)
        assert [image.ctime_ns for image in store.images()] == [1_000_000 + n for n in range(4)]
        assert store.counts() == counts
    database = Database.open(new_address)
    with database.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
        if conn.dialect.name == "sqlite":
            assert conn.execute(text("PRAGMA foreign_key_check")).all() == []
    database.close()


@pytest.mark.slow
def test_every_acknowledged_label_survives_kill_9(store: Store, address: str, fill: Fill) -> None:
    fill(5)
    acknowledged: set[int] = set()
    rng = Random(0)
    for _ in range(6):
        first = (
            max(acknowledged, default=-1) + 2
        )  # the one in between may be written, but was not acknowledged
        worker = subprocess.Popen(
            [sys.executable, WORKER, "label_forever", address, str(first)], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        for _ in range(rng.randrange(5, 40)):
            acknowledged.add(int(worker.stdout.readline()))
        worker.kill()
        acknowledged |= {int(line) for line in worker.stdout if line.endswith("\n")}
        worker.stdout.close()
        worker.wait()
    written = [label.key.int for label in store.history()]
    assert len(written) == len(set(written))
    assert acknowledged <= set(written)
    assert len(written) <= len(acknowledged) + 6, "at most one label per kill was in flight"
    store.label(store.annotator("me").id, Answer(1, "dog"))


def test_a_write_that_fails_does_not_harm_those_that_share_its_commit(store: Store, fill: Fill) -> None:
    ids = fill(100)
    me = store.annotator("me")

    def label(k: int) -> bool:
        try:
            return store.label(me.id, Answer(ids[k], "emu" if k % 3 == 0 else "cat")).new
        except NoLabel:
            return False

    with ThreadPoolExecutor(12) as pool:
        done = list(pool.map(label, range(100)))
    assert done == [k % 3 != 0 for k in range(100)]
    assert {label.image_id for label in store.labels()} == {ids[k] for k in range(100) if k % 3}


def test_sqlite_waits_for_the_disk_at_every_commit(tmp_path: Path) -> None:
    database = Database.open(tmp_path)

    def pragmas(conn: Connection) -> list[object]:
        return [conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "foreign_keys")]

    assert database.write(pragmas) == [2, 1]
    database.close()
    with sqlite3.connect(tmp_path / "project.db") as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()


def test_postgresql_waits_for_the_disk_even_where_the_server_does_not(postgres: str) -> None:
    database = Database.open(f"{postgres}&options=-c%20synchronous_commit%3Doff")
    with database.read() as conn:
        assert conn.execute(text("SHOW synchronous_commit")).scalar() == "on"
    database.close()


def test_a_full_disk_loses_nothing_acknowledged_and_says_so(tmp_path: Path) -> None:
    database = Database.open(tmp_path)
    store = Store(database)
    store.add_images([ImageFile("a.jpg", 1, 1)])
    pages = database.write(lambda conn: conn.exec_driver_sql("PRAGMA page_count").scalar())
    database.write(lambda conn: conn.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar())
    with pytest.raises(DiskFull, match="Free some space"):
        store.add_images(ImageFile(f"{i}.jpg", i, i) for i in range(5000))
    database.write(lambda conn: conn.exec_driver_sql("PRAGMA max_page_count=100000").scalar())
    assert [image.path for image in store.images()] == ["a.jpg"]
    assert store.add_images([ImageFile("b.jpg", 1, 1)]) == 1
    store.close()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("mysql://me@host/name", "is no project"),
        ("sqlite:///x.db", "is no project"),
        (
            "postgresql://me:secret@127.0.0.1:1/name",
            r"cannot reach postgresql\+psycopg://me:\*\*\*@127.0.0.1",
        ),
        ("postgresql://host:port/name", "is no project"),
    ],
)
def test_an_address_that_leads_nowhere_is_the_callers_mistake(address: str, words: str) -> None:
    with pytest.raises(BadOption, match=words) as error:
        Store.open(address)
    assert "secret" not in str(error.value)


def test_a_file_that_is_no_project_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "project.db").write_text("something else, " * 100)
    with pytest.raises(BadOption, match="no Vizsla project"):
        Store.open(tmp_path)
    assert (tmp_path / "project.db").read_text() == "something else, " * 100
    with pytest.raises(BadOption, match="cannot write"):
        Store.open(tmp_path / "project.db")


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(VizslaError, match="is closed"):
        store.annotator("me")


@pytest.mark.slow
def test_the_store_never_imports_torch() -> None:
    code = "import sys, vizsla.store; assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_model_versions_tell_where_they_came_from(store: Store, fill: Fill) -> None:
    ids = fill(1)
    assert store.model() is None
    first = store.start_model(20, "logistic", "lite0")
    assert first.state == "training" and store.model() is None
    assert store.finish_model(first.version, {"accuracy": 0.91}) == store.model()
    second = store.start_model(25, "logistic", "lite0")
    third = store.start_model(26, "lda", "lite0")
    failed = store.fail_model(third.version, "only one class")
    assert [(one.version, one.state, one.error) for one in store.models()] == [
        (1, "ready", None),
        (2, "failed", "the training was cut off"),
        (3, "failed", "only one class"),
    ]
    assert failed.labels_used == 26 and second.version == 2
    assert store.model() == store.models()[0]
    assert store.publish_ranking(1, [Ranked(ids[0], 1.0, "")]) == store.ranking()
    with pytest.raises(UnknownName, match="version 9"):
        store.finish_model(9, {})


def test_failed_trainings_do_not_take_the_ready_models_away(store: Store) -> None:
    def train(*, ready: bool) -> int:
        version = store.start_model(20, "logistic", "lite0").version
        store.keep_artifact(version, b"%d" % version)
        _ = store.finish_model(version, {}) if ready else store.fail_model(version, "no \udcff\ud83d\0")
        return version

    first = train(ready=True)
    failed = [train(ready=False) for _ in range(4)]
    assert store.artifact(first) == b"%d" % first
    assert {model.error for model in store.models()} == {None, "no \ufffd\ufffd\ufffd"}
    later = [train(ready=True) for _ in range(2)]
    assert [store.artifact(version) is not None for version in (first, *later)] == [True] * 3
    assert [store.artifact(version) for version in failed] == [None] * 4
    newest = train(ready=True)
    assert [store.artifact(version) is not None for version in (first, *later, newest)] == [False] + [
        True
    ] * 3


def test_one_leads_at_a_time_and_the_next_may_after_it(store: Store, address: str) -> None:
    with Store.open(address) as other:
        with store.lead("trainer") as ours, other.lead("trainer") as theirs, other.lead("cook") as cook:
            assert (bool(ours), bool(theirs), bool(cook)) == (True, False, True)
            assert (ours.held(), theirs.held(), cook.held()) == (True, False, True)
        with other.lead("trainer") as theirs:
            assert theirs and theirs.held()


def test_who_leads_knows_when_the_connection_is_cut_and_leaves_without_an_error(postgres: str) -> None:
    with Store.open(postgres) as store, Store.open(postgres) as other:
        with store.lead("trainer") as ours:
            assert ours.held()
            run_sql(postgres)  # ends all connections, as a restart of the server does
            with other.lead("trainer") as theirs:
                assert theirs.held()
                assert [ours.held(), ours.held()] == [False, False]
                with store.lead("trainer") as again:
                    assert not again
        with store.lead("trainer") as ours:
            run_sql(postgres)


def test_a_connection_that_is_cut_is_an_error_that_says_so(postgres: str) -> None:
    database = Database.open(postgres)
    sleep = text("SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(VizslaError, match=r"lost the connection to postgresql.*; try again"):
        database.write(lambda conn: conn.execute(sleep))
    with pytest.raises(VizslaError, match="lost the connection"), database.read() as conn:
        conn.execute(sleep)
    assert database.write(lambda conn: conn.execute(text("SELECT 1")).scalar()) == 1
    database.close()


def test_two_first_contacts_at_one_moment_are_two_annotators(
    store: Store, overlap: Callable[..., Any], clock: Any
) -> None:
    come = partial(partial, people.newcomer, base="me", now=clock())
    done, then = overlap(come(token="one"), come(token="two"))
    assert (done.name, then.result().name) == ("me", "me 2")
    assert (store.who("one"), store.who("two")) == (done, then.result())


def test_one_token_twice_at_one_moment_is_one_annotator(
    store: Store, overlap: Callable[..., Any], clock: Any
) -> None:
    come = partial(people.newcomer, base="me", token="one", now=clock())
    done, then = overlap(come, come)
    assert then.result() == done
    assert store.annotators() == (done,)


def test_thirty_newcomers_at_once_get_thirty_names(store: Store) -> None:
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda n: store.newcomer("me", f"token {n % 30}"), range(60)))
    assert {one.name for one in store.annotators()} == {"me", *(f"me {n}" for n in range(2, 31))}
    assert len({store.who(f"token {n}") for n in range(30)}) == 30


def test_a_token_lets_in_whom_it_was_made_for_until_it_is_revoked(store: Store) -> None:
    ada, token = store.new_token("ada")
    _, other = store.new_token("bob")
    assert (store.who(token), store.who("wrong"), store.who("")) == (ada, None, None)
    assert store.annotator("ada") == ada
    again, newer = store.new_token("ada")
    assert again == ada and (store.who(token), store.who(newer)) == (None, ada)
    store.revoke_token("ada")
    assert store.who(newer) is None
    assert [one.name for one in store.annotators()] == ["ada", "bob"]
    assert len({token, other, newer}) == 3 and min(map(len, (token, other, newer))) >= 43
    with pytest.raises(UnknownName, match="no annotator named 'eve'"):
        store.revoke_token("eve")
    with pytest.raises(BadOption, match="visible letter"):
        store.annotator(" ")


def test_only_the_hash_of_a_token_is_kept(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        _, token = store.new_token("ada")
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"ada" in kept and token.encode() not in kept
