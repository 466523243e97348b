"""The command that trains, and what it prints of a fine-tuned network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from vizsla.cli import documents
from vizsla.cli.base import bars, cli, log_option, log_setting
from vizsla.cli.documents import json_option
from vizsla.cli.projects import images_option, project_option, the_project
from vizsla.errors import BadOption

if TYPE_CHECKING:
    from vizsla.cli.places import Place
    from vizsla.training.tuning import Recipe, Verdict


def _fine_tuning(command: Callable[..., None]) -> Callable[..., None]:
    """Options of `--fine-tune`; None where they were not given."""
    for option in reversed(
        [
            click.option(
                "--fine-tune",
                is_flag=True,
                help="Train the whole network too, compare it with the head, and keep the better (slow on a CPU).",
            ),
            click.option(
                "--folds",
                type=int,
                metavar="N",
                help="Of --fine-tune: parts of the labels, each held out once from both. Default: 3.",
            ),
            click.option(
                "--epochs",
                type=int,
                metavar="N",
                help="Of --fine-tune: at most so many; it stops by itself once it gets no better. Default: 30.",
            ),
            click.option(
                "--learning-rate", type=float, metavar="RATE", help="Of --fine-tune. Default: 0.001."
            ),
            click.option(
                "--image-size", type=int, metavar="PX", help="Of --fine-tune. Default: that of the project."
            ),
            click.option(
                "--augment/--no-augment",
                default=None,
                help="Of --fine-tune: show images flipped, and parts of them. Not for digits. Default: on.",
            ),
        ]
    ):
        command = option(command)
    return command


@cli.command()
@project_option
@images_option
@_fine_tuning
@log_option
@json_option
def train(
    project: str | None,
    images: Place | None,
    fine_tune: bool,
    log: tuple[str, ...],
    as_json: bool,
    **recipe: int | float | None,
) -> None:
    """Train on all labels now.

    With --fine-tune the whole network too, at the end of labelling: each part of the labels is held out once from
    both, and the one that is right more often is what export and predict take from then on. Interrupted, the model
    stays what it was, and the same command goes on with the parts that are left.
    """
    from vizsla.training.now import train_now
    from vizsla.training.shown import begin

    given = {name: value for name, value in recipe.items() if value is not None}
    if given and not fine_tune:
        raise BadOption(f"--{next(iter(given)).replace('_', '-')} goes with --fine-tune. Add it.")
    wanted = _recipe(given) if fine_tune else None
    verdict = None
    with the_project(project, images) as opened, bars() as (embedding, training):
        opened.change(log=log_setting(log))
        begin(opened)
        model = train_now(opened, embedding)
        if wanted is not None:
            from vizsla.training.tuning import fine_tune as tune

            verdict = tune(opened, wanted, training)
    if as_json:
        tuned = {"fine_tuning": verdict.as_facts() if verdict else None}
        documents.show(documents.trained(model) | tuned)
        return
    click.echo(f"model {model.version}, from {model.labels_used} labels")
    if verdict is not None:
        _show(verdict)


def _recipe(given: dict[str, Any]) -> Recipe:
    """Made before anything is trained, so that mistakes are said at once."""
    from vizsla.training.tuning import Recipe

    return Recipe(**given)


def _show(verdict: Verdict) -> None:
    """A small table and a sentence."""
    from rich.console import Console
    from rich.table import Table

    from vizsla.monitor import wilson

    found = verdict.difference
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("model", "right", "95% interval"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for name, right in (
        ("fine-tuned network", verdict.fine_tuned),
        ("head on the frozen network", verdict.frozen),
    ):
        low, high = wilson(right, found.images)
        table.add_row(name, f"{right:.1%}", f"{low:.1%} to {high:.1%}")
    points = f"{100 * found.value:+.1f} points"
    table.add_row("difference", points, f"{100 * found.low:+.1f} to {100 * found.high:+.1f} points")
    Console().print(table)
    click.echo(verdict.sentence)
