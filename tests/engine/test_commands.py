"""`vizsla embed`, `select` and `query` over shards, with both engines."""

from __future__ import annotations

import json
import subprocess
import sys
from uuid import uuid4

import numpy as np
import pytest

import vizsla
from vizsla.cli.arrays import load
from vizsla.project import Project
from vizsla.store import Answer
from vizsla.testing import TOY_BACKBONE, toy_images

TOY = ("--backbone", TOY_BACKBONE)


def test_embed_select_and_query_over_shards(engine, vizsla_here, photos, tmp_path, monkeypatch):
    how = ("--engine", engine.name)
    monkeypatch.chdir(tmp_path)  # workers are elsewhere
    made = vizsla_here("embed", photos.relative_to(tmp_path), "--out", "rows", "--shard", 16, *TOY, *how)
    assert made.returncode == 0, made.stderr
    assert "60 images, 24 features each, in 4 shards" in made.stdout
    one = vizsla_here("embed", photos, "--out", tmp_path / "rows.npy", *TOY)
    assert one.returncode == 0, one.stderr
    rows, names = load("embeddings", tmp_path / "rows.npy"), sorted(file.name for file in photos.iterdir())
    known = np.arange(0, 60, 6)
    labels = np.array([name.split("-")[1].removesuffix(".png") for name in np.array(names)[known]])
    np.save(tmp_path / "known.npy", known)
    np.save(tmp_path / "labels.npy", labels)
    given = ("--labelled", tmp_path / "known.npy", "--labels", tmp_path / "labels.npy", "-n", 5)
    want = vizsla.select("margin", embeddings=rows, labelled=known, labels=labels, n=5).tolist()
    for pool in ("rows", "rows.npy"):
        chosen = vizsla_here("select", "--strategy", "margin", "--embeddings", tmp_path / pool, *given, *how)
        assert chosen.stdout.split() == list(map(str, want)), chosen.stderr
    with Project.open(tmp_path / "project", photos) as project:
        project.change(backbone=TOY_BACKBONE, strategy="margin")
        project.add_classes(["blue", "green", "red"])
        project.scan()
        me, id_of = project.store.annotator("me"), project.store.at(names)
        for row, label in zip(known.tolist(), labels.tolist(), strict=True):
            project.store.label(me.id, Answer(key=uuid4(), image_id=id_of[names[row]], label=label))
        left_out = names[want[0]]
        project.store.label(me.id, Answer(key=uuid4(), image_id=id_of[left_out], status="skipped"))
    asked = vizsla_here(
        "query", "--project", tmp_path / "project", "--embeddings", tmp_path / "rows", "-n", 4, *how
    )
    assert asked.stdout.splitlines() == [f"{names[row]}\tmargin" for row in want[1:]], asked.stderr


def test_embed_names_what_it_left_out_also_in_json(vizsla_here, tmp_path):
    images = toy_images(tmp_path / "toys", per_class=3)
    (images / "red" / "000.png").write_bytes(b"no image")
    command = ("embed", images, "--out", tmp_path / "rows", *TOY)
    assert "left out: red/000.png: cannot read" in vizsla_here(*command).stderr
    document = json.loads(vizsla_here(*command, "--json").stdout)
    assert document.keys() == {"images", "features", "unreadable", "seconds", "engine", "shards", "out"}
    assert (document["images"], list(document["unreadable"])) == (8, ["red/000.png"])


@pytest.mark.parametrize(
    ("command", "mend"),
    [
        ("embed {toys} --engine ray --out {toys}/e.npy", "Give --out FOLDER"),
        ("embed {toys} --engine ray", "Give --out FOLDER"),
        ("embed {toys} --out {toys}/e --shard 0", "1 or more, not 0"),
        ("embed {toys} --out {toys}/e --address here:1", "Add --engine ray"),
        ("select --strategy margin --embeddings {toys} -n 2", "Make one: vizsla embed IMAGES --out"),
        ("select --strategy margin --embeddings {toys} --probs p.npy -n 2", "Leave it out with shards"),
        (
            "select --strategy margin --probs p.npy --engine ray -n 2",
            "reads --embeddings: a folder of shards",
        ),
        ("select --strategy margin --embeddings {toys}/red/000.png --engine ray -n 2", "is no .npy array"),
        ("query --project {toys} --engine ray", "from vizsla embed --out FOLDER"),
    ],
)
def test_a_mistake_is_one_line_with_its_mend(command, mend, vizsla_here, toys):
    done = vizsla_here(*command.format(toys=toys).split())
    assert done.returncode == 2
    assert mend in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_ray_the_line_says_how_to_get_it(vizsla_here, toys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = vizsla_here("embed", toys, "--engine", "ray", "--out", toys / "rows", *TOY)
    assert done.returncode == 2
    assert "pip install 'vizsla[ray]'" in done.stderr


@pytest.mark.slow
def test_the_core_never_loads_ray():
    code = "import sys, vizsla, vizsla.cli, vizsla.shards.choosing; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
