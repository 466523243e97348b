"""CSV and JSON Lines from anywhere."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vizsla.errors import UserError
from vizsla.interop import import_labels, importers

if TYPE_CHECKING:
    from tests.interop.conftest import Made

    Make = Callable[..., Made]

CAT_AND_DOG = {"a.jpg": ("labelled", "cat"), "b.jpg": ("labelled", "dog")}


def taken(make: Make, path: Path, data: bytes, format: str = "csv") -> Made:
    project = make("a.jpg", "b.jpg", "c.jpg")
    path.write_bytes(data)
    import_labels(project.store, format, path)
    return project


@pytest.mark.parametrize("file", ["file_name", "filename", "filepath", "path", "image", "File Name"])
@pytest.mark.parametrize("label", ["label", "class", "class_name", "category", "LABEL"])
def test_headers_go_by_many_names(file: str, label: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"extra,{label},{file}\n1,cat,a.jpg\n")
    (row,) = importers["csv"](tmp_path / "x.csv")
    (tmp_path / "x.jsonl").write_text(json.dumps({file: "a.jpg", label: "cat"}))
    (other,) = importers["jsonl"](tmp_path / "x.jsonl")
    assert (row.file_name, row.label) == (other.file_name, other.label) == ("a.jpg", "cat")


@pytest.mark.parametrize(
    "data",
    [
        b"a.jpg,cat\nb.jpg,dog\n",
        b"a.jpg;cat\r\nb.jpg;dog",
        b"a.jpg\tcat\nb.jpg\tdog\n",
        b"\n\npath,label\n\na.jpg,cat\n\nb.jpg,dog\n\n",
        b"\xef\xbb\xbfpath,label\r\na.jpg,cat\r\nb.jpg,dog\r\n",
        b"path;label;note\r\na.jpg;cat;1,5\r\nb.jpg;dog;2,5\r\n",
        "path\tlabel\r\na.jpg\tcat\r\nb.jpg\tdog\r\n".encode("utf-16"),
        b"path,label\ra.jpg,cat\rb.jpg,dog\r",
        b'"path","label"\n"a.jpg"," cat "\n"./b.jpg","dog"\n',
    ],
    ids=["headerless", "semicolons", "tabs", "blank lines", "BOM", "Excel", "UTF-16", "CR", "quotes"],
)
def test_tables_of_all_kinds(data: bytes, make: Make, tmp_path: Path) -> None:
    assert taken(make, tmp_path / "x.csv", data).standing() == CAT_AND_DOG


def test_json_lines_with_blank_lines_numbers_and_a_bom(make: Make, tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"image": "a.jpg", "label": 7}\r\n\r\n{"image": "b.jpg", "label": ["dog"]}'
    project = taken(make, tmp_path / "x.jsonl", data, "jsonl")
    assert project.standing() == {"a.jpg": ("labelled", "7"), "b.jpg": ("labelled", "dog")}


def test_every_column_of_ours_is_read() -> None:
    from vizsla.interop.fields import COLUMNS, columns, to_row

    cells = (
        "a.jpg",
        "AB12",
        "cat",
        "labelled",
        "ada",
        "2026-01-02T03:04:05.5+01:00",
        "812",
        "3",
        "2",
        "audit",
    )
    row = to_row(dict(zip(COLUMNS, (*cells, "dog", "0.25", "true", "train"), strict=True)), "line 2")
    assert columns(COLUMNS) == {name: name for name in COLUMNS}
    assert (row.file_name, row.sha256, row.label, row.status) == ("a.jpg", "ab12", "cat", "labelled")
    assert (row.annotator, row.labelled_at) == ("ada", datetime(2026, 1, 2, 2, 4, 5, 500000, tzinfo=UTC))
    assert (row.lead_ms, row.round, row.model_version, row.source) == (812, 3, 2, "audit")
    assert (row.suggestion, row.suggestion_prob, row.suggestion_shown) == ("dog", 0.25, True)
    assert (row.split, row.where) == ("train", "line 2")


@pytest.mark.parametrize("cell", ["1e999", "nan", "-3", "much", "", str(10**30)])
def test_numbers_and_times_that_make_no_sense_count_as_absent(cell: str, make: Make, tmp_path: Path) -> None:
    data = f"path,label,round,lead_ms,labelled_at,source\na.jpg,cat,{cell},{cell},{cell},{cell}\n"
    (label,) = taken(make, tmp_path / "x.csv", data.encode()).store.labels()
    assert (label.round, label.lead_ms, label.source, label.label) == (0, None, "import", "cat")


def test_the_csv_has_the_columns_and_values_that_are_promised(make: Make, tmp_path: Path) -> None:
    project = make("train/a.jpg", "=b.jpg")
    project.hash_all()
    project.store.add_classes(["cat"])
    project.label("ada", **{"train/a.jpg": "cat", "=b.jpg": "cat"})
    rows = list(csv.DictReader(io.StringIO(project.export("csv", tmp_path).read_text("utf-8"), newline="")))
    image = next(image for image in project.store.images() if image.path == "train/a.jpg")
    assert [row["file_name"] for row in rows] == ["=b.jpg", "train/a.jpg"]
    assert rows[1] == {
        "file_name": "train/a.jpg",
        "sha256": image.sha256,
        "label": "cat",
        "status": "labelled",
        "annotator": "ada",
        "labelled_at": project.store.labels()[1].created_at.isoformat(),
        "lead_ms": "",
        "round": "0",
        "model_version": "",
        "source": "bulk",
        "suggestion": "",
        "suggestion_prob": "",
        "suggestion_shown": "",
        "split": "train",
    }


def test_json_lines_are_utf_8_whatever_the_file_names_are(hard: Made, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in hard.export("jsonl", tmp_path).read_text("utf-8").splitlines()]
    assert [row["file_name"] for row in rows] == [label.path for label in hard.store.labels()]


@pytest.mark.parametrize(
    ("format", "data", "words"),
    [
        ("csv", b"", "is empty"),
        ("csv", b"name,breed,age\nrex,pug,3\n", r"no header that names images and labels: name, breed, age"),
        ("csv", b"image,size\na.jpg,3\n", "no header"),
        ("csv", bytes(range(256)) * 40, "no header"),
        ("jsonl", b"", "has no line like"),
        ("jsonl", b"a.jpg,cat\n", "has no line like"),
        ("jsonl", b"[" * 100_000, "has no line like"),
        ("label-studio", b"{", "is no JSON"),
        ("label-studio", b"[]", "no tasks of Label Studio"),
        ("label-studio", b'"text"', "no tasks of Label Studio"),
        ("label-studio", b"[" * 100_000, "is no JSON"),
        ("folders", b"a.jpg,cat\n", "no zip that can be read"),
    ],
)
def test_a_bad_file_is_one_error_with_the_mend(
    format: str, data: bytes, words: str, make: Make, tmp_path: Path
) -> None:
    project = make("a.jpg")
    (tmp_path / "bad").write_bytes(data)
    with pytest.raises(UserError, match=words) as caught:
        import_labels(project.store, format, tmp_path / "bad")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert project.store.history() == [] and project.store.annotators() == ()


@pytest.mark.parametrize("format", ["csv", "jsonl", "label-studio", "folders"])
def test_a_file_that_is_not_there_is_a_user_error(format: str, make: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        import_labels(make("a.jpg").store, format, tmp_path / "nowhere")


LABEL_STUDIO = (
    "annotation_id,annotator,created_at,id,image,lead_time,{}updated_at\n"
    "7,1,2024-03-01T10:00:00Z,3,/data/upload/1/1a2b3c4d-a.jpg,2.5,{}2024-03-01T10:00:00Z\n"
)


@pytest.mark.parametrize("format", ["csv", "label-studio"])
def test_the_answer_in_a_table_of_label_studio_is_told_or_asked_for(
    format: str, make: Make, tmp_path: Path
) -> None:
    file, project = tmp_path / "x.csv", make("a.jpg", "b.jpg", "c.jpg")
    file.write_text(LABEL_STUDIO.format("site,species,", "north,cat,"))
    with pytest.raises(UserError, match=r"names labels: site, species\. .* --column label=NAME"):
        import_labels(project.store, format, file)
    assert project.store.history() == []
    import_labels(project.store, format, file, columns={"label": "species"})
    assert project.standing() == {"a.jpg": ("labelled", "cat")}
    file.write_text(LABEL_STUDIO.format("species,", "dog,"))
    other = make("a.jpg")
    import_labels(other.store, format, file)
    assert other.standing() == {"a.jpg": ("labelled", "dog")}


def test_columns_are_chosen_among_ours_and_only_of_tables(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg")
    (tmp_path / "x.csv").write_text("photo,breed,who\na.jpg,pug,eve\n")
    for format, columns, said in (
        ("csv", {"species": "breed"}, "'species' is none of our columns. Known: file_name, "),
        ("csv", {"file_name": "foto"}, "has no column 'foto'. Choose one of photo, breed, who"),
        ("folders", {"label": "breed"}, "only tables have columns to choose from. Leave out --column"),
    ):
        with pytest.raises(UserError, match=said):
            import_labels(project.store, format, tmp_path / "x.csv", columns=columns)
    columns = {"file_name": "photo", "label": "breed", "annotator": "who"}
    import_labels(project.store, "csv", tmp_path / "x.csv", columns=columns)
    assert [(label.label, label.annotator) for label in project.store.labels()] == [("pug", "eve")]


def test_a_class_that_looks_like_several_is_noted_where_it_is_new(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "x.csv").write_text('path,label\na.jpg,cat\nb.jpg,cat;dog\nc.jpg,"dog, large"\n')
    report = import_labels(project.store, "csv", tmp_path / "x.csv")
    assert report.notes == ("the class 'cat;dog' looks like several; an image has one here",)
    assert import_labels(project.store, "csv", tmp_path / "x.csv").notes == ()


def test_after_an_open_quote_nothing_is_imported(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "x.csv").write_text('path,label\na.jpg,cat\nb.jpg,"dog\nc.jpg,cat\n')
    with pytest.raises(UserError, match="line 3: the quote that opens there"):
        import_labels(project.store, "csv", tmp_path / "x.csv")
    assert project.store.history() == [] and project.store.classes() == ()
