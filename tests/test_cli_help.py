"""The help: every command in its section, with examples that are valid, and quickly."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from vizsla.cli import cli
from vizsla.cli.help import SECTIONS, Sections


def commands(group: click.Group = cli, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{before}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")


EXAMPLES = [
    (name, line) for held in SECTIONS.values() for name, (_, *lines) in held.items() for line in lines
]


def test_every_command_stands_in_one_section_with_a_line_that_is_not_cut(vizsla_here):
    listed = [name for held in SECTIONS.values() for name in held]
    assert sorted(listed) == sorted(name for name, _ in commands())
    said = vizsla_here("--help").stdout
    assert "..." not in said.partition("Options:")[2]
    assert "More:" not in said
    for section, held in SECTIONS.items():
        below = said.partition(f"{section}:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in below.splitlines()] == [name for name in held if " " not in name]


def test_every_command_has_examples_and_its_help_shows_them(vizsla_here):
    shown = {name for name, _ in EXAMPLES}
    assert shown == {name for name, command in commands() if not isinstance(command, click.Group)}
    for name, line in EXAMPLES:
        assert f"\n    {line}\n" in vizsla_here(*name.split(), "--help").stdout


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_an_example_is_a_command_that_vizsla_understands(name, line):
    _, *words = shlex.split(line)
    command, path = cli, []
    while isinstance(command, click.Group):
        path.append(words.pop(0))
        command = command.commands[path[-1]]
    assert " ".join(path) == name
    with command.make_context(name, words) as context:  # raises what a person would be told
        assert not context.args


def test_a_command_that_nobody_has_put_into_a_section_is_still_listed():
    group = Sections("vizsla", commands={"lost": click.Command("lost", help="Is not forgotten.")})
    said = group.get_help(click.Context(group))
    assert "More:\n  lost  Is not forgotten." in said


@pytest.mark.slow
def test_the_help_loads_no_library_that_takes_long():
    command = [sys.executable, "-X", "importtime", "-m", "vizsla", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Label your images:" in done.stdout
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "click" in loaded
    assert not loaded & {
        "torch",
        "torchvision",
        "timm",
        "scipy",
        "sklearn",
        "sqlalchemy",
        "fastapi",
        "matplotlib",
    }
