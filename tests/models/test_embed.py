from __future__ import annotations

import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vizsla.data.indexed import IndexedDataset
from vizsla.errors import BadWeights, DiskFull, NoImages
from vizsla.models.backbones import Backbone, load_backbone
from vizsla.models.embed import embed, vector_store
from vizsla.testing import TOY_BACKBONE, toy_images

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux only: /dev/full, kill −9")


@pytest.fixture(scope="module")
def toy() -> Backbone:
    return load_backbone(TOY_BACKBONE)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def by_hand(folder: Path, backbone: Backbone) -> np.ndarray:
    """The slow, obvious twin: one image after the other, by path, without a cache."""
    paths = sorted(folder.glob("*/*"), key=lambda path: path.relative_to(folder).as_posix())
    with torch.inference_mode():
        rows = [backbone.module(backbone.transform(Image.open(path))[None])[0] for path in paths]
    return torch.stack(rows).numpy()


def stored(cache: Path, backbone: Backbone) -> np.ndarray:
    """All rows of the cache file, as another program would read them."""
    return np.fromfile(cache / "embeddings" / backbone.key / "vectors.f16", np.float16).reshape(
        -1, backbone.dim
    )


# --- what comes out


def test_each_row_is_what_the_network_makes_of_that_image(toys: Path, toy: Backbone, cache: Path) -> None:
    found = embed(IndexedDataset(toys), toy, cache=cache, batch_size=5)
    assert found.ids.tolist() == list(range(36))
    assert found.vectors.dtype == np.float16
    np.testing.assert_allclose(found.vectors, by_hand(toys, toy), atol=2e-3, rtol=1e-3)


def test_a_second_call_computes_nothing_and_gives_the_same_numbers(
    toys: Path, toy: Backbone, cache: Path
) -> None:
    first = embed(IndexedDataset(toys), toy, cache=cache)
    unusable = replace(toy, module=nn.Module())  # fails if it is ever called
    again = embed(IndexedDataset(toys), unusable, cache=cache)
    assert np.array_equal(first.vectors, again.vectors)


def test_the_rows_are_a_memory_map_and_no_copy(toys: Path, toy: Backbone, cache: Path) -> None:
    whole = embed(IndexedDataset(toys), toy, cache=cache)
    part = embed(IndexedDataset(toys).subset(range(7, 20)), toy, cache=cache)
    for each in (whole, part):
        assert isinstance(each.vectors, np.memmap)
        assert each.vectors.base is not None
    assert np.array_equal(part.vectors, whole.vectors[7:20])
    scattered = embed(IndexedDataset(toys).subset([30, 2, 9]), toy, cache=cache)
    assert np.array_equal(scattered.vectors, whole.vectors[[30, 2, 9]])


def test_the_same_content_twice_is_computed_once(toys: Path, toy: Backbone, cache: Path) -> None:
    shutil.copy(toys / "red/003.png", toys / "blue/zzz.png")
    found = embed(IndexedDataset(toys), toy, cache=cache)
    assert len(found.vectors) == 37
    assert len(stored(cache, toy)) == 36
    twins = [i for i, row in enumerate(found.vectors) if np.array_equal(row, found.vectors[12])]
    assert [IndexedDataset(toys).file_name(i) for i in twins] == ["blue/zzz.png", "red/003.png"]


def test_a_renamed_file_is_not_computed_again_and_a_changed_one_is(
    toys: Path, toy: Backbone, cache: Path
) -> None:
    embed(IndexedDataset(toys), toy, cache=cache)
    (toys / "red/003.png").rename(toys / "blue/aaa.png")
    embed(IndexedDataset(toys), toy, cache=cache)
    assert len(stored(cache, toy)) == 36
    Image.new("RGB", (16, 16), "white").save(toys / "red/004.png")
    found = embed(IndexedDataset(toys), toy, cache=cache)
    assert len(stored(cache, toy)) == 37
    np.testing.assert_allclose(found.vectors, by_hand(toys, toy), atol=2e-3, rtol=1e-3)


