"""The fast ways to run a network against PyTorch as it is."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from vizsla.data.indexed import IndexedDataset
from vizsla.errors import BadOption
from vizsla.models import runtime
from vizsla.models.backbones import Backbone, Transform
from vizsla.models.compiled import CompiledRuntime, compiled
from vizsla.models.embed import Engine, embed
from vizsla.models.int8 import cosines, photo_crops
from vizsla.models.likeness import likeness
from vizsla.models.refill import Refillable
from vizsla.models.runtime import Exported, OnnxRuntime, TorchRuntime, best_runtime

SIZE = 32


class Small(nn.Module):
    """A convolution and a pool: enough for an exporter to do something."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) * self.factor


class Stubborn(Small):
    """No exporter can follow what it does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = super().forward(x)
        return found if found.sum() > 0 else found - 1


def backbone(module: nn.Module, digest: str) -> Backbone:
    return Backbone("small", module.eval(), Transform(SIZE), 32, digest)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    found = Exported(backbone(Small(), "small"), tmp_path_factory.mktemp("cache"))
    assert found.make()
    return found


def pixels(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, SIZE, SIZE), np.uint8)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_an_exported_network_agrees_with_pytorch_for_any_number_of_images(exported: Exported, n: int) -> None:
    expected = TorchRuntime(exported.backbone)(pixels(n))
    found = OnnxRuntime(exported.file, SIZE)(pixels(n))
    assert found.shape == (n, 32)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_it_is_exported_once_and_found_again(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("exported twice")

    monkeypatch.setattr(runtime, "export", never)
    cache = exported.folder.parent
    assert Exported(exported.backbone, cache).make()
    assert isinstance(best_runtime(exported.backbone, cache=cache), OnnxRuntime)
    assert isinstance(best_runtime(backbone(Small(), "other"), cache=cache), TorchRuntime)


def test_a_network_that_cannot_be_exported_stays_with_pytorch_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = backbone(Stubborn(), "stubborn")
    assert isinstance(best_runtime(stubborn, seconds=1e6, cache=tmp_path), TorchRuntime)
    assert Exported(stubborn, tmp_path).reason
    monkeypatch.setattr(runtime, "export", lambda *_, **__: pytest.fail("tried again"))
    assert not Exported(stubborn, tmp_path).make()


def test_an_export_that_disagrees_with_pytorch_is_refused(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "export", lambda _, file, **__: file.write_bytes(exported.file.read_bytes()))
    twin = Exported(backbone(Small(factor=1.002), "twin"), tmp_path)
    assert not twin.make()
    assert not twin.is_there
    assert "differ from PyTorch's by 0.002" in (twin.reason or "")


def test_images_change_to_the_faster_runtime_once_that_pays(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "EXPORT_SECONDS", 0.0)
    monkeypatch.setattr(runtime, "cores", lambda: 1)
    small = backbone(Small(), "small")
    found = embed(IndexedDataset(toys), small, cache=tmp_path, batch_size=2)
    assert Exported(small, tmp_path).is_there  # after 8 of 36 images
    expected = embed(IndexedDataset(toys), small, cache=tmp_path / "other", batch_size=36)
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-2 * np.abs(expected.vectors).max())


def test_a_few_images_are_not_worth_an_export(toys: Path, tmp_path: Path) -> None:
    small = backbone(Small(), "small")
    embed(IndexedDataset(toys), small, cache=tmp_path, batch_size=2)
    assert not Exported(small, tmp_path).is_there


class Greedy(Small):
    """Has memory for four images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(x)


