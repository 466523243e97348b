"""`main`, the group of commands, and what commands share."""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vizsla.caching import write_error
from vizsla.cli import completing
from vizsla.cli.help import Sections
from vizsla.errors import VizslaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import TaskID

    from vizsla.experiment import OnRound
    from vizsla.types import Progress

INTERRUPTED = 130


def main() -> None:
    """Run the command line; a mistake of the caller's is one line and exit code 2."""
    codecs.register_error("vizsla", _as_it_is)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="vizsla")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # OpenMP's idle threads spin by default and steal the cores from whatever else runs; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = complain(
            "interrupted. What is finished is kept; the same command goes on from there.", INTERRUPTED
        )
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "vizsla"
        code = complain(f"{error.format_message()} See {command} --help.", error.exit_code)
    except VizslaError as error:
        code = complain(str(error), error.exit_code)
    except OSError as error:
        known = write_error(error, Path(str(error.filename or "the output")))
        if known is None:
            raise
        code = complain(str(known), known.exit_code)
    sys.exit(code)


def _as_it_is(error: UnicodeError) -> tuple[str | bytes, int]:
    """Print odd bytes of file names as the bytes that they are, as `ls` does; escape what the terminal cannot show."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def complain(text: str, code: int) -> int:
    click.echo(f"vizsla: {text}", err=True)
    return code


@click.group(cls=Sections, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="vizsla")
def cli() -> None:
    """Active learning for image classification: label the images that teach the model most."""


def names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (value or "").split(",") if name.strip())


backbone = click.option(
    "--backbone",
    default="efficientnet_lite0",
    show_default=True,
    metavar="NAME",
    shell_complete=completing.backbone,
    help="efficientnet_lite0, timm:NAME, torchvision:NAME or module:FILE.py:FUNCTION.",
)
precision = click.option(
    "--precision",
    type=click.Choice(["float32", "int8"]),
    default="float32",
    show_default=True,
    help="int8: twice as fast on a CPU and nearly as good; vizsla embed measures what it loses.",
)
pool_size = click.option(
    "--pool-size",
    default=0,
    metavar="N",
    help="Look at a random sub-pool of N candidates in each query; 0: all.",
)

log_option = click.option(
    "--log",
    multiple=True,
    metavar="WHERE",
    help="Also show figures in tensorboard[:DIR] or mlflow[:URI]; may be given twice. A project remembers it; "
    "none ends it.",
)
head_option = click.option(
    "--head", is_flag=True, help="Of a project: the newest head, even where a fine-tuned network was kept."
)
splits_option = click.option(
    "--splits/--no-splits",
    default=None,
    help="Whether folders that are all called train, test and the like are no classes, but parts of the data set; "
    "default: yes, or as the project was told.",
)


def log_setting(given: tuple[str, ...]) -> str | None:
    """`--log` as a project remembers it; None where it was not given. Raises BadOption."""
    from vizsla.dashboards import checked

    return "\n".join(checked(given)) if given else None


@contextmanager
def bars() -> Iterator[tuple[Progress, OnRound]]:
    """Progress bars with time left: one for embedding, one for labelling; each appears with its first step."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    shown = Bars(*columns, console=Console(stderr=True))
    tasks: dict[str, TaskID] = {}

    def show(kind: str, text: str, done: int, total: int) -> None:
        shown.start()  # only now: bars without a step would leave an empty line
        if kind not in tasks:
            tasks[kind] = shown.add_task(text, total=total)
        speed = shown.tasks[tasks[kind]].finished_speed or shown.tasks[tasks[kind]].speed
        if kind == "embed" and speed:
            text += f", {speed:,.0f}/s"
        shown.update(tasks[kind], description=text, completed=done, total=total)

    try:
        yield (
            lambda done, total: show("embed", "embedding images", done, total),
            lambda done, total, text: show("label", text, done, total),
        )
    finally:
        if tasks:
            shown.stop()


@contextmanager
def steps() -> Iterator[Callable[..., None]]:
    """Progress bars by name, each shown from its first step on: `step(name, done, total)`; total None: not known."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown = Bars(*columns, console=Console(stderr=True))
    tasks: dict[str, TaskID] = {}

    def step(name: str, done: int, total: int | None) -> None:
        shown.start()
        if name not in tasks:
            for earlier in tasks.values():  # it is over, also where nobody knew how long it would be
                shown.update(earlier, total=shown.tasks[earlier].completed)
            tasks[name] = shown.add_task(name, total=total)
        shown.update(tasks[name], completed=done, total=total)

    try:
        yield step
    finally:
        if tasks:
            shown.stop()
