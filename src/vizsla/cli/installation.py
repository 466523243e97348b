"""Commands about this installation: a look at its health, completion for a shell."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from vizsla.cli import documents
from vizsla.cli.base import cli
from vizsla.cli.documents import json_option
from vizsla.cli.projects import HERE, project_option

if TYPE_CHECKING:
    from vizsla.doctor import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@cli.command()
@project_option
@click.option(
    "--quick", is_flag=True, help="Without measuring the backbone's speed, which takes a few seconds."
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, project: str | None, quick: bool, as_json: bool) -> None:
    """Look at what is installed, this machine, the cache and a project, and say how to mend what is not well.

    Nothing is changed. The exit code is 0 where no problem was found (warnings are none), else 1.
    """
    from vizsla.doctor import examine, worst

    if project is None and (Path(HERE) / "project.db").exists():
        project = HERE
    findings = examine(project, seconds=0 if quick else 2)
    found = list(findings) if as_json else _print(findings)
    if as_json:
        documents.show(documents.findings(found))
    ctx.exit(1 if worst(found) == "problem" else 0)


def _print(findings: Iterable[Finding]) -> list[Finding]:
    """A row per finding, and below what is not well how to mend it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    with Console(stderr=True).status("looking …"):
        found = list(findings)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for options in ({"no_wrap": True}, {"no_wrap": True}, {"overflow": "fold"}):
        table.add_column(**options)
    for one in found:
        text = Text(one.text)
        if one.mend:
            text.append(f"\n→ {one.mend}", style="bold")
        table.add_row(Text(one.state, style=_COLOURS[one.state]), one.topic, text)
    Console().print(table)
    return found


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that lets a shell complete commands, options and names at the Tab key.

    \b
    bash:  echo 'eval "$(vizsla completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(vizsla completion zsh)"' >> ~/.zshrc
    fish:  vizsla completion fish > ~/.config/fish/completions/vizsla.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(cli, {}, "vizsla", "_VIZSLA_COMPLETE").source()
    # What is offered may hold commas (random,margin): click's script for fish would cut it at the first.
    click.echo(script.replace('string split ","', 'string split -m 1 ","'))
