"""What an import writes, what it passes over, and that it does all or nothing."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
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
