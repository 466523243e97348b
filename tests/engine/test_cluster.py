"""Machines die: a real cluster on loopback loses workers and whole nodes at work."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vizsla
from vizsla.data.sources import Folder
from vizsla.engine import LocalEngine
from vizsla.shards.embedding import embed_shards
from vizsla.shards.folder import ShardFolder
from vizsla.shards.names import names_at
from vizsla.testing import TOY_BACKBONE, toy_images

pytestmark = pytest.mark.full  # of killed workers alone: test_engines.py, test_embedding.py

SCRIPT = Path(__file__).with_name("losing_nodes.py")
SECONDS = 560
"""A quiet machine takes a tenth of it."""


def test_killed_workers_and_lost_nodes_cost_no_row_and_give_none_twice(tmp_path):
    images = toy_images(tmp_path / "toys", per_class=70)
    (tmp_path / "work").mkdir()
    command = [sys.executable, str(SCRIPT), str(images), str(tmp_path / "work")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said, complained = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        raise
    assert process.returncode == 0, complained
    report = json.loads(said.splitlines()[-1])
    assert report["lost"] == ["worker", "node", "worker", "node"]

    folder, alone = ShardFolder(tmp_path / "work" / "rows"), ShardFolder(tmp_path / "alone")
    embed_shards(Folder(images), tmp_path / "alone", LocalEngine(), backbone=TOY_BACKBONE, shard=5)
    pool = folder.pool()
    names = names_at(pool, np.arange(len(pool)))
    assert names == sorted(file.relative_to(images).as_posix() for file in images.rglob("*.png"))
    want = np.concatenate([part.vectors() for part in alone.pool().parts])
    got = np.concatenate([part.vectors() for part in pool.parts])
    # By torch or by ONNX Runtime, whichever pays for the work that a machine expects: the last digit may differ.
    assert np.all(np.abs(got - want) <= 2 * np.spacing(np.maximum(np.abs(got), np.abs(want))))
    rows = [(one["rows"], one["names"], one["unreadable"]) for one in folder.manifest()["shards"]]
    assert rows == [(one["rows"], one["names"], one["unreadable"]) for one in alone.manifest()["shards"]]
    for shard in folder.manifest()["shards"]:
        content = (tmp_path / "work" / "rows" / "shards" / f"{shard['shard']:05}.npy").read_bytes()
        assert hashlib.sha256(content).hexdigest() == shard["vectors"]

    known = np.arange(0, 200, 9)
    given = {"embeddings": got, "labelled": known, "labels": known // 70, "n": 25}
    assert report["chosen"] == vizsla.select("margin", **given).tolist()
