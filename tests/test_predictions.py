"""Predictions of a folder as CSV, JSONL and Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vizsla import predictions
from vizsla.data.names import from_text
from vizsla.data.sources import Folder
from vizsla.errors import BadOption, NoImages
from vizsla.models.backbones import load_backbone
from vizsla.models.bundle import Bundle
from vizsla.models.classifier import Classifier
from vizsla.predictions import FORMATS, write_predictions
from vizsla.testing import TOY_BACKBONE, toy_images

CLASSES = ("red", "grün, hell", 'blue "b"')


@pytest.fixture(scope="module")
def model() -> Classifier:
    """A head of random weights: unsure of some images, sure of others."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.7, (3, 24)).astype(np.float32)
    return Classifier(
        Bundle(CLASSES, None, weights, np.zeros(3, np.float32), 1.0), load_backbone(TOY_BACKBONE)
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images in three folders, and a broken one among them."""
    folder = toy_images(tmp_path / "images", per_class=4)
    (folder / "green" / "001b, broken.png").write_bytes(b"no image")
    return folder


def read(file: Path) -> list[dict]:
    """The rows of any of the three formats, alike."""
    if file.suffix == ".parquet":
        rows = pq.read_table(file).to_pylist()
    elif file.suffix == ".jsonl":
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        return [row | {"probs": list((row["probs"] or {}).values())} for row in rows]
    else:
        rows = [
            {name: value or None for name, value in row.items()}
            for row in csv.DictReader(io.StringIO(file.read_text("utf-8"), newline=""))
        ]
    return [
        {name: value for name, value in row.items() if not name.startswith("prob")}
        | {"prob": None if row["prob"] is None else float(row["prob"])}
        | {"probs": [float(row[f"prob_{name}"]) for name in CLASSES if row[f"prob_{name}"] is not None]}
        for row in rows
    ]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_file_has_a_row_with_the_models_probabilities(suffix, model, folder, tmp_path):
    tally = write_predictions(model, Folder(folder), tmp_path / f"out{suffix}")
    rows = read(tmp_path / f"out{suffix}")
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.png"))
    assert [row["file_name"] for row in rows] == names
    expected = model.predict([folder / name for name in names])
    for row, probs in zip(rows, expected.probs, strict=True):
        if "broken" in row["file_name"]:
            assert (row["label"], row["prob"], row["probs"]) == (None, None, [])
            assert "damaged" in row["error"]
        else:
            assert row["probs"] == pytest.approx(probs, abs=1e-6)
            assert row["label"] == CLASSES[int(np.argmax(probs))]
            assert (row["prob"], row["error"]) == (pytest.approx(probs.max(), abs=1e-6), None)
    assert (tally.images, tally.unreadable) == (12, 1)
    assert "damaged" in tally.named[0]


@pytest.mark.parametrize("suffix", FORMATS)
def test_below_the_threshold_no_label_is_given_and_a_column_says_so(suffix, model, folder, tmp_path):
    write_predictions(model, Folder(folder), tmp_path / f"all{suffix}")
    bests = sorted(row["prob"] for row in read(tmp_path / f"all{suffix}") if row["prob"])
    threshold = (bests[4] + bests[5]) / 2
    tally = write_predictions(model, Folder(folder), tmp_path / f"some{suffix}", not_sure=threshold)
    rows = read(tmp_path / f"some{suffix}")
    for row in rows:
        if row["prob"] is None:
            assert row["not_sure"] is None
        else:
            assert str(row["not_sure"]).lower() == str(row["prob"] < threshold).lower()
            assert (row["label"] is None) == (row["prob"] < threshold)
    assert tally.unsure == 5


@pytest.mark.parametrize("suffix", FORMATS)
def test_piece_by_piece_it_is_the_same_table(suffix, model, folder, tmp_path, monkeypatch):
    write_predictions(model, Folder(folder), tmp_path / f"whole{suffix}")
    monkeypatch.setattr(predictions, "AT_ONCE", 5)
    told = []
    write_predictions(
        model, Folder(folder), tmp_path / f"pieces{suffix}", progress=lambda *step: told.append(step)
    )
    assert read(tmp_path / f"pieces{suffix}") == read(tmp_path / f"whole{suffix}")
    assert told == sorted(told)
    assert told[-1] == (13, 13)


def test_an_interrupted_run_leaves_no_file_and_goes_on_where_it_stopped(
    model, folder, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(predictions, "AT_ONCE", 5)
    fresh = Classifier(model.bundle, model.backbone)
    seen = []
    monkeypatch.setattr(
        type(model.backbone.module), "forward", counting(seen, type(model.backbone.module).forward)
    )

    def stop(done: int, _: int) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_predictions(fresh, Folder(folder), tmp_path / "out.csv", progress=stop)
    assert list(tmp_path.glob("*out.csv*")) == []
    before = sum(seen)
    assert before >= 9
    write_predictions(Classifier(model.bundle, model.backbone), Folder(folder), tmp_path / "out.csv")
    assert sum(seen) == 12  # no image was computed twice
    assert len(read(tmp_path / "out.csv")) == 13


def counting(seen: list[int], forward):
    def count(self, pixels):
        seen.append(len(pixels))
        return forward(self, pixels)

    return count


@pytest.mark.skipif(os.name != "posix", reason="POSIX: file names are bytes")
@pytest.mark.parametrize("suffix", FORMATS)
def test_file_names_that_are_no_text_are_told_apart_and_come_back(suffix, model, tmp_path):
    (tmp_path / "images").mkdir()
    names = [os.fsdecode(name) for name in (b"h\xe4her.png", b"h\xfcher.png", b"h\\xe4her.png")]
    for name in names:
        with (tmp_path / "images" / name).open("wb") as file:
            Image.new("RGB", (40, 40)).save(file, "PNG")
    write_predictions(model, Folder(tmp_path / "images"), tmp_path / f"out{suffix}")
    written = {row["file_name"] for row in read(tmp_path / f"out{suffix}")}
    assert written == {r"h\xe4her.png", r"h\xfcher.png", r"h\x5cxe4her.png"}
    assert {from_text(name) for name in written} == set(names)


def test_mistakes_are_said_before_anything_is_computed(model, folder, tmp_path):
    with pytest.raises(BadOption, match=r"must end in \.csv, \.jsonl, \.parquet"):
        write_predictions(model, Folder(folder), tmp_path / "out.xlsx")
    with pytest.raises(BadOption, match="a probability above 0"):
        write_predictions(model, Folder(folder), tmp_path / "out.csv", not_sure=60)
    with pytest.raises(NoImages):
        write_predictions(model, Folder(tmp_path / "nowhere"), tmp_path / "out.csv")
    assert list(tmp_path.glob("out*")) == []