def test_another_size_or_another_network_never_shares_rows(toys: Path, toy: Backbone, cache: Path) -> None:
    larger = load_backbone(TOY_BACKBONE, image_size=48)
    shifted = load_backbone(TOY_BACKBONE)
    with torch.no_grad():
        next(shifted.module.parameters()).add_(0.5)
    other = replace(shifted, digest="another")
    keys = {embed(IndexedDataset(toys), each, cache=cache).key for each in (toy, larger, other)}
    assert len(keys) == 3
    for each in (toy, larger, other):
        assert len(stored(cache, each)) == 36
        np.testing.assert_allclose(stored(cache, each), by_hand(toys, each), atol=4e-3, rtol=1e-3)


def test_progress_never_falls_and_ends_with_all_images(toys: Path, toy: Backbone, cache: Path) -> None:
    shutil.copy(toys / "red/003.png", toys / "blue/zzz.png")
    (toys / "green/bad.png").write_bytes(b"no image")
    for known in (False, True):
        steps: list[tuple[int, int]] = []
        embed(
            IndexedDataset(toys, check=False),
            toy,
            cache=cache,
            batch_size=4,
            progress=lambda done, total: steps.append((done, total)),  # noqa: B023
        )
        assert steps[-1] == (38, 38)
        assert {total for _, total in steps} == {38}
        assert steps == sorted(steps)
        assert len(steps) >= (2 if known else 10)


def test_features_beyond_float16_are_clipped_and_no_number_is_an_error(
    toys: Path, toy: Backbone, cache: Path
) -> None:
    huge = replace(toy, module=nn.Sequential(toy.module, Scale(1e6)), digest="huge")
    found = np.abs(embed(IndexedDataset(toys), huge, cache=cache).vectors)
    assert found.max() == 65504
    broken = replace(toy, module=nn.Sequential(toy.module, Scale(float("nan"))), digest="broken")
    with pytest.raises(BadWeights, match="gives features that are no numbers"):
        embed(IndexedDataset(toys), broken, cache=cache)


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def test_files_that_have_not_changed_are_not_even_read(
    toys: Path, toy: Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vizsla.models.contents._SETTLED_NS", 0)
    shutil.copy(toys / "red/003.png", toys / "blue/zzz.png")
    first = embed(IndexedDataset(toys), toy, cache=cache)
    read: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read.append(self) or read_bytes(self))
    again = embed(IndexedDataset(toys), toy, cache=cache)
    assert np.array_equal(first.vectors, again.vectors)
    assert read == []
    Image.new("RGB", (16, 16), "white").save(toys / "red/004.png")
    embed(IndexedDataset(toys), toy, cache=cache)
    assert read == [toys / "red/004.png"]


# --- unreadable files


