"""A project: a source of images, and the store that remembers what people said of them. Never loads torch."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import NAMESPACE_URL, uuid4, uuid5

import platformdirs

from vizsla.data.fetched import WithFetched
from vizsla.data.folders import classes_in, number_classes
from vizsla.data.sources import Folder, Source, source_of
from vizsla.errors import BadOption, UserError
from vizsla.store import Answer, Image, ImageFile, Imported, Rescanned, Store
from vizsla.store.classes import tidy
from vizsla.store.database import batched
from vizsla.types import Progress

log = logging.getLogger("vizsla")

HOME = ".vizsla"
"""Where a project lies by default, inside its image folder."""

FOLDERS = "folders"
"""Annotator of labels that were read off class folders."""

CATALOGUE = "catalogue"
"""The setting that changes whenever a scan has changed the catalogue."""

REQUEST = "train_request"
"""The setting that asks for a training now: any value that was not there before."""

ANSWERED = "train_answered"
"""The setting that repeats the request that was seen to last."""

LEFT_OUT = "left_out"
"""The setting that says what the last scan left out, a line for each kind."""

IMAGES = "images"
"""The setting that says where the images lie."""

_MARK = "mark"
_CHUNK = 500  # labels written at once
_SCANNED = 5000  # images between two announcements
_READ = 500  # images whose hashes are written at once


@dataclass(frozen=True)
class Settings:
    """How a project is labelled; remembered from one start to the next."""

    strategy: str = "auto"
    backbone: str = "efficientnet_lite0"
    image_size: int | None = None
    precision: str = "float32"
    """Of the backbone's numbers: `float32` or `int8`."""
    audit: float = 0.1
    """Share of random checks once there are thirty; 0: only the first labels, asked for without a model, are some."""
    target: float | None = None
    """Accuracy that is good enough, as a fraction."""
    budget: int | None = None
    """Labels that the person is ready to give."""
    labels: str = "none"
    """`folders`: class folders are labels; `none`: every image counts as unlabelled, wherever it lies."""
    splits: bool = True
    """Whether outermost folders that are all called like parts of a data set are no classes."""
    guidelines: str = ""
    """What annotators should know, shown on the page."""
    log: str = ""
    """Dashboards that each model's figures are shown on, one on each line; see `vizsla.dashboards`."""


