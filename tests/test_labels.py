from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vizsla.data.indexed import IndexedDataset
from vizsla.errors import BadOption, NoLabel
from vizsla.labels import LabelLog, replay
from vizsla.types import Label

HEADER = "file_name,label,status,annotator,labelled_at,lead_ms,round,source"


def photos(folder: Path, *names: str, classes: tuple[str, ...] = ("cat", "dog")) -> IndexedDataset:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), "gray").save(path)
    return IndexedDataset(folder, classes=classes)


def test_the_file_is_a_plain_csv_that_a_spreadsheet_opens(tmp_path: Path) -> None:
    log = LabelLog(tmp_path / "labels.csv")
    log.append(
        Label("a, b.jpg", "labelled", 'the "dog"', "ada", "random", 3, 812, "2026-01-02T03:04:05.678+00:00")
    )
    assert log.path.read_bytes().decode() == (
        f'{HEADER}\r\n"a, b.jpg","the ""dog""",labelled,ada,2026-01-02T03:04:05.678+00:00,812,3,random\r\n'
    )


def test_a_file_that_is_not_there_yet_has_no_labels(tmp_path: Path) -> None:
    assert LabelLog(tmp_path / "labels.csv").read() == []


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.builds(
            Label,
            file_name=st.text(),
            status=st.sampled_from(["labelled", "skipped", "undone"]),
            label=st.none() | st.text(min_size=1),
            annotator=st.text(),
            source=st.sampled_from(["al", "random", "import"]),
            round=st.integers(0, 10**6),
            lead_ms=st.none() | st.integers(0, 10**9),
        ),
        max_size=5,
    )
)
def test_what_was_appended_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, labels: list[Label]
) -> None:
    log = LabelLog(tmp_path_factory.mktemp("log") / "labels.csv")
    for label in labels:
        log.append(label)
    assert log.read() == labels


