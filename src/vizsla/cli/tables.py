"""Tables for people in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vizsla import monitor
from vizsla.project import Project
from vizsla.standing import standing


def print_status(project: Project) -> None:
    """Labels, classes, model, accuracy, advice."""
    now = standing(project)
    counts = now.counts
    table = Table(
        title=f"{project.source.address}",
        title_justify="left",
        show_header=False,
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_row("images", f"{counts.total:,}")
    for line in project.left_out:
        table.add_row("", Text(line))
    table.add_row("labelled", f"{counts.labelled:,}")
    if counts.skipped or counts.flagged:
        table.add_row("skipped, flagged", f"{counts.skipped:,}, {counts.flagged:,}")
    for name, count in counts.classes.items():
        table.add_row("", Text(f"{count:>6,}  {name}"))
    table.add_row(
        "model", f"{now.model.version}, from {now.model.labels_used} labels" if now.model else "none yet"
    )
    table.add_row("next model", f"after {now.labels_to_next} more labels")
    shown = now.accuracy or monitor.Accuracy(0.0, 0.0, 1.0, now.checks)
    table.add_row("accuracy", shown.sentence.removeprefix("accuracy "))
    table.add_row(
        "advice", now.advice.text if now.advice else "keep labelling: nothing speaks for stopping yet"
    )
    Console().print(table)