class Project:
    """Images, store and settings in one hand. Close it, or use it as a context."""

    def __init__(self, store: Store, source: Source, address: str, home: Path) -> None:
        """Args: home: where the project keeps files of its own."""
        self.store = store
        self.source = WithFetched(source, home / "fetched").with_splits(self.settings.splits)
        self._said = ""
        self.address = address
        """Folder or database URL, by which another process opens the same project."""

    @classmethod
    def open(
        cls, address: str | Path | None, images: str | Path | Source | None = None, *, remember: bool = True
    ) -> Self:
        """Open a project, made if it is not there.

        Args:    address: a folder or a database URL; by default `.vizsla` in the image folder, or, where
                 nobody may write there, a folder of this person's own.
                 images: the image folder or another source; by default what the project remembers.
                 remember: whether the project shall remember it; not on a machine that mounts it elsewhere.
        Raises:  NoImages for a source that is not there; BadOption where none is known.
        """
        source = None if images is None else source_of(images)
        if address is None:
            if source is None:
                raise BadOption("give the folder of the images, or --project.")
            address = default_home(source)
        where = str(address)
        if source is None and "://" not in where and not (Path(where) / "project.db").exists():
            raise BadOption(
                f"there is no project in {where}. Start one with: vizsla label DIR --project {where}"
            )
        if source is not None:
            source.visit()
        store = Store.open(address)
        try:
            if source is None or remember:
                source = _settle_images(store, where, source)
            return cls(store, _absolute(source), where, _home(store, where, source))
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def mark(self) -> str:
        """What no other project has, nor this one made anew: names cookies and pictures."""
        return _mark(self.store)

    @property
    def name(self) -> str:
        """What people call it: the name of the image folder."""
        return self.source.title

    @property
    def images(self) -> Path:
        """The image folder. Raises BadOption where the images are no plain folder."""
        if not isinstance(self.source.base, Folder):
            raise BadOption(f"{self.source.address} is no folder on this machine. Copy the images into one.")
        return self.source.base.root

    # settings

    @property
    def settings(self) -> Settings:
        known = {field.name for field in fields(Settings)}
        kept: Mapping[str, object] = self.store.setting("settings", {})
        return Settings(**{name: value for name, value in kept.items() if name in known})  # type: ignore[arg-type]

    def change(self, **given: object) -> Settings:
        """Remember the settings that are not None.

        Raises: BadOption for a value that makes no sense.
        """
        new = Settings(**asdict(self.settings) | {name: v for name, v in given.items() if v is not None})
        if new.budget is not None and new.budget < 1:
            raise BadOption(f"a budget of {new.budget} labels makes no sense. Use 1 or more.")
        if not 0 <= new.audit <= 1:
            raise BadOption(f"a share of {new.audit} random checks makes no sense. Use 0 to 1; 0.1 is usual.")
        if new.target is not None and not 0 < new.target < 1:
            raise BadOption(f"a target accuracy of {new.target} makes no sense. Use a fraction such as 0.9.")
        if new.labels not in ("none", FOLDERS):
            raise BadOption(f"--labels {new.labels!r} is neither none nor folders.")
        if new != self.settings:
            self.store.set_setting("settings", asdict(new))
            self.source = self.source.with_splits(new.splits)
        return new

    def add_classes(self, given: Sequence[str]) -> None:
        """Add the given classes; where there are none at all, those of the class folders."""
        known = self.store.classes()
        names = given or ([] if known else self._folder_names())
        self.store.add_classes(self._never_used(names if known else in_order_of_keys(names)))

    def _never_used(self, names: Iterable[str]) -> list[str]:
        """Without those that a class was once called: it has another name by now, or is part of another class."""
        used = {change.name for change in self.store.class_history()}
        return [name for name in dict.fromkeys(names) if tidy(name) not in used]

    def _folder_names(self) -> Sequence[str]:
        folders = self.source.class_names()
        self._tell_of_splits(folders)
        found = number_classes(folders)
        return found.names if found else ()

    def _tell_of_splits(self, folders: Iterable[str]) -> None:
        """Say it once, not with every scan."""
        layout = self.source.layout()
        said = layout.sentence(sorted(folders)) if layout.splits else ""
        if said and said != self._said:
            log.warning("%s", said)
        self._said = said

    def ask_for_training(self) -> str:
        """Have the trainer train now, if there is anything new; returns what `ANSWERED` will be once it has."""
        request = str(uuid4())
        self.store.set_setting(REQUEST, request)
        return request

    # images

    def files(self) -> Iterator[ImageFile]:
        """Every image file there is now, as it is found. Raises NoImages where there is none."""
        return (ImageFile(name, *stamp) for name, stamp in self.source.files())

    def adopt(self, names: Iterable[str]) -> dict[str, int]:
        """Add images that were just brought; returns their ids by name."""
        stamps = {name: self.source.stamp(name) for name in names}
        self.store.add_images(ImageFile(name, *stamp) for name, stamp in stamps.items())
        self._announce()
        return self.store.at(stamps)

    def scan(self, progress: Progress | None = None) -> Rescanned:
        """Bring the catalogue in line with the source; on the first scan images may be claimed as it runs.

        Args: progress: called with (done, total) while files are read.
        """
        if self.store.images(limit=1):
            found = self.store.rescan(self.files(), self.digest, progress)
            self._announce()
            if found.warning:
                log.warning("%s", found.warning)
        else:
            added = 0
            for chunk in batched(self.files(), _SCANNED):
                added += self.store.add_images(chunk)
                self._announce()
            found = Rescanned(added, 0, 0, 0, 0)
        if list(self.source.left_out) != self.left_out:
            self.store.set_setting(LEFT_OUT, list(self.source.left_out))
        if (
            self.source.at_once and not self.store.classes()
        ):  # only now a bucket has said what its folders are
            self.add_classes(())
        if self.settings.labels == FOLDERS:
            self.take_folder_labels()
        self.note_contents(progress=progress)
        return found

    @property
    def left_out(self) -> list[str]:
        """What the last scan passed over, a line for each kind."""
        return list(self.store.setting(LEFT_OUT, []))

    def note_contents(
        self, image_ids: Collection[int] | None = None, progress: Progress | None = None
    ) -> None:
        """Read the images that nobody has read yet, so that their answers follow the content and not the name.

        Those that lie far away are left to the trainer, who fetches them anyhow.

        Args: image_ids: only these; default: all that have an answer. progress: called with (done, total).
        """
        if self.source.at_once:
            return
        unread, done = self.store.unread(image_ids), 0
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            for chunk in batched(unread, _READ):
                found = zip(chunk, threads.map(self._content, chunk), strict=True)
                self.store.set_hashes({image.id: sha256 for image, sha256 in found if sha256 is not None})
                done += len(chunk)
                if progress:
                    progress(done, len(unread))

    def _content(self, image: Image) -> str | None:
        """SHA-256 of the image's file; None where that was touched since the last scan, or is gone."""
        try:
            return self.source.digest(image.path or "") if self.is_untouched(image) else None
        except OSError:
            return None

    def is_untouched(self, image: Image) -> bool:
        """Whether the image's file is as the last scan saw it. Raises OSError where it is gone."""
        size, mtime_ns, ctime_ns = self.source.stamp(image.path or "")
        return (size, mtime_ns) == (image.size, image.mtime_ns) and image.ctime_ns in (None, ctime_ns)

    def _announce(self) -> None:
        """Let the trainer know that the catalogue is another one."""
        self.store.set_setting(CATALOGUE, str(uuid4()))

    def digest(self, file_name: str) -> str | None:
        """SHA-256 of a file in hex; None where it cannot be read."""
        try:
            return self.source.digest(file_name)
        except OSError:
            return None

    def take_folder_labels(self) -> int:
        """Label the unanswered images by their class folders or their list, as imports; returns how many."""
        present = [image for image in self.store.images(state="present") if image.path]
        said = {image.id: self.source.class_of(image.path or "") or "" for image in present}
        folders = set(filter(None, said.values()))
        self._tell_of_splits(folders)
        called = classes_in(map(tidy, folders), (change.name for change in self.store.class_history()))
        names = {folder: called[tidy(folder)] for folder in folders}
        if not names:
            return 0
        self.store.add_classes(self._never_used(names[folder] for folder in sorted(names)))
        answers = [
            Imported(
                FOLDERS, Answer(image.id, names[folder], key=uuid5(NAMESPACE_URL, f"{image.id}:{folder!a}"))
            )
            for image in present
            if image.status == "unlabelled" and (folder := said[image.id]) in names
        ]
        return sum(self.store.import_labels(chunk).new for chunk in batched(answers, _CHUNK))


