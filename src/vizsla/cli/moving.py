"""`vizsla move`."""

from __future__ import annotations

from functools import partial

import click

from vizsla.cli import documents
from vizsla.cli.base import cli, steps
from vizsla.cli.documents import json_option
from vizsla.cli.projects import project_option, the_project


@cli.command()
@project_option
@click.option("--to", required=True, metavar="P", help="New folder, or URL of an empty database.")
@json_option
def move(project: str | None, to: str, as_json: bool) -> None:
    """Move a project into another database: from SQLite to PostgreSQL, or back.

    Everything goes along: images, labels with their whole history, classes, models, annotators with their tokens,
    settings. It is compared by checksum before it counts, and an error leaves the new place empty. Stop servers
    and workers first. The old project stays as it is; remove it when you like the new one.
    """
    from vizsla.moving import move

    with the_project(project) as opened, steps() as step:
        before = opened.store.name
        copied = move(opened, to, partial(step, "copying rows"))
    if as_json:
        documents.show({"from": before, "to": to, "rows": copied})
        return
    rows = ", ".join(f"{count:,} {table.replace('_', ' ')}" for table, count in copied.items() if count)
    click.echo(f"copied and compared: {rows}")
    click.echo(f"from now on use --project {to}; the old one is still in {before}")
