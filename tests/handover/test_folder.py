"""The model of a project as a folder with its card, and what the command line makes of it."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

import vizsla
import vizsla.handover
from vizsla.cli.completing import MODELS
from vizsla.handover import FORMS
from vizsla.project import Project
from vizsla.standing import accuracy_of
from vizsla.store import Answer
from vizsla.testing import TOY_BACKBONE
from vizsla.training.now import train_now


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, sixty_photos: Path) -> Path:
    """A project with a model from 20 labels and one from 30, of a class whose name Markdown would take for more."""
    home = tmp_path_factory.mktemp("handover") / "project"
    with Project.open(home, sixty_photos) as project:
        project.change(backbone=TOY_BACKBONE)
        project.add_classes(["blue|*", "green", "red"])
        project.scan()
        me = project.store.annotator("me").id
        for n in (20, 10):
            for item in project.store.claim(me, n):
                name = item.path[4:-4].replace("blue", "blue|*")
                project.store.label(me, Answer(item.image_id, name, lease_id=item.lease_id))
            train_now(project)
    return home


@pytest.fixture(scope="module")
def folder(home: Path) -> Path:
    out = home.parent / "out"
    with Project.open(home) as project:
        vizsla.handover.hand_over(project, "model", out)
    return out


def test_the_folder_holds_weights_facts_card_and_plot_and_nothing_half_done(folder):
    names = {"model.safetensors", "model.json", "README.md", "learning-curve.png"}
    assert {file.name for file in folder.iterdir()} == names
    assert [file.name for file in folder.parent.iterdir() if file.name.startswith(".")] == []
    with Image.open(folder / "learning-curve.png") as plot:
        assert len(plot.convert("RGB").getcolors(1 << 20)) > 20  # something is drawn


def test_the_card_tells_the_measured_accuracy_and_the_curve_in_numbers(home, folder):
    card = (folder / "README.md").read_text("utf-8")
    with Project.open(home) as project:
        models = [model for model in project.store.models() if model.state == "ready"]
    measured = {model.labels_used: accuracy_of(model) for model in models}
    assert measured[30].sentence in card.replace("Accuracy", "accuracy")
    rows = re.findall(r"^\| (\d+) \| ([\d.]+)% \| ([\d.]+)–([\d.]+)% \| (\d+) \|$", card, re.M)
    assert {int(row[0]) for row in rows} == {20, 30}
    for labels, *shares, checks in rows:
        one = measured[int(labels)]
        assert [float(share) for share in shares] == pytest.approx(
            [100 * one.value, 100 * one.low, 100 * one.high], abs=0.051
        )
        assert int(checks) == one.checks


def test_the_card_tells_what_the_model_was_trained_on(home, folder):
    card = (folder / "README.md").read_text("utf-8")
    with Project.open(home) as project:
        counts = project.store.counts().classes
    assert "30 labels of 60 images" in card
    for name, count in counts.items():
        shown = name.replace("|", "\\|").replace("*", "\\*")
        assert f"| {shown} | {count} |" in card


def test_the_facts_are_those_of_the_project_and_of_the_weights(home, folder):
    told = json.loads((folder / "model.json").read_text("utf-8"))
    model = vizsla.load_model(folder)
    assert told["classes"] == list(model.classes) == ["blue|*", "green", "red"]
    assert told["backbone"]["backbone_key"] == model.backbone.key
    assert told["transform"]["size"] == 32
    assert told["provenance"]["labels"] == sum(told["provenance"]["labels_by_class"].values()) == 30
    assert [point["labels"] for point in told["metrics"]["learning_curve"]] == [20, 30]
    with Project.open(home) as project:
        assert told["metrics"]["accuracy"] == project.store.model().metrics["accuracy"]


def test_every_form_predicts_the_same_from_the_command_line(
    home, folder, sixty_photos, tmp_path, vizsla_here
):
    places = [str(home), str(folder)]
    for form, suffix in FORMS.items():
        done = vizsla_here("export", form, "--project", home, "--out", tmp_path / f"m{suffix}")
        assert done.returncode == 0, done.stderr
        places += [] if form == "torch" else [str(tmp_path / f"m{suffix}")]
    tables = []
    for place in places:
        done = vizsla_here("predict", place, sixty_photos)
        assert "60 predictions" in done.stderr
        tables.append(list(csv.DictReader(io.StringIO(done.stdout))))
    assert len(tables) == 4
    for table in tables[1:]:
        for row, first in zip(table, tables[0], strict=True):
            assert (row["file_name"], row["label"]) == (first["file_name"], first["label"])
            assert all(abs(float(row[name]) - float(first[name])) < 1e-4 for name in row if "prob" in name)


def test_a_folder_is_written_anew_in_its_place_and_what_else_lies_there_stays(home, folder, vizsla_here):
    (folder / "model.onnx").write_bytes(b"mine")
    (folder / "README.md").write_text("old")
    done = vizsla_here("export", "model", "--project", home, "--out", folder, "--json")
    size = json.loads(done.stdout)["bytes"]
    assert (folder / "README.md").read_text("utf-8") != "old"
    assert (folder / "model.onnx").read_bytes() == b"mine"
    assert size == sum(file.stat().st_size for file in folder.iterdir())


def test_predict_says_what_it_left_unsure_and_what_it_could_not_read(home, photos, tmp_path, vizsla_here):
    (photos / "broken.png").write_bytes(b"no image")
    out = tmp_path / "p.jsonl"
    done = vizsla_here("predict", home, photos, "--out", out, "--not-sure", "1")
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert sum(row["not_sure"] is None for row in rows) == 1
    assert re.fullmatch(rf"60 predictions.*; 1 file cannot be read, in {out}\n", done.stdout)
    assert "cannot read broken.png: " in done.stderr
    told = json.loads(vizsla_here("predict", home, photos, "--out", out, "--json").stdout)
    assert told == {"predictions": None, "out": str(out), "images": 60, "not_sure": 0, "unreadable": 1}


MISTAKES = {
    "a folder of other things": ("model", "{photos}", "holds other things than a model"),
    "a suffix that is none of ours": ("model", "m.bin", "must end in .safetensors, or be a folder"),
    "ONNX under another name": ("onnx", "m.pt", "must end in .onnx."),
    "a program under another name": ("torch", "m.pth", "must end in .pt2."),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_its_mend(mistake, home, photos, tmp_path, monkeypatch, vizsla_here):
    monkeypatch.chdir(tmp_path)
    form, out, said = MISTAKES[mistake]
    done = vizsla_here("export", form, "--project", home, "--out", out.format(photos=photos))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


def test_the_command_line_knows_every_form():
    assert set(MODELS) == set(FORMS)
