from __future__ import annotations

import io
import os
import re
import select
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jupyter_client.manager import start_new_kernel
from PIL import Image

from vizsla.asking import Choices
from vizsla.data.indexed import IndexedDataset
from vizsla.errors import BadOption, NoLabel
from vizsla.labels import LabelLog
from vizsla.oracle import CsvOracle, FilenameOracle, NoisyOracle, Quit, TerminalOracle
from vizsla.types import Label

PETS = ("cat", "cow", "dog")


def photos(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), "gray").save(path)
    return folder


@pytest.fixture
def in_folders(tmp_path: Path) -> IndexedDataset:
    return IndexedDataset(photos(tmp_path / "pets", "cat/a.png", "cow/b.png", "dog/c.png", "dog/d.png"))


@pytest.fixture
def flat(tmp_path: Path) -> IndexedDataset:
    return IndexedDataset(photos(tmp_path / "pets", "a.png", "b.png", "c.png", "d.png"), classes=PETS)


# --- folder names


def test_the_folder_names_the_class(in_folders: IndexedDataset) -> None:
    assert FilenameOracle().label(in_folders, [3, 0, 1]) == 3
    assert in_folders.labels[[0, 1, 3]].tolist() == [0, 1, 2]
    assert in_folders.pool().tolist() == [2]


# --- a truth that is wrong now and then


def test_an_image_of_no_known_class_is_an_outlier_where_that_is_an_answer_and_else_an_error(
    in_folders: IndexedDataset,
) -> None:
    first, *rest = in_folders.classes
    fewer = in_folders.with_classes(rest)
    strange = [idx for idx in range(4) if in_folders.folder_label(idx) == 0]
    with pytest.raises(NoLabel, match=first):
        FilenameOracle().label(fewer, range(4))
    assert FilenameOracle(outliers=True).label(fewer, range(4)) == 4 - len(strange)
    assert np.flatnonzero(fewer.outliers).tolist() == strange
    assert [rest[fewer.labels[idx]] for idx in fewer.labelled()] == [
        in_folders.classes[in_folders.folder_label(idx)] for idx in range(4) if idx not in strange
    ]


def test_answers_flip_at_the_rate_asked_for_and_to_each_other_class_alike() -> None:
    n, rate, n_classes = 6000, 0.3, 4
    oracle = NoisyOracle([], rate, n_classes, seed=7)
    truth = np.arange(n) % n_classes
    shift = (np.array([oracle.answer(idx, int(truth[idx])) for idx in range(n)]) - truth) % n_classes
    for other in (1, 2, 3):
        p = rate / 3
        assert abs((shift == other).sum() - n * p) < 4.5 * (n * p * (1 - p)) ** 0.5
    assert abs((shift != 0).sum() - n * rate) < 4.5 * (n * rate * (1 - rate)) ** 0.5


def test_a_flip_rate_of_one_is_always_wrong_and_of_zero_always_right() -> None:
    always, never = NoisyOracle([], 1, 3, seed=0), NoisyOracle([], 0, 3, seed=0)
    assert {always.answer(idx, 1) for idx in range(100)} == {0, 2}
    assert {never.answer(idx, 1) for idx in range(100)} == {1}


def test_noise_does_not_depend_on_the_order_of_asking(in_folders: IndexedDataset) -> None:
    answers = []
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 2, 3, 0, 1]):
        dataset = in_folders.fresh()
        NoisyOracle([0, 1, 2, 2], 0.5, 3, seed=3).label(dataset, order)
        answers.append(dataset.labels.tolist())
    assert answers[0] == answers[1] == answers[2]


def test_noise_over_another_oracle_errs_as_over_its_answers(in_folders: IndexedDataset) -> None:
    over_oracle, over_truth = in_folders.fresh(), in_folders.fresh()
    NoisyOracle(FilenameOracle(), 0.5, 3, seed=1).label(over_oracle, range(4))
    NoisyOracle(np.array([0, 1, 2, 2]), 0.5, 3, seed=1).label(over_truth, range(4))
    assert over_oracle.labels.tolist() == over_truth.labels.tolist() != [0, 1, 2, 2]


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_flip_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(BadOption, match=r"Give 0 \(never wrong\) to 1"):
        NoisyOracle([0], rate, 2, seed=0)


# --- a CSV


