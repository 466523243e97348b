"""What the page shows of pictures that a browser could not show itself."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fastapi.testclient import TestClient
from PIL import Image

from vizsla.data.indexed import IndexedDataset
from vizsla.project import Project


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ramps from black to white in deep formats, and one that goes the other way."""
    folder = tmp_path / "photos"
    folder.mkdir()
    ramp = np.tile(np.linspace(0, 1, 64), (48, 1))
    twelve_bits = np.rint(ramp * 4095).astype(np.uint16)
    Image.fromarray(twelve_bits).save(folder / "twelve-bits.png")
    tifffile.imwrite(folder / "double.tif", ramp * 1.2)
    tifffile.imwrite(folder / "white-is-zero.tif", twelve_bits, photometric="miniswhite")
    colours = np.dstack([ramp, ramp[:, ::-1], ramp]).astype(np.float32)
    tifffile.imwrite(folder / "colours.tif", colours, photometric="rgb")
    return folder


def seen(client: TestClient, address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(client.get(address).content)).convert("RGB")).astype(int)


def test_the_page_shows_the_picture_that_the_network_sees(client: TestClient, project: Project) -> None:
    dataset = IndexedDataset(project.source)
    assert len(dataset) == 4
    for image in project.store.images():
        expected = np.asarray(dataset[dataset.index_of(image.path or "")][0]).astype(int)
        assert sorted(expected[0, [0, -1], 0].tolist()) == [0, 255]
        assert np.array_equal(seen(client, f"/api/images/{image.id}"), expected)
        np.testing.assert_allclose(seen(client, f"/api/images/{image.id}/thumb"), expected, atol=16)  # a JPEG


def test_a_picture_over_the_limits_is_named_and_leaves_the_queue(
    client: TestClient, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = next(one for one in project.store.images() if one.path == "double.tif")
    monkeypatch.setenv("VIZSLA_IMAGE_MEMORY", "20KB")
    answer = client.get(f"/api/images/{image.id}")
    assert answer.status_code == 415
    assert "double.tif cannot be shown: it has 25 kB, and 20 kB are allowed" in answer.text
    monkeypatch.delenv("VIZSLA_IMAGE_MEMORY")
    assert [one.path for one in project.store.images(state="unreadable")] == ["double.tif"]
    others = [one.id for one in project.store.images(state="present")]
    assert [client.get(f"/api/images/{number}").status_code for number in others] == [200] * 3