def test_out_of_memory_halves_the_batch_and_goes_on_saying_so(
    toys: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = embed(IndexedDataset(toys), backbone(Greedy(), "greedy"), cache=tmp_path, batch_size=16)
    assert "going on with 8" in caplog.text
    assert "going on with 4" in caplog.text
    expected = embed(IndexedDataset(toys), backbone(Small(), "small"), cache=tmp_path, batch_size=3)
    np.testing.assert_array_equal(found.vectors, expected.vectors)


def test_one_image_that_needs_too_much_memory_is_an_error(tmp_path: Path) -> None:
    class Insatiable(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise MemoryError

    engine = Engine(backbone(Insatiable(), "insatiable"), cache=tmp_path)
    with pytest.raises(MemoryError):
        list(engine.compute([([b"1"], [pixels(1)[0]], 1)]))


# --- int8


@pytest.fixture(scope="module")
def in_int8(exported: Exported) -> Backbone:
    """The same network; its cache holds the export."""
    return replace(exported.backbone, precision="int8")


def test_int8_gives_nearly_the_same_features_under_another_key(exported: Exported, in_int8: Backbone) -> None:
    fast = best_runtime(in_int8, cache=exported.folder.parent)
    assert isinstance(fast, OnnxRuntime)
    crops = photo_crops(in_int8.transform, 30, seed=9)
    expected, found = TorchRuntime(exported.backbone)(crops), fast(crops)
    assert not np.array_equal(found, expected)
    loss = 1 - cosines(found, expected).mean()  # larger without VNNI, where products overflow
    assert loss < 2 * (1 - runtime.LIKENESS)  # on other crops than those that it was accepted by
    assert in_int8.key != exported.backbone.key
    assert replace(in_int8, precision="float32").key == exported.backbone.key


def test_int8_is_calibrated_on_the_same_photographs_everywhere(in_int8: Backbone, tmp_path: Path) -> None:
    caches = tmp_path / "a", tmp_path / "b"
    one, other = (best_runtime(in_int8, cache=cache)(pixels(4)) for cache in caches)
    assert np.array_equal(one, other)


def test_int8_that_is_unlike_float32_is_an_error_with_its_mend(
    in_int8: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "LIKENESS", 1.1)
    with pytest.raises(BadOption, match=r"does not work in int8: cosine .* Leave --precision out\."):
        best_runtime(in_int8, cache=tmp_path)


def test_a_network_that_cannot_be_exported_has_no_int8(tmp_path: Path) -> None:
    stubborn = replace(backbone(Stubborn(), "stubborn"), precision="int8")
    with pytest.raises(BadOption, match="does not work in int8"):
        best_runtime(stubborn, cache=tmp_path)


def test_the_loss_is_measured_on_the_images_themselves(toys: Path, in_int8: Backbone, tmp_path: Path) -> None:
    found = likeness(IndexedDataset(toys), in_int8, cache=tmp_path)
    assert found.images == 36
    assert found.cosine > 1 - 2 * (1 - runtime.LIKENESS)
    assert found.accuracy is not None
    assert min(found.accuracy) > 0.8  # one-colour images of three hues
    flat = tmp_path / "flat"
    flat.mkdir()
    for n, file in enumerate(sorted(toys.rglob("*.png"))):
        shutil.copy(file, flat / f"{n}.png")
    assert likeness(IndexedDataset(flat), in_int8, cache=tmp_path).accuracy is None


# --- a network that is being trained


class Normed(nn.Module):
    """With batch normalisation, which exporters like to fold into the convolution before it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x))).mean(dim=(2, 3))


def test_a_network_in_training_is_exported_once_and_filled_with_each_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Backbone("normed", Normed().eval(), Transform(SIZE), 8, "normed")
    open_graph = Refillable(network, tmp_path)
    trained = Normed().to(memory_format=torch.channels_last)
    for step in range(3):
        trained.train()
        trained(torch.rand(8, 3, SIZE, SIZE))  # moves the running statistics
        with torch.no_grad():
            for weight in trained.parameters():
                weight += 0.1 * torch.randn(weight.shape)
        filled = open_graph.filled(trained.eval())
        assert filled is not None
        expected = TorchRuntime(replace(network, module=trained))(pixels(5))
        np.testing.assert_allclose(filled(pixels(5)), expected, atol=1e-3 * np.abs(expected).max())
        if step == 0:
            monkeypatch.setattr(runtime, "export", lambda *_, **__: pytest.fail("exported twice"))
    assert Refillable(network, tmp_path).filled(trained) is not None


def test_a_network_in_training_that_cannot_be_exported_has_no_fast_way(tmp_path: Path) -> None:
    assert Refillable(backbone(Stubborn(), "stubborn"), tmp_path).filled(Stubborn()) is None


class Folded(nn.Module):
    """What an exporter computes from a weight beforehand, and nobody could fill in later."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3)) @ (self.linear.weight.abs() + 0.1).T + self.linear.bias


def test_a_graph_that_cannot_be_filled_is_not_used(tmp_path: Path) -> None:
    network = Backbone("folded", Folded().eval(), Transform(SIZE), 8, "folded")
    open_graph = Refillable(network, tmp_path)
    trained = Folded()
    filled = open_graph.filled(trained)
    if filled is not None:  # an exporter that leaves the sum to the runtime: then it is filled rightly
        expected = TorchRuntime(replace(network, module=trained))(pixels(5))
        np.testing.assert_allclose(filled(pixels(5)), expected, atol=1e-3 * np.abs(expected).max())


def test_a_linear_layer_is_filled_however_the_exporter_turns_it(tmp_path: Path) -> None:
    def made(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 7), nn.GELU(), nn.Linear(7, 5)
        )

    network = Backbone("linear", made(0).eval(), Transform(SIZE), 5, "linear")
    filled = Refillable(network, tmp_path).filled(made(1).eval())
    assert filled is not None
    expected = TorchRuntime(replace(network, module=made(1).eval()))(pixels(5))
    np.testing.assert_allclose(filled(pixels(5)), expected, atol=1e-3 * np.abs(expected).max())


# --- PyTorch's compiler; `aot_eager` traces as it does for a GPU, and needs no C++ compiler


def test_a_compiled_network_agrees_with_pytorch_whatever_the_batch() -> None:
    network = backbone(Small(), "small")
    fast = compiled(network, "cpu", backend="aot_eager")
    assert fast is not None
    for n in (fast.batch, 3, 1):
        expected = TorchRuntime(network)(pixels(n))
        np.testing.assert_allclose(fast(pixels(n)), expected, atol=1e-5 * np.abs(expected).max())


def test_smaller_batches_are_filled_up_and_not_compiled_anew() -> None:
    class Counting(Small):
        sizes: ClassVar[list[int]] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.sizes.append(len(x))  # runs only while the compiler traces
            return super().forward(x)

    fast = CompiledRuntime(backbone(Counting(), "counting"), "cpu", backend="aot_eager")
    for n in (8, 5, 1, 7):
        assert fast(pixels(n)).shape == (n, 32)
    assert set(Counting.sizes) == {8}


def test_a_compiled_network_that_runs_out_of_memory_takes_smaller_batches(toys: Path, tmp_path: Path) -> None:
    network = backbone(Greedy(), "greedy")
    engine = Engine(network, cache=tmp_path, batch_size=8)
    engine.runtime = CompiledRuntime(network, "cpu", backend="aot_eager")
    ((_, found, _),) = engine.compute([([bytes([n]) for n in range(8)], list(pixels(8)), 8)])
    expected = TorchRuntime(backbone(Small(), "small"))(pixels(8))
    np.testing.assert_allclose(found, expected, atol=1e-2 * np.abs(expected).max())
    assert engine.batch == 4


def test_a_network_that_compiles_into_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = backbone(Small(), "small")
    monkeypatch.setattr(torch, "compile", lambda module, **_: backbone(Other(), "other").module)
    assert compiled(network, "cpu") is None


class Other(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).flip(1)


def test_a_network_that_does_not_compile_stays_with_pytorch(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert compiled(backbone(Small(), "small"), "cpu", backend="no such compiler") is None
    assert "small is not compiled" in caplog.text
