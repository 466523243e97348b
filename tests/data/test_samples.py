from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from vizsla.data.indexed import IndexedDataset
from vizsla.data.samples import digits_folder
from vizsla.errors import BadOption


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _enlarged(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    bicubic = torch.nn.functional.interpolate(images, size, mode="bicubic", antialias=True)
    return bicubic.round().clamp(0, 255)


def test_the_digits_are_scikit_learns_enlarged_in_ten_class_folders() -> None:
    images, labels = load_digits(return_X_y=True)
    small = torch.from_numpy(images.reshape(-1, 1, 8, 8) * 255 / 16).round()
    wide = _enlarged(small, (8, 32))  # Pillow rounds after each direction
    large = _enlarged(wide, (32, 32))
    dataset = IndexedDataset(digits_folder(), test=True)
    assert len(dataset) == 1797
    assert dataset.classes == tuple("0123456789")
    for image, label, position in dataset:
        number = int(Path(dataset.file_name(position)).stem)
        assert label == labels[number]
        pixels = np.asarray(image.convert("L"), dtype=float)
        np.testing.assert_allclose(pixels, large[number, 0], atol=2)


def test_a_second_call_writes_nothing(empty_cache: Path) -> None:
    folder = digits_folder()
    one = next(folder.glob("3/*.png"))
    Image.new("L", (2, 2)).save(one)
    before = {path: path.stat().st_mtime_ns for path in empty_cache.rglob("*")}
    assert digits_folder() == folder
    assert {path: path.stat().st_mtime_ns for path in empty_cache.rglob("*")} == before


def test_two_processes_at_once_leave_one_whole_folder(empty_cache: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        folders = [pool.apply_async(digits_folder) for _ in range(2)]
        assert {each.get(timeout=60) for each in folders} == {empty_cache / "samples" / "digits"}
    assert len(list(empty_cache.rglob("*.png"))) == 1797
    assert [path.name for path in (empty_cache / "samples").iterdir()] == ["digits"]


def test_a_failed_write_leaves_no_half_folder(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource", reason="POSIX only: limits the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # bytes; no digit is that small
    try:
        with pytest.raises(OSError, match="too large"):
            digits_folder()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((empty_cache / "samples").iterdir()) == []
    assert len(list(digits_folder().rglob("*.png"))) == 1797


def test_a_cache_that_is_a_file_is_an_error_that_says_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        BadOption, match=r"cannot write .*digits: Not a directory\. Choose a folder .*VIZSLA_CACHE"
    ):
        digits_folder()
