"""Two small models, a head on a frozen network and a fine-tuned one, and photographs to try them on."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from vizsla.data.indexed import IndexedDataset
from vizsla.functional.geometry import principal_axes
from vizsla.models.backbones import load_backbone, restored
from vizsla.models.bundle import Bundle
from vizsla.models.classifier import Classifier, described, state_of
from vizsla.models.finetune import PixelSet
from vizsla.models.runtime import TorchRuntime

CLASSES = ("fleur de lys", "寺", 'a "quoted", name')

NETWORK = """
    import torch
    from torch import nn
    from vizsla import Transform

    def make():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
                            nn.Flatten())
        return net, Transform(32, crop=0.9)
"""


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cut-outs of two photographs, of many sizes and shapes, one lying on its side, one as a PNG."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(16):
        photo = load_sample_images().images[number % 2]
        height, width = rng.integers(40, photo.shape[0]), rng.integers(40, photo.shape[1])
        cut = Image.fromarray(photo[:height, -width:])
        options = {}
        if number == 3:
            exif = Image.Exif()
            exif[0x0112] = 6  # to be turned before it is looked at
            options["exif"] = exif
        cut.save(folder / f"{number:02}.{'png' if number == 5 else 'jpg'}", **options)
    return folder


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a small convolutional backbone."""
    file = tmp_path_factory.mktemp("network") / "net.py"
    file.write_text(textwrap.dedent(NETWORK))
    return f"module:{file}:make"


@pytest.fixture(scope="session", params=["frozen", "fine-tuned"])
def model(request: pytest.FixtureRequest, network: str, photographs: Path) -> Classifier:
    """A model whose probabilities lie all over the place; a fine-tuned one has weights of its own."""
    backbone, rng = load_backbone(network), np.random.default_rng(1)
    if request.param == "fine-tuned":
        with torch.no_grad():
            for values in backbone.module.parameters():
                values.mul_(1.3)
        backbone = restored(network, backbone.module.state_dict(), backbone.transform)
    seen = PixelSet(IndexedDataset(photographs), backbone.transform).of(np.arange(16))
    features = TorchRuntime(backbone)(seen)
    axes = principal_axes(features, 6) if request.param == "frozen" else None
    width = backbone.dim if axes is None else len(axes.axes)
    weights = rng.normal(0, 2, (3, width)).astype(np.float32)
    about = {"version": 1, "labels": 16, **described(backbone)}
    kept = {} if axes else state_of(backbone)
    bundle = Bundle(CLASSES, axes, weights, rng.normal(0, 1, 3).astype(np.float32), 1.5, about, kept)
    return Classifier(bundle, backbone)
