"""How a project stands, asked for by many."""

from __future__ import annotations

import pytest

from vizsla.project import Project
from vizsla.store import Answer
from vizsla.web.glance import Glance

TICK = 0.01


class Clock:
    """Takes a hundredth of a second each time that someone looks at it."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        self.time += TICK
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def glance(project: Project, clock: Clock) -> Glance:
    project.scan()
    return Glance(project, clock)


def labelled(glance: Glance, token: str) -> int:
    return glance.at(token).now.counts.labelled


def give_one(project: Project) -> None:
    me = project.store.annotator("me")
    [item] = project.store.claim(me.id, 1)
    project.store.label(me.id, Answer(item.image_id, "red"))


def test_who_has_labelled_sees_it_at_once_and_others_a_moment_later(project, glance, clock):
    for token in ("ada", "bob"):
        glance.wrote(token)
    assert labelled(glance, "ada") == labelled(glance, "bob") == 0
    give_one(project)
    glance.wrote("ada")
    assert labelled(glance, "ada") == 1
    give_one(project)  # through another server, of which this one hears nothing
    assert labelled(glance, "bob") == 1
    clock.time += 2
    assert labelled(glance, "bob") == 2


def test_someone_who_never_wrote_sees_what_anyone_wrote(project, glance):
    assert labelled(glance, "ada") == 0
    give_one(project)
    glance.wrote("ada")
    assert labelled(glance, "a stranger") == 1


def test_what_is_forgotten_is_looked_up_again(project, glance):
    assert labelled(glance, "ada") == 0
    give_one(project)
    assert labelled(glance, "ada") == 0
    glance.forget()
    assert labelled(glance, "ada") == 1


def test_at_most_a_thirtieth_of_the_time_goes_into_looking(project, glance, clock, monkeypatch):
    looks = []
    monkeypatch.setattr("vizsla.web.glance.look", lambda _: looks.append(clock.time) or object())
    while clock.time < 100:
        glance.at("ada")
    spent = len(looks) * TICK
    assert 100 / 40 < spent < 100 / 30
