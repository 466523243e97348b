"""Completion as a shell asks for it: in a process of its own, within a second, with names that exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vizsla
from vizsla import interop
from vizsla.cli import completing
from vizsla.models.backbones import backbones
from vizsla.models.blend import heads
from vizsla.models.finetune import STOP_RULES

pytestmark = pytest.mark.slow

PROGRAMS = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def in_bash(*words: str) -> list[str]:
    """What bash offers once its completion is installed, with the cursor at the end of the last word."""
    script = (
        'eval "$(vizsla completion bash)"; '
        "complete -p vizsla >/dev/null || exit 9; "
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vizsla_completion vizsla; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", "vizsla", *words], env=PROGRAMS, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def asked(shell: str, line: str, **more: str) -> list[str]:
    """The lines that the script of a shell reads, asked for as it asks."""
    env = PROGRAMS | {"_VIZSLA_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, **more}
    done = subprocess.run(["vizsla"], env=env, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bash_completes_commands_options_and_names():
    assert in_bash("comp") == ["compare", "completion"]
    assert in_bash("users", "") == ["add", "list", "revoke"]
    assert in_bash("compare", "x", "--str") == ["--strategies"]
    assert in_bash("select", "--strategy", "power_m") == ["power_margin"]
    assert in_bash("compare", "x", "--strategies", "random,margin,ma") == ["random,margin,maxherding"]
    assert in_bash("embed", "--backbone", "eff") == completing.BACKBONES
    assert in_bash("label", "--precision", "") == ["float32", "int8"]
    assert in_bash("export", "mo") == ["model"]
    assert in_bash("import", "js") == ["jsonl"]


def test_zsh_and_fish_get_the_same_names_in_their_own_form():
    line = "vizsla select --strategy power_m"
    assert asked("zsh", line, COMP_CWORD="3") == ["plain", "power_margin", "_"]
    assert asked("fish", line, COMP_CWORD="power_m") == ["plain,power_margin"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_vizsla_under_the_name_it_listens_to(shell):
    done = subprocess.run(["vizsla", "completion", shell], env=PROGRAMS, capture_output=True, text=True)
    assert done.returncode == 0
    assert f"_VIZSLA_COMPLETE={shell}_complete" in done.stdout


def test_fish_parts_what_it_reads_at_the_first_comma_only():
    script = subprocess.run(
        ["vizsla", "completion", "fish"], env=PROGRAMS, capture_output=True, text=True
    ).stdout
    assert re.findall(r"string split.*\$completion", script) == ['string split -m 1 "," $completion']
    line = "vizsla compare x --strategies random,ma"
    assert asked("fish", line, COMP_CWORD="random,ma") == ["plain,random,margin", "plain,random,maxherding"]


def test_a_folder_is_left_to_the_shell():
    assert asked("bash", "vizsla status --project pho", COMP_CWORD="3") == ["dir,pho"]


def test_an_option_is_completed_without_loading_torch_or_a_database():
    env = PROGRAMS | {
        "_VIZSLA_COMPLETE": "bash_complete",
        "COMP_WORDS": "vizsla select --strategy m",
        "COMP_CWORD": "3",
    }
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from vizsla.cli import cli; cli(prog_name='vizsla')"],
        env=env,
        capture_output=True,
        text=True,
    )
    assert "plain,margin" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "vizsla.cli.completing" in loaded
    assert not loaded & {"torch", "numpy", "scipy", "sqlalchemy", "rich"}


def test_the_names_written_down_are_those_that_there_are():
    assert sorted(vizsla.strategies) == sorted(completing.STRATEGIES)
    assert sorted(backbones) == completing.BACKBONES
    assert sorted(heads) == completing.HEADS
    assert sorted(STOP_RULES) == completing.STOP_RULES
    assert sorted(interop.formats) == sorted(interop.importers) == completing.FORMATS


def test_a_plug_in_s_strategy_is_offered_too(tmp_path):
    about = tmp_path / "toy_plugin-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[vizsla.strategies]\nzigzag = toy_plugin:zigzag\n")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    found = asked("bash", "vizsla select --strategy zig", COMP_CWORD="3", PYTHONPATH=path)
    assert found == ["plain,zigzag"]  # read, not loaded: there is no module toy_plugin