def from_csv(dataset: IndexedDataset, text: str, ids: list[int] | None = None) -> list[int]:
    path = Path(dataset.dir_path).parent / "answers.csv"
    path.write_bytes(text.encode())
    CsvOracle(path).label(dataset, ids or [0, 1, 2, 3])
    return dataset.labels.tolist()


@pytest.mark.parametrize("image", ["file_name", "filename", "filepath", "path", "Image"])
@pytest.mark.parametrize("label", ["label", "class", "class_name", "Category"])
def test_the_usual_column_names_are_understood(flat: IndexedDataset, image: str, label: str) -> None:
    text = f"id,{label},{image}\n1,dog,a.png\n2,cat,b.png\n3,cow,c.png\n4,dog,d.png\n"
    assert from_csv(flat, text) == [2, 0, 1, 2]


@pytest.mark.parametrize(
    "text",
    [
        "a.png,dog\nb.png,cat\nc.png,cow\nd.png,dog",  # no header
        "a.png;dog\r\nb.png;cat\r\nc.png;cow\r\nd.png;dog\r\n",  # Excel, much of Europe
        "\ufefffilename\tlabel\na.png\tdog\n\nb.png\tcat\nc.png\tcow\nd.png\tdog\n",  # a BOM, tabs
        "a.png,2\nb.png,0\nc.png,1\nd.png,2\n",  # numbers
        "/mnt/x/a.png,dog\n.\\b.png,cat\nold\\c.png,cow\n./d.png,dog\n",  # paths of another machine
        "a.png,cat\nb.png,cat\nc.png,cow\nd.png,dog\na.png,dog\n",  # the last of two rows
    ],
)
def test_csv_files_as_they_come_give_the_same_labels(flat: IndexedDataset, text: str) -> None:
    assert from_csv(flat, text) == [2, 0, 1, 2]


def test_names_that_two_images_share_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    dataset = IndexedDataset(photos(tmp_path / "pets", "one/a.png", "two/a.png"), classes=PETS)
    assert from_csv(dataset, "/old/one/a.png,dog\n/old/two/a.png,cow\n", [0, 1]) == [2, 1]
    with pytest.raises(NoLabel, match=r"line 1 names 'a\.png', which may or may not be one/a\.png"):
        from_csv(dataset, "a.png,dog\n", [0])


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "a.png,dog\n",
            NoLabel,
            r"no label for b\.png in .*answers\.csv, which has 1 images\. Add a line such as",
        ),
        (
            "path,label\na.png,dog\nb.png,horse\n",
            NoLabel,
            r"line 3: no class named 'horse'\. Classes: cat, cow, dog",
        ),
        ("a.png,0\nb.png,3\n", NoLabel, r"line 2: no class named '3'"),
        ("a.png,cat\nb.png,1\n", NoLabel, r"line 2: no class named '1'"),
        ("path,label\na.png,dog\nb.png,\n", NoLabel, r"line 3: an image and a class belong here"),
        ("", BadOption, r"answers\.csv is empty"),
        (
            "path,size,colour\na.png,1,red\n",
            BadOption,
            r"names labels: size, colour\. Needed: label\|.* say which it is: columns={'label': NAME}",
        ),
    ],
)
def test_a_csv_that_does_not_answer_says_why(
    flat: IndexedDataset, text: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        from_csv(flat, text)


def test_a_csv_that_is_not_there_says_so(flat: IndexedDataset, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=r"cannot read .*none\.csv: No such file"):
        CsvOracle(tmp_path / "none.csv").label(flat, [0])


def test_our_own_label_file_answers_with_its_newest_rows_and_skips(
    flat: IndexedDataset, tmp_path: Path
) -> None:
    log = LabelLog(tmp_path / "labels.csv")
    log.append(
        Label("a.png", "labelled", "cat"),
        Label("b.png", "labelled", "dog"),
        Label("a.png", "labelled", "cow"),
        Label("b.png", "skipped"),
        Label("c.png", "labelled", "dog"),
        Label("c.png", "undone"),
    )
    oracle = CsvOracle(log.path)
    assert oracle.label(flat, [0, 1]) == 1
    assert flat.labels[0] == 1
    assert flat.pool().tolist() == [2, 3]
    with pytest.raises(NoLabel, match=r"no label for c\.png"):
        oracle.label(flat, [2])


# --- what a person may type


def test_a_class_is_meant_by_its_number_its_name_or_its_beginning() -> None:
    choices = Choices(["cat", "catfish", "Dog", "horse"])
    meant = {"0": 0, "3": 3, "cat": 0, "catf": 1, "dog": 2, "DOG": 2, "h": 3}
    assert {text: choices.parse(text) for text in meant} == meant


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4", r"no class '4'\. Type 0 to 3, or the beginning of a name; \? for help\."),
        ("-1", r"no class '-1'"),
        ("x", r"no class 'x'"),
        ("", r"^Type 0 to 3"),
        ("ca", r"'ca' may be cat, catfish\. Type more of it\."),
    ],
)
def test_nonsense_is_answered_with_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(NoLabel, match=message):
        Choices(["cat", "catfish", "Dog", "horse"]).parse(text)


