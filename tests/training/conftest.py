"""A project with toys, and someone who knows the answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vizsla.project import Project
from vizsla.store import Answer, Item
from vizsla.training.trainer import Trainer


@pytest.fixture
def truth() -> Callable[[str], str]:
    """The class of a photo by its name: they are called NUMBER-CLASS.png."""
    return lambda file_name: file_name.rpartition("-")[2].partition(".")[0]


@pytest.fixture
def label(project: Project, truth: Callable[[str], str]) -> Callable[..., list[Item]]:
    """Answer the next n items of the queue, truly unless told otherwise."""
    me = project.store.annotator("me").id

    def answer(n: int, name: str | None = None) -> list[Item]:
        done = []
        for _ in range(n):
            [item] = project.store.claim(me, 1)
            project.store.label(me, Answer(item.image_id, name or truth(item.path), lease_id=item.lease_id))
            done.append(item)
        return done

    return answer


@pytest.fixture
def settle() -> Callable[[Trainer], None]:
    """Let the trainer work until there is nothing to do."""

    def run(trainer: Trainer) -> None:
        for _ in range(200):
            if not trainer.step():
                return
        raise AssertionError("the trainer never comes to rest")

    return run
