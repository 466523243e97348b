"""Commands on a trained model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vizsla.cli import documents
from vizsla.cli.base import bars, cli, head_option
from vizsla.cli.documents import json_option
from vizsla.cli.places import SOURCES, place, settled

if TYPE_CHECKING:
    from vizsla.cli.places import Place
    from vizsla.data.sources import Source
    from vizsla.models.classifier import Classifier
    from vizsla.predictions import Table, Tally
    from vizsla.types import Progress

_path = click.Path(path_type=Path)


@cli.command(epilog=SOURCES)
@click.argument("model", metavar="MODEL")
@click.argument("images", type=place, metavar="IMAGES")
@click.option(
    "--out", type=_path, metavar="FILE", help="Where to write: .csv, .jsonl or .parquet; default: the screen."
)
@click.option(
    "--not-sure",
    type=float,
    metavar="PROB",
    help="Leave the label empty where its probability is below, such as 0.6, and say so in a column.",
)
@head_option
@json_option
def predict(
    model: str, images: Place, out: Path | None, not_sure: float | None, head: bool, as_json: bool
) -> None:
    """Predict the class of every image, with the probability of each class.

    MODEL is a project, or what `vizsla export model` or `vizsla export onnx` wrote. An interrupted run goes on where
    it stopped.
    """
    from vizsla.data.sources import source_of
    from vizsla.predictions import Table, write_predictions

    opened, source = model_at(model, head=head), source_of(settled(images))
    with bars() as (embedding, _):
        if out is not None:
            tally = write_predictions(opened, source, out, not_sure=not_sure, progress=embedding)
        else:
            table = Table(opened.classes, not_sure)
            _print(table, opened, source, embedding, as_json=as_json)
            tally = table.tally
    _report(tally, out, as_json=as_json)


def model_at(address: str, *, head: bool = False) -> Classifier:
    """A model from a file, a bundle folder, or a project."""
    from vizsla.models.classifier import WEIGHTS, load_model

    path = Path(address)
    if "://" not in address and (path.is_file() or (path / WEIGHTS).is_file()):
        return load_model(path)
    from vizsla.project import Project
    from vizsla.training.kept import model_of

    with Project.open(address) as project:
        return model_of(project, head=head)


def _print(table: Table, model: Classifier, source: Source, progress: Progress, *, as_json: bool) -> None:
    """The table on the screen as it comes; as JSON in one document."""
    from vizsla.predictions import predicted

    pieces = predicted(model, source, progress)
    if as_json:
        rows = [row for piece in pieces for row in table.objects(piece)]
        documents.show(documents.predictions(rows, table.tally, None))
        return
    for part in table.csv(pieces):
        sys.stdout.write(part.decode())


def _report(tally: Tally, out: Path | None, *, as_json: bool) -> None:
    for line in tally.named:
        click.echo(f"cannot read {line}", err=True)
    if out is None:
        click.echo(tally.sentence, err=True)
    elif as_json:
        documents.show(documents.predictions(None, tally, out))
    else:
        click.echo(f"{tally.sentence}, in {out}")
