"""Commands about this installation: completion for a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from vizsla.cli.base import cli


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
    click.echo(kind(cli, {}, "vizsla", "_VIZSLA_COMPLETE").source())
