"""Embedding into shards: the same features with both engines, nothing done twice, nothing half done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vizsla.data.indexed import IndexedDataset
from vizsla.data.sources import Folder
from vizsla.engine import LocalEngine
from vizsla.errors import BadArray, BadOption, DeadlyWork, NoImages
from vizsla.models.backbones import load_backbone
from vizsla.models.embed import embed
from vizsla.shards.embedding import embed_shards
from vizsla.shards.folder import ShardFolder
from vizsla.shards.names import ids_of, names_at
from vizsla.testing import TOY_BACKBONE


def run(images: Path, out: Path | str, engine=None, **options):
    given = {"backbone": TOY_BACKBONE, "shard": 10} | options
    return embed_shards(Folder(images), out, engine or LocalEngine(), **given)


def rows(out: Path | str) -> np.ndarray:
    return np.concatenate([part.vectors() for part in ShardFolder(out).pool().parts])


def stamps(out: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in (out / "shards").iterdir()}


@pytest.mark.parametrize(  # Ray to a disk: test_cluster.py
    ("engine", "out"), [("local", "disk"), ("local", "bucket"), ("ray", "bucket")], indirect=True
)
def test_both_engines_give_the_rows_of_one_machine_in_the_order_of_the_names(engine, toys, out, tmp_path):
    (toys / "green" / "005.png").write_bytes(b"no image")
    shutil.copy(toys / "blue" / "000.png", toys / "red" / "twin.png")
    dataset = IndexedDataset(toys, check=False)
    want = embed(dataset, load_backbone(TOY_BACKBONE))
    told = []
    manifest = run(toys, out, engine, progress=lambda *step: told.append(step))
    run(toys, tmp_path / "one machine")
    assert np.array_equal(rows(out), rows(tmp_path / "one machine"))
    np.testing.assert_allclose(
        rows(out), want.vectors, atol=1e-3
    )  # other batches may round the last digit otherwise
    assert manifest["rows"] == 36
    assert [shard["rows"] for shard in manifest["shards"]] == [10, 9, 10, 7]
    assert told[-1] == (37, 37)
    pool, names = ShardFolder(out).pool(), [dataset.file_name(one) for one in want.ids.tolist()]
    assert names_at(pool, np.arange(36)) == names
    assert ids_of(pool, ["red/twin.png", "blue/000.png", "green/005.png"], engine) == {
        "blue/000.png": 0,
        "red/twin.png": 35,
    }
    assert ShardFolder(out).unreadable().keys() == {"green/005.png"}


def test_an_interrupted_embedding_goes_on_where_it_stopped(toys, tmp_path):
    run(toys, tmp_path / "whole")

    def interrupt(done: int, total: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(toys, tmp_path / "out", progress=interrupt)
    before = stamps(tmp_path / "out")
    assert len(before) == 6  # two shards of three files
    with pytest.raises(BadArray, match=r"not finished: 2 of 4 shards. Run the same"):
        ShardFolder(tmp_path / "out").pool()
    run(toys, tmp_path / "out")
    after = stamps(tmp_path / "out")
    assert before.items() <= after.items()
    assert len(after) == 12
    assert np.array_equal(rows(tmp_path / "out"), rows(tmp_path / "whole"))


@pytest.mark.parametrize("damage", ["00001.npy", "00001.parquet", "00001.json"])
@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
def test_only_a_damaged_shard_is_computed_again(damage, how, toys, tmp_path):
    run(toys, tmp_path / "out")
    want, before = rows(tmp_path / "out"), stamps(tmp_path / "out")
    file = tmp_path / "out" / "shards" / damage
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    if how != "gone":
        file.write_bytes(content[: len(content) // 2] if how == "cut" else content)
    run(toys, tmp_path / "out")
    after = stamps(tmp_path / "out")
    if not (damage.endswith(".json") and how == "changed"):  # a bit of its text may mean the same
        assert {name for name in after if after[name] != before[name]} >= {damage}
    assert {name for name in after if after[name] != before[name]} <= {
        "00001.npy",
        "00001.parquet",
        "00001.json",
    }
    assert np.array_equal(rows(tmp_path / "out"), want)


FAINT = """
import os
from vizsla.testing import ToyNetwork, toy_backbone

class Faint(ToyNetwork):
    def forward(self, pixels):
        if (pixels.amin(dim=(1, 2, 3)) == 2).any():  # all white
            os._exit(1)
        return super().forward(pixels)

def make():
    return Faint(), toy_backbone()[1]
"""


def test_an_image_that_kills_its_worker_is_told_by_its_shard_and_costs_no_other(
    ray_engine, toys, tmp_path, monkeypatch
):
    monkeypatch.setattr("vizsla.engine.ray._DEATHS", 1)
    (tmp_path / "faint.py").write_text(FAINT)
    given = {"backbone": f"module:{tmp_path / 'faint.py'}:make", "shard": 12}
    Image.new("RGB", (16, 16), "white").save(toys / "green" / "007.png")
    with pytest.raises(DeadlyWork) as told:
        run(toys, tmp_path / "out", ray_engine, **given)
    assert "has killed its worker 2 times" in str(told.value)
    assert f"That is shard 1 of {tmp_path / 'out'}; all others are done." in str(told.value)
    assert "The images of 1 go from green/000.png to green/011.png;" in str(told.value)
    before = stamps(tmp_path / "out")
    assert {name[:5] for name in before} == {"00000", "00002"}
    (toys / "green" / "007.png").write_bytes(b"")
    assert run(toys, tmp_path / "out", **given)["rows"] == 35
    assert before.items() <= stamps(tmp_path / "out").items()
    assert ShardFolder(tmp_path / "out").unreadable().keys() == {"green/007.png"}


def test_another_embedding_in_the_same_folder_is_refused(toys, tmp_path):
    run(toys, tmp_path / "out")
    with pytest.raises(BadOption, match=r"another embedding \(shard was 10, now 12\)"):
        run(toys, tmp_path / "out", shard=12)
    shutil.copy(toys / "blue" / "000.png", toys / "blue" / "new.png")
    with pytest.raises(BadOption, match=r"images was 36, now 37\). Choose another --out"):
        run(toys, tmp_path / "out")


def test_images_of_which_none_can_be_read_are_an_error_that_names_one(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"no image")
    with pytest.raises(NoImages, match=r"none of the 1 images .* a.png: cannot read"):
        run(tmp_path / "images", tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_folder_without_an_embedding_says_how_to_make_one(tmp_path):
    with pytest.raises(BadArray, match=r"holds no embedding. Make one: vizsla embed IMAGES --out"):
        ShardFolder(tmp_path).pool()
    (tmp_path / "file").touch()
    with pytest.raises(BadArray, match=r"file holds no embedding. Make one"):
        ShardFolder(tmp_path / "file").pool()


def test_the_manifest_tells_what_made_the_rows(toys, tmp_path):
    run(toys, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["key"] == load_backbone(TOY_BACKBONE).key
    assert (manifest["backbone"], manifest["dim"], manifest["images"]) == (TOY_BACKBONE, 24, 36)
