"""`IndexedDataset`: all images of a folder tree, and which of them are labelled."""

from __future__ import annotations

import copy
import logging
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Bool, Int64
from PIL import Image
from torch.utils.data import Dataset

from vizsla.data.borrowed import settled
from vizsla.data.folders import matched, number_classes
from vizsla.data.sources import Source, source_of
from vizsla.errors import NoImages, NoLabel, OneClass
from vizsla.types import Progress

logger = logging.getLogger("vizsla")

_NAMED_IN_LOG = 10
_CHECKED_AT_ONCE = 256  # bounds what waits in the threads, so that Ctrl-C is answered soon
_BACKENDS_WITHOUT_A_SCREEN = {"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"}


class IndexedDataset(Dataset[tuple[Any, int, int]]):
    """Images that know their index, and a mask that says which of them still lack a label.

    `dataset[i]` is `(image, label, i)`: the image in RGB, passed through `transform`; label 0 while it is
    unlabelled. An image's id is its position among the sorted relative paths, so it does not depend on
    the disk's order.

    Args:    dir_path: the folder; images may lie in it or in folders below it, one folder per class. Or another
             source: see `vizsla.data.sources.source_of`.
             transform: called with the RGB image; what it returns is handed out.
             test: read all labels from the class folders.
             splits: folders that are all called train, test and the like are no classes; these lie in the folders
             below them. False: they are classes like any others.
             classes: names by label: those of the training folder for a test folder, or the names to
             label with. Default: read from the class folders, `()` where there are none.
             check: decode every file once, now, and leave out the unreadable ones.
             progress: called with (done, total) during the check.
    """

    dir_path: str
    transform: Callable[[Image.Image], Any] | None
    classes: tuple[str, ...]
    """Class names; position = label. `()` where nothing names them."""
    unreadable: dict[str, str]
    """Relative path → reason, for the files that cannot be decoded."""
    source: Source
    """Reads the images."""
    splits: tuple[str, ...]
    """The folders above the classes that are parts of the data set, such as `train` and `test`; mostly none."""
    image_filenames: list[str]
    """Full path or URL of each image."""
    labels: Int64[np.ndarray, " n"]
    """Label of each image; 0 while it is unlabelled."""
    unlabeled_mask: Int64[np.ndarray, " n"]
    """1 where the image is unlabelled, else 0."""
    skipped: Bool[np.ndarray, " n"]
    """True for unlabelled images that nobody should be asked about."""
    outliers: Bool[np.ndarray, " n"]
    """True for images that were asked about and are of none of the classes; they are skipped too."""

    def __init__(
        self,
        dir_path: str | Path | Source,
        transform: Callable[[Image.Image], Any] | None = None,
        test: bool = False,
        *,
        classes: Sequence[str] | None = None,
        check: bool = True,
        progress: Progress | None = None,
        splits: bool = True,
    ) -> None:
        self.source = source_of(dir_path if isinstance(dir_path, Source) else settled(dir_path, progress))
        if not splits:
            self.source = self.source.with_splits(False)
        self.dir_path = self.source.address if isinstance(dir_path, Source) else str(dir_path)
        self.transform = transform
        names = self.source.names()
        self.splits = self.source.layout().splits
        said = {said for name in names if (said := self.source.class_of(name)) is not None}
        found = number_classes(said, classes)
        self.classes = found.names if found else ()
        if self.splits:
            logger.warning("%s", self.source.layout().sentence(sorted(said)))
        self._label_of_folder = dict(found.labels) if found else {}
        self._class_folders = len(said)
        self.unreadable = _find_unreadable(self.source, names, progress) if check else {}
        if len(self.unreadable) == len(names):
            name, reason = next(iter(self.unreadable.items()))
            raise NoImages(
                f"none of the {len(names)} image files in {dir_path} can be read; {name}: {reason}. "
                "Replace the files, or give another folder."
            )
        self._hold([name for name in names if name not in self.unreadable])
        if test:
            self.labels[:] = [self.folder_label(idx) for idx in range(len(self))]
            self.unlabeled_mask[:] = 0

    def _hold(self, names: Iterable[str]) -> None:
        """Take these files, in this order."""
        self._names = tuple(names)
        self._id_of = {name: idx for idx, name in enumerate(self._names)}
        self.image_filenames = [self.source.where(name) for name in self._names]
        self._forget()

    def _forget(self) -> None:
        """Start with nothing labelled; unreadable images stay out of the pool."""
        self.labels = np.zeros(len(self), dtype=np.int64)
        self.unlabeled_mask = np.ones(len(self), dtype=np.int64)
        self.skipped = np.array([name in self.unreadable for name in self._names], dtype=bool)
        self.outliers = np.zeros(len(self), dtype=bool)

    # --- images

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, idx: SupportsIndex) -> tuple[Any, int, int]:
        idx = self._id(idx)
        image = self.image(idx)
        return (self.transform(image) if self.transform else image), int(self.labels[idx]), idx

    def image(self, idx: SupportsIndex, size: int | None = None) -> Image.Image:
        """The image in RGB, upright; `size` is the shorter side needed, in px, as for `images.load`."""
        return self.source.load(self.file_name(idx), size)

    def file_name(self, idx: SupportsIndex) -> str:
        """The image's path below the folder, with forward slashes."""
        return self._names[self._id(idx)]

    def index_of(self, file_name: str) -> int:
        """The id of the image at this relative path."""
        try:
            return self._id_of[file_name]
        except KeyError:
            raise NoImages(
                f"no image {file_name!r} in {self.dir_path}. Give its path below that folder, "
                "with forward slashes."
            ) from None

    def display(self, idx: SupportsIndex) -> None:
        """Print the name and show the image: inline in a notebook, in a window if there is a screen."""
        print(self.file_name(idx))
        image = self.image(idx)
        import matplotlib.pyplot as plt  # here, because it takes a second

        if plt.get_backend().lower() in _BACKENDS_WITHOUT_A_SCREEN:
            return
        figure, axes = plt.subplots()
        axes.imshow(image)
        axes.set_axis_off()
        plt.show()
        plt.close(figure)

    def mark_unreadable(self, idx: SupportsIndex, reason: str) -> None:
        """Take an image that turned out to be broken out of the pool; its label, if any, stays."""
        self.mark_all_unreadable({self._id(idx): reason})

    def mark_all_unreadable(self, reasons: Mapping[int, str]) -> None:
        """The same for many; the log names the first ten that are new, and counts the rest."""
        named = {self.file_name(idx): reason for idx, reason in sorted(reasons.items())}
        _log_left_out({name: reason for name, reason in named.items() if name not in self.unreadable})
        self.unreadable |= named
        self.skipped[list(reasons)] = True

    # --- labels

    def update_label(self, idx: SupportsIndex, new_label: SupportsIndex) -> None:
        """Label the image."""
        idx, label = self._id(idx), self._label(new_label)
        self.labels[idx] = label
        self.unlabeled_mask[idx] = 0
        self.outliers[idx] = False
        self.skipped[idx] = self._names[idx] in self.unreadable

    def clear_label(self, idx: SupportsIndex) -> None:
        """Undo a label, a skip or an outlier: the image is in the pool again."""
        idx = self._id(idx)
        self.labels[idx] = 0
        self.unlabeled_mask[idx] = 1
        self.outliers[idx] = False
        self.skipped[idx] = self._names[idx] in self.unreadable

    def skip(self, idx: SupportsIndex) -> None:
        """Leave the image unlabelled and out of the pool."""
        self.clear_label(idx)
        self.skipped[idx] = True

    def mark_outlier(self, idx: SupportsIndex) -> None:
        """Record the answer "none of the classes": no label, out of the pool, but an answer that was paid for."""
        self.skip(idx)
        self.outliers[idx] = True

    def label_from_filename(self, idx: SupportsIndex) -> None:
        """Label the image with the class folder it lies in."""
        self.update_label(idx, self.folder_label(idx))

    def folder_label(self, idx: SupportsIndex) -> int:
        """The label that the image's class folder says; changes nothing."""
        name = self.file_name(idx)
        folder = self.source.class_of(name)
        if folder is None:
            raise NoLabel(self.source.lacks_class(name))
        if self._class_folders < 2:
            raise OneClass(
                f"{self.dir_path} has only one class folder, {folder!r}. "
                "Give a folder with a subfolder for each of at least two classes."
            )
        if folder not in self._label_of_folder:
            raise NoLabel(
                f"the folder {folder!r} in {self.dir_path} is not among the classes "
                f"{', '.join(self.classes)}. Rename the folder, or add the class."
            )
        return self._label_of_folder[folder]

    def has_class(self, idx: SupportsIndex) -> bool:
        """Whether the folder that the image lies in is one of the classes."""
        return self.source.class_of(self.file_name(idx)) in self._label_of_folder

    # --- sets of images

    def pool(self) -> Int64[np.ndarray, " p"]:
        """Ids that a strategy may choose from: unlabelled and not skipped; ascending."""
        return np.flatnonzero((self.unlabeled_mask == 1) & ~self.skipped).astype(np.int64)

    def labelled(self) -> Int64[np.ndarray, " l"]:
        """Ids of the labelled images; ascending."""
        return np.flatnonzero(self.unlabeled_mask == 0).astype(np.int64)

    def answered(self) -> int:
        """How many images were asked about: the labelled, and the outliers."""
        return int((self.unlabeled_mask == 0).sum() + self.outliers.sum())

    def fresh(self) -> IndexedDataset:
        """A copy of the same images with nothing labelled or skipped. Shares the lists of files."""
        twin = copy.copy(self)
        twin.unreadable = dict(self.unreadable)
        twin._forget()
        return twin

    def subset(self, ids: Iterable[SupportsIndex]) -> IndexedDataset:
        """A data set of only these images, in this order, with nothing labelled; ids count anew from 0.

        An id given several times is that many images of one name.
        """
        names = [self.file_name(idx) for idx in ids]
        part = copy.copy(self)
        part.unreadable = dict(self.unreadable)
        part._hold(names)
        return part

    def with_classes(self, names: Sequence[str]) -> IndexedDataset:
        """A copy in which only these of the classes are known, numbered in this order, with nothing labelled.

        A class is known by its name, else by that of its folder, with a number or without.
        """
        twin = self.fresh()
        twin.classes = tuple(names)
        number, called = {name: label for label, name in enumerate(names)}, self._called(names)
        twin._label_of_folder = {
            folder: number[called[own]]
            for folder, label in self._label_of_folder.items()
            if (own := self.classes[label]) in called
        }
        return twin

    def _called(self, names: Sequence[str]) -> dict[str, str]:
        """Own class → what it is called among these: the same, else as its folder is, with a number or without."""
        same = {own: own for own in self.classes if own in names}
        own_of = {folder: self.classes[label] for folder, label in self._label_of_folder.items()}
        others = {folder for folder, own in own_of.items() if own not in same}
        found = matched(others, [name for name in names if name not in same])
        return same | {own_of[folder]: name for folder, name in found.items()}

    def joined(self, classes: Sequence[str]) -> IndexedDataset:
        """A copy whose labels count as these classes do, joined by their names; what is unlabelled stays so.

        A class of theirs that none of the labelled images has is named in the log: figures say nothing of it.

        Raises: NoLabel where nothing is labelled, or an image is of a class that is none of them.
        """
        known = self.labelled()
        if not len(known):
            raise NoLabel(
                f"no image of {self.dir_path} has a label. Read them from its class folders, "
                "IndexedDataset(…, test=True), or label some."
            )
        present = np.unique(self.labels[known])
        names = self.classes or tuple(classes)  # without names of its own it was labelled with theirs
        names += tuple(map(str, range(len(names), int(present[-1]) + 1)))
        called = {name: name for name in names if name in classes} | self._called(classes)
        unknown = [names[label] for label in present if names[label] not in called]
        if unknown:
            count = int(np.isin(self.labels[known], [names.index(name) for name in unknown]).sum())
            raise NoLabel(
                f"{count} images of {self.dir_path} are of class {', '.join(map(repr, unknown))}, which is none of "
                f"the classes {', '.join(classes)}. Rename the class, add it to the others, or leave those images out."
            )
        if absent := [name for name in classes if name not in {called[names[label]] for label in present}]:
            logger.warning(
                "%s has no image of class %s: its figures say nothing of it",
                self.dir_path,
                ", ".join(absent),
            )
        twin = self.with_classes(classes)
        codes = np.full(len(names), -1, np.int64)
        codes[present] = [classes.index(called[names[label]]) for label in present]
        twin.labels[known], twin.unlabeled_mask[known] = codes[self.labels[known]], 0
        twin.skipped[:] = self.skipped
        return twin

    # --- checks of arguments

    def _id(self, idx: SupportsIndex) -> int:
        position = operator.index(idx)
        if not 0 <= position < len(self):  # IndexError is also what ends `for … in dataset`
            raise IndexError(
                f"there is no image {position}: the ids of {self.dir_path} are 0 to {len(self) - 1}."
            )
        return position

    def _label(self, label: SupportsIndex) -> int:
        try:
            number = operator.index(label)
        except TypeError:
            raise NoLabel(
                f"{label!r} is not a label. Labels are numbers; `classes.index(name)` gives one."
            ) from None
        if number < 0 or (self.classes and number >= len(self.classes)):
            allowed = (
                f"0 ({self.classes[0]}) to {len(self.classes) - 1} ({self.classes[-1]})"
                if self.classes
                else "0 and above"
            )
            raise NoLabel(f"no class has the label {number}. Allowed: {allowed}.")
        return number


def _find_unreadable(source: Source, names: Sequence[str], progress: Progress | None) -> dict[str, str]:
    """Decode every file; the paths and reasons of those that fail, also logged."""
    unreadable = {}
    for done, (name, reason) in enumerate(zip(names, _check_all(source, names), strict=True), start=1):
        if reason is not None:
            unreadable[name] = reason
        if progress:
            progress(done, len(names))
    _log_left_out(unreadable)
    return unreadable


def _log_left_out(reasons: Mapping[str, str]) -> None:
    for name, reason in list(reasons.items())[:_NAMED_IN_LOG]:
        logger.warning("left out %s: %s", name, reason)
    if len(reasons) > _NAMED_IN_LOG:
        logger.warning("left out %d more unreadable files", len(reasons) - _NAMED_IN_LOG)


def _check_all(source: Source, names: Sequence[str]) -> Iterator[str | None]:
    # Threads are enough: Pillow decodes without holding the interpreter lock.
    with ThreadPoolExecutor(source.at_once or min(8, os.cpu_count() or 1)) as threads:
        for start in range(0, len(names), _CHECKED_AT_ONCE):
            block = names[start : start + _CHECKED_AT_ONCE]
            yield from threads.map(source.check, block)
