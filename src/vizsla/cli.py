"""The `vizsla` command: each subcommand opens, makes one call, prints one result."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vizsla.errors import BadArray, VizslaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from rich.progress import TaskID

    from vizsla.experiment import OnRound
    from vizsla.types import Progress

INTERRUPTED = 130


def main() -> None:
    """Run the command line; a mistake of the caller's is one line and exit code 2."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # OpenMP's idle threads spin by default and steal the cores from whatever else runs; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = _complain(
            "interrupted. What is finished is kept; the same command goes on from there.", INTERRUPTED
        )
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "vizsla"
        code = _complain(f"{error.format_message()} See {command} --help.", error.exit_code)
    except VizslaError as error:
        code = _complain(str(error), error.exit_code)
    sys.exit(code)


def _complain(text: str, code: int) -> int:
    click.echo(f"vizsla: {text}", err=True)
    return code


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="vizsla")
def cli() -> None:
    """Active learning for image classification: label the images that teach the model most."""


def _names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (value or "").split(",") if name.strip())


_backbone = click.option(
    "--backbone",
    default="efficientnet_lite0",
    show_default=True,
    metavar="NAME",
    help="efficientnet_lite0, timm:NAME, torchvision:NAME or module:FILE.py:FUNCTION.",
)
_pool_size = click.option(
    "--pool-size",
    default=0,
    metavar="N",
    help="Look at a random sub-pool of N candidates in each query; 0: all.",
)


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--strategies",
    default="random,least_confidence,margin",
    show_default=True,
    callback=_names,
    metavar="A,B,…",
)
@click.option(
    "--seeds", default=10, show_default=True, help="Repetitions with other splits and first labels."
)
@click.option(
    "--initial",
    default=20,
    show_default=True,
    help="Random labels to start from; 0: the strategy starts by itself.",
)
@click.option("--batch", default=20, show_default=True, help="Labels per round.")
@click.option("--budget", default=300, show_default=True, help="Labels in all.")
@click.option(
    "--random-budget",
    type=int,
    metavar="N",
    help="Labels of the random run, the ruler; default: twice the budget.",
)
@click.option(
    "--test",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Test images; default: 30% held out for each seed.",
)
@_backbone
@click.option(
    "--image-size", type=int, metavar="PX", help="Side of the network's input; default: the backbone's own."
)
@click.option(
    "--head",
    default="logistic",
    show_default=True,
    metavar="NAME",
    help="Classifier on the frozen features.",
)
@_pool_size
@click.option("--fine-tune", is_flag=True, help="Train the whole network, as the seed article does (slow).")
@click.option(
    "--stop-training",
    default="validation",
    show_default=True,
    metavar="RULE",
    help="When a round of --fine-tune ends: validation, test, loss or epochs.",
)
@click.option(
    "--epochs", default=10, show_default=True, help="Epochs of a round, for --stop-training epochs."
)
@click.option("--noise", default=0.0, metavar="RATE", help="Share of wrong answers of the simulated oracle.")
@click.option(
    "--out",
    default="vizsla-out",
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Folder of the report; run again with the same folder to go on.",
)
def compare(directory: Path, **options: Any) -> None:
    """Compare query strategies on images in class folders: how many labels does each need?"""
    if options["fine_tune"] and options["stop_training"] == "test":
        _complain(
            "note: --stop-training test looks at the test set to decide when to stop, as the seed article did; "
            "the accuracies shown are a little too good.",
            0,
        )
    _compare(directory, **options)


@cli.command()
@click.option(
    "--out", default="vizsla-demo", show_default=True, type=click.Path(path_type=Path), metavar="OUT"
)
def demo(out: Path) -> None:
    """The seed article's experiment on bundled digits: offline, about a minute, no questions asked."""
    from vizsla.data.samples import DEMO, digits_folder

    click.echo(
        "1,797 handwritten digits; three strategies choose which of them get a label. One row per strategy follows."
    )
    _compare(digits_folder(), out=out, **DEMO)


def _compare(directory: Path, *, out: Path, **options: Any) -> None:
    from rich.console import Console

    from vizsla.experiment import compare
    from vizsla.report import print_table

    screen = Console()
    with _bars() as (embedding, labelling):
        comparison = compare(directory, out=out, progress=embedding, on_round=labelling, **options)
    print_table(comparison, screen)
    for name in ("report.html", "curves.png", "summary.csv", "curves.json"):
        click.echo(f"  {out / name}")


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--classes", callback=_names, metavar="A,B,…", help="What to choose from; remembered for the next time."
)
@click.option(
    "--project",
    type=click.Path(path_type=Path),
    metavar="P",
    help="Folder for labels and settings; default: DIR/.vizsla.",
)
@click.option("--strategy", default="margin", show_default=True, metavar="NAME")
@_backbone
@click.option("--batch", default=10, show_default=True, help="Labels between two refits of the model.")
@_pool_size
@click.option("--annotator", default="me", show_default=True, help="Your name, kept with each label.")
def label(directory: Path, **options: Any) -> None:
    """Label images in the terminal, the most useful ones first; stop and go on as you like."""
    from vizsla.labelling import label_in_terminal

    with _bars() as (embedding, _):
        session = label_in_terminal(directory, progress=embedding, on_resume=click.echo, **options)
    click.echo(f"{session.labelled} labels in {session.labels}; {session.remaining} images to go.")


@contextmanager
def _bars() -> Iterator[tuple[Progress, OnRound]]:
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
    bars = Bars(*columns, console=Console(stderr=True))
    tasks: dict[str, TaskID] = {}

    def show(kind: str, text: str, done: int, total: int) -> None:
        bars.start()  # only now: bars without a step would leave an empty line
        if kind not in tasks:
            tasks[kind] = bars.add_task(text, total=total)
        bars.update(tasks[kind], description=text, completed=done, total=total)

    try:
        yield (
            lambda done, total: show("embed", "embedding images", done, total),
            lambda done, total, text: show("label", text, done, total),
        )
    finally:
        if tasks:
            bars.stop()


@cli.command()
@click.option("--strategy", required=True, metavar="NAME")
@click.option("--embeddings", type=click.Path(path_type=Path), metavar="H.npy", help="(N, D) features.")
@click.option("--probs", type=click.Path(path_type=Path), metavar="P.npy", help="(N, C) class probabilities.")
@click.option(
    "--labelled", type=click.Path(path_type=Path), metavar="IDS.npy", help="Rows that are labelled already."
)
@click.option("--labels", type=click.Path(path_type=Path), metavar="Y.npy", help="Their classes.")
@click.option("-n", "n", required=True, type=int, help="How many rows to choose.")
@click.option("--seed", default=0, show_default=True)
@_pool_size
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of one row number per line.")
def select(as_json: bool, **options: Any) -> None:
    """Choose rows of .npy arrays to label next, best first."""
    from vizsla.selection import select as choose

    for name in ("embeddings", "probs", "labelled", "labels"):
        options[name] = _array(name, options[name])
    if options["labelled"] is None:
        options["labelled"] = ()
    rows = choose(options.pop("strategy"), **options).tolist()
    click.echo(json.dumps(rows) if as_json else "\n".join(map(str, rows)))


def _array(name: str, file: Path | None) -> np.ndarray | None:
    import numpy as np

    if file is None:
        return None
    try:
        return np.load(file, allow_pickle=False, mmap_mode="r" if name in ("embeddings", "probs") else None)
    except FileNotFoundError:
        raise BadArray(f"no file {file}. Give --{name} the path of a .npy file.") from None
    except (ValueError, OSError, EOFError):
        raise BadArray(f"{file} is no .npy array. Write it with numpy.save.") from None
