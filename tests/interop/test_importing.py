"""What an import writes, what it passes over, and that it does all or nothing."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vizsla.data.sources import Folder
from vizsla.errors import BadOption, UnknownName
from vizsla.interop import Report, formats, import_labels
from vizsla.interop.outgoing import Outgoing, standing
from vizsla.store import Answer, ImageFile, Store

if TYPE_CHECKING:
    from tests.interop.conftest import Made

    Make = Callable[..., Made]


def take(project: Made, text: str, folder: Path) -> Report:
    (folder / "x.csv").write_bytes(text.encode(errors="surrogateescape"))
    return import_labels(project.store, "csv", folder / "x.csv")


def counts(report: Report) -> dict[str, int]:
    return {name: reason.count for name, reason in report.reasons.items()}


def test_rows_that_cannot_be_taken_are_counted_with_the_reason_and_examples(
    make: Make, tmp_path: Path
) -> None:
    project = make("a.jpg", "b.jpg", "x/c.jpg", "y/c.jpg")
    report = take(
        project,
        "path,label,status\na.jpg,cat,labelled\nb.jpg,,\nb.jpg,,labelled\ngone.jpg,cat,\nlost.jpg,cat,\n"
        "no.jpg,cat,\nnever.jpg,cat,\nz/c.jpg,cat,\nb.jpg,cat,maybe\nb.jpg,ca\0t,\na.jpg,cat,labelled\nb.jpg,ca\n",
        tmp_path,
    )
    assert project.standing() == {"a.jpg": ("labelled", "cat")}
    assert counts(report) == {
        "has no label": 2,
        "its image is not in the project": 4,
        "several images are called so": 1,
        "has a status that is none of labelled, skipped, flagged": 1,
        "has a NUL character in a name": 1,
        "is in the file twice": 1,
        "has too few cells": 1,
    }
    assert (report.taken, report.skipped, report.new_classes) == (1, 11, ("cat",))
    there = ["gone.jpg (line 5)", "lost.jpg (line 6)", "no.jpg (line 7)"]
    assert report.reasons["its image is not in the project"].examples == there
    assert (
        "4 × its image is not in the project: gone.jpg (line 5), lost.jpg (line 6), no.jpg (line 7), …"
        in str(report)
    )


def test_an_image_is_found_by_path_then_content_then_name(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg", "sub/c.jpg", "d.jpg")
    project.hash_all()
    sha256 = {image.path: image.sha256 for image in project.store.images()}
    take(
        project,
        f"path,sha256,label\na.jpg,,by path\nwas b.jpg,{sha256['b.jpg']},by content\nc.jpg,,by name\n"
        f"d.jpg,{'0' * 64},content unknown\n",
        tmp_path,
    )
    found = {path: label for path, (_, label) in project.standing().items()}
    assert found == {
        "a.jpg": "by path",
        "b.jpg": "by content",
        "sub/c.jpg": "by name",
        "d.jpg": "content unknown",
    }


def test_a_content_that_moved_is_worth_more_than_its_old_path(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg")
    project.hash_all()
    sha256 = {image.path: image.sha256 for image in project.store.images()}
    take(project, f"path,sha256,label\na.jpg,{sha256['b.jpg']},cat\nb.jpg,{sha256['a.jpg']},dog\n", tmp_path)
    assert project.standing() == {"b.jpg": ("labelled", "cat"), "a.jpg": ("labelled", "dog")}


def test_names_with_odd_bytes_and_decomposed_letters_are_found(make: Make, tmp_path: Path) -> None:
    project = make("caf\u00e9.jpg", "od\udcffd.jpg")
    take(project, "path,label\ncafe\u0301.jpg,cat\nod\udcffd.jpg,dog\n", tmp_path)
    assert project.standing() == {"caf\u00e9.jpg": ("labelled", "cat"), "od\udcffd.jpg": ("labelled", "dog")}


def test_rows_without_a_name_for_the_annotator_get_the_given_one(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg")
    (tmp_path / "x.csv").write_text("path,label,annotator\na.jpg,cat,\nb.jpg,cat,bob\n")
    import_labels(project.store, "csv", tmp_path / "x.csv", annotator="eve")
    assert {label.path: label.annotator for label in project.store.labels()} == {
        "a.jpg": "eve",
        "b.jpg": "bob",
    }
    with pytest.raises(BadOption, match="no name for an annotator"):
        import_labels(project.store, "csv", tmp_path / "x.csv", annotator=" ")


def test_an_unknown_format_is_told_with_those_that_are_known(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'jsonl'"):
        import_labels(make("a.jpg").store, "json", tmp_path)


def test_the_latest_answer_stands_in_whatever_order_the_rows_come(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg")
    take(
        project,
        "path,label,labelled_at,annotator\na.jpg,new,2024-02-02T00:00:00Z,x\na.jpg,old,2024-01-01T00:00:00Z,x\n",
        tmp_path,
    )
    assert [label.label for label in project.store.history()] == ["new", "old"]
    assert project.standing() == {"a.jpg": ("labelled", "new")}


def test_an_undone_row_takes_back_those_before_it(make: Make, tmp_path: Path) -> None:
    """The label file of `vizsla label` in the terminal is such a file."""
    project = make("a.jpg", "b.jpg")
    report = take(
        project, "path,label,status\na.jpg,cat,labelled\nb.jpg,dog,labelled\na.jpg,,undone\n", tmp_path
    )
    assert project.standing() == {"b.jpg": ("labelled", "dog")}
    assert (report.taken, report.new_classes) == (1, ("dog",))


def test_an_old_class_name_is_understood_and_an_edited_table_changes_only_what_was_edited(
    make: Make, tmp_path: Path
) -> None:
    project = make("a.jpg", "b.jpg", "c.jpg")
    project.store.add_classes(["cat", "dog"])
    project.label("me", **{"a.jpg": "cat", "b.jpg": "cat"})
    project.store.rename_class("cat", "feline")
    table = project.export("csv", tmp_path).read_text().replace("a.jpg,,feline", "a.jpg,,dog")
    report = take(project, table + "c.jpg,,cat,,,,,,,,,,,\n", tmp_path)
    assert {path: label for path, (_, label) in project.standing().items()} == {
        "a.jpg": "dog",
        "b.jpg": "feline",
        "c.jpg": "feline",
    }
    assert (report.taken, counts(report)) == (2, {"is in the project already": 1})


def test_what_was_imported_and_overruled_is_not_brought_back(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg")
    take(project, "path,label\na.jpg,cat\n", tmp_path)
    project.store.add_classes(["dog"])
    project.label("me", **{"a.jpg": "dog"})
    report = take(project, "path,label\na.jpg,cat\n", tmp_path)
    assert project.standing() == {"a.jpg": ("labelled", "dog")}
    assert (report.taken, counts(report)) == (0, {"is in the project already": 1})


DATED = {
    "csv": lambda label, when: f"path,label,labelled_at\na.jpg,{label},{when}\n",
    "jsonl": lambda label, when: json.dumps({"file_name": "a.jpg", "label": label, "labelled_at": when}),
    "label-studio": lambda label, when: json.dumps([task(label, when)]),
    "label-studio, changed there": lambda label, when: json.dumps(
        [task(label, "2024-01-01T00:00:00Z", when)]
    ),
    "label-studio, short": lambda label, when: json.dumps(
        [{"id": 1, "image": "a.jpg", "species": label, "created_at": when, "updated_at": when}]
    ),
    "fiftyone": lambda label, when: json.dumps(
        {"classes": [label], "labels": {"a": {"label": 0, "attributes": {"labelled_at": when}}}}
    ),
    "coco": lambda label, when: json.dumps(
        {
            "images": [{"id": 1, "file_name": "a.jpg"}],
            "categories": [{"id": 1, "name": label}],
            "annotations": [{"image_id": 1, "category_id": 1, "attributes": {"labelled_at": when}}],
        }
    ),
}


def task(label: str, made: str, changed: str | None = None) -> dict[str, object]:
    result = {"from_name": "species", "value": {"choices": [label]}}
    times = {"created_at": made, "updated_at": changed or made}
    return {"id": 1, "data": {"image": "a.jpg"}, "annotations": [{"id": 1, "result": [result], **times}]}


@pytest.mark.parametrize("format", DATED)
def test_the_answer_given_later_stands_whatever_was_imported_last(
    format: str, make: Make, tmp_path: Path
) -> None:
    """10:00 in Tokyo is one in the morning in London, before 18:00 of the day before in California."""
    project = make("a.jpg")
    file = tmp_path / ("labels.json" if format == "fiftyone" else "x")
    reports = []
    for label, when in [
        ("dog", "2024-04-01T10:00:00+09:00"),
        ("cat", "2024-03-31T23:00:00Z"),
        ("fox", "2024-03-31T18:00:00-08:00"),
        ("cat", "2024-03-31T23:00:00Z"),
        ("fox", "2024-03-31T18:00:00-08:00"),
    ]:
        file.write_text(DATED[format](label, when))
        reports.append(import_labels(project.store, format.partition(",")[0], file))
    assert [report.taken for report in reports] == [1, 0, 1, 0, 0]
    assert counts(reports[1]) == counts(reports[3]) == {"an answer that was given later stands": 1}
    assert reports[1].new_classes == ()
    assert counts(reports[4]) == {"is in the project already": 1}
    assert project.standing() == {"a.jpg": ("labelled", "fox")}
    assert "a.jpg,,fox" in project.export("csv", tmp_path).read_text()


def test_answers_given_on_the_page_count_with_their_time(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg")
    project.store.add_classes(["dog"])
    project.label("me", **{"a.jpg": "dog"})
    report = take(project, "path,label,labelled_at\na.jpg,cat,2024-03-01T10:00:00Z\n", tmp_path)
    assert (report.taken, counts(report)) == (0, {"an answer that was given later stands": 1})
    take(project, "path,label,labelled_at\na.jpg,cat,2099-03-01T10:00:00Z\n", tmp_path)
    project.label("me", **{"a.jpg": "dog"})
    assert project.standing() == {"a.jpg": ("labelled", "dog")}


def test_an_answer_without_a_time_counts_as_given_now_and_says_where_it_replaced_another(
    make: Make, tmp_path: Path
) -> None:
    project = make("a.jpg", "b.jpg", "c.jpg")
    project.store.add_classes(["cat", "dog"])
    project.label("me", **{"a.jpg": "dog", "b.jpg": "cat"})
    report = take(project, "path,label\na.jpg,cat\nb.jpg,cat\nc.jpg,cat\n", tmp_path)
    assert report.notes == ("1 × without a time, so counted as given now, in place of another answer: a.jpg",)
    assert set(project.standing().values()) == {("labelled", "cat")}


def test_a_correction_with_a_time_takes_the_place_of_a_table_without(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg")
    take(project, "path,label\na.jpg,cat\n", tmp_path)
    take(project, "path,label,labelled_at\na.jpg,dog,2024-03-01T10:00:00Z\n", tmp_path)
    assert project.standing() == {"a.jpg": ("labelled", "dog")}
    assert take(project, "path,label\na.jpg,cat\n", tmp_path).taken == 0


def test_a_dry_run_says_what_will_happen_and_writes_nothing(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg", "c.jpg", "d.jpg")
    project.store.add_classes(["dog"])
    project.label("me", **{"a.jpg": "dog"})
    (tmp_path / "x.csv").write_text(
        "path,label,status,labelled_at\na.jpg,cat,,2024-03-01T10:00:00Z\nb.jpg,Dog,,\nc.jpg,cat,,\n"
        "d.jpg,,skipped,\ngone.jpg,cat,,\n"
    )
    store = project.store
    before = (store.history(), store.classes(), store.annotators(), store.pulse(), store.counts())
    told = import_labels(store, "csv", tmp_path / "x.csv", dry_run=True)
    assert (store.history(), store.classes(), store.annotators(), store.pulse(), store.counts()) == before
    came = import_labels(store, "csv", tmp_path / "x.csv")
    assert replace(came, dry_run=True) == told
    assert (told.taken, told.counts, told.others) == (3, {"Dog": 1, "cat": 1}, {"skipped": 1})
    assert str(told) == (
        "nothing was written; the import would end so:\n"
        "3 labels imported, 2 rows passed over; new classes: Dog, cat\n"
        "  Dog: 1\n  cat: 1\n  (skipped: 1)\n"
        "  1 × its image is not in the project: gone.jpg (line 6)\n"
        "  1 × an answer that was given later stands: a.jpg\n"
        "  note: the classes dog, Dog differ only in capitals; merge them if they are one"
    )


def test_a_failure_in_the_middle_leaves_nothing(make: Make, tmp_path: Path) -> None:
    project = make(*(f"{n}.jpg" for n in range(5)))

    def fail(done: int, total: int) -> None:
        raise RuntimeError("stop")

    (tmp_path / "x.csv").write_text("path,label\n" + "".join(f"{n}.jpg,cat\n" for n in range(5)))
    with pytest.raises(RuntimeError, match="stop"):
        import_labels(project.store, "csv", tmp_path / "x.csv", progress=fail)
    store = project.store
    assert (store.history(), store.classes(), store.annotators()) == ([], (), ())


KILLED = """
import os, sys
from vizsla.interop import import_labels
from vizsla.store import Store
def die(done, total):
    print(done, total, flush=True)
    if done > total / 2: os.kill(os.getpid(), 9)
