"""A project from one place to another: from a folder into a database that a team shares, or back."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from vizsla.project import Project, images_as_kept
from vizsla.store import Store
from vizsla.training.kept import place_of


def move(project: Project, to: str, progress: Callable[[int, int], None] | None = None) -> dict[str, int]:
    """Copy a project to an empty folder or database, all of it or nothing; returns rows by table.

    The old one stays as it is. Annotators keep their tokens, and pages their addresses of images.
    """
    _ = project.mark  # made if there was none yet, for both have the same
    with Store.open(to) as store:
        copied = store.take_over(project.store, images_as_kept(project.source.base, to), progress)
    with Project.open(to) as moved:
        _copy_files(project, moved)
    return copied


def _copy_files(old: Project, new: Project) -> None:
    """What lies beside the store: images that another tool has brought, and a fine-tuned network."""
    if old.source.fetched.root.is_dir():
        shutil.copytree(old.source.fetched.root, new.source.fetched.root, dirs_exist_ok=True)
    if place_of(old).exists():
        place_of(new).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place_of(old), place_of(new))
