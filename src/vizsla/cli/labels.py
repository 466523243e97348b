"""Commands that bring labels in and out, and people."""

from __future__ import annotations

from pathlib import Path

import click

from vizsla.cli.base import bars, cli
from vizsla.cli.projects import project_option, the_project
from vizsla.errors import BadOption

_path = click.Path(path_type=Path)


@cli.command("import")
@click.argument("format")
@click.argument("path", type=_path)
@project_option
@click.option(
    "--images", type=_path, metavar="DIR", help="Image folder, for a project that does not exist yet."
)
def import_(format: str, path: Path, project: str | None, images: Path | None) -> None:
    """Take in labels: csv, jsonl, folders or label-studio."""
    from vizsla import interop
    from vizsla.project import Project

    opened = the_project(project) if images is None else Project.open(project, images)
    with opened, bars() as (progress, _):
        opened.scan()
        report = interop.import_labels(opened.store, format, path, progress=progress)
    click.echo(report)


@cli.command()
@click.argument("format")
@project_option
@click.option("--out", type=_path, required=True, metavar="PATH", help="File to write.")
def export(format: str, project: str | None, out: Path) -> None:
    """Write all labels (csv, jsonl, folders, label-studio), or the trained model (model)."""
    from vizsla import interop
    from vizsla.caching import write_stream_atomically

    with the_project(project) as opened:
        if format == "model":
            model = opened.store.model()
            content = opened.store.artifact(model.version) if model else None
            if content is None:
                raise BadOption("there is no model yet. Label images of two classes, then: vizsla train.")
            write_stream_atomically(out, [content])
        else:
            write_stream_atomically(out, interop.formats[format].write(opened.store, opened.images))
    click.echo(f"wrote {out}")


@cli.group()
def users() -> None:
    """Who may label on a server that is reached from elsewhere."""


@users.command("add")
@click.argument("name")
@project_option
def add_user(name: str, project: str | None) -> None:
    """Make a token for someone; an old one of theirs is void. It is shown only now."""
    with the_project(project) as opened:
        _, token = opened.store.new_token(name)
    click.echo(f"{name}'s token, shown only now; open the page once with /?token=TOKEN", err=True)
    click.echo(token)


@users.command("revoke")
@click.argument("name")
@project_option
def revoke_user(name: str, project: str | None) -> None:
    """Make someone's token void; their labels stay."""
    with the_project(project) as opened:
        opened.store.revoke_token(name)
    click.echo(f"{name} can no longer label here.")


@users.command("list")
@project_option
def list_users(project: str | None) -> None:
    """Everyone who has labelled or may."""
    with the_project(project) as opened:
        for one in opened.store.annotators():
            click.echo(f"{one.name}\tsince {one.created_at:%Y-%m-%d}")
