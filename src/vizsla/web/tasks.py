"""`Tasks`: which image of the project each task of a Label Studio is about. Images that are new are fetched."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from vizsla.data.images import suffix_of
from vizsla.errors import Unreachable, VizslaError
from vizsla.interop import label_studio_ml as wire
from vizsla.interop.label_studio_host import Host
from vizsla.interop.label_studio_ml import Control, Origin
from vizsla.interop.matching import Catalogue, plain_names
from vizsla.project import CATALOGUE, Project
from vizsla.store.database import batched

_log = logging.getLogger("vizsla")

Task = Mapping[str, Any]

MOST_PIXELS = 100_000_000
"""Of an image that is fetched."""

_TOGETHER = 50  # images fetched before the trainer hears of them
_AGAIN_SECONDS = 60.0  # until an image that could not be fetched is tried again


class Tasks:
    """Matches by name and content, as imports do; what was found once is remembered in the store."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.store = project.store
        self._catalogue: tuple[object, Catalogue] | None = None
        self._failed: dict[tuple[Host | None, str], float] = {}

    def match(self, origin: Origin, control: Control, tasks: Sequence[Task]) -> list[int | None]:
        """The image id of each task; None where the project has no such image."""
        numbers = [wire.number_of(task) for task in tasks]
        known = self.store.tasks(origin.mark, {number for number in numbers if number is not None})
        found = [
            None if number is None or number not in known else known[number].image_id for number in numbers
        ]
        if None in found:
            catalogue = self._known()
            for place, task in enumerate(tasks):
                if found[place] is None:
                    found[place] = catalogue.find(wire.image_row(task, control))
        pairs = zip(numbers, found, strict=True)
        fresh = {n: image for n, image in pairs if n is not None and n not in known and image is not None}
        if fresh:
            self.store.link_tasks(origin.mark, fresh)
        return found

    def _known(self) -> Catalogue:
        """The images as the last scan left them."""
        edition = self.store.setting(CATALOGUE)
        if self._catalogue is None or self._catalogue[0] != edition:
            self._catalogue = edition, Catalogue.of(self.store)
        return self._catalogue[1]

    def _same(self, content: bytes, digest: str) -> int | None:
        """An image of this content. Those that the trainer has not read yet are read, where they are as large."""
        alike = [image for image in self._known().images.values() if image.size == len(content)]
        hashes = self.store.hashes(image.id for image in alike)
        return next(
            (
                image.id
                for image in alike
                if (hashes.get(image.id) or self.project.digest(image.path or "")) == digest
            ),
            None,
        )

    def meet(self, origin: Origin, control: Control, host: Host | None, tasks: Sequence[Task]) -> None:
        """Have the images of these tasks in the project, fetched where need be. What fails is logged."""
        image_of = self.match(origin, control, tasks)
        strangers = [task for task, image in zip(tasks, image_of, strict=True) if image is None]
        failures: list[str] = []
        for chunk in batched(strangers, _TOGETHER):
            self._fetch(origin, control, host, chunk, failures)
        if failures:
            _log.warning(
                "%d of %d images of Label Studio's tasks are not here and could not be fetched; the first: %s",
                len(failures),
                len(tasks),
                failures[0],
            )

    def _fetch(
        self, origin: Origin, control: Control, host: Host | None, tasks: Sequence[Task], failures: list[str]
    ) -> None:
        here: dict[int, int] = {}
        fetched: dict[int, str] = {}
        for task in tasks:
            number, uri = wire.number_of(task), wire.address_of(task, control)
            if number is None or uri is None or time.monotonic() < self._failed.get((host, uri), 0):
                continue
            try:
                found = self._file(host, uri)
            except VizslaError as error:
                self._failed[host, uri] = time.monotonic() + _AGAIN_SECONDS
                failures.append(f"task {number}: {error}")
                continue
            if isinstance(found, int):
                here[number] = found
            else:
                fetched[number] = found
        if fetched:
            id_of = self._adopt(dict.fromkeys(fetched.values()))
            here |= {number: id_of[name] for number, name in fetched.items() if name in id_of}
        self.store.link_tasks(origin.mark, here)

    def _adopt(self, names: Iterable[str]) -> dict[str, int]:
        """Have the images in the project. They are found by their tasks, so nothing is gathered anew for them."""
        catalogue = self._known()
        id_of = self.project.adopt(names)
        self._catalogue = self.store.setting(CATALOGUE), catalogue
        return id_of

    def _file(self, host: Host | None, uri: str) -> int | str:
        """Id of an image of the same content, or the name of a new file with it. Raises VizslaError."""
        if host is None or not host.owns(uri):
            raise Unreachable(f"{uri} does not lie on Label Studio itself. Put it into the image folder")
        content = host.get(uri)
        suffix = suffix_of(content, pixels=MOST_PIXELS)
        digest = hashlib.sha256(content).hexdigest()
        if (image := self._same(content, digest)) is not None:
            return image
        return self.project.source.keep(file_name(uri, digest, suffix), content)


def file_name(uri: str, digest: str, suffix: str) -> str:
    """A tame name for what lies at a URI: its own as imports know it, in a folder of its content's.

    >>> file_name("/data/upload/1/71def07c-a_b.JPG", "deadbeef" * 8, ".jpeg")
    'deadbeef/a_b.jpeg'
    >>> file_name("/data/local-files/?d=photos/K%C3%A4fer%201.png", "deadbeef" * 8, ".png")
    'deadbeef/Käfer_1.png'
    """
    stem = PurePosixPath(plain_names(uri)[0]).stem
    tame = re.sub(r"[^-\w.]+", "_", stem).strip("._")[:60]
    return f"{digest[:8]}/{tame or 'image'}{suffix}"
