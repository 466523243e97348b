"""`vizsla import` and `export` as people type them: help, bars, mistakes, what is left out."""

import json
import re

import pytest

from vizsla.interop import formats, importers
from vizsla.project import Project
from vizsla.store import Answer


@pytest.fixture
def answered(tmp_path, photos):
    """A project with all sixty photos labelled."""
    with Project.open(tmp_path / "project", photos) as opened:
        opened.add_classes(["blue", "green", "red"])
        opened.scan()
        me = opened.store.annotator("me").id
        images = opened.store.images()
        opened.store.label_batch(me, [Answer(image.id, image.path[4:-4]) for image in images])
    return tmp_path / "project"


@pytest.mark.parametrize(
    ("command", "known"), [("import", importers), ("export", [*formats, "model", "onnx"])]
)
def test_the_help_names_every_format_with_what_it_is(command, known, vizsla_here):
    listed = vizsla_here(command, "--help").stdout.partition("Formats:\n")[2]
    assert set(known) <= set(re.findall(r"^  (\S+)  ", listed, re.MULTILINE))
    if command == "export":
        assert "forms: jsonl, csv, parquet, tree" in " ".join(listed.split())


def test_both_ways_show_how_far_they_are(answered, photos, tmp_path, vizsla_here):
    done = vizsla_here("export", "imagefolder", "--project", answered, "--out", tmp_path / "out")
    assert done.stdout == f"wrote {tmp_path / 'out'}\n"
    assert "writing imagefolder" in done.stderr and "60/60" in done.stderr
    done = vizsla_here(
        "import", "imagefolder", tmp_path / "out", "--project", tmp_path / "fresh", "--images", photos
    )
    assert done.stdout.startswith("60 labels imported, 0 rows passed over; new classes: ")
    assert "writing labels" in done.stderr and "60/60" in done.stderr


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_dry_run_writes_nothing_and_says_what_the_import_would_do(photos, tmp_path, vizsla_here):
    """Of a project that is not there yet, and of one whose folder has got another image since."""
    names = sorted(path.name for path in photos.iterdir())
    (tmp_path / "x.csv").write_text(f"path,label\n{names[0]},cat\n{names[1]},dog\n")
    command = ["import", "csv", tmp_path / "x.csv", "--project", tmp_path / "fresh", "--images", photos]
    before = content(tmp_path)
    told = vizsla_here(*command, "--dry-run").stdout
    assert content(tmp_path) == before
    came = vizsla_here(*command).stdout
    assert told == (
        "nothing was written; the import would end so:\n"
        "2 labels imported, 0 rows passed over; new classes: cat, dog\n  cat: 1\n  dog: 1\n"
    )
    assert came in told
    (photos / "new.png").write_bytes((photos / names[0]).read_bytes())
    (tmp_path / "x.csv").write_text("path,label\nnew.png,cat\n")
    before = content(tmp_path)
    told = json.loads(vizsla_here(*command, "--dry-run", "--json").stdout)
    after = content(tmp_path)
    assert {path for path in before if before[path] != after[path]} == set()
    assert (told["taken"], told["classes"], told["dry_run"]) == (1, {"cat": 1}, True)
    assert vizsla_here("status", "--project", tmp_path / "fresh", "--json").stdout.count('"images": 60') == 1
    assert vizsla_here(*command).stdout == "1 labels imported, 0 rows passed over\n"


def test_images_that_are_gone_are_told_and_the_rest_is_written(answered, photos, tmp_path, vizsla_here):
    gone = sorted(photos.iterdir())[0]
    gone.unlink()
    done = vizsla_here("export", "cvat", "--project", answered, "--out", tmp_path / "out")
    assert done.returncode == 0
    assert f"left out 1, gone or replaced since the last scan: {gone.name}\n" in done.stderr
    assert len(list((tmp_path / "out").rglob("*.png"))) == 59


MISTAKES = {
    "a format nobody knows": (
        ["import", "jsnl", "{photos}", "--project", "{fresh}"],
        "Did you mean 'jsonl'?",
    ),
    "a form nobody knows": (
        ["export", "fiftyone", "--form", "three", "--out", "{fresh}", "--project", "{project}"],
        "fiftyone has no form 'three'. Did you mean 'tree'? Known: dataset, tree.",
    ),
    "a form of a model": (
        ["export", "onnx", "--form", "tree", "--out", "{fresh}", "--project", "{project}"],
        "onnx is a model: it has no forms and no images. Leave out --form and --labels-only.",
    ),
    "a file for many files": (
        ["export", "cvat", "--labels-only", "--out", "{fresh}.txt", "--project", "{project}"],
        "cvat is more than one file. Give the name of a folder, or one that ends in .zip",
    ),
    "a folder for a file": (
        ["export", "csv", "--out", "{photos}", "--project", "{project}"],
        "photos is a folder. Give the name of a file: --out",
    ),
    "a column without a name": (
        ["import", "csv", "{photos}", "--column", "label", "--project", "{fresh}", "--images", "{photos}"],
        "--column label names no column. Give ours and theirs: --column label=species.",
    ),
    "a column of what is no table": (
        [
            "import",
            "folders",
            "{photos}",
            "--column",
            "label=x",
            "--project",
            "{fresh}",
            "--images",
            "{photos}",
        ],
        "only tables have columns to choose from. Leave out --column.",
    ),
    "nothing to import": (
        ["import", "csv", "{fresh}.csv", "--project", "{fresh}", "--images", "{photos}"],
        "fresh.csv to import. Check the path.",
    ),
}


def test_a_file_with_a_mistake_in_it_leaves_no_project(photos, tmp_path, vizsla_here):
    results = [{"from_name": name, "value": {"choices": [name]}} for name in ("species", "quality")]
    task = {"id": 1, "data": {"image": "a.png"}, "annotations": [{"id": 1, "result": results}]}
    (tmp_path / "x.json").write_text(json.dumps([task]))
    command = [
        "import",
        "label-studio",
        tmp_path / "x.json",
        "--project",
        tmp_path / "fresh",
        "--images",
        photos,
    ]
    done = vizsla_here(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "species, quality. Choose one of them: --column label=species" in done.stderr
    assert not (tmp_path / "fresh").exists()
    assert vizsla_here(*command, "--column", "label=species").returncode == 0


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_its_mend_and_makes_nothing(
    mistake, answered, photos, tmp_path, vizsla_here
):
    arguments, said = MISTAKES[mistake]
    places = {"photos": photos, "fresh": tmp_path / "fresh", "project": answered}
    before = sorted(tmp_path.iterdir())
    done = vizsla_here(*(argument.format(**places) for argument in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and done.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_splits_are_said_once_by_an_import_and_a_new_project_remembers_what_it_was_told(
    photos, tmp_path, vizsla_here, caplog
):
    for n, photo in enumerate(sorted(photos.iterdir())[:4]):
        folder = tmp_path / "set" / ("train", "test")[n // 2] / ("cat", "dog")[n % 2]
        folder.mkdir(parents=True)
        (folder / photo.name).write_bytes(photo.read_bytes())
    command = ["import", "folders", tmp_path / "set", "--images", tmp_path / "set", "--project"]
    vizsla_here(*command, tmp_path / "one")
    assert caplog.text.count("test, train are splits, not classes") == 1
    vizsla_here(*command, tmp_path / "other", "--no-splits")
    for name, splits, classes in (("one", True, ["cat", "dog"]), ("other", False, ["test", "train"])):
        with Project.open(tmp_path / name) as project:
            assert project.settings.splits is splits
            assert [one.name for one in project.store.classes()] == classes
