"""`--json` on every command: one JSON document on the standard output, with the keys that the manual promises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from vizsla import interop
from vizsla.cli import cli
from vizsla.cli.documents import plain
from vizsla.data.samples import DEMO
from vizsla.project import Project
from vizsla.store import Answer
from vizsla.testing import TOY_BACKBONE, toy_images
from vizsla.training.now import train_now

SERVE_OR_SCRIPT = {"label", "serve", "worker", "completion"}
"""Commands without a result: they go on until Ctrl-C, or print a script."""

TOY = ["--backbone", TOY_BACKBONE]
SMALL_DEMO = DEMO | {"backbone": TOY_BACKBONE, "strategies": ("random", "margin"), "seeds": 2, "budget": 40}
KEYS = {
    "compare {toys} --out {out} --seeds 2 --initial 4 --batch 4 --budget 12 --strategies margin": (
        "headline best strategies files"
    ),
    "demo --out {demo}": "headline best strategies files",
    "embed {toys}": "images features unreadable seconds runtime precision cache out likeness",
    "train": "version labels accuracy fine_tuning",
    "status": (
        "project folder images unlabelled labelled skipped flagged classes model labels_to_next_model "
        "accuracy random_checks advice stopping_rules left_out"
    ),
    "query -n 3": "images",
    "predict {project} {photos}": "predictions out images not_sure unreadable",
    "export csv --out {written}": "out bytes",
    "import csv {labels}": "taken skipped new_classes reasons notes",
    "move --to {moved}": "from to rows",
    "doctor --quick": "state findings",
    "users add ada": "name token",
    "users list": "users",
    "users revoke ada": "name",
}
"""Command line → keys of its document."""
OWN_LIST = {"select"}  # a list of row numbers, tested with the command


def commands(group: click.Group = cli, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


@pytest.fixture(scope="module")
def places(tmp_path_factory, sixty_photos: Path) -> dict[str, Path]:
    """A project with half of its photos labelled, and places to write to."""
    folder = tmp_path_factory.mktemp("json")
    with Project.open(folder / "project", sixty_photos) as opened:
        opened.change(backbone=TOY_BACKBONE)
        opened.add_classes(["blue", "green", "red"])
        opened.scan()
        me = opened.store.annotator("me").id
        for item in opened.store.claim(me, 30):
            opened.store.label(me, Answer(item.image_id, item.path[4:-4], lease_id=item.lease_id))
        train_now(opened)
        opened.store.new_token("ada")
        (folder / "labels").write_bytes(
            b"".join(interop.formats["csv"].write(interop.Outgoing(opened.store, opened.source)))
        )
    names = {name: folder / name for name in ("out", "demo", "written", "moved", "labels", "project")}
    return names | {"toys": toy_images(folder / "toys"), "photos": sixty_photos}


def arguments(line: str, places: dict[str, Path]) -> list[str]:
    name, takes = line.split()[0], {parameter.name for parameter in dict(commands())[command_of(line)].params}
    more = ["--project", str(places["project"])] if "project" in takes else []
    more += TOY if name in ("compare", "embed") else []
    return [*(word.format(**places) for word in line.split()), *more, "--json"]


def command_of(line: str) -> str:
    return next(name for name in sorted(dict(commands()), key=len, reverse=True) if line.startswith(name))


def test_every_command_with_a_result_is_tested_here():
    with_result = {name for name, _ in commands()} - SERVE_OR_SCRIPT
    assert with_result == {command_of(line) for line in KEYS} | OWN_LIST
    lacking = [name for name, command in commands() if not any("--json" in p.opts for p in command.params)]
    assert set(lacking) == SERVE_OR_SCRIPT


@pytest.mark.parametrize("line", KEYS)
def test_a_command_prints_one_document_with_the_keys_promised(line, places, monkeypatch, vizsla_here):
    monkeypatch.setattr("vizsla.data.samples.DEMO", SMALL_DEMO)  # only demo reads it
    done = vizsla_here(*arguments(line, places))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document) == set(KEYS[line].split())
    assert "NaN" not in done.stdout
    assert "Infinity" not in done.stdout


def test_a_mistake_leaves_the_standard_output_empty(tmp_path, vizsla_here):
    done = vizsla_here("status", "--project", tmp_path / "nowhere", "--json")
    assert (done.returncode, done.stdout) == (2, "")


def test_the_figures_are_those_of_the_project(places, vizsla_here):
    trained = json.loads(vizsla_here(*arguments("train", places)).stdout)
    status = json.loads(vizsla_here(*arguments("status", places)).stdout)
    assert status["model"] == {"version": trained["version"], "labels": 30}
    assert (status["images"], status["labelled"], status["unlabelled"]) == (60, 30, 30)
    assert sum(status["classes"].values()) == 30
    assert status["accuracy"] == trained["accuracy"]
    assert status["accuracy"]["low"] < status["accuracy"]["value"] <= status["accuracy"]["high"]
    told = json.loads(vizsla_here(*arguments("predict {project} {photos}", places)).stdout)["predictions"]
    right = [row["label"] == row["file_name"][4:-4] for row in told]
    assert len(right) == 60
    assert np.mean(right) > 0.9  # by chance a third
    assert all(row["prob"] == pytest.approx(max(row["probs"].values()), abs=1e-4) for row in told)


def test_what_json_cannot_say_becomes_null_and_odd_bytes_are_written_as_python_does():
    assert plain({"a": [float("inf"), 1.5], Path("x/y"): ("\udcff", None, True)}) == {
        "a": [None, 1.5],
        "x/y": [r"\xff", None, True],
    }


def test_the_manual_names_every_key():
    page = (Path(__file__).parents[1] / "docs" / "ecosystem.md").read_text("utf-8")
    for line, keys in KEYS.items():
        [row] = [row for row in page.splitlines() if row.startswith(f"| `{command_of(line)}`")]
        assert set(re.findall(r"`(\w+)`", row)) >= set(keys.split()), command_of(line)
