"""Against the real other side: Hugging Face datasets, FiftyOne, Datumaro and the SDK of Label Studio.

They live in an environment of their own, which `scripts/peers formats` makes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vizsla.errors import BadOption
from vizsla.interop import export_labels, import_labels, label_studio_config
from vizsla.store import Answer, Ranked
from vizsla.store.queue import NEAREST, REVIEW

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.interop.conftest import Made

    Make = Callable[..., Made]
    Others = Callable[..., Any]

HOME = Path(__file__).parents[2] / ".venv-formats"
PYTHON = HOME / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
NAMES = (
    "a.jpg",
    "b b.jpg",
    "ü 犬.png",
    "sub/a.jpg",
    "sub/unit test/e.jpg",
    "sub/a.png",
    "val 2/last.jpg",
    "x/no.jpg",
)
CLASSES = ("great dane", "ünïcode 犬", "7 up", "007", "NA", "Cat", "cat")
FOLDERS = ("great dane", "ünïcode 犬", "7 up", "007")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Others]:
    """Has the other tools do a job, see others.py."""
    assert (HOME / "stamp").exists(), f"there is no {HOME}. Run: scripts/peers formats"
    home = tmp_path_factory.mktemp("home")
    own = {"HOME": str(home), "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "FIFTYONE_DO_NOT_TRACK": "true"}
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [str(PYTHON), str(Path(__file__).with_name("others.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own,
        )
    assert process.stdin and process.stdout

    def ask(job: str, *arguments: Any) -> Any:
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps([job, *arguments], default=str) + "\n")
            process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, (home / "log").read_text()[-3000:]
        return json.loads(answer)

    yield ask
    process.kill()  # what the tools do at their end takes seconds and concerns nobody
    process.wait()
    process.stdin.close()
    process.stdout.close()


@pytest.fixture
def labelled(make: Make) -> Made:
    """Names and classes that are hard but that every tool can hold; one image has no label."""
    return answered(make, CLASSES)


def answered(make: Make, classes: Sequence[str], names: Sequence[str] = NAMES) -> Made:
    """All but the last image with a label, each class in turn."""
    project = make(*names)
    project.store.add_classes(classes)
    for number, name in enumerate(names[:-1]):
        project.label("me", **{name: classes[number % len(classes)]})
    return project


def by_text(project: Made, *, unlabelled: bool = False) -> dict[str, str | None]:
    """Text of each image → its label: what the other tool has to say."""
    told = {f"content of {path}": label for path, (_, label) in project.standing().items()}
    rest = {f"content of {path}": None for path in project.ids()} if unlabelled else {}
    return rest | told


def write(project: Made, format: str, out: Path, **more: Any) -> Path:
    export_labels(project.store, project.images, format, out, **more)
    return out


# Hugging Face


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_hugging_face_reads_the_same_labels(
    form: str, labelled: Made, others: Others, tmp_path: Path
) -> None:
    out = write(labelled, "imagefolder", tmp_path / "out", form=form)
    assert others("huggingface", out) == {"train": by_text(labelled)}


@pytest.mark.parametrize("form", ["csv", "tree"])
def test_hugging_face_reads_the_same_labels_of_plain_names(
    form: str, make: Make, others: Others, tmp_path: Path
) -> None:
    project = answered(make, FOLDERS)
    assert others("huggingface", write(project, "imagefolder", tmp_path / "out", form=form)) == {
        "train": by_text(project)
    }


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "tree"])
def test_hugging_face_reads_the_same_splits(form: str, make: Make, others: Others, tmp_path: Path) -> None:
    project = make("train/x/1.jpg", "train/y/2.jpg", "test/x/3.jpg", "test/y/test 4.jpg")
    project.store.add_classes(["x", "y"])
    project.label("me", **{path: path.split("/")[1] for path in project.ids()})
    assert others("huggingface", write(project, "imagefolder", tmp_path / "out", form=form)) == {
        "train": {"content of train/x/1.jpg": "x", "content of train/y/2.jpg": "y"},
        "test": {"content of test/x/3.jpg": "x", "content of test/y/test 4.jpg": "y"},
    }


def test_hugging_face_reads_labels_alone_beside_the_images(
    make: Make, others: Others, tmp_path: Path
) -> None:
    project = make("a.jpg", "sub/b.jpg")
    project.store.add_classes(["cat", "dog"])
    project.label("me", **{"a.jpg": "cat", "sub/b.jpg": "dog"})
    out = write(project, "imagefolder", tmp_path / "out", labels_only=True)
    (table,) = out.iterdir()
    table.rename(project.images / table.name)
    assert others("huggingface", project.images) == {"train": by_text(project)}


def test_a_tree_that_hugging_face_would_read_otherwise_is_refused(make: Make, tmp_path: Path) -> None:
    for classes, said in {
        ("cat",): "single class folder",
        ("a/b", "c"): "'a/b' cannot be a folder",
        ("test tube", "c"): "'test tube' cannot be a folder",
        ("Cat", "cat"): "differ only by capitals",
    }.items():
        with pytest.raises(BadOption, match=said):
            write(answered(make, classes), "imagefolder", tmp_path / "out", form="tree")
        assert not (tmp_path / "out").exists()


def test_hugging_face_reads_our_parquet(hard: Made, others: Others, tmp_path: Path) -> None:
    rows = others("huggingface_parquet", hard.export("parquet", tmp_path))
    said = [label for label in hard.store.labels() if "\udcff" not in (label.path or "")]
    told = {(row["file_name"], row["status"], row["label"], row["lead_ms"], row["annotator"]) for row in rows}
    assert {(one.path, one.status, one.label, one.lead_ms, one.annotator) for one in said} <= told
    assert len(rows) == len(hard.store.labels())


def test_a_parquet_of_hugging_face_with_images_inside_is_known_by_content(
    make: Make, others: Others, tmp_path: Path
) -> None:
    project = make("a.jpg", "b.jpg", "sub/renamed.jpg", "none.jpg")
    project.hash_all()
    (tmp_path / "c.jpg").write_bytes((project.images / "sub/renamed.jpg").read_bytes())
    files = {project.images / "a.jpg": 1, project.images / "b.jpg": 0, tmp_path / "c.jpg": 1}
    none = {project.images / "none.jpg": -1}
    others(
        "huggingface_write",
        {str(path): code for path, code in (files | none).items()},
        ["x", "y y"],
        tmp_path / "x",
    )
    report = import_labels(project.store, "parquet", tmp_path / "x")
    assert {path: label for path, (_, label) in project.standing().items()} == {
        "a.jpg": "y y",
        "b.jpg": "x",
        "sub/renamed.jpg": "y y",
    }
    assert {reason: about.examples for reason, about in report.reasons.items()} == {
        "has no label": ["none.jpg (row 4)"]
    }


# FiftyOne


def test_fiftyone_reads_the_same_labels(labelled: Made, others: Others, tmp_path: Path) -> None:
    read = others("fiftyone_dataset", write(labelled, "fiftyone", tmp_path / "out"), None, None)
    assert {name: label and label[0] for name, label in read.items()} == by_text(labelled, unlabelled=True)
    assert all(label[1]["annotator"] == "me" for label in read.values() if label)


def test_fiftyone_reads_labels_alone_with_the_image_folder(
    make: Make, others: Others, tmp_path: Path
) -> None:
    project = answered(make, CLASSES)
    out = write(project, "fiftyone", tmp_path / "out", labels_only=True)
    read = others("fiftyone_dataset", None, project.images, out / "labels.json")
    assert {name: label and label[0] for name, label in read.items()} == by_text(project, unlabelled=True)


def test_fiftyone_reads_the_tree(make: Make, others: Others, tmp_path: Path) -> None:
    project = answered(make, FOLDERS)
    read = others("fiftyone_tree", write(project, "fiftyone", tmp_path / "out", form="tree"))
    assert read == by_text(project, unlabelled=True)


def test_what_the_project_knows_of_its_images_goes_by_fiftyones_names(
    make: Make, others: Others, tmp_path: Path
) -> None:
    project = make("a.jpg", "b.jpg", "c.jpg")
    store, ids = project.store, project.ids()
    cat, _ = store.add_classes(["cat", "dog"])
    version = store.start_model(20, "logistic", "lite0").version
    store.publish_ranking(version, [Ranked(ids["a.jpg"], 1.0, "unsure", suggestion=((cat.id, 0.75),))])
    me = store.annotator("me").id
    store.claim(me)
    store.label(me, Answer(ids["a.jpg"], "dog"))
    store.label_batch(me, [Answer(ids["b.jpg"], "cat"), Answer(ids["c.jpg"], "cat")])
    error = {"image": ids["b.jpg"], "label": "cat", "suggestion": ["dog", 0.9], "score": 0.5}
    store.set_setting(REVIEW, {"version": 1, "label_id": 9, "errors": [error], "duplicates": []})
    store.set_setting(NEAREST, {ids["b.jpg"]: 0.96, ids["c.jpg"]: 0.96})
    read = others("fiftyone_dataset", write(project, "fiftyone", tmp_path / "out"), None, None)
    names = ("uniqueness", "hardness", "mistakenness")
    told = {key: {name: of[1].get(name) for name in names if name in of[1]} for key, of in read.items()}
    assert told == {
        "content of a.jpg": {"hardness": 0.25},
        "content of b.jpg": {"mistakenness": 0.5, "uniqueness": 0.04},
        "content of c.jpg": {"uniqueness": 0.04},
    }


@pytest.mark.parametrize("kind", ["dataset", "dataset with classes", "tree"])
def test_what_fiftyone_writes_is_read(
    kind: str, make: Make, labelled: Made, others: Others, tmp_path: Path
) -> None:
    fresh = make(like=labelled)
    labels = {path: label for path, (_, label) in labelled.standing().items() if path != "sub/a.png"}
    files = {str(labelled.images / path): label for path, label in labels.items()}
    files[str(labelled.images / "x/no.jpg")] = None
    classes = list(CLASSES) if "classes" in kind else None
    others("fiftyone_write", files, labelled.images, tmp_path / "out", kind.split()[0], classes)
    report = import_labels(fresh.store, "fiftyone", tmp_path / "out")
    assert {path: label for path, (_, label) in fresh.standing().items()} == labels
    assert {reason: about.count for reason, about in report.reasons.items()} == {"has no label": 1}


# CVAT, by Datumaro


def test_datumaro_reads_the_same_labels(make: Make, others: Others, tmp_path: Path) -> None:
    project = answered(make, FOLDERS)
    read = others("datumaro", write(project, "cvat", tmp_path / "out"), "imagenet")
    assert read == {"default": by_text(project, unlabelled=True)}


def test_datumaro_reads_the_lists(make: Make, others: Others, tmp_path: Path) -> None:
    known = [name for name in NAMES if name != "sub/a.png"]  # it and CVAT take it for sub/a.jpg
    project = answered(make, CLASSES, known)
    out = write(project, "cvat", tmp_path / "out", labels_only=True)
    assert sorted(file.name for file in out.iterdir()) == ["default.txt", "synsets.txt"]
    assert others("datumaro", out, "imagenet_txt", project.images) == {"default": by_text(project)}


def test_datumaro_reads_a_list_for_each_split(make: Make, others: Others, tmp_path: Path) -> None:
    project = make("train/x/1.jpg", "train/y/2 2.jpg", "test/x/3.jpg")
    project.store.add_classes(["x", "y"])
    project.label("me", **{path: path.split("/")[1] for path in project.ids()})
    out = write(project, "cvat", tmp_path / "out", labels_only=True)
    assert others("datumaro", out, "imagenet_txt", project.images) == {
        "train": {"content of train/x/1.jpg": "x", "content of train/y/2 2.jpg": "y"},
        "test": {"content of test/x/3.jpg": "x"},
    }


@pytest.mark.parametrize("format", ["imagenet", "imagenet_with_subset_dirs", "imagenet_txt"])
def test_what_datumaro_writes_is_read(format: str, make: Make, others: Others, tmp_path: Path) -> None:
    project = make("a.jpg", "b b.jpg", "ü.jpg", "none.jpg")
    names = {"a.jpg": "x", "b b.jpg": "y y", "ü.jpg": "x", "none.jpg": None}
    files = {
        str(project.images / name): [Path(name).stem, "test" if name == "a.jpg" else "train", label]
        for name, label in names.items()
    }
    others("datumaro_write", files, ["x", "y y"], tmp_path / "out", format)
    report = import_labels(project.store, "cvat", tmp_path / "out")
    labels = {name: label for name, label in names.items() if label}
    assert {path: label for path, (_, label) in project.standing().items()} == labels
    assert {reason: about.count for reason, about in report.reasons.items()} == {"has no label": 1}


# Label Studio, by its SDK


def test_label_studios_own_checks_pass_and_its_short_exports_come_back(
    make: Make, labelled: Made, others: Others, tmp_path: Path
) -> None:
    store, ids = labelled.store, labelled.ids()
    code = next(one.id for one in store.classes() if one.name == "7 up")
    version = store.start_model(20, "logistic", "lite0").version
    store.publish_ranking(version, [Ranked(ids["x/no.jpg"], 1.0, "unsure", suggestion=((code, 0.75),))])
    file = labelled.export("label-studio", tmp_path)
    config = label_studio_config(one.name for one in store.classes())
    seen = others("label_studio", file, config, tmp_path)
    assert seen == [*([label.label] for label in store.labels()), ["7 up"]]
    (task,) = [task for task in json.loads(file.read_text("utf-8")) if not task["annotations"]]
    assert task["data"]["file_name"] == "x/no.jpg"
    assert [(one["score"], one["model_version"]) for one in task["predictions"]] == [(0.75, "1")]
    for short in ("min/result.json", "csv/result.csv"):
        fresh = make(like=labelled)
        report = import_labels(fresh.store, "label-studio", tmp_path / short)
        assert fresh.standing() == labelled.standing(), report
