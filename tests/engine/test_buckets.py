"""Shards in a bucket of a real S3 server: chosen from as from a folder, and gone on with where they stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.s3 import S3

from vizsla.data.sources import Folder
from vizsla.engine import LocalEngine
from vizsla.errors import BadArray, BadOption
from vizsla.project import Project
from vizsla.shards.choosing import select_shards
from vizsla.shards.embedding import embed_shards
from vizsla.shards.folder import ShardFolder
from vizsla.testing import TOY_BACKBONE

KNOWN = np.arange(0, 36, 5)


def run(images: Path, out: str | Path, **options):
    return embed_shards(Folder(images), out, LocalEngine(), backbone=TOY_BACKBONE, shard=10, **options)


def objects(s3: S3, bucket: str) -> dict[str, str]:
    """Key → time of writing and ETag."""
    found = s3.client.list_objects_v2(Bucket=bucket.removeprefix("s3://"))["Contents"]
    return {entry["Key"]: f"{entry['LastModified']} {entry['ETag']}" for entry in found}


@pytest.mark.parametrize("strategy", ["margin", "coreset", "kmeans", "badge", "random"])
def test_a_bucket_is_chosen_from_as_a_folder_is(strategy, engine, toys, tmp_path, bucket):
    run(toys, tmp_path / "rows")
    run(toys, f"{bucket}/rows")
    given = {"labelled": KNOWN, "labels": KNOWN // 12, "n": 6}
    want = select_shards(strategy, ShardFolder(tmp_path / "rows").pool(), LocalEngine(), **given)
    got = select_shards(strategy, ShardFolder(f"{bucket}/rows").pool(), engine, **given)
    assert got.tolist() == want.tolist()


def test_only_what_is_missing_or_damaged_is_computed_again(s3, bucket, toys, monkeypatch):
    name, out = bucket.removeprefix("s3://"), f"{bucket}/rows"
    want = run(toys, out)
    rows = [part.vectors() for part in ShardFolder(out).pool().parts]
    content = bytearray(s3.get(name, "rows/shards/00002.npy"))
    content[-1] ^= 1
    s3.client.put_object(Bucket=name, Key="rows/shards/00002.npy", Body=bytes(content))
    s3.client.delete_object(Bucket=name, Key="rows/shards/00000.npy")
    s3.client.delete_object(Bucket=name, Key="rows/manifest.json")
    with pytest.raises(BadArray, match=r"not finished: 4 of 4 shards. Run the same"):
        ShardFolder(out).pool()
    written, write = [], ShardFolder.write
    monkeypatch.setattr(
        ShardFolder, "write", lambda self, shard, *rest: written.append(shard) or write(self, shard, *rest)
    )
    assert run(toys, out) == want
    assert written == [0, 2]
    again = [part.vectors() for part in ShardFolder(out).pool().parts]  # not what this machine had kept
    assert all(map(np.array_equal, again, rows))


def test_an_embedding_that_died_goes_on_in_its_bucket(s3, bucket, toys, tmp_path):
    def interrupt(done: int, total: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(toys, f"{bucket}/rows", progress=interrupt)
    before = objects(s3, bucket)
    assert len(before) == 2 + 2 * 3  # plan and names; two shards
    with pytest.raises(BadArray, match=r"not finished: 2 of 4 shards. Run the same"):
        ShardFolder(f"{bucket}/rows").pool()
    assert run(toys, f"{bucket}/rows") == run(toys, tmp_path / "whole")
    assert before.items() <= objects(s3, bucket).items()


def test_a_shard_that_is_gone_says_how_to_have_it_again(s3, bucket, toys):
    run(toys, f"{bucket}/rows")
    s3.client.delete_object(Bucket=bucket.removeprefix("s3://"), Key="rows/shards/00001.npy")
    shard = ShardFolder(f"{bucket}/rows").pool().parts[1]
    with pytest.raises(
        BadArray, match=r"00001.npy cannot be read .* run that again: it makes only what is missing"
    ):
        shard.vectors()


def test_a_bucket_that_is_not_there_is_said_in_one_line(s3, toys):
    with pytest.raises(BadOption, match=r"^there is no s3://nowhere-at-all/rows/\S+. Check the address.$"):
        run(toys, "s3://nowhere-at-all/rows")
    with pytest.raises(
        BadArray, match=r"^s3://nowhere-at-all/rows holds no embedding. Make one: vizsla embed"
    ):
        ShardFolder("s3://nowhere-at-all/rows").pool()


def test_commands_take_a_bucket(bucket, toys, tmp_path, vizsla_here):
    made = vizsla_here("embed", toys, "--out", f"{bucket}/rows", "--shard", 10, "--backbone", TOY_BACKBONE)
    assert made.returncode == 0, made.stderr
    assert made.stdout.endswith(f"\n  {bucket}/rows\n")
    chosen = vizsla_here(
        "select", "--strategy", "coreset", "--embeddings", f"{bucket}/rows", "-n", 5, "--json"
    )
    assert len(set(json.loads(chosen.stdout))) == 5, chosen.stderr
    with Project.open(tmp_path / "project", toys) as project:
        project.change(backbone=TOY_BACKBONE, strategy="coreset")
        project.scan()
    asked = vizsla_here("query", "--project", tmp_path / "project", "--embeddings", f"{bucket}/rows", "-n", 4)
    assert len(asked.stdout.splitlines()) == 4, asked.stderr