def in_order_of_keys(names: Sequence[str]) -> list[str]:
    """The classes in an order in which digits get their own keys: the first key is 1, the tenth is 0.

    >>> in_order_of_keys(["0", "1", "2"]), in_order_of_keys(["dog", "cat"])
    (['1', '2', '0'], ['dog', 'cat'])
    """
    if all(len(name) == 1 and name in "0123456789" for name in names):
        return sorted(names, key=lambda name: (int(name) - 1) % 10)
    return list(names)


def default_home(source: Source) -> Path:
    """`.vizsla` beside the images; where nobody may write there, a folder of this person's own."""
    if source.path is not None:
        beside = source.path if source.path.is_dir() else source.path.parent
        inside = beside / HOME
        if (inside / "project.db").exists() or os.access(beside, os.W_OK):
            return inside
    mark = hashlib.sha256(source.address.encode(errors="surrogateescape")).hexdigest()[:8]
    return Path(platformdirs.user_data_dir("vizsla", appauthor=False)) / f"{source.title}-{mark}"


def _mark(store: Store) -> str:
    kept: str | None = store.setting(_MARK)
    if kept is None:
        store.set_setting(_MARK, uuid4().hex[:16])
        kept = str(store.setting(_MARK))
    return kept


def _home(store: Store, address: str, source: Source) -> Path:
    """The project's folder; of one in a database, a folder of its own beside the images."""
    return Path(address) if "://" not in address else default_home(source) / _mark(store)


def images_as_kept(source: Source, address: str) -> dict[str, str]:
    """The setting by which a project at that address finds its images again."""
    return {IMAGES: _to_home(source, None if "://" in address else Path(address).resolve())}


def _settle_images(store: Store, address: str, source: Source | None) -> Source:
    """The source, remembered; a path relative to the project, so that both may move together."""
    kept: str | None = store.setting(IMAGES)
    home = None if "://" in address else Path(address).resolve()
    before = None if kept is None else source_of(_from_home(kept, home))
    if source is None:
        if before is None:
            raise BadOption(f"the project {store.name} knows no image folder yet. Give it: vizsla label DIR.")
        return before
    if (
        before is not None
        and before.address != source.address
        and store.images(limit=1)
        and _is_there(before)
    ):
        raise BadOption(
            f"the project {store.name} belongs to the images in {before.address}. "
            f"Use another --project for {source.address}."
        )
    new = _to_home(source, home)
    if kept is None or (
        kept != new and home is not None
    ):  # others may mount a shared project's images elsewhere
        store.set_setting(IMAGES, new)
    return _absolute(source)


def _to_home(source: Source, home: Path | None) -> str:
    beside = None if source.path is None else Path(source.address)
    if (
        beside is None
        or home is None
        or not home.is_relative_to(beside if beside.is_dir() else beside.parent)
    ):
        return source.address
    return os.path.relpath(beside, home)


def _from_home(kept: str, home: Path | None) -> str:
    return kept if home is None or "://" in kept else os.path.normpath(home / kept)


def _absolute(source: Source) -> Source:
    return Folder(source.address) if isinstance(source, Folder) else source


def _is_there(source: Source) -> bool:
    try:
        source.visit()
    except UserError:
        return False
    return True