def test_where_classes_are_named_by_numbers_a_number_is_the_name() -> None:
    choices = Choices(["7", "1", "0"])
    assert [choices.parse(text) for text in ("7", "1", "0", "#0", "#1", "#2")] == [0, 1, 2, 0, 1, 2]
    assert choices.table(80) == ["#0 7   #1 1   #2 0"]


def test_classes_stand_in_columns_that_fit_the_width() -> None:
    table = Choices(["cat", "犬", "horse", "cow", "dog"]).table(20)
    assert table == ["0 cat     3 cow", "1 犬      4 dog", "2 horse"]  # 犬 is two cells wide


# --- a person


class Person:
    """Types these lines one after another; then the input ends."""

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)
        self.screen = io.StringIO()

    def __call__(self, prompt: str) -> str:
        if not self.lines:
            raise EOFError
        return self.lines.pop(0)

    def as_oracle(self, log: LabelLog | None = None, classes: tuple[str, ...] = PETS) -> TerminalOracle:
        return TerminalOracle(classes, log, input=self, out=self.screen)


@pytest.mark.slow
def test_numbers_names_and_skips_reach_the_data_set_and_the_file(
    flat: IndexedDataset, tmp_path: Path
) -> None:
    log = LabelLog(tmp_path / "labels.csv")
    assert (
        Person("2", "cat", "s", "co").as_oracle(log).label(flat, [3, 0, 1, 2], round=5, source="random") == 3
    )
    assert flat.labels.tolist() == [0, 0, 1, 2]
    assert flat.pool().tolist() == []
    assert [(x.file_name, x.status, x.label, x.round, x.source) for x in log.read()] == [
        ("d.png", "labelled", "dog", 5, "random"),
        ("a.png", "labelled", "cat", 5, "random"),
        ("b.png", "skipped", None, 5, "random"),
        ("c.png", "labelled", "cow", 5, "random"),
    ]


@pytest.mark.slow
def test_nonsense_is_asked_again_and_writes_nothing(flat: IndexedDataset, tmp_path: Path) -> None:
    log = LabelLog(tmp_path / "labels.csv")
    person = Person(
        "horse", "9", "", "\x1b[A\x1b[?62;4cdog"
    )  # the last: an arrow key, a terminal's late reply
    assert person.as_oracle(log).label(flat, [0]) == 1
    assert [x.label for x in log.read()] == ["dog"]
    assert person.screen.getvalue().count("Type 0 to 2") == 3


@pytest.mark.slow
def test_undo_goes_back_step_by_step_across_batches(flat: IndexedDataset, tmp_path: Path) -> None:
    log = LabelLog(tmp_path / "labels.csv")
    person = Person("cat", "u", "u", "s", "dog")
    oracle = person.as_oracle(log)
    assert oracle.label(flat, [0, 1], round=1) == 1
    person.lines = ["u", "u", "dog", "cow", "cat"]
    assert oracle.label(flat, [2], round=2) == 1
    assert [(x.file_name, x.status, x.label, x.round) for x in log.read()] == [
        ("a.png", "labelled", "cat", 1),
        ("a.png", "undone", None, 1),
        ("a.png", "skipped", None, 1),
        ("b.png", "labelled", "dog", 1),
        ("b.png", "undone", None, 1),
        ("a.png", "undone", None, 1),
        ("a.png", "labelled", "dog", 1),
        ("b.png", "labelled", "cow", 1),
        ("c.png", "labelled", "cat", 2),
    ]
    assert person.screen.getvalue().count("nothing to undo") == 1
    assert flat.labelled().tolist() == [0, 1, 2]
    assert flat.labels[:3].tolist() == [2, 1, 0]
    assert flat.pool().tolist() == [3]


