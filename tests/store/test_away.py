"""PostgreSQL goes away and comes back: restarts, cut connections, machines that die."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from tests.postgres import Postgres, run_sql

from vizsla.errors import DatabaseAway
from vizsla.store import Answer, Store, answers, postgres
from vizsla.store.database import Database

Fill = Callable[[int], list[int]]
WORKER = Path(__file__).with_name("worker.py")

only_postgres = pytest.mark.parametrize("address", ["postgresql"], indirect=True)


class Labeller(threading.Thread):
    """Claims and labels through a store of its own; what the database was away for is sent again, by its key."""

    def __init__(self, address: str, name: str) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.who = name
        self.stop = threading.Event()
        self.acknowledged: dict[int, str] = {}
        """Label id → key."""
        self.away = 0
        """How often the database was away for longer than a call waits."""

    def run(self) -> None:
        with Store.open(self.address) as store:
            me = self.persist(lambda: store.annotator(self.who)).id
            while not self.stop.is_set():
                for item in self.persist(lambda: store.claim(me, 2)):
                    answer = Answer(item.image_id, "cat", lease_id=item.lease_id)
                    saved = self.persist(lambda answer=answer: store.label(me, answer))
                    self.acknowledged[saved.label_id] = str(answer.key)

    def persist(self, call):
        while True:
            try:
                return call()
            except DatabaseAway:
                self.away += 1
                time.sleep(0.2)


@contextmanager
def labelling(address: str, people: int = 6) -> Iterator[list[Labeller]]:
    """People who label meanwhile; afterwards what was acknowledged is there, and nothing is there twice."""
    team = [Labeller(address, f"annotator {n}") for n in range(people)]
    for one in team:
        one.start()
    until_each_has(team, 3)
    yield team
    until_each_has(team, max(len(one.acknowledged) for one in team) + 3)  # everyone goes on
    for one in team:
        one.stop.set()
    for one in team:
        one.join(30)
    with Store.open(address) as store:
        kept = {label.id: str(label.key) for label in store.history()}
        images = Counter(label.image_id for label in store.history())
    acknowledged = {label_id: key for one in team for label_id, key in one.acknowledged.items()}
    assert acknowledged.items() <= kept.items()
    assert max(images.values()) == 1, "an image was given to two, or an answer was written twice"
    assert len(set(kept.values())) == len(kept)


def until_each_has(team: list[Labeller], n: int) -> None:
    end = time.monotonic() + 60
    while min(len(one.acknowledged) for one in team) < n:
        assert time.monotonic() < end and all(one.is_alive() for one in team)
        time.sleep(0.05)


@only_postgres
def test_people_who_label_do_not_notice_that_every_connection_is_cut(
    store: Store, address: str, fill: Fill
) -> None:
    fill(5000)
    with labelling(address) as team:
        for _ in range(5):
            run_sql(address)  # pg_terminate_backend for all
            time.sleep(0.3)
    assert [one.away for one in team] == [0] * 6


@only_postgres
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_of_the_database_loses_nothing_acknowledged(
    store: Store, address: str, fill: Fill, postgres_server: Postgres, mode: str
) -> None:
    fill(5000)
    with labelling(address):
        postgres_server.stop(mode)
        postgres_server.start()


@only_postgres
def test_a_busy_server_keeps_its_connections_and_takes_no_more_than_sixteen(
    store: Store, address: str, fill: Fill
) -> None:
    ids = fill(300)
    me = store.annotator("me").id
    seen: set[int] = set()

    def label(image: int) -> None:
        store.label(me, Answer(image, "cat"))
        with store._db.read() as conn:
            seen.add(conn.execute(text("SELECT pg_backend_pid()")).scalar_one())

    with ThreadPoolExecutor(30) as pool:
        list(pool.map(label, ids))
    assert 1 < len(seen) <= 16


@only_postgres
def test_an_answer_whose_commit_was_cut_off_is_written_once(store: Store, address: str, fill: Fill) -> None:
    [image] = fill(1)
    me, now = store.annotator("me").id, store._now()
    answer, runs = Answer(image, "cat"), []

    def job(conn: Connection) -> list:
        runs.append(1)
        saved = answers.give(conn, me, [answer], now, now, None, answers.answered)
        if len(runs) == 1:
            conn.exec_driver_sql("COMMIT")  # it did commit, but nobody hears of it
            conn.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return saved

    database = Database.open(address)
    [saved] = database.write(job, repeatable=True)
    database.close()
    assert (len(runs), saved.new) == (2, False)
    assert [label.key for label in store.history()] == [answer.key]


def test_a_database_that_stays_away_is_said_to_be_after_some_seconds(
    postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PATIENCE", 0.5)
    database = Database.open(postgres_server.address)
    postgres_server.stop()
    try:
        began = time.monotonic()
        with pytest.raises(DatabaseAway, match=r"lost the connection to postgresql.*; try again"):
            database.write(lambda conn: conn.execute(text("SELECT 1")), repeatable=True)
        assert time.monotonic() - began > 0.5  # it did wait for it
    finally:
        postgres_server.start()
    assert database.write(lambda conn: conn.execute(text("SELECT 1")).scalar()) == 1
    database.close()


@contextmanager
def another_machine() -> Iterator[str]:
    """A network namespace that reaches this one at 10.77.0.1; yields its name."""
    name, ours, theirs = "vizsla-test", "vizsla-here", "vizsla-there"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    with suppress(subprocess.CalledProcessError):
        ip("netns", "delete", name)
    ip("netns", "add", name)
    try:
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        ip("addr", "add", "10.77.0.1/30", "dev", ours)
        ip("link", "set", ours, "up")
        ip("-n", name, "addr", "add", "10.77.0.2/30", "dev", theirs)
        ip("-n", name, "link", "set", theirs, "up")
        yield name
    finally:
        ip("netns", "delete", name)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root makes networks, on Linux")
def test_another_trainer_takes_over_when_the_machine_of_the_first_dies() -> None:
    with another_machine() as name, Postgres("10.77.0.1") as database:
        there = ["ip", "netns", "exec", name, sys.executable, str(WORKER), "lead_forever", database.remote]
        with (
            subprocess.Popen(there, stdout=subprocess.PIPE, text=True) as first,
            Store.open(database.address) as store,
        ):
            assert first.stdout is not None and first.stdout.readline() == "leading\n"
            with store.lead("trainer") as ours:
                assert not ours
            subprocess.run(
                ["ip", "-n", name, "link", "set", "vizsla-there", "down"], check=True
            )  # without a goodbye
            end, got = time.monotonic() + 120, False
            while not got and time.monotonic() < end:
                with store.lead("trainer") as ours:
                    got = bool(ours)
                time.sleep(0.2)
            first.kill()
        assert got
