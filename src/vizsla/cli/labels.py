"""Commands that bring labels in and out, and people."""

from __future__ import annotations

from pathlib import Path

import click

from vizsla.cli import completing, documents
from vizsla.cli.base import bars, cli
from vizsla.cli.documents import json_option
from vizsla.cli.projects import project_option, the_project
from vizsla.errors import BadOption

_path = click.Path(path_type=Path)


@cli.command("import")
@click.argument("format", shell_complete=completing.import_format)
@click.argument("path", type=_path)
@project_option
@click.option(
    "--images", type=_path, metavar="DIR", help="Image folder, for a project that does not exist yet."
)
@json_option
def import_(format: str, path: Path, project: str | None, images: Path | None, as_json: bool) -> None:
    """Take in labels: csv, jsonl, folders or label-studio."""
    from vizsla import interop
    from vizsla.project import Project

    opened = the_project(project) if images is None else Project.open(project, images)
    with opened, bars() as (progress, _):
        opened.scan()
        report = interop.import_labels(opened.store, format, path, progress=progress)
    if as_json:
        documents.show(documents.imported(report))
    else:
        click.echo(report)


@cli.command()
@click.argument("format", shell_complete=completing.export_format)
@project_option
@click.option("--out", type=_path, required=True, metavar="PATH", help="File to write.")
@json_option
def export(format: str, project: str | None, out: Path, as_json: bool) -> None:
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
            write_stream_atomically(out, interop.formats[format].write(opened.store, opened.source))
    if as_json:
        documents.show({"out": out, "bytes": out.stat().st_size})
    else:
        click.echo(f"wrote {out}")


@cli.group()
def users() -> None:
    """Who may label on a server that is reached from elsewhere."""


@users.command("add")
@click.argument("name")
@project_option
@json_option
def add_user(name: str, project: str | None, as_json: bool) -> None:
    """Make a token for someone; an old one of theirs is void. It is shown only now."""
    with the_project(project) as opened:
        _, token = opened.store.new_token(name)
    click.echo(f"{name}'s token, shown only now; open the page once with /?token=TOKEN", err=True)
    if as_json:
        documents.show({"name": name, "token": token})
    else:
        click.echo(token)


@users.command("revoke")
@click.argument("name")
@project_option
@json_option
def revoke_user(name: str, project: str | None, as_json: bool) -> None:
    """Make someone's token void; their labels stay."""
    with the_project(project) as opened:
        opened.store.revoke_token(name)
    if as_json:
        documents.show({"name": name})
    else:
        click.echo(f"{name} can no longer label here.")


@users.command("list")
@project_option
@json_option
def list_users(project: str | None, as_json: bool) -> None:
    """Everyone who has labelled or may."""
    with the_project(project) as opened:
        everyone = opened.store.annotators()
    if as_json:
        documents.show(documents.people(everyone))
        return
    for one in everyone:
        click.echo(f"{one.name}\tsince {one.created_at:%Y-%m-%d}")
