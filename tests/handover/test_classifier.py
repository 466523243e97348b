"""A model as a file or a folder, loaded again and asked."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from vizsla.errors import BadWeights
from vizsla.models.classifier import Classifier, load_model


@pytest.fixture
def saved(model: Classifier, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(model.bundle.to_bytes())
    return file


def test_a_file_and_the_folder_it_lies_in_give_the_same_probabilities(model, saved, photographs):
    files = sorted(photographs.iterdir())
    expected = model.predict(files).probs
    for place in (saved, saved.parent):
        again = load_model(place)
        assert again.classes == model.classes
        assert np.abs(again.predict(files).probs - expected).max() < 1e-6


def test_probabilities_add_up_to_one_and_a_broken_file_has_none(model, photographs, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    found = model.predict([tmp_path / "broken.jpg", photographs / "00.jpg", tmp_path / "gone.jpg"])
    assert np.isnan(found.probs[[0, 2]]).all()
    assert found.probs[1].sum() == pytest.approx(1, abs=1e-5)
    assert "damaged" in found.errors[0]
    assert found.errors[2] == "the file cannot be opened"


def test_a_head_on_other_weights_than_are_installed_is_refused(model, saved):
    other = replace(model.bundle, about=dict(model.about) | {"backbone_key": "another"}, network={})
    saved.write_bytes(other.to_bytes())
    with pytest.raises(BadWeights, match="trained on other weights"):
        load_model(saved)


def test_weights_of_another_network_are_refused(model, saved):
    network = {"0.weight": np.zeros((1, 3, 5, 5), np.float32)}
    saved.write_bytes(replace(model.bundle, network=network).to_bytes())
    with pytest.raises(BadWeights, match="no weights of module:"):
        load_model(saved)


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"1234567890")
    with pytest.raises(BadWeights, match="no model that Vizsla wrote"):
        load_model(tmp_path / "a.safetensors")
    with pytest.raises(BadWeights, match="cannot read"):
        load_model(tmp_path / "none.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["fine-tuned"], indirect=True)
def test_loading_and_predicting_need_neither_store_nor_page_nor_training(saved, photographs):
    script = textwrap.dedent(f"""
        import json, sys
        from pathlib import Path
        import vizsla
        from vizsla.data.sources import Folder
        from vizsla.predictions import write_predictions

        model = vizsla.load_model({str(saved.parent)!r})
        write_predictions(model, Folder({str(photographs)!r}), Path({str(saved.parent / "p.csv")!r}))
        print(json.dumps(sorted(sys.modules)))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert "vizsla.models.bundle" in loaded
    others = (
        "vizsla.web",
        "vizsla.store",
        "vizsla.training",
        "vizsla.project",
        "fastapi",
        "sqlalchemy",
        "uvicorn",
    )
    assert [name for name in loaded if name.startswith(others)] == []
    assert (saved.parent / "p.csv").read_text().count("\n") == 17