def test_a_file_name_that_is_not_utf8_is_read_back(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode(errors="surrogateescape")
    log = LabelLog(tmp_path / "labels.csv")
    log.append(Label(name, "labelled", "cat"))
    assert [label.file_name for label in log.read()] == [name]


def test_a_file_torn_at_any_byte_keeps_all_earlier_rows_and_takes_the_next(tmp_path: Path) -> None:
    log = LabelLog(tmp_path / "labels.csv")
    given_labels = [Label(f'Füße, "{i}".jpg', "labelled", "weißer Hund", lead_ms=i) for i in range(2)]
    for label in given_labels:
        log.append(label)
    whole = log.path.read_bytes()
    kept_at_least = {whole.index(b"\n") + 1: 0, whole.rindex(b"\n", 0, -1) + 1: 1, len(whole): 2}
    for cut in range(len(whole) + 1):
        log.path.write_bytes(whole[:cut])
        before = log.read()
        assert [x.file_name for x in before] == [x.file_name for x in given_labels[: len(before)]]
        assert len(before) >= max((n for end, n in kept_at_least.items() if cut >= end), default=0)
        log.append(Label("next.jpg", "skipped", labelled_at="now"))
        assert log.read() == [*before, Label("next.jpg", "skipped", labelled_at="now")]
        assert log.path.read_bytes().endswith(b"\nnext.jpg,,skipped,me,now,,0,al\r\n")


def test_a_last_line_without_line_break_from_an_editor_is_kept(tmp_path: Path) -> None:
    log = LabelLog(tmp_path / "labels.csv")
    log.path.write_text(f"{HEADER}\na.jpg,cat,labelled,me,now,,0,al\nb.jpg,dog,labelled,me,now,,0,al")
    log.append(Label("c.jpg", "labelled", "cat"))
    assert [(x.file_name, x.label) for x in log.read()] == [
        ("a.jpg", "cat"),
        ("b.jpg", "dog"),
        ("c.jpg", "cat"),
    ]


@pytest.mark.parametrize("content", ["photo,kind\r\na.jpg,cat\r\n", "a shopping list", "{}"])
def test_another_kind_of_file_is_refused_and_left_as_it_was(tmp_path: Path, content: str) -> None:
    log = LabelLog(tmp_path / "labels.csv")
    log.path.write_bytes(content.encode())
    with pytest.raises(BadOption, match="is no label file"):
        log.append(Label("a.jpg", "skipped"))
    assert log.path.read_bytes() == content.encode()


def test_a_broken_row_in_the_middle_is_named_by_its_line(tmp_path: Path) -> None:
    log = LabelLog(tmp_path / "labels.csv")
    log.path.write_text(f"{HEADER}\na.jpg,cat,maybe,me,now,,0,al\nb.jpg,dog,labelled,me,now,,0,al\n")
    with pytest.raises(
        BadOption, match=r"labels\.csv line 2: status 'maybe' is none of labelled, skipped, undone"
    ):
        log.read()


def test_the_newest_answer_counts_and_an_undone_one_does_not(tmp_path: Path) -> None:
    log = LabelLog(tmp_path / "labels.csv")
    log.append(
        Label("a.jpg", "labelled", "cat"),
        Label("b.jpg", "labelled", "cat"),
        Label("c.jpg", "skipped"),
        Label("a.jpg", "labelled", "dog"),
        Label("b.jpg", "undone"),
    )
    assert {name: (x.status, x.label) for name, x in log.current().items()} == {
        "c.jpg": ("skipped", None),
        "a.jpg": ("labelled", "dog"),
    }


@pytest.mark.slow
def test_rows_of_processes_that_append_at_once_are_all_there_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    script = (
        "import sys; from vizsla.labels import LabelLog; from vizsla.types import Label\n"
        "for i in range(40): LabelLog(sys.argv[1]).append(Label(f'{sys.argv[2]}/{i}.jpg', 'labelled', 'cat'))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), who]) for who in "abc"]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    assert sorted(x.file_name for x in LabelLog(path).read()) == sorted(
        f"{who}/{i}.jpg" for who in "abc" for i in range(40)
    )


def test_replay_restores_labels_and_skips_and_counts_what_is_gone(tmp_path: Path) -> None:
    dataset = photos(tmp_path / "photos", "a.png", "b.png", "c.png", "d.png")
    log = LabelLog(tmp_path / "labels.csv")
    log.append(
        Label("a.png", "labelled", "dog"),
        Label("b.png", "skipped"),
        Label("c.png", "labelled", "cat"),
        Label("c.png", "undone"),
        Label("gone.png", "labelled", "cat"),
    )
    replayed = replay(dataset, log)
    assert (replayed.labelled, replayed.skipped, replayed.missing) == (1, 1, ("gone.png",))
    assert str(replayed) == "1 labels and 1 skips taken up again, 1 no longer there"
    assert dataset.labelled().tolist() == [0]
    assert dataset.labels[0] == 1
    assert dataset.pool().tolist() == [2, 3]


def test_replay_into_other_classes_says_which_class_is_unknown_and_changes_nothing(tmp_path: Path) -> None:
    dataset = photos(tmp_path / "photos", "a.png", "b.png")
    log = LabelLog(tmp_path / "labels.csv")
    log.append(Label("a.png", "labelled", "dog"), Label("b.png", "labelled", "horse"))
    with pytest.raises(
        NoLabel, match=r"class 'horse', but the classes are cat, dog\. Add the class \(--classes\)"
    ):
        replay(dataset, log)
    assert dataset.labelled().tolist() == []


def test_replay_takes_the_labels_of_classes_as_given(tmp_path: Path) -> None:
    dataset = photos(tmp_path / "photos", "a.png")
    log = LabelLog(tmp_path / "labels.csv")
    log.append(Label("a.png", "labelled", "hound"))
    replay(dataset, log, {"hound": 1})
    assert dataset.labels[0] == 1
