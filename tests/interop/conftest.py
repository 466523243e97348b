"""Projects on a real SQLite store and real files, with names that are hard to keep."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vizsla.data.sources import Folder
from vizsla.interop import formats
from vizsla.interop.outgoing import Outgoing
from vizsla.store import Answer, ImageFile, Ranked, Store

CLASSES = (
    "cat",
    "great dane",
    "a, b; c",
    'the "best"',
    "two\nlines",
    "tab\there",
    "🐕 ünïcode 犬",
    "cats/dogs",
    "..",
    ".hidden",
    "<b>bold</b> & more",
    "con",
    "trailing.",
    "=1+1",
    "100%",
    "%2F",
    "_unlabeled",
    "Cat",
    "7 up",
    "label",
)
NAMES = (
    "a.jpg",
    "b b.jpg",
    "c,c.jpg",
    'd"d.jpg',
    "sub/a.jpg",
    "sub/deep/e.jpg",
    "ü 犬.jpg",
    "=f.jpg",
    "g%20g.jpg",
)
ODD = ("odd\udcff.jpg", "new\nline.jpg", "back\\slash.jpg")
"""File names that some file systems do not take."""

SAID = ("path", "status", "label", "annotator", "source", "round", "model_version", "lead_ms", "created_at")


class Clock:
    """Each look at it is a second and a bit later."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1, microseconds=7)
        return self.time


class Made:
    """A store and the folder of images it is about."""

    def __init__(self, store: Store, images: Path) -> None:
        self.store = store
        self.images = images

    def export(self, format: str, to: Path) -> Path:
        path = to / f"export{formats[format].suffix}"
        path.write_bytes(b"".join(formats[format].write(Outgoing(self.store, Folder(self.images)))))
        return path

    def ids(self) -> dict[str, int]:
        return {image.path or "": image.id for image in self.store.images()}

    def hash_all(self) -> None:
        self.store.set_hashes({id: sha256(self.images / path) for path, id in self.ids().items()})

    def label(self, name: str, **labels: str) -> None:
        """Answer as that person, path=class."""
        who = self.store.annotator(name).id
        self.store.label_batch(who, [Answer(self.ids()[path], label) for path, label in labels.items()])

    def said(self) -> list[dict[str, object]]:
        """What stands, newest first, without the ids of this project."""
        return [{name: getattr(label, name) for name in SAID} for label in self.store.labels()]

    def standing(self) -> dict[str, tuple[str, str | None]]:
        return {label.path or "": (label.status, label.label) for label in self.store.labels()}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Maker:
    """Makes projects below a folder; they are copies of an empty one, for that is quicker."""

    def __init__(self, folder: Path, blank: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._blank = blank
        self._stack = stack
        self._made = 0

    def __call__(self, *names: str, like: Made | None = None) -> Made:
        """A project of images whose content is their name, or of a copy of another's images."""
        self._made += 1
        images, home = self._folder / f"images{self._made}", self._folder / f"project{self._made}"
        if like:
            shutil.copytree(like.images, images)
        for name in names:
            path = images / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"content of {name}".encode(errors="surrogateescape"))
        images.mkdir(exist_ok=True)
        shutil.copytree(self._blank, home)
        store = self._stack.enter_context(Store.open(home, clock=Clock()))
        files = sorted(path for path in images.rglob("*") if path.is_file())
        store.add_images(
            ImageFile(path.relative_to(images).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
            for path in files
        )
        return Made(store, images)


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project without images. Only to be copied."""
    home = tmp_path_factory.mktemp("blank")
    Store.open(home).close()
    return home


@pytest.fixture
def make(tmp_path: Path, blank: Path) -> Iterator[Maker]:
    with ExitStack() as stack:
        yield Maker(tmp_path, blank, stack)


@pytest.fixture(scope="session")
def hard(tmp_path_factory: pytest.TempPathFactory, blank: Path) -> Iterator[Made]:
    """Every kind of answer, hard class names, hard file names. Only to be read."""
    folder = tmp_path_factory.mktemp("hard")
    with ExitStack() as stack:
        yield answered(Maker(folder, blank, stack), folder)


def answered(make: Maker, folder: Path) -> Made:
    names = [*NAMES, *(name for name in ODD if _can_hold(folder, name))]
    names += [f"more/{n:02}.jpg" for n in range(len(CLASSES))]
    project = make(*names)
    store = project.store
    store.add_classes(CLASSES)
    cat, dane = store.classes()[:2]
    version = store.start_model(20, "logistic", "lite0").version
    ids = project.ids()
    order = [ids[name] for name in names]
    suggestion = ((dane.id, 0.625), (cat.id, 0.25))
    ranked = [Ranked(id, 1.0, "unsure", audit=not n % 3, suggestion=suggestion) for n, id in enumerate(order)]
    store.publish_ranking(version, ranked)
    ada, bob = store.annotator("ada@example.org").id, store.annotator("Bob, the <great> 🐕").id
    for n, image_id in enumerate(order[:-3]):
        who = (ada, bob)[n % 2]
        store.claim(who, 2)
        label = CLASSES[n % len(CLASSES)]
        store.label(who, Answer(image_id, label, lead_ms=100 + n, suggestion_shown=bool(n % 2), round=n))
    store.label(ada, Answer(order[-3], status="skipped", lead_ms=5))
    store.label(bob, Answer(order[-2], status="flagged"))
    store.label(bob, Answer(order[0], "cats/dogs"))  # a second answer: the newest stands
    return project


def _can_hold(folder: Path, name: str) -> bool:
    try:
        (folder / name).write_bytes(b"")
        there = os.fsencode(name) in (os.fsencode(path.name) for path in folder.iterdir())
        (folder / name).unlink()
    except (OSError, ValueError):
        return False
    return there
