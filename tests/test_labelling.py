"""`vizsla label --terminal`: the same project as the page, answered in a terminal."""

import pytest

from vizsla.asking import Asker
from vizsla.errors import BadOption
from vizsla.labelling import label_in_terminal
from vizsla.project import Project
from vizsla.testing import TOY_BACKBONE


@pytest.fixture
def project(tmp_path, photos):
    with Project.open(tmp_path / "project", photos) as opened:
        opened.change(backbone=TOY_BACKBONE)
        opened.add_classes(["red", "blue", "green"])
        yield opened


class Typist:
    """Someone at the keyboard who knows the classes and types `answers` lines before leaving."""

    def __init__(self, answers, say=None):
        self.left, self.say, self.shown = answers, say or {}, []

    def show(self, image, out, *, name, **_):
        self.shown.append(name.rpartition("/")[2])

    def input(self, prompt):
        if not self.left:
            raise EOFError
        self.left -= 1
        return self.say.get(len(self.shown)) or self.shown[-1][4:-4]


def sit_down(project, answers, *, say=None, **options):
    typist = Typist(answers, say)
    asker = Asker(("red", "blue", "green"), input=typist.input, show=typist.show)
    return label_in_terminal(project, asker=asker, **options), typist


def test_every_answer_is_in_the_project_and_the_next_session_goes_on(project):
    session, first = sit_down(project, 7, trainer=False)
    assert (session.labelled, session.remaining) == (7, 53)
    session, second = sit_down(project, 99, trainer=False)
    assert (session.labelled, session.remaining) == (60, 0)
    assert not set(first.shown[:7]) & set(second.shown)
    assert all(label.label == label.path[4:-4] for label in project.store.labels())


def test_undo_asks_again_also_across_sessions_and_skip_goes_on(project):
    _, typist = sit_down(project, 5, say={3: "u", 5: "s"}, trainer=False)
    assert typist.shown[3] == typist.shown[1]
    counts = project.store.counts()
    assert (counts.labelled, counts.skipped) == (2, 1)
    _, later = sit_down(project, 2, say={1: "u"}, trainer=False)
    assert later.shown[1] == typist.shown[4]


def test_the_model_learns_beside_it(project, wait_until):
    def slowly(prompt):
        if len(typist.shown) == 7:
            wait_until(lambda: project.store.model() is not None, 60)
            wait_until(lambda: (ranked := project.store.ranking()) and ranked.model_version, 10)
        return typist.input(prompt)

    typist = Typist(20)
    asker = Asker(("red", "blue", "green"), input=slowly, show=typist.show)
    label_in_terminal(project, asker=asker)
    assert {"random", "al"} <= {label.source for label in project.store.labels()}


def test_one_class_or_none_is_refused_with_the_mend(tmp_path, photos):
    with (
        Project.open(tmp_path / "project", photos) as project,
        pytest.raises(BadOption, match="--classes cat,dog"),
    ):
        label_in_terminal(project)


def test_what_was_on_screen_is_free_for_others_afterwards(project):
    sit_down(project, 3, trainer=False)
    other = project.store.annotator("you").id
    assert len(project.store.claim(other, 100)) == 57
