"""Files that are damaged, foreign or odd: an error with its mend or a line in the report, and nothing half-done."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vizsla.errors import UserError
from vizsla.interop import Report, export_labels, import_labels, importers

if TYPE_CHECKING:
    from tests.interop.conftest import Made

    Make = Callable[..., Made]


def counts(report: Report) -> dict[str, int]:
    return {name: reason.count for name, reason in report.reasons.items()}


def zipped(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


BAD = {
    "parquet that is none": ("parquet", "x.parquet", b"path,label\na.jpg,cat\n", "is no Parquet file"),
    "empty parquet": ("parquet", "x.parquet", b"", "is no Parquet file"),
    "imagefolder, no zip": ("imagefolder", "x.zip", b"a.jpg,cat\n", "no zip that can be read"),
    "imagefolder, alone": (
        "imagefolder",
        "x.csv",
        b"file_name,label\na.jpg,cat\n",
        "fewer than two class folders",
    ),
    "metadata without labels": ("imagefolder", "metadata.csv", b"file_name,size\na.jpg,3\n", "no header"),
    "metadata, no JSON": (
        "imagefolder",
        "metadata.jsonl",
        b"file_name,label\na.jpg,cat\n",
        "has no line like",
    ),
    "metadata, no Parquet": ("imagefolder", "metadata.parquet", b"PAR1", "is no Parquet file"),
    "fiftyone, no zip": ("fiftyone", "x.zip", b"PK", "no zip that can be read"),
    "fiftyone, no JSON": ("fiftyone", "labels.json", b'{"classes": [', "has no labels.json of FiftyOne"),
    "fiftyone, half": (
        "fiftyone",
        "labels.json",
        b'{"labels": {"a": "cat",',
        "has no labels.json of FiftyOne",
    ),
    "fiftyone, foreign": ("fiftyone", "labels.json", b'{"images": [], "n": 3}', 'no object "labels"'),
    "fiftyone, deep": ("fiftyone", "labels.json", b'{"labels": {"a":' + b"[" * 100_000, "has no labels.json"),
    "cvat, no zip": ("cvat", "x.zip", b"cat", "no zip that can be read"),
    "cvat, synsets alone": ("cvat", "synsets.txt", b"cat\n", "no zip that can be read"),
    "label-studio, half": (
        "label-studio",
        "x.json",
        b'[{"id": 1, "data": {"image": "a.jpg"}},',
        "no JSON after task 1",
    ),
    "label-studio, more": (
        "label-studio",
        "x.json",
        b'{"id": 1, "data": {"image": "a.jpg"}} {',
        "comes after its end",
    ),
    "label-studio, CSV": ("label-studio", "x.csv", b"id,size,n\n1,2,3\n", "no header"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_line_with_the_mend_and_nothing_is_taken(
    case: str, make: Make, tmp_path: Path
) -> None:
    format, name, data, words = BAD[case]
    project = make("a.jpg")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words) as caught:
        import_labels(project.store, format, tmp_path / name)
    said = str(caught.value)
    assert "\n" not in said and name in said and said.endswith(".") and ". " in said
    assert project.store.history() == [] and project.store.classes() == ()


@pytest.mark.parametrize("format", importers)
def test_a_path_that_is_not_there_is_a_user_error(format: str, make: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        import_labels(make("a.jpg").store, format, tmp_path / "nowhere")


@pytest.mark.parametrize("format", importers)
def test_an_empty_folder_is_a_user_error(format: str, make: Make, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        import_labels(make("a.jpg").store, format, tmp_path / "empty")


def test_a_parquet_file_that_was_cut_off_anywhere_is_a_user_error(
    hard: Made, make: Make, tmp_path: Path
) -> None:
    data = hard.export("parquet", tmp_path).read_bytes()
    project = make("a.jpg")
    for kept in (len(data) // 2, len(data) - 1, 4):
        (tmp_path / "cut.parquet").write_bytes(data[:kept])
        with pytest.raises(UserError, match="no Parquet file that can be read"):
            import_labels(project.store, "parquet", tmp_path / "cut.parquet")
    assert project.store.history() == []


def test_a_parquet_file_with_damage_inside_is_a_user_error(hard: Made, make: Make, tmp_path: Path) -> None:
    data = bytearray(hard.export("parquet", tmp_path).read_bytes())
    data[8:200] = bytes(192)
    (tmp_path / "bad.parquet").write_bytes(data)
    project = make("a.jpg")
    with pytest.raises(UserError, match="no Parquet file that can be read"):
        import_labels(project.store, "parquet", tmp_path / "bad.parquet")
    assert project.store.history() == []


def test_parquet_without_the_columns_says_which_it_has(make: Make, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"name": ["rex"], "age": [3]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"names images and labels: name, age\. Needed: file_name\|"):
        import_labels(make("a.jpg").store, "parquet", tmp_path / "x.parquet")


def test_a_folder_of_parquet_files_is_one_table_and_columns_go_by_their_other_names(
    make: Make, tmp_path: Path
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    for number, name in enumerate(["a.jpg", "b.jpg", "c.jpg"]):
        (tmp_path / "in/deep").mkdir(parents=True, exist_ok=True)
        table = pa.table({"filepath": [name], "Category": [1.0 if number else 7.5]})
        parquet.write_table(table, tmp_path / f"in/deep/{number}.parquet")
    project = make("a.jpg", "b.jpg", "c.jpg")
    import_labels(project.store, "parquet", tmp_path / "in")
    assert {path: label for path, (_, label) in project.standing().items()} == {
        "a.jpg": "7.5",
        "b.jpg": "1",
        "c.jpg": "1",
    }


def test_names_that_lead_out_of_a_zip_are_refused_and_nothing_is_written(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg", "c.jpg")
    source = zipped(
        tmp_path / "x.zip",
        {
            "cat/a.jpg": "another",
            "../../dog/b.jpg": "another",
            "/dog/c.jpg": "another",
            "dog/../cat/b.jpg": "x",
        },
    )
    for format in ("folders", "cvat", "fiftyone", "imagefolder"):
        report = import_labels(project.store, format, source, annotator=format)
        assert project.standing() == {"a.jpg": ("labelled", "cat"), "c.jpg": ("labelled", "dog")}
        assert report.reasons["has a name that leads out of the folder"].examples == [
            "../../dog/b.jpg",
            "dog/../cat/b.jpg",
        ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images1", "project1", "x.zip"]


@pytest.mark.parametrize("name", ["/a.jpg", "../a.jpg", "x/../../a.jpg"])
def test_metadata_never_looks_outside_of_its_folder(name: str, make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg")
    rows = [{"file_name": name, "label": "cat"}, {"file_name": "b.jpg", "label": "cat"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = import_labels(project.store, "imagefolder", tmp_path / "metadata.jsonl")
    assert project.standing() == {"b.jpg": ("labelled", "cat")}
    assert report.reasons["has a name that leads out of the folder"].examples == [f"{name} (line 1)"]


@pytest.mark.parametrize("name", ["/somewhere/else/a.jpg", "../photos/a.jpg", "C:\\photos\\a.jpg"])
def test_a_table_from_another_machine_names_images_by_the_end_of_their_paths(
    name: str, make: Make, tmp_path: Path
) -> None:
    project = make("photos/a.jpg", "b.jpg")
    (tmp_path / "x.csv").write_text(f"path,label\n{name},cat\n")
    import_labels(project.store, "csv", tmp_path / "x.csv")
    assert project.standing() == {"photos/a.jpg": ("labelled", "cat")}


def test_names_without_a_suffix_are_known_where_only_one_image_can_be_meant(
    make: Make, tmp_path: Path
) -> None:
    project = make("x/1.jpg", "x/2.jpg", "x/2.png")
    (tmp_path / "x.csv").write_text("id,path,label\n1,1,cat\n2,x/2,cat\n")
    report = import_labels(project.store, "csv", tmp_path / "x.csv")
    assert project.standing() == {"x/1.jpg": ("labelled", "cat")}
    assert counts(report) == {"several images are called so": 1}


def test_one_image_under_two_classes_is_noted_and_the_same_twice_counted(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg")
    (tmp_path / "x.csv").write_text("path,label\na.jpg,cat\na.jpg,dog\nb.jpg,cat\nb.jpg,cat\n./b.jpg,cat\n")
    report = import_labels(project.store, "csv", tmp_path / "x.csv")
    assert project.standing() == {"a.jpg": ("labelled", "dog"), "b.jpg": ("labelled", "cat")}
    assert counts(report) == {"is in the file twice": 2}
    assert report.notes == ("1 × named twice with different labels, the last of which stands: a.jpg",)
    assert str(report).endswith(f"  note: {report.notes[0]}")


def test_classes_that_differ_only_by_normal_form_or_blanks_are_one_by_capitals_two_and_noted(
    make: Make, tmp_path: Path
) -> None:
    project = make("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")
    rows = "a.jpg,caf\u00e9\nb.jpg,cafe\u0301\nc.jpg, caf\u00e9 \nd.jpg,Caf\u00e9\ne.jpg,dog\n"
    (tmp_path / "x.csv").write_text(f"path,label\n{rows}", "utf-8")
    report = import_labels(project.store, "csv", tmp_path / "x.csv")
    assert [one.name for one in project.store.classes()] == ["caf\u00e9", "Caf\u00e9", "dog"]
    assert report.notes == (
        "the classes caf\u00e9, Caf\u00e9 differ only in capitals; merge them if they are one",
        "1 × blanks around a class name, such as ' caf\u00e9 ' (line 4): left out",
    )
    assert import_labels(project.store, "csv", tmp_path / "x.csv").notes == report.notes[1:]


def test_a_damaged_table_inside_a_zip_names_its_place(make: Make, tmp_path: Path) -> None:
    source = zipped(tmp_path / "x.zip", {"train/metadata.csv": "file_name,label\n" + "a.jpg,cat\n" * 99})
    source.write_bytes(source.read_bytes().replace(b"a.jpg,cat\na.jpg", b"a.jpg,dog\na.jpg"))
    project = make("a.jpg")
    with pytest.raises(UserError, match=r"cannot read train/metadata.csv: Bad CRC"):
        import_labels(project.store, "imagefolder", source)
    assert project.store.history() == []


def test_lines_of_a_list_that_make_no_sense_are_told(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg", "c c.jpg", "d.jpg")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/synsets.txt").write_text("cat\ngreat dane\n")
    lines = ["a.jpg 0", '"c c".jpg 1', '"d.jpg" 1', "b.jpg 7", "b.jpg 0 1", "b.jpg cat", "b.jpg"]
    (tmp_path / "in/train.txt").write_text("\n".join(lines))
    report = import_labels(project.store, "cvat", tmp_path / "in")
    assert {path: label for path, (_, label) in project.standing().items()} == {
        "a.jpg": "cat",
        "c c.jpg": "great dane",
        "d.jpg": "great dane",
    }
    assert {reason: about.examples for reason, about in report.reasons.items()} == {
        "has a number that synsets.txt does not have": ["train.txt line 4"],
        "names several classes": ["train.txt line 5"],
        "is not a path and a number": ["train.txt line 6"],
        "has no label": ["b.jpg (train.txt line 7)"],
    }


def test_cvats_own_file_names_start_with_the_class(make: Make, tmp_path: Path) -> None:
    project = make("1.jpg", "2.jpg")
    source = zipped(tmp_path / "x.zip", {"cat/cat_1.jpg": "x", "no_label/2.jpg": "x"})
    import_labels(project.store, "cvat", source)
    assert project.standing() == {"1.jpg": ("labelled", "cat")}


def test_labels_of_fiftyone_that_make_no_sense_are_told(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "sub/b.jpg", "c.jpg")
    labels = {"a": [0, 1], "sub/b": 9, "c": {"label": 1, "confidence": 0.5, "attributes": None}, "gone": 0}
    (tmp_path / "labels.json").write_text(json.dumps({"labels": labels, "classes": ["cat", "dog"]}))
    report = import_labels(project.store, "fiftyone", tmp_path / "labels.json")
    assert project.standing() == {"c.jpg": ("labelled", "dog")}
    assert counts(report) == {
        "names several classes": 1,
        "has a number that is none of the classes": 1,
        "its image is not in the project": 1,
    }


def test_a_folder_with_a_link_to_itself_is_read_once(make: Make, tmp_path: Path) -> None:
    project = make("1.jpg", "2.jpg")
    for name in ("cat/1.jpg", "dog/2.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        (tmp_path / "in" / name).write_text("x")
    (tmp_path / "in/dog/loop").symlink_to(tmp_path / "in", target_is_directory=True)
    assert import_labels(project.store, "folders", tmp_path / "in").taken == 2


def test_an_export_never_writes_over_a_folder_that_holds_something(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("precious")
    with pytest.raises(UserError, match="is there already"):
        export_labels(project.store, project.images, "fiftyone", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_export_that_fails_in_the_middle_leaves_nothing(make: Make, tmp_path: Path) -> None:
    project = make(*(f"{n}.jpg" for n in range(5)))
    before = sorted(tmp_path.iterdir())

    def fail(done: int, total: int) -> None:
        raise RuntimeError("stop")

    for format, out in (("fiftyone", "out"), ("cvat", "out.zip"), ("csv", "out.csv")):
        with pytest.raises(RuntimeError, match="stop"):
            export_labels(project.store, project.images, format, tmp_path / out, progress=fail)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("format", "more", "said"),
    [
        (
            "imagefolder",
            {"form": "jsnl"},
            "no form 'jsnl'. Did you mean 'jsonl'? Known: jsonl, csv, parquet, tree",
        ),
        ("csv", {"form": "tree"}, "csv has one form only"),
        ("fiftyone", {"out": "labels.json"}, "more than one file. Give the name of a folder"),
        ("folders", {"labels_only": True}, "class folders are made of images"),
    ],
)
def test_a_wish_that_cannot_be_met_is_told_with_its_mend(
    format: str, more: dict[str, object], said: str, make: Make, tmp_path: Path
) -> None:
    project = make("a.jpg")
    out = tmp_path / str(more.pop("out", "out"))
    with pytest.raises(UserError) as caught:
        export_labels(project.store, project.images, format, out, **more)  # type: ignore[arg-type]
    assert said in str(caught.value) and not out.exists()


def test_images_that_are_gone_or_replaced_are_left_out_and_named(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg", "c.jpg")
    project.hash_all()
    project.store.add_classes(["cat"])
    project.label("me", **dict.fromkeys(project.ids(), "cat"))
    (project.images / "a.jpg").unlink()
    (project.images / "b.jpg").write_text("something else")
    for number, format in enumerate(("folders", "cvat", "fiftyone", "imagefolder")):
        missing = export_labels(project.store, project.images, format, tmp_path / f"out{number}")
        assert missing == ("a.jpg", "b.jpg\tanother image has taken its place since; rescan the folder")
        names = sorted(
            path.name for path in (tmp_path / f"out{number}").rglob("*.*") if path.suffix != ".json"
        )
        assert [name for name in names if name.endswith(".jpg")] == ["c.jpg"]
        assert ("MISSING.txt" in names) == (format != "cvat")  # CVAT takes only images


def test_a_path_too_long_for_a_name_is_shortened_and_its_image_known_by_content(
    make: Make, tmp_path: Path
) -> None:
    deep = "/".join(["a folder with a rather long name"] * 9)
    project = make("1.jpg", f"{deep}/1.jpg", "2.jpg")
    project.store.add_classes(["cat", "dog"])
    project.label("me", **{"1.jpg": "cat", f"{deep}/1.jpg": "dog", "2.jpg": "cat"})
    export_labels(project.store, project.images, "folders", tmp_path / "out")
    fresh = make(like=project)
    fresh.hash_all()
    import_labels(fresh.store, "folders", tmp_path / "out")
    assert fresh.standing() == project.standing()


@pytest.mark.parametrize("form", ["jsonl", "tree"])
def test_a_zip_of_a_whole_folder_is_as_good_as_one_of_what_is_in_it(
    form: str, make: Make, tmp_path: Path
) -> None:
    project = make("a.jpg", "b.jpg")
    project.store.add_classes(["cat", "dog"])
    project.label("me", **{"a.jpg": "cat", "b.jpg": "dog"})
    export_labels(project.store, project.images, "imagefolder", tmp_path / "pets/out", form=form)
    shutil.make_archive(str(tmp_path / "x"), "zip", tmp_path / "pets")
    fresh = make(like=project)
    import_labels(fresh.store, "imagefolder", tmp_path / "x.zip")
    assert fresh.standing() == project.standing()


def test_without_pyarrow_parquet_says_what_to_install_and_all_else_works(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    project = make("a.jpg")
    project.store.add_classes(["cat"])
    project.label("me", **{"a.jpg": "cat"})
    before = sorted(tmp_path.iterdir())
    for format, form in (("parquet", None), ("imagefolder", "parquet")):
        with pytest.raises(
            UserError, match=r"writing Parquet needs pyarrow. Run: pip install 'vizsla\[parquet\]'"
        ):
            export_labels(project.store, project.images, format, tmp_path / "out", form=form)
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="reading Parquet needs pyarrow"):
        import_labels(project.store, "parquet", tmp_path / "x.parquet")
    export_labels(project.store, project.images, "imagefolder", tmp_path / "out")
