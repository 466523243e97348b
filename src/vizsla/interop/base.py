"""What every format shares: the row and the two registries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from vizsla.data.tables import Note, Unreadable
from vizsla.interop.zips import Member, stream
from vizsla.registry import Registry

if TYPE_CHECKING:
    from vizsla.interop.outgoing import Outgoing


@dataclass(frozen=True)
class Row:
    """One answer, as files carry it."""

    file_name: str
    """Path relative to the image folder, with forward slashes; from foreign files also a URI."""
    sha256: str | None = None
    """Of the image file, in hex."""
    label: str | None = None
    """Class name, where the status is `labelled`."""
    status: str = ""
    """`labelled`, `skipped`, `flagged` or `undone`; empty: labelled, where there is a label."""
    annotator: str | None = None
    labelled_at: datetime | None = None
    lead_ms: int | None = None
    """Milliseconds between question and answer."""
    round: int | None = None
    model_version: int | None = None
    source: str | None = None
    """How the image was chosen: `al`, `random`, `audit`, `bulk` or `import`."""
    suggestion: str | None = None
    """The class that the model thought likeliest."""
    suggestion_prob: float | None = None
    suggestion_shown: bool | None = None
    split: str | None = None
    where: str = ""
    """Where in its file the row lies, for a person to find it."""
    other_names: tuple[str, ...] = ()
    """What else the image may be called, likeliest first."""
    size: int | None = None
    """Bytes of the image file, where it came along."""
    digest: Callable[[], str] | None = None
    """Computes the SHA-256 of an image file that came along."""


@dataclass(frozen=True)
class Format:
    """A way to write the labels of a project."""

    name: str
    suffix: str
    """Of the file's name, with the dot."""
    media_type: str
    about: str
    """What it is, in a few words for the help."""
    write: Callable[[Outgoing], Iterator[bytes]]
    """The file, piece by piece, so that no project is too large."""
    forms: Mapping[str, Callable[[Outgoing], Iterator[Member]]] = field(default_factory=dict)
    """Of a format that is files in folders: form → its files, the default first. `write` is the zip of them."""


def files_in_folders(name: str, about: str, **forms: Callable[[Outgoing], Iterator[Member]]) -> Format:
    """A format that is many files: a folder, or a zip where it has to be one file."""
    default = next(iter(forms.values()))
    return Format(name, ".zip", "application/zip", about, lambda outgoing: stream(default(outgoing)), forms)


Importer = Callable[..., Iterable[Row | Unreadable | Note]]
"""Reads the file or folder at a path, its docstring says what. Of these it is given those that it
takes, too: `columns`, our column → its name there; `splits`, whether folders such as `train` are no classes; `known`,
the classes that the project has. Raises UserError where it is not of the format at all."""

formats = Registry[Format]("export format", "formats")
importers = Registry[Importer]("import format", "importers")