def test_unreadable_files_are_left_out_named_and_marked(
    toys: Path, toy: Backbone, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (toys / "green/003.png").write_bytes(b"no image")
    (toys / "red/copy.png").write_bytes(b"no image")
    dataset = IndexedDataset(toys, check=False)
    (toys / "blue/005.png").unlink()
    found = embed(dataset, toy, cache=cache)
    gone, broken, copy = (dataset.index_of(n) for n in ("blue/005.png", "green/003.png", "red/copy.png"))
    assert set(range(37)) - set(found.ids.tolist()) == {gone, broken, copy} == set(found.unreadable)
    assert found.unreadable[gone] == "the file cannot be opened"
    assert str(toys / "green/003.png") in found.unreadable[broken]
    assert found.unreadable[copy] == "same content as green/003.png, which is unreadable"
    assert dataset.unreadable.keys() == {"blue/005.png", "green/003.png", "red/copy.png"}
    assert not {gone, broken, copy} & set(dataset.pool().tolist())
    caplog.clear()
    embed(dataset, toy, cache=cache)
    assert caplog.messages == []  # said once


def test_the_log_names_ten_unreadable_files_and_counts_the_rest(
    toys: Path, toy: Backbone, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(14):
        (toys / f"red/bad{n:02}.png").write_bytes(b"no image %d" % n)
    with caplog.at_level(logging.WARNING, "vizsla"):
        embed(IndexedDataset(toys, check=False), toy, cache=cache)
    assert [message[:22] for message in caplog.messages[:10]] == [
        f"left out red/bad{n:02}.png" for n in range(10)
    ]
    assert caplog.messages[10:] == ["left out 4 more unreadable files"]


def test_nothing_readable_is_an_error_that_names_a_file(tmp_path: Path, toy: Backbone, cache: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(NoImages, match=r"none of the 2 images in .*a\.png"):
        embed(IndexedDataset(tmp_path, check=False), toy, cache=cache)


def test_a_file_that_changes_after_hashing_keeps_its_features_to_itself(
    toys: Path, toy: Backbone, cache: Path
) -> None:
    shutil.copy(toys / "red/010.png", toys / "red/same.png")

    def repaint(done: int, total: int) -> None:
        if done == 1:  # all are hashed, but this one is not decoded yet
            Image.new("RGB", (16, 16), "white").save(toys / "red/010.png")

    dataset = IndexedDataset(toys)
    found = embed(dataset, toy, cache=cache, batch_size=1, progress=repaint)
    np.testing.assert_allclose(found.vectors, by_hand(toys, toy), atol=2e-3, rtol=1e-3)
    again = embed(dataset, replace(toy, module=nn.Module()), cache=cache)
    assert np.array_equal(again.vectors, found.vectors)


# --- crashes, damage, two at once


def test_a_damaged_row_is_computed_again(toys: Path, toy: Backbone, cache: Path) -> None:
    before = np.array(embed(IndexedDataset(toys), toy, cache=cache).vectors)
    flip(cache / "embeddings" / toy.key / "vectors.f16", at=2 * toy.dim * 20 + 3)
    after = embed(IndexedDataset(toys), toy, cache=cache).vectors
    np.testing.assert_allclose(after, before, rtol=1e-3)
    assert len(stored(cache, toy)) == 37
    assert not np.array_equal(stored(cache, toy)[20], before[20])


@pytest.mark.parametrize("torn", ["vectors.f16", "index.bin"])
@pytest.mark.parametrize("lost_bytes", [1, 50, 500])
def test_a_torn_end_costs_only_the_rows_it_held(
    toys: Path, toy: Backbone, cache: Path, torn: str, lost_bytes: int
) -> None:
    before = np.array(embed(IndexedDataset(toys), toy, cache=cache).vectors)
    file = cache / "embeddings" / toy.key / torn
    record = {"vectors.f16": 2 * toy.dim, "index.bin": 36}[torn]
    whole = (file.stat().st_size - lost_bytes) // record
    os.truncate(file, file.stat().st_size - lost_bytes)
    counted, module = [], toy.module
    counting = replace(toy, module=nn.Sequential(Count(counted), module))
    after = embed(IndexedDataset(toys), counting, cache=cache).vectors
    assert sum(counted) == 36 - whole
    np.testing.assert_allclose(after, before, rtol=1e-3)
    assert np.array_equal(stored(cache, toy)[:whole], before[:whole])


class Count(nn.Module):
    """Lets images through and notes how many."""

    def __init__(self, counted: list[int]) -> None:
        super().__init__()
        self.counted = counted

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.counted.append(len(x))
        return x


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x55
    file.write_bytes(content)


SLOW = '''
import time
from pathlib import Path

from torch import nn

from vizsla.testing import toy_backbone


class Slow(nn.Module):
    """The toy network at four images in a tenth of a second, noting how many it sees."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        if x.std() > 0:  # not the zeros that ask for its dimension
            time.sleep(0.1)
            with open(Path(__file__).with_name("seen"), "a") as file:
                file.write(f"{len(x)}\\n")
        return self.inner(x)


def slow():
    module, transform = toy_backbone()
    return Slow(module), transform
'''

EMBED = """
import sys
from pathlib import Path
from vizsla.data.indexed import IndexedDataset
from vizsla.models.backbones import load_backbone
from vizsla.models.embed import embed
folder, backbone, cache = sys.argv[1:]
embed(IndexedDataset(folder), load_backbone(backbone), cache=Path(cache), batch_size=4)
"""


@pytest.fixture
def slow(tmp_path: Path) -> str:
    (tmp_path / "slow.py").write_text(SLOW)
    return f"module:{tmp_path / 'slow.py'}:slow"


def start(toys: Path, backbone: str, cache: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", EMBED, str(toys), backbone, str(cache)])


@pytest.mark.slow
@ON_LINUX
def test_after_kill_9_only_the_rest_is_computed(
    toys: Path, slow: str, tmp_path: Path, cache: Path, toy: Backbone
) -> None:
    killed = start(toys, slow, cache)
    seen = tmp_path / "seen"
    deadline = time.monotonic() + 600
    while not (seen.exists() and len(seen.read_text().split()) >= 3):
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    backbone = load_backbone(slow)
    whole = (cache / "embeddings" / backbone.key / "index.bin").stat().st_size // 36
    assert 4 <= whole < 36
    seen.unlink()
    found = embed(IndexedDataset(toys), backbone, cache=cache)
    assert sum(map(int, seen.read_text().split())) == 36 - whole
    np.testing.assert_allclose(found.vectors, by_hand(toys, toy), atol=2e-3, rtol=1e-3)


@pytest.mark.slow
def test_two_processes_fill_one_cache_together(toys: Path, slow: str, cache: Path, toy: Backbone) -> None:
    both = [start(toys, slow, cache) for _ in range(2)]
    assert [process.wait(timeout=600) for process in both] == [0, 0]
    backbone = load_backbone(slow)
    found = embed(IndexedDataset(toys), replace(backbone, module=nn.Module()), cache=cache)
    np.testing.assert_allclose(found.vectors, by_hand(toys, toy), atol=2e-3, rtol=1e-3)
    assert len(stored(cache, backbone)) == 36


@ON_LINUX
def test_a_full_disk_is_one_line_and_loses_nothing_written_before(
    tmp_path: Path, toys: Path, toy: Backbone, cache: Path
) -> None:
    folder = cache / "embeddings" / toy.key
    folder.mkdir(parents=True)
    (folder / "vectors.f16").symlink_to("/dev/full")
    with pytest.raises(
        DiskFull, match=rf"no space left while writing .*{toy.key}\. Free some space"
    ) as caught:
        embed(IndexedDataset(toys), toy, cache=cache)
    assert "\n" not in str(caught.value)
    (folder / "vectors.f16").unlink()
    found = embed(IndexedDataset(toys), toy, cache=cache)
    np.testing.assert_allclose(found.vectors, by_hand(toys, toy), atol=2e-3, rtol=1e-3)


def test_a_hundred_random_crops_of_the_files_never_give_a_wrong_row(
    tmp_path: Path, toy: Backbone, cache: Path
) -> None:
    toys = toy_images(tmp_path / "few", per_class=3)
    expected = np.array(embed(IndexedDataset(toys), toy, cache=cache).vectors)
    folder = cache / "embeddings" / toy.key
    whole = {name: (folder / name).read_bytes() for name in ("vectors.f16", "index.bin")}
    rng = np.random.default_rng(0)
    for _ in range(100):
        for name, content in whole.items():
            damaged = bytearray(content[: rng.integers(len(content) + 1)])
            if damaged and rng.random() < 0.5:
                damaged[rng.integers(len(damaged))] ^= 0xFF
            (folder / name).write_bytes(damaged)
        found = embed(IndexedDataset(toys, check=False), toy, cache=cache)
        np.testing.assert_allclose(found.vectors, expected, rtol=1e-3)


# --- deep pictures, which an older Vizsla saw otherwise


def deep_and_plain(folder: Path) -> Path:
    """A 16-bit TIFF, a PNG of 8 bits and a JPEG, all the same grey ramp to the eye."""
    folder.mkdir()
    ramp = np.tile(np.linspace(0, 4095, 40), (40, 1))
    Image.fromarray(np.rint(ramp).astype(np.uint16)).save(folder / "deep.tif")
    Image.fromarray(np.rint(ramp / 4095 * 255).astype(np.uint8)).save(folder / "plain.png")
    Image.fromarray(np.rint(ramp / 4095 * 254).astype(np.uint8)).save(folder / "plain.jpg")
    return folder


def older_cache(cache: Path, toy: Backbone, images: Path) -> np.ndarray:
    """The features that an older version kept of these images: here recognisable by what they are."""
    store = vector_store(toy, cache)
    files = sorted(images.iterdir())
    made_up = np.arange(len(files) * toy.dim, dtype=np.float16).reshape(len(files), toy.dim)
    store.append([hashlib.sha256(file.read_bytes()).digest() for file in files], made_up)
    (store.folder / "edition.json").unlink()
    return made_up


def test_of_an_older_cache_only_the_features_of_deep_pictures_are_computed_anew(
    tmp_path: Path, toy: Backbone, cache: Path
) -> None:
    images = deep_and_plain(tmp_path / "images")
    made_up = older_cache(cache, toy, images)
    counted: list[int] = []
    counting = replace(toy, module=nn.Sequential(Count(counted), toy.module))
    found = embed(IndexedDataset(images), counting, cache=cache)
    assert sum(counted) == 1
    fresh = embed(IndexedDataset(images), toy, cache=tmp_path / "other")
    np.testing.assert_allclose(found.vectors[0], fresh.vectors[0], rtol=1e-2)
    assert np.array_equal(found.vectors[1:], made_up[1:])


def test_what_was_looked_at_once_is_settled(tmp_path: Path, toy: Backbone, cache: Path) -> None:
    images = deep_and_plain(tmp_path / "images")
    older_cache(cache, toy, images)
    first = embed(IndexedDataset(images), toy, cache=cache)
    for file in images.iterdir():
        file.rename(file.with_name(f"another-{file.name}"))
    unusable = replace(toy, module=nn.Module())  # fails if it is ever called
    again = embed(IndexedDataset(images), unusable, cache=cache)
    assert np.array_equal(first.vectors, again.vectors)
    names = ["deep.tif", "plain.jpg", "plain.png"]
    shas = [hashlib.sha256((images / f"another-{name}").read_bytes()).digest() for name in names]
    assert (vector_store(toy, cache).find(shas, names) >= 0).all()


def test_two_files_of_one_deep_content_both_get_its_new_features(
    tmp_path: Path, toy: Backbone, cache: Path
) -> None:
    images = deep_and_plain(tmp_path / "images")
    older_cache(cache, toy, images)
    shutil.copy(images / "deep.tif", images / "deep-again.tif")
    found = embed(IndexedDataset(images), toy, cache=cache, batch_size=1)
    assert np.array_equal(found.vectors[0], found.vectors[1])
    assert found.vectors[0].max() < 1000  # not one of the made-up rows


def test_a_new_cache_holds_nothing_older(tmp_path: Path, toy: Backbone, cache: Path) -> None:
    images = deep_and_plain(tmp_path / "images")
    embed(IndexedDataset(images), toy, cache=cache)
    unusable = replace(toy, module=nn.Module())
    embed(IndexedDataset(images), unusable, cache=cache)
    store = vector_store(toy, cache)
    assert len(stored(cache, toy)) == len(store) == 3


def test_a_file_too_large_to_read_is_named_and_the_others_are_embedded(
    tmp_path: Path, toy: Backbone, cache: Path
) -> None:
    images = deep_and_plain(tmp_path / "images")
    with (images / "sparse.tif").open("wb") as file:
        file.truncate(10**11)
    dataset = IndexedDataset(images, check=False)
    found = embed(dataset, toy, cache=cache)
    assert found.ids.tolist() == [0, 1, 2]
    assert found.unreadable[3].startswith(
        f"cannot read {images / 'sparse.tif'}: it has 100,000 MB, and 450 MB are"
    )
