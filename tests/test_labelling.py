"""`vizsla label` in a terminal: resumable, and the model steps in between batches."""

import json

import numpy as np
import pytest

import vizsla
from vizsla.errors import BadOption
from vizsla.labelling import label_in_terminal
from vizsla.labels import LabelLog
from vizsla.oracle import Quit, TerminalOracle
from vizsla.testing import TOY_BACKBONE, toy_images


@pytest.fixture
def photos(tmp_path):
    """A flat folder of photos, whose true class is in the file name only."""
    toy_images(tmp_path / "toys", classes=("blue", "red"))
    flat = tmp_path / "photos"
    flat.mkdir()
    for file in (tmp_path / "toys").rglob("*.png"):
        file.rename(flat / f"{file.stem}-{file.parent.name}.png")
    return flat


class Typist:
    """Someone at the keyboard who knows the classes and types `answers` keys before leaving."""

    def __init__(self, photos, answers):
        self.left, self.shown = answers, []

    def show(self, image, out, *, name, **_):
        self.shown.append(name)

    def input(self, prompt):
        if not self.left:
            raise EOFError
        self.left -= 1
        return "red" if "red" in self.shown[-1] else "blue"


def sit_down(photos, answers, **options):
    typist = Typist(photos, answers)
    log = LabelLog(photos / ".vizsla" / "labels.csv")
    oracle = TerminalOracle(("red", "blue"), log, input=typist.input, show=typist.show)
    session = label_in_terminal(
        photos, classes=("red", "blue"), oracle=oracle, backbone=TOY_BACKBONE, batch=4, **options
    )
    return session, typist


def test_every_answer_is_on_disk_and_the_next_session_goes_on(photos):
    session, first = sit_down(photos, 7)
    assert (session.labelled, session.remaining) == (7, 17)
    session, second = sit_down(photos, 99)
    assert (session.labelled, session.remaining) == (24, 0)
    assert not set(first.shown[:7]) & set(second.shown)
    current = LabelLog(session.labels).current()
    assert len(current) == 24
    assert all(label.label in name for name, label in current.items())


def test_the_model_chooses_once_two_classes_are_known(photos):
    sit_down(photos, 12)
    sources = [label.source for label in LabelLog(photos / ".vizsla" / "labels.csv").read()]
    assert sources[:4] == ["random"] * 4
    assert sources[-1] == "al"


def test_rounds_are_counted_on_across_sessions(photos):
    sit_down(photos, 4)
    sit_down(photos, 4)
    rounds = [label.round for label in LabelLog(photos / ".vizsla" / "labels.csv").read()]
    assert rounds[:4] == [0] * 4
    assert min(rounds[4:]) == 1


def test_classes_are_remembered_and_new_ones_go_behind(photos):
    def quit_at_once(_):
        raise EOFError

    def ask(classes):
        oracle = TerminalOracle(("red", "blue", *classes), input=quit_at_once, show=lambda *_, **__: None)
        label_in_terminal(photos, classes=classes, oracle=oracle, backbone=TOY_BACKBONE)
        return json.loads((photos / ".vizsla" / "project.json").read_text())["classes"]

    label_in_terminal(photos, classes=("red", "blue"), oracle=LeaveAtOnce())
    assert ask(()) == ["red", "blue"]
    assert ask(("grün",)) == ["red", "blue", "grün"]


class LeaveAtOnce:
    def label(self, dataset, ids, *, round=0, source="al"):
        raise Quit


def test_folders_of_photos_need_not_be_classes(photos):
    for folder in ("2023", "2024"):
        (photos / folder).mkdir()
    for number, file in enumerate(sorted(photos.glob("*.png"))):
        file.rename(photos / ("2023" if number % 2 else "2024") / file.name)
    session, _ = sit_down(photos, 6)
    assert (session.labelled, session.remaining) == (6, 18)


def test_one_class_or_none_is_refused_with_the_mend(photos):
    for classes in ((), ("red",)):
        with pytest.raises(BadOption, match="--classes cat,dog"):
            label_in_terminal(photos, classes=classes)
    assert not (photos / ".vizsla").exists()


def test_labels_train_a_model_of_the_same_classes(photos):
    sit_down(photos, 24)
    dataset = vizsla.IndexedDataset(photos, classes=("red", "blue"))
    truth = np.array(["blue" in dataset.file_name(i) for i in range(len(dataset))]).astype(int)
    csv = LabelLog(photos / ".vizsla" / "labels.csv").path
    learner = vizsla.ActiveLearner(dataset, oracle=str(csv), backbone=TOY_BACKBONE, strategy="random")
    learner.query(16)
    learner.fit()
    rest = dataset.pool()
    assert (learner.predict(rest).argmax(axis=1) == truth[rest]).mean() >= 0.9