@pytest.mark.slow
@pytest.mark.parametrize("lines", [["dog", "q"], ["dog", "Q"], ["dog"]])
def test_quitting_and_the_end_of_the_input_keep_what_was_answered(
    flat: IndexedDataset, lines: list[str]
) -> None:
    with pytest.raises(Quit):
        Person(*lines).as_oracle().label(flat, [1, 2])
    assert flat.labelled().tolist() == [1]


@pytest.mark.slow
def test_what_was_undone_before_quitting_is_in_the_pool_again(flat: IndexedDataset, tmp_path: Path) -> None:
    log = LabelLog(tmp_path / "labels.csv")
    with pytest.raises(Quit):
        Person("dog", "s", "u", "u", "q").as_oracle(log).label(flat, [0, 1, 2])
    assert flat.pool().tolist() == [0, 1, 2, 3]
    assert log.current() == {}


@pytest.mark.slow
def test_a_class_named_like_a_command_has_its_number_and_help_says_so(flat: IndexedDataset) -> None:
    person = Person("?", "1", "s", "U")
    classes = ("cat", "s", "U")
    dataset = IndexedDataset(flat.dir_path, classes=classes)
    assert person.as_oracle(classes=classes).label(dataset, [0, 1, 2]) == 2
    assert "The class 's' is number 1; s alone is the command." in person.screen.getvalue()
    assert dataset.labels[0] == 1
    assert dataset.skipped.tolist() == [False, True, False, False]
    assert dataset.labels[2] == 2  # the class U, since the command is u


@pytest.mark.slow
def test_an_image_that_broke_since_can_be_skipped(flat: IndexedDataset) -> None:
    Path(flat.image_filenames[0]).write_bytes(b"no image")
    person = Person("s", "cat")
    assert person.as_oracle().label(flat, [0, 1]) == 1
    assert re.search(r"cannot read .*a\.png", person.screen.getvalue())


@pytest.mark.slow
def test_many_classes_do_not_push_the_picture_off_the_screen(flat: IndexedDataset) -> None:
    person = Person("n999")
    classes = tuple(f"n{i}" for i in range(1000))
    person.as_oracle(classes=classes).label(IndexedDataset(flat.dir_path, classes=classes), [0])
    assert "1000 classes: type the beginning of a name; ? lists them all" in person.screen.getvalue()
    assert len(person.screen.getvalue().splitlines()) < 10


@pytest.mark.parametrize(
    ("classes", "message"), [((), "no classes to choose from"), (("a", "a"), "'a' is given twice")]
)
def test_classes_that_cannot_be_chosen_from_are_refused(classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        TerminalOracle(classes)


@pytest.mark.slow
def test_classes_other_than_the_data_sets_are_refused_before_the_first_question(flat: IndexedDataset) -> None:
    with pytest.raises(
        BadOption, match=r"choices are dog, cat, but the data set's classes are cat, cow, dog"
    ):
        Person("dog").as_oracle(classes=("dog", "cat")).label(flat, [0])


# --- a real terminal

SESSION = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # as a login does, so that Ctrl-C reaches this process
from vizsla.data.indexed import IndexedDataset
from vizsla.labels import LabelLog, replay
from vizsla.oracle import Quit, TerminalOracle
dataset = IndexedDataset(sys.argv[1], classes=("cat", "cow", "dog"))
log = LabelLog(sys.argv[2])
replay(dataset, log)
try:
    TerminalOracle(dataset.classes, log).label(dataset, dataset.pool())
    print("all done")
except Quit:
    print("until later:", len(dataset.labelled()))
"""


class Terminal:
    """A labelling session in a pseudo-terminal of 80 × 24 characters."""

    def __init__(self, folder: Path, log: Path) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        unset = ("VIZSLA_IMAGES", "TERM_PROGRAM", "LC_TERMINAL", "TMUX", "COLUMNS", "LINES")
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SESSION, str(folder), str(log)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=environment | {"TERM": "xterm-256color"},
        )
        os.close(slave)

    def read_until(self, end: str, seconds: float = 120) -> str:
        text, limit = "", time.monotonic() + seconds
        while not text.endswith(end):
            ready, _, _ = select.select([self.master], [], [], max(0.0, limit - time.monotonic()))
            assert ready, f"waited for {end!r}, got {text!r}"
            text += os.read(self.master, 65536).decode(errors="replace")
        return text

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C, a moment after the prompt: Python overlooks one between writing a prompt and waiting for a key."""
        time.sleep(0.2)
        self.type("\x03")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Callable[[], Terminal]]:
    names = [f"{i}.png" for i in range(6)]
    folder, opened = photos(tmp_path / "pets", *names), []

    def start() -> Terminal:
        opened.append(Terminal(folder, tmp_path / "labels.csv"))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


