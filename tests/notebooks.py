"""Notebooks, read and run. What that takes is loaded only then: every process reads all tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read(file: Path) -> Any:
    """The notebook, if it is a valid one."""
    import nbformat

    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    return notebook


def executed(file: Path, where: Path) -> Any:
    """The notebook with its outputs, run in a folder; a mistake in it is an error."""
    from nbclient import NotebookClient

    notebook = read(file)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(where)}}).execute()
    return notebook
