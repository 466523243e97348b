"""Class folders: `<class>/<file name>`, images without a label in `_unlabeled/`.

Out it is a folder or a zip. An image keeps its bare file name where no other image of the project has the same,
else its whole path makes the name, `holiday%2F1.jpg` (`%2F1.jpg` where it lies in no folder). Names that file
systems do not take are escaped, and cut where they are too long (`foldernames`). `MISSING.txt` names the images that
are no longer on disk, or replaced by others. Skipped and flagged images count as unlabelled here, and who answered
when is not told.

In it is such a folder or zip, also with folders for splits above the classes (`vizsla.data.splits`), and with numbers
before their names, as in `0_collie`, `1_great_dane` (`vizsla.data.folders`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from vizsla.data.splits import Layout, layout_of
from vizsla.errors import BadOption
from vizsla.interop.base import Row, Unreadable, files_in_folders, formats, importers
from vizsla.interop.files import File, opened
from vizsla.interop.foldernames import (
    CLASSES,
    NO_CLASS,
    UNLABELLED,
    classes_of,
    cut,
    escape,
    fitted,
    folders,
    in_full,
    unescape,
)
from vizsla.interop.outgoing import Outgoing, pages
from vizsla.interop.trees import Shared, bare_name, flat_name, kept, missing_list
from vizsla.interop.zips import Member

log = logging.getLogger("vizsla")


def members(outgoing: Outgoing) -> Iterator[Member]:
    """All images of the project, by their classes, and `MISSING.txt` where some could not be read."""
    yield from by_class(outgoing, UNLABELLED)
    yield from missing_list(outgoing)


def by_class(
    outgoing: Outgoing,
    unlabelled: str | None,
    *,
    numbered: bool = True,
    differs: Callable[[str], str] = bare_name,
    above: Callable[[Row], str] = lambda row: "",
) -> Iterator[Member]:
    """The images in a folder per class.

    Args:    unlabelled: the folder of those without a label; None: they are left out.
             numbered: as `foldernames.folders`. differs: what must differ between two images, of their paths.
             above: the folder that an image's class folder lies in, with its slash.
    """
    if outgoing.labels_only:
        raise BadOption(
            "class folders are made of images. For labels alone leave out --labels-only, or use csv."
        )
    used = (name for name, n in outgoing.store.counts().classes.items() if n)
    folder_of = folders(used, numbered=numbered)
    shared = Shared(differs(image.path) for image in pages(outgoing.store) if image.path)
    for picture in outgoing.pictures():
        label = picture.row.label if picture.row.status == "labelled" else None
        folder = unlabelled if label is None else folder_of.get(label, fitted(escape(label), label))
        if folder is not None and (held := kept(outgoing, picture.image, picture.path)) is not None:
            name = f"{above(picture.row)}{folder}/{flat_name(picture.path, shared, differs)}"
            yield name, picture.image.mtime_ns / 1e9, held
    if names := cut(folder_of):
        yield CLASSES, 0, names


formats.register("folders")(files_in_folders("folders", "the images in a folder per class", folders=members))


@importers.register("folders")
def read(path: Path, *, splits: bool = True, known: Iterable[str] = ()) -> Iterator[Row | Unreadable]:
    """a folder or zip of images in a folder per class"""
    with opened(path) as (files, refused):
        yield from refused
        images = unwrapped([file for file in files if file.is_image])
        layout = _layout(images) if splits else Layout()
        if layout.splits and all(len(file.parts) < 3 for file in images):
            raise BadOption(
                f"the folders of {path} are splits ({', '.join(layout.splits)}), and no class folders lie in them. "
                "Give a folder like train/cat/a.jpg; or, if they are classes, use --no-splits."
            )
        found = list(rows(images, path, layout, known=known))
        if layout.splits:
            log.warning("%s", layout.sentence(sorted({row.label for row in found if row.label})))
        yield from named_in_full(found, files)


def _layout(files: list[File]) -> Layout:
    return layout_of({file.parts[0] for file in files if len(file.parts) > 1} - NO_CLASS)


def named_in_full(found: Iterable[Row], files: list[File]) -> Iterator[Row]:
    """The rows, with the whole names of classes whose folders were cut."""
    names: dict[str, str] = {}
    for file in files:
        if file.parts[-1] == CLASSES:
            with file.reading() as lines:
                names |= in_full(line.decode(errors="surrogateescape") for line in lines)
    yield from (replace(row, label=names.get(row.label or "", row.label)) for row in found)


def unwrapped(files: list[File]) -> list[File]:
    """Without the one folder that all the others lie in."""
    tops = {file.parts[0] for file in files}
    if len(tops) == 1 and not layout_of(tops).splits and all(len(file.parts) > 2 for file in files):
        return [file.below(1) for file in files]
    return files


def deeper(files: list[File]) -> Layout:
    """Splits above the classes, where no image lies in a split itself."""
    return _layout(files) if all(len(file.parts) != 2 for file in files) else Layout()


def first(folders: tuple[str, ...]) -> str:
    """The outermost of an image's folders."""
    return folders[0]


def rows(
    files: list[File],
    path: Path,
    layout: Layout,
    *,
    numbered: bool = True,
    known: Iterable[str] = (),
    folder: Callable[[tuple[str, ...]], str] = first,
) -> Iterator[Row]:
    """The images with the classes that their folders say.

    Args:    layout: what the outermost folders are. numbered, known: as `foldernames.classes_of`.
             folder: which of an image's folders is its class.
    """
    if not any(len(file.parts) > 1 for file in files):
        raise BadOption(
            f"{path} has no class folders with images in them. Give a folder like cat/a.jpg, dog/b.jpg."
        )
    depth = 1 if layout.splits else 0
    inside = {file.parts[depth:-1] for file in files} - {()}
    class_of = classes_of({folder(parts) for parts in inside} - NO_CLASS, numbered=numbered, known=known)
    for file in files:
        within = file.parts[depth:-1]
        yield Row(
            file_name=file.name,
            label=class_of.get(folder(within)) if within else None,
            split=file.parts[0] if file.parts[0] in layout.splits else None,
            other_names=("/".join(unescape(part) for part in file.parts[depth + 1 :]),) if within else (),
            size=file.size,
            digest=file.digest,
        )