def answers(path: Path) -> list[tuple[str, str | None]]:
    return [(label.file_name, label.label) for label in LabelLog(path).read()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_a_session_killed_in_the_middle_of_a_question_goes_on_where_it_stopped(
    session: Callable[[], Terminal], tmp_path: Path
) -> None:
    log = tmp_path / "labels.csv"
    first = session()
    assert "▀" in first.read_until("> ")
    for number in "201":
        first.type(f"{number}\n")
        first.read_until("> ")
    first.type("2")  # typed, not yet entered
    first.process.kill()
    first.process.wait()
    begun = [("0.png", "dog"), ("1.png", "cat"), ("2.png", "cow")]
    assert answers(log) == begun

    second = session()
    assert "1 of 3 · 3 labelled" in second.read_until("> ")
    second.type("cow\n")
    second.read_until("> ")
    second.interrupt()
    second.read_until("until later: 4\r\n")
    assert second.process.wait(timeout=60) == 0
    assert answers(log) == [*begun, ("3.png", "cow")]

    third = session()
    third.read_until("> ")
    third.type("0\n")
    third.read_until("> ")
    third.type("\x04")  # Ctrl-D: the input ends
    third.read_until("until later: 5\r\n")

    fourth = session()
    assert "1 of 1 · 5 labelled" in fourth.read_until("> ")
    fourth.type("2\n")
    fourth.read_until("all done\r\n")
    assert answers(log) == [*begun, ("3.png", "cow"), ("4.png", "cat"), ("5.png", "dog")]


# --- a real notebook kernel


def test_a_notebook_shows_the_picture_inline_and_takes_answers(tmp_path: Path) -> None:
    photos(tmp_path / "pets", "a.png", "b.png")
    code = f"""
        from vizsla.data.indexed import IndexedDataset
        from vizsla.oracle import TerminalOracle
        dataset = IndexedDataset({str(tmp_path / "pets")!r}, classes=("cat", "dog"))
        print("labelled", TerminalOracle(dataset.classes).label(dataset, [0, 1]), dataset.labels)
    """
    lines = ["dog", "0"]
    messages: list[dict[str, Any]] = []
    kernel, client = start_new_kernel(kernel_name="python3")
    try:
        client.execute_interactive(
            textwrap.dedent(code),
            allow_stdin=True,
            stdin_hook=lambda message: client.input(lines.pop(0)),
            output_hook=messages.append,
            timeout=120,
        )
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    content: list[tuple[str, Any]] = [(message["msg_type"], message["content"]) for message in messages]
    text = "".join(c["text"] for kind, c in content if kind == "stream")
    assert text.endswith("labelled 2 [1 0]\n")
    assert ["image/png" in c["data"] for kind, c in content if kind == "display_data"] == [True, True]
    assert sum(kind == "clear_output" for kind, _ in content) == 2


@pytest.mark.slow
def test_choices_in_another_order_than_the_data_sets_classes_are_joined_by_name(flat: IndexedDataset) -> None:
    """The person's class 0 is dog, the data set's is cat."""
    Person("dog").as_oracle(classes=("dog", "cow", "cat")).label(flat, [0])
    assert flat.classes[flat.labels[0]] == "dog"


def test_a_noisy_oracle_of_other_classes_or_images_than_the_data_sets_is_refused(
    flat: IndexedDataset,
) -> None:
    with pytest.raises(BadOption, match="told of 5 classes, but the data set has cat, cow, dog"):
        NoisyOracle([0] * len(flat), 0.5, n_classes=5, seed=0).label(flat, [0])
    with pytest.raises(BadOption, match="the truth has 1 classes, but the data set"):
        NoisyOracle([0], 0.5, n_classes=3, seed=0).label(flat, [0])
