"""The `vizsla` command: each subcommand opens, makes one call, prints one result.

base.py         `main`, the group, what commands share
experiments.py  compare, demo, select: measuring strategies, arrays in and out
projects.py     label, serve, worker, status, query: a project of a person's own images
training.py     train
models.py       predict: a trained model on other images
labels.py       import, export, users
moving.py       move
installation.py doctor, completion
engines.py      embed, select and query over shards, with --engine
documents.py    what --json prints
completing.py   what a shell offers at the Tab key
help.py         sections, and examples of each command
"""

from __future__ import annotations

from vizsla.cli import experiments, installation, labels, models, moving, projects, training
from vizsla.cli.base import cli, main
from vizsla.cli.help import describe

describe(cli)

__all__ = ["cli", "experiments", "installation", "labels", "main", "models", "moving", "projects", "training"]
