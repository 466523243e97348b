"""Commands that bring labels in and out, and people."""

from __future__ import annotations

import inspect
import logging
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from vizsla.cli import completing, documents
from vizsla.cli.base import cli, head_option, splits_option, steps
from vizsla.cli.documents import json_option
from vizsla.cli.places import place, settled
from vizsla.cli.projects import project_option, the_project
from vizsla.errors import BadOption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vizsla.cli.places import Place
    from vizsla.interop import Format
    from vizsla.project import Project

_path = click.Path(path_type=Path)


class _WithFormats(click.Command):
    """A command whose help lists the formats that there are, also those of plug-ins."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from vizsla import interop

        if self.name == "import":
            known = [(name, inspect.getdoc(read) or "") for name, read in interop.importers.items()]
        else:
            known = [(name, _about(kind)) for name, kind in interop.formats.items()]
            known += completing.MODELS.items()
        with formatter.section("Formats"):
            formatter.write_dl(known)
        super().format_epilog(ctx, formatter)


def _about(kind: Format) -> str:
    return kind.about + (f"; forms: {', '.join(kind.forms)}" if len(kind.forms) > 1 else "")


def _column(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not equals or not theirs.strip():
        raise BadOption(f"--column {text} names no column. Give ours and theirs: --column label=species.")
    return ours.strip(), theirs


@cli.command("import", cls=_WithFormats)
@click.argument("format", shell_complete=completing.import_format)
@click.argument("path", type=_path)
@project_option
@click.option(
    "--images", type=place, metavar="IMAGES", help="The images, for a project that does not exist yet."
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="OURS=THEIRS",
    help="What a column is called in the file, such as label=species, where its name does not tell.",
)
@click.option(
    "--dry-run", is_flag=True, help="Write nothing at all, and say what would be taken and what passed over."
)
@splits_option
@json_option
def import_(
    format: str,
    path: Path,
    project: str | None,
    images: Place | None,
    columns: tuple[str, ...],
    dry_run: bool,
    splits: bool | None,
    as_json: bool,
) -> None:
    """Take in labels, and say what was taken, what was passed over, and why.

    All of a file is taken in or, after an error, nothing. The same file again adds nothing. Of two answers about an
    image the one stands that was given later, whatever was imported last.
    """
    from vizsla import interop

    theirs = dict(map(_column, columns))
    interop.read_rows(format, path, theirs)  # this and the path before a project is made
    if not path.exists():
        raise BadOption(f"there is no {path} to import. Check the path.")
    images = settled(images) if images is not None else None
    new = images is not None and not _is_there(project, images)
    if new and not dry_run:
        with _unlogged():  # what is odd is said when the rows count
            for _ in interop.read_rows(format, path, theirs, splits=splits is not False):
                pass  # a file with a mistake leaves no project behind
    with steps() as step, _opened(project, images, new, dry_run, step) as opened:
        if new:
            opened.change(splits=splits)
        report = interop.import_labels(
            opened.store,
            format,
            path,
            columns=theirs,
            dry_run=dry_run,
            files=opened.files() if dry_run else None,
            reading=partial(step, "reading rows", total=None),
            progress=partial(step, "writing labels"),
            splits=opened.settings.splits if splits is None else splits,
        )
        if not dry_run:
            opened.note_contents(progress=partial(step, "reading images"))
    if as_json:
        documents.show(documents.imported(report))
    else:
        click.echo(report)


@contextmanager
def _unlogged() -> Iterator[None]:
    log = logging.getLogger("vizsla")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _is_there(project: str | None, images: Place) -> bool:
    """Whether there is such a project. One in a database counts as there: it cannot be told without asking."""
    from vizsla.data.sources import source_of
    from vizsla.project import default_home

    where = project or str(default_home(source_of(images)))
    return "://" in where or (Path(where) / "project.db").exists()


@contextmanager
def _opened(
    project: str | None, images: Place | None, new: bool, dry_run: bool, step: Callable[..., None]
) -> Iterator[Project]:
    """The project in line with its images; for a dry run as it is, a new one where it can be thrown away."""
    from vizsla.project import Project

    with ExitStack() as stack:
        if new and dry_run:
            project = stack.enter_context(TemporaryDirectory())
        opened = stack.enter_context(
            the_project(project)
            if images is None
            else Project.open(project, images, remember=not dry_run or new)
        )
        if not dry_run:
            opened.scan(partial(step, "looking at changed images"))
        yield opened


@cli.command(cls=_WithFormats)
@click.argument("format", shell_complete=completing.export_format)
@project_option
@click.option(
    "--out",
    type=_path,
    required=True,
    metavar="PATH",
    help="File to write; of formats with images a folder, or a zip where it ends in .zip.",
)
@click.option("--form", metavar="NAME", help="Which form, of a format that has several; default: the first.")
@click.option("--labels-only", is_flag=True, help="Without the images, of a format that holds them.")
@head_option
@json_option
def export(
    format: str,
    project: str | None,
    out: Path,
    form: str | None,
    labels_only: bool,
    head: bool,
    as_json: bool,
) -> None:
    """Write all labels, or the trained model. The file is whole or not there."""
    from vizsla import interop

    with the_project(project) as opened, steps() as step:
        if format in completing.MODELS:
            if form or labels_only:
                raise BadOption(
                    f"{format} is a model: it has no forms and no images. Leave out --form and --labels-only."
                )
            from vizsla.handover import hand_over

            missing: tuple[str, ...] = ()
            hand_over(opened, format, out, head=head)
        else:
            missing = interop.export_labels(
                opened.store,
                opened.source,
                format,
                out,
                form=form,
                labels_only=labels_only,
                progress=partial(step, f"writing {format}"),
            )
    if missing:
        first = ", ".join(name.partition("\t")[0] for name in missing[:3]) + ", …" * (len(missing) > 3)
        click.echo(f"left out {len(missing)}, gone or replaced since the last scan: {first}", err=True)
    if as_json:
        documents.show({"out": out, "bytes": _size(out)})
    else:
        click.echo(f"wrote {out}")


def _size(out: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = out.rglob("*") if out.is_dir() else [out]
    return sum(file.stat().st_size for file in files if file.is_file())


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
