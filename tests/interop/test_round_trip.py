"""Export → a fresh project on a copy of the images → import: nothing is lost."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vizsla.interop import export_labels, formats, import_labels, importers

if TYPE_CHECKING:
    from tests.interop.conftest import Made

    Make = Callable[..., Made]
WITH_PEOPLE = ["coco", "csv", "jsonl", "label-studio", "parquet"]
WITH_IMAGES = ["cvat", "fiftyone", "folders", "imagefolder"]
FORMS = [(name, form) for name in WITH_IMAGES for form in formats[name].forms]
LABELS_ONLY = [one for one in FORMS if one[0] != "folders" and one[1] != "tree"]


def test_the_formats_can_be_read_and_written() -> None:
    assert list(formats) == list(importers) == sorted(WITH_PEOPLE + WITH_IMAGES)
    assert {name: formats[name].name for name in formats} == {name: name for name in formats}


@pytest.mark.parametrize("format", WITH_PEOPLE)
def test_everything_that_was_said_comes_back(format: str, hard: Made, make: Make, tmp_path: Path) -> None:
    fresh = make(like=hard)
    report = import_labels(fresh.store, format, hard.export(format, tmp_path))
    waiting = (
        {"has no label": 1} if format == "label-studio" else {}
    )  # the one that only the model has a word for
    assert {reason: about.count for reason, about in report.reasons.items()} == waiting
    assert fresh.said() == hard.said() and report.taken == len(fresh.said()) > 25
    assert (
        set(report.new_classes) == {one.name for one in hard.store.classes()}
        and len(report.new_classes) == 20
    )


@pytest.mark.parametrize("format", WITH_PEOPLE)
def test_the_suggestion_comes_back_with_its_class(
    format: str, hard: Made, make: Make, tmp_path: Path
) -> None:
    fresh = make(like=hard)
    import_labels(fresh.store, format, hard.export(format, tmp_path))
    names = fresh.store.class_names()
    shown = {
        label.path: (names[label.suggestion[0][0]], label.suggestion[0][1], label.suggestion_shown)
        for label in fresh.store.labels()
        if label.suggestion
    }
    there = {label.path: label.suggestion_shown for label in hard.store.labels() if label.suggestion}
    assert len(there) > 5
    assert shown == {path: ("great dane", 0.625, was_shown) for path, was_shown in there.items()}


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("unpacked", [False, True])
def test_class_folders_keep_image_and_class(
    unpacked: bool, hashed: bool, hard: Made, make: Make, tmp_path: Path
) -> None:
    fresh = make(like=hard)
    if hashed:
        fresh.hash_all()
    source = hard.export("folders", tmp_path)
    if unpacked:
        with zipfile.ZipFile(source) as archive:
            archive.extractall(tmp_path / "unpacked")
        source = tmp_path / "unpacked"
    report = import_labels(fresh.store, "folders", source)
    assert fresh.standing() == labelled(hard)
    assert report.taken == len(labelled(hard))
    assert {reason: about.count for reason, about in report.reasons.items()} == {"has no label": 3}


def labelled(project: Made) -> dict[str, tuple[str, str | None]]:
    return {path: told for path, told in project.standing().items() if told[0] == "labelled"}


def plain(make: Make) -> Made:
    """Folders as file systems and other tools like them, and classes that can be folders."""
    names = ("a.jpg", "b b.jpg", "ü 犬.jpg", "sub/a.jpg", "sub/deep/e.jpg", "sub/deep/a.png", "more/last.jpg")
    project = make(*names)
    project.store.add_classes(["great dane", "ünïcode 犬", "7 up"])
    for name, one in zip(names[:-1], ["great dane", "ünïcode 犬", "7 up"] * 2, strict=True):
        project.label("me", **{name: one})
    return project


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("format", "form"), FORMS)
def test_every_form_with_images_keeps_label_and_file_name_though_the_images_are_known_by_name_alone(
    format: str, form: str, zipped: bool, hard: Made, make: Make, tmp_path: Path
) -> None:
    project = plain(make) if (format, form) == ("imagefolder", "tree") else hard
    out = tmp_path / ("out.zip" if zipped else "out")
    assert export_labels(project.store, project.images, format, out, form=form) == ()
    fresh = make(like=project)
    report = import_labels(fresh.store, format, out)
    assert fresh.standing() == labelled(project)
    assert report.taken == len(labelled(project)) and set(report.reasons) <= {"has no label"}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("format", "form"), LABELS_ONLY)
def test_labels_alone_keep_every_label_in_a_few_small_files(
    format: str, form: str, zipped: bool, hard: Made, make: Make, tmp_path: Path
) -> None:
    out = tmp_path / ("out.zip" if zipped else "out")
    export_labels(hard.store, hard.images, format, out, form=form, labels_only=True)
    if not zipped:
        assert not [file for file in out.rglob("*") if file.suffix in (".jpg", ".png")]
    fresh = make(like=hard)
    import_labels(fresh.store, format, out)
    assert fresh.standing() == labelled(hard)


@pytest.mark.parametrize(("format", "form"), FORMS)
def test_splits_stay_splits(format: str, form: str, make: Make, tmp_path: Path) -> None:
    project = make("train/x/1.jpg", "train/y/1.jpg", "test/x/1.jpg", "test/y/2.jpg")
    project.store.add_classes(["x", "y"])
    project.label("me", **{path: path.split("/")[1] for path in project.ids()})
    export_labels(project.store, project.images, format, tmp_path / "out", form=form)
    fresh = make(like=project)
    import_labels(fresh.store, format, tmp_path / "out")
    assert fresh.standing() == project.standing() and len(project.standing()) == 4


@pytest.mark.parametrize("format", [*WITH_PEOPLE, *WITH_IMAGES])
def test_importing_twice_adds_nothing(format: str, hard: Made, make: Make, tmp_path: Path) -> None:
    fresh = make(like=hard)
    file = hard.export(format, tmp_path)
    import_labels(fresh.store, format, file)
    before = fresh.store.history()
    report = import_labels(fresh.store, format, file)
    assert (report.taken, report.new_classes) == (0, ())
    assert report.reasons["is in the project already"].count == len(before)
    assert fresh.store.history() == before


@pytest.mark.parametrize("format", WITH_PEOPLE)
def test_importing_what_a_project_wrote_itself_adds_nothing(format: str, hard: Made, tmp_path: Path) -> None:
    before = hard.store.history()
    assert import_labels(hard.store, format, hard.export(format, tmp_path)).taken == 0
    assert hard.store.history() == before


@pytest.mark.parametrize("format", [*WITH_PEOPLE, *WITH_IMAGES])
def test_a_project_without_labels_makes_a_file_that_is_whole(format: str, make: Make, tmp_path: Path) -> None:
    project = make("a.jpg")
    data = project.export(format, tmp_path).read_bytes()
    expected = {
        "coco": b'{"images": [',
        "csv": b"file_name,sha256,label",
        "jsonl": b"",
        "label-studio": b"[]\n",
        "parquet": b"PAR1",
    }
    assert data.startswith(expected.get(format, b"PK"))


def test_labels_of_renamed_and_merged_classes_go_out_under_their_names_now(
    make: Make, tmp_path: Path
) -> None:
    project = make("a.jpg", "b.jpg")
    project.store.add_classes(["cat", "kitty", "dog"])
    project.label("me", **{"a.jpg": "cat", "b.jpg": "kitty"})
    project.store.rename_class("cat", "feline")
    project.store.merge_class("kitty", "feline")
    fresh = make(like=project)
    import_labels(fresh.store, "csv", project.export("csv", tmp_path))
    assert fresh.standing() == {"a.jpg": ("labelled", "feline"), "b.jpg": ("labelled", "feline")}
    assert [one.name for one in fresh.store.classes()] == ["feline"]
