"""Data sets of torchvision and Hugging Face, read from files in their own real formats."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from vizsla.data import borrowed
from vizsla.data.borrowed import settled
from vizsla.data.indexed import IndexedDataset
from vizsla.errors import BadOption, NoImages, UnknownName

if TYPE_CHECKING:
    import datasets

DIGITS = 12

Saved = tuple[Path, list[tuple[bytes, int]]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def mnist(cache: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """MNIST's four files, in the IDX format of the original, with noise for digits."""
    raw = cache / "torchvision" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    made = {}
    for number, (part, prefix) in enumerate((("train", "train"), ("test", "t10k"))):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (DIGITS, 28, 28), dtype=np.uint8)
        labels = rng.permutation(np.arange(DIGITS) % 10).astype(np.uint8)
        shapes = struct.pack(">4i", 2051, DIGITS, 28, 28), struct.pack(">2i", 2049, DIGITS)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(shapes[0] + pixels.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(shapes[1] + labels.tobytes())
        made[part] = pixels, labels
    return made


@pytest.mark.parametrize(
    ("given", "part"), [("torchvision:MNIST", "train"), ("torchvision:MNIST:test", "test")]
)
def test_a_torchvision_set_is_read_with_its_own_labels_and_pixels(given: str, part: str, mnist: dict) -> None:
    pixels, labels = mnist[part]
    dataset = IndexedDataset(given, test=True)
    assert dataset.classes[0] == "0 - zero"
    order = [int(Path(dataset.file_name(i)).stem) for i in range(len(dataset))]
    assert sorted(order) == list(range(DIGITS))
    assert dataset.labels.tolist() == labels[order].tolist()
    shown = [np.asarray(dataset[i][0])[..., 0] for i in range(len(dataset))]
    assert all(np.array_equal(picture, pixels[number]) for picture, number in zip(shown, order, strict=True))


def test_it_is_written_once_and_nothing_half_done_is_left(mnist: dict, cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    folder = settled("torchvision:MNIST", lambda done, total: seen.append((done, total)))
    assert seen == [(n + 1, DIGITS) for n in range(DIGITS)]
    assert settled("torchvision:MNIST", lambda done, total: pytest.fail("written again")) == folder

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        settled("torchvision:MNIST:test", interrupt)
    assert [entry.name for entry in (cache / "samples").iterdir()] == [Path(folder).name]


def test_torchvision_without_a_network_says_what_works(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies of its first use
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody is there
    expected = r"^cannot get torchvision:CIFAR10:train: .* put its files into .*torchvision as .*$"
    with pytest.raises(NoImages, match=expected):
        settled("torchvision:CIFAR10")


def test_a_set_that_torchvision_does_not_know_is_refused_with_those_it_does(cache: Path) -> None:
    with pytest.raises(UnknownName, match=r"torchvision has no data set 'MNISTT'. Known: .*MNIST"):
        settled("torchvision:MNISTT")


# Hugging Face


def content(n: int, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(n).integers(0, 256, (9, 9, 3), np.uint8)).save(file, kind)
    return file.getvalue()


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """A data set with two parts as `datasets` saves it; and the rows of the part for training."""
    import datasets

    rows = [(content(n, "JPEG" if n % 2 else "PNG"), n % 3) for n in range(9)]
    names = ["tabby cat", "7", "a/b"]

    def part(rows: list[tuple[bytes, int]]) -> datasets.Dataset:
        kinds = datasets.Features({"picture": datasets.Image(), "label": datasets.ClassLabel(names=names)})
        columns = {"picture": [{"bytes": c, "path": None} for c, _ in rows], "label": [y for _, y in rows]}
        return datasets.Dataset.from_dict(columns, features=kinds)

    both = datasets.DatasetDict({"train": part(rows), "test": part([(content(99, "PNG"), 2)])})
    both.save_to_disk(tmp_path / "saved")
    return tmp_path / "saved", rows


@pytest.mark.parametrize(
    ("names", "labels", "classes"),
    [
        (["cat", "dog", "fox"], [0, 1, 2], ("cat", "dog", "fox")),
        (["N/A", "a", "b"], [1, 2], ("a", "b")),
        (["cat", "dog", "fox"], [2, 0], ("cat", "fox")),
        (["0", "one"], [0, 1], ("0", "one")),
        (["x"] * 3, [0, 2], ("0_x", "2_x")),
    ],
)
def test_numbers_that_say_no_labels_do_not_get_into_the_names(
    names: list[str], labels: list[int], classes: tuple[str, ...], tmp_path: Path
) -> None:
    items = [(content(label, "PNG"), ".png", borrowed._class_folder(label, names[label])) for label in labels]
    folder = borrowed._write(tmp_path / "written", items, len(items), None)
    assert IndexedDataset(folder).classes == classes


def test_a_hugging_face_set_keeps_its_classes_and_the_files_as_they_were(saved: Saved, cache: Path) -> None:
    where, rows = saved
    dataset = IndexedDataset(f"hf:{where}", test=True)
    assert dataset.classes == ("tabby cat", "7", "a_b")
    found = {int(Path(dataset.file_name(i)).stem): i for i in range(len(dataset))}
    assert len(found) == len(rows)
    for number, (file, label) in enumerate(rows):
        assert dataset.labels[found[number]] == label
        assert dataset.source.read(dataset.file_name(found[number])) == file
        assert dataset.file_name(found[number]).endswith(".jpg" if number % 2 else ".png")


def test_another_part_is_named_after_a_colon_and_a_wrong_one_is_refused(saved: Saved, cache: Path) -> None:
    assert len(IndexedDataset(f"hf:{saved[0]}:test")) == 1
    with pytest.raises(UnknownName, match=r"has no part 'validation', only train, test"):
        settled(f"hf:{saved[0]}:validation")


def test_a_set_that_was_saved_anew_is_read_anew(tmp_path: Path, saved: Saved, cache: Path) -> None:
    import datasets

    place = tmp_path / "one"
    both = datasets.load_from_disk(str(saved[0]))
    both["test"].save_to_disk(place)
    assert len(IndexedDataset(f"hf:{place}")) == 1
    both["train"].save_to_disk(place)
    assert len(IndexedDataset(f"hf:{place}")) == 9


def test_a_set_without_images_is_refused(tmp_path: Path, cache: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).save_to_disk(tmp_path / "texts")
    with pytest.raises(BadOption, match=r"has no column of images, only text, label"):
        settled(f"hf:{tmp_path / 'texts'}")


@pytest.mark.slow
def test_a_hub_without_a_network_is_one_line_with_what_works(tmp_path: Path) -> None:
    script = "from vizsla.data.borrowed import settled; settled('hf:nobody/nothing')"
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}  # read when the package loads
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True, timeout=120)
    said = done.stderr.splitlines()[-1]
    assert said.startswith("vizsla.errors.NoImages: cannot load hf:nobody/nothing: ")
    assert said.endswith("a data set that was saved by save_to_disk, such as hf:/path/to/it.")


def test_a_missing_package_is_named_with_what_to_install(
    saved: Saved, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadOption, match=r"Run: pip install 'vizsla.hf.'\.$"):
        settled(f"hf:{saved[0]}")
