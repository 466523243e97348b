"""Whatever a model is handed over as, it says the same of real photographs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import vizsla
from vizsla.data.images import load
from vizsla.errors import BadOption, BadWeights
from vizsla.handover.card import snippet
from vizsla.models.backbones import Backbone
from vizsla.models.classifier import Classifier
from vizsla.models.pipeline import write_onnx, write_torch

AGREE = 1e-4
frozen_only = pytest.mark.parametrize("model", ["frozen"], indirect=True)


@pytest.fixture(scope="module")
def onnx_file(model: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(model, file)
    return file


@pytest.fixture(scope="module")
def files(photographs: Path) -> list[Path]:
    return sorted(photographs.iterdir())


@pytest.fixture(scope="module")
def expected(model: Classifier, files: list[Path]) -> np.ndarray:
    probs = model.predict(files).probs
    assert probs.max(axis=0).min() > 0.4  # each class is likely somewhere, and few images are sure:
    assert np.median(probs.max(axis=1)) < 0.95  # else agreement would say little
    return probs


@pytest.fixture(scope="module")
def pixels(model: Classifier, files: list[Path]) -> np.ndarray:
    transform = model.backbone.transform
    return np.stack([transform.pixels(load(file, size=transform.shorter_side)) for file in files])


def test_a_plain_onnxruntime_session_gives_the_same_probabilities(onnx_file, expected, pixels):
    session = onnxruntime.InferenceSession(onnx_file)
    probs, features = session.run(None, {"pixels": pixels})
    assert np.abs(probs - expected).max() < AGREE
    assert features.shape == (16, 32)
    [one] = session.run(["probabilities"], {"pixels": pixels[:1]})  # a batch of any size
    assert np.abs(one - expected[:1]).max() < AGREE


@pytest.mark.slow
def test_the_snippet_of_the_card_gives_the_same_probabilities_without_vizsla(
    model, onnx_file, files, expected, tmp_path
):
    (tmp_path / "model.onnx").write_bytes(onnx_file.read_bytes())
    code = snippet(model.backbone.transform)
    assert "vizsla" not in code.replace("as Vizsla does", "")
    for file, probs in zip(
        files[:6], expected, strict=False
    ):  # the fourth lies on its side, the sixth is a PNG
        (tmp_path / "photo.jpg").write_bytes(file.read_bytes())
        script = f"{code}\nprint(probs.tolist())"
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert np.abs(np.array(json.loads(done.stdout)) - probs).max() < AGREE


def test_the_onnx_file_is_a_model_that_vizsla_predicts_with(model, onnx_file, files, expected):
    opened = vizsla.load_model(onnx_file)
    assert opened.classes == model.classes
    assert opened.backbone.key == model.backbone.key  # so that features are found in the cache
    assert opened.about["labels"] == 16
    assert np.abs(opened.predict(files).probs - expected).max() < AGREE


def test_onnx_computes_features_itself_where_the_cache_knows_none(
    onnx_file, files, expected, tmp_path, monkeypatch
):
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path))
    assert np.abs(vizsla.load_model(onnx_file).predict(files).probs - expected).max() < AGREE


def test_the_class_names_are_in_the_onnx_file_for_those_who_have_no_vizsla(onnx_file, model):
    told = onnxruntime.InferenceSession(onnx_file).get_modelmeta().custom_metadata_map
    assert tuple(json.loads(told["classes"])) == model.classes


def test_a_program_of_torch_export_gives_the_same_probabilities(model, expected, pixels, tmp_path):
    write_torch(model, tmp_path / "model.pt2")
    names = {"classes.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=names).module()
    for n in (1, 16):
        assert np.abs(program(torch.from_numpy(pixels[:n])).numpy() - expected[:n]).max() < AGREE
    assert tuple(json.loads(names["classes.json"])) == model.classes


@pytest.mark.slow
@frozen_only
def test_a_program_of_torch_export_needs_nothing_of_vizsla(model, tmp_path):
    write_torch(model, tmp_path / "model.pt2")
    script = """
import sys, torch
probs = torch.export.load("model.pt2").module()(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
print(probs.shape, [name for name in sys.modules if name.startswith("vizsla")])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "torch.Size([1, 3]) []\n", done.stderr


@frozen_only
def test_features_too_large_for_half_precision_are_cut_off_alike(model, pixels, tmp_path):
    """A network of huge features, which the cache keeps as the largest half-precision number."""
    loud = nn.Sequential(model.backbone.module, Louder()).eval()
    backbone = Backbone("loud", loud, model.backbone.transform, 32, "loud" + model.backbone.digest)
    huge = Classifier(model.bundle, backbone)
    write_onnx(huge, tmp_path / "loud.onnx", cache=tmp_path)  # raises where they disagree
    probs, features = onnxruntime.InferenceSession(tmp_path / "loud.onnx").run(None, {"pixels": pixels})
    assert features.max() > 65504
    assert np.isfinite(probs).all()


class Louder(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 1e6


class Stubborn(nn.Module):
    """No exporter can follow what it does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(1)[:, :32]
        return rows if rows.sum() > 0 else rows - 1


@frozen_only
@pytest.mark.parametrize(("write", "mend"), [(write_onnx, "export torch"), (write_torch, "export model")])
def test_a_network_that_cannot_be_exported_is_one_line_with_the_mend(model, write, mend, tmp_path):
    backbone = Backbone("stubborn", Stubborn(), model.backbone.transform, 32, "stubborn")
    with pytest.raises(BadOption, match=rf"(?s)^the network stubborn cannot .*{mend}") as told:
        write(Classifier(model.bundle, backbone), tmp_path / "m")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("content", [b"", b"not ONNX at all", None])
def test_another_onnx_file_is_no_model_of_ours(content, tmp_path):
    if content is None:
        graph = onnx.helper.make_graph([], "empty", [], [])
        content = onnx.helper.make_model(graph).SerializeToString()
    (tmp_path / "other.onnx").write_bytes(content)
    with pytest.raises(BadWeights, match="vizsla export onnx"):
        vizsla.load_model(tmp_path / "other.onnx")