with Store.open(sys.argv[1]) as store:
    import_labels(store, "csv", sys.argv[2], progress=die)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_kill_in_the_middle_leaves_nothing_and_the_import_can_be_done_again(tmp_path: Path) -> None:
    with Store.open(tmp_path / "project") as store:
        store.add_images(ImageFile(f"{n}.jpg", n, n) for n in range(6000))
    table = tmp_path / "x.csv"
    table.write_text("path,label\n" + "".join(f"{n}.jpg,cat\n" for n in range(6000)))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "project"), str(table)], capture_output=True, text=True
    )
    assert done.returncode == -9 and done.stdout == "2000 6000\n4000 6000\n"
    with Store.open(tmp_path / "project") as store:
        assert (store.history(), store.classes(), store.annotators()) == ([], (), ())
        assert store.counts().unlabelled == 6000
        assert import_labels(store, "csv", table).taken == 6000


def test_an_export_while_people_label_neither_misses_nor_repeats_an_image(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vizsla.interop import outgoing

    monkeypatch.setattr(outgoing, "_PAGE", 3)
    project = make(*(f"{n}.jpg" for n in range(30)))
    store, rng = project.store, random.Random(0)
    store.add_classes(["cat", "dog"])
    me = store.annotator("me").id
    ids = list(project.ids().values())
    for image_id in ids:
        store.label(me, Answer(image_id, "cat"))
    seen = []
    for label, _ in standing(store):
        seen.append(label.image_id)
        if len(seen) < 25:
            store.label(me, Answer(rng.choice(ids), "dog"))
    assert sorted(seen) == sorted(ids)


def big(folder: Path, n: int) -> tuple[Store, Path]:
    """A project of n images, and a table of as many labels."""
    store = Store.open(folder / "project")
    store.add_images(ImageFile(f"folder {k % 100}/{k}.jpg", k, k) for k in range(n))
    lines = (
        f"folder {k % 100}/{k}.jpg,class {k % 10},2026-01-01T00:{k // 60 % 60:02}:{k % 60:02}Z\n"
        for k in range(n)
    )
    (folder / "x.csv").write_text("path,label,labelled_at\n" + "".join(lines))
    return store, folder / "x.csv"


def test_many_rows_go_in_once_and_out_in_pieces(tmp_path: Path) -> None:
    n = 10_000
    store, table = big(tmp_path, n)
    with store:
        assert import_labels(store, "csv", table).taken == n
        for format in ("csv", "jsonl", "label-studio"):
            assert sum(1 for _ in formats[format].write(Outgoing(store, Folder(tmp_path)))) > n / 1000
        assert import_labels(store, "csv", table).taken == 0


@pytest.fixture(scope="module")
def many_rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """6000 labelled images. Only to be read."""
    store, table = big(tmp_path_factory.mktemp("many"), 6000)
    with store:
        import_labels(store, "csv", table)
        yield store


@pytest.mark.parametrize("format", ["csv", "jsonl", "label-studio", "parquet"])
def test_an_export_of_many_rows_holds_few_of_them(
    format: str, many_rows: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vizsla.interop import outgoing

    monkeypatch.setattr(outgoing, "_PAGE", 500)
    peaks = []
    for rows in (1500, 6000):
        tracemalloc.start()
        size = 0
        for row, piece in enumerate(formats[format].write(Outgoing(many_rows, Folder(tmp_path)))):
            size += len(piece)
            if row * 500 >= rows:
                break
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
