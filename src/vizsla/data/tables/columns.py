"""What the columns of a table may be called: our names, those of others, and which are meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vizsla.data.tables.cells import trimmed
from vizsla.errors import BadTable

COLUMNS = (
    "file_name",
    "sha256",
    "label",
    "status",
    "annotator",
    "labelled_at",
    "lead_ms",
    "round",
    "model_version",
    "source",
    "suggestion",
    "suggestion_prob",
    "suggestion_shown",
    "split",
)
"""Ours, in the order in which they are written."""

ALIASES: Mapping[str, tuple[str, ...]] = {column: (column,) for column in COLUMNS} | {
    "file_name": ("file_name", "filename", "filepath", "file_path", "path", "file", "image"),
    "sha256": ("sha256", "sha_256", "hash"),
    "label": ("label", "class", "class_name", "category", "choice"),
    "annotator": ("annotator", "completed_by"),
    "labelled_at": ("labelled_at", "labeled_at", "created_at"),
    "lead_seconds": ("lead_time",),
}
"""Column → names it goes by, the first that is there counts. `choice` … `lead_time` are Label Studio's."""

LABEL_STUDIO = frozenset(
    {"annotation_id", "annotator", "created_at", "id", "lead_time", "updated_at", "agreement"}
)
"""What Label Studio's own columns are called, beside those of the task and its answer."""

_NO_CLASS = frozenset({"id", "index", "row", "number", "unnamed:_0"})
"""Columns of numbers that are no classes, whatever stands in them."""
_TOLD = 20
"""Columns that an error names, and letters of each twice as many."""


@dataclass(frozen=True)
class Wanted:
    """What is to be read from a table."""

    columns: tuple[str, ...] = ("file_name", "label")
    """Ours, of those in `ALIASES`."""
    labels: bool = True
    """Whether it is no table of ours where it says nothing of classes."""
    chosen: Mapping[str, str] = field(default_factory=dict)
    """Our column → what it is called here, where that was said."""
    option: str = ""
    """How to say it, with `{}` for our column; empty: by renaming the column."""

    def count(self, names: Iterable[str]) -> int:
        """How many of these names are those of columns that are wanted."""
        known = {alias for column in self.columns for alias in ALIASES[column]}
        chosen = set(self.chosen.values())
        return sum(key(name) in known or trimmed(name) in chosen for name in names)


@dataclass(frozen=True)
class Layout:
    """Where in a table our columns stand."""

    place: Mapping[str, int]
    classes: Mapping[int, str] = field(default_factory=dict)
    """Place → class, where each class has a column of its own."""
    notes: tuple[str, ...] = ()

    @property
    def images(self) -> bool:
        """Whether it says which images it is about."""
        return not {"file_name", "sha256"}.isdisjoint(self.place)

    @property
    def labels(self) -> bool:
        """Whether it says anything of their classes."""
        return not {"label", "status"}.isdisjoint(self.place) or bool(self.classes)


def key(name: str) -> str:
    """The name where capitals, blanks and hyphens do not count.

    >>> key(" File-Name\\u00a0")
    'file_name'
    """
    return re.sub(r"[\s_-]+", "_", trimmed(name).lower())


def columns(names: Iterable[str]) -> dict[str, str]:
    """Our column → the name it goes by here, for those that are there; capitals and blanks do not matter."""
    here = {key(name): name for name in names}
    found = {
        column: next((here[alias] for alias in aliases if alias in here), None)
        for column, aliases in ALIASES.items()
    }
    return {column: name for column, name in found.items() if name is not None}


def layout(header: Sequence[str], wanted: Wanted, table: str, *, loose: bool = False) -> Layout:
    """Where the wanted columns stand.

    Args:   loose: a chosen column need not be there, as where each row has columns of its own.
    Raises: BadTable where two columns have one name, or a chosen one is not there.
    """
    keys = [key(name) for name in header]
    place: dict[str, int] = {}
    for column in wanted.columns:
        if column in wanted.chosen:
            found = _chosen(header, keys, wanted.chosen[column], table, loose)
        else:
            found = _known(header, keys, ALIASES[column], table)
        if found is not None:
            place[column] = found
    if "label" not in place and len(rest := rest_of_label_studio(header, keys, place)) == 1:
        place["label"] = rest[0]
    return Layout(place, notes=tuple(_passed_over(header, keys, place, wanted)))


def _chosen(header: Sequence[str], keys: Sequence[str], name: str, table: str, loose: bool) -> int | None:
    same = [at for at, one in enumerate(header) if trimmed(one) == trimmed(name)]
    same = same or [at for at, one in enumerate(keys) if one == key(name)]
    if not same and loose:
        return None
    if not same:
        raise BadTable(f"{table} has no column {name!r}. Choose one of {told(header)}.")
    return _only(header, same, table)


def _known(header: Sequence[str], keys: Sequence[str], aliases: Iterable[str], table: str) -> int | None:
    for alias in aliases:
        if same := [at for at, one in enumerate(keys) if one == alias]:
            return _only(header, same, table)
    return None


def _only(header: Sequence[str], places: list[int], table: str) -> int:
    if len(places) > 1:
        one, other = (f"{header[at]!r} (column {at + 1})" for at in places[:2])
        raise BadTable(f"{table} has two columns of one name: {one} and {other}. Rename or remove one.")
    return places[0]


def rest_of_label_studio(header: Sequence[str], keys: Sequence[str], place: Mapping[str, int]) -> list[int]:
    """Where the answer may be in a table of Label Studio, whose column is called as the interface says."""
    if not {"annotation_id", "lead_time", "created_at"} <= set(keys):
        return []
    taken = {*place.values(), *(at for at, one in enumerate(keys) if one in LABEL_STUDIO or not one)}
    return [at for at in range(len(header)) if at not in taken]


def _passed_over(
    header: Sequence[str], keys: Sequence[str], place: Mapping[str, int], wanted: Wanted
) -> Iterable[str]:
    """Columns that might be meant as well as those that were taken."""
    for column in ("file_name", "label"):
        if column not in place or column in wanted.chosen:
            continue
        at = place[column]
        if others := [header[n] for n, one in enumerate(keys) if n != at and one in ALIASES[column]]:
            yield f"took {column} from the column {header[at]!r}, not from {told(others)}"


def classes_of(header: Sequence[str], found: Layout, is_binary: Sequence[bool], table: str) -> dict[int, str]:
    """Place → class where each class has a column of 0 and 1; none where that is not so.

    Args: is_binary: of each column, whether 0 or 1 stands in it.
    """
    known = {alias for aliases in ALIASES.values() for alias in aliases} | _NO_CLASS | LABEL_STUDIO
    taken = set(found.place.values())
    places = [at for at, name in enumerate(header) if at not in taken and key(name) not in {"", *known}]
    if len(places) < 2 or not all(at < len(is_binary) and is_binary[at] for at in places):
        return {}
    names = {at: trimmed(header[at]) for at in places}
    for name in names.values():
        _only(header, [at for at, one in names.items() if one == name], table)
    return names


def no_columns(table: str, header: Sequence[str], found: Layout, wanted: Wanted) -> BadTable:
    """The error of a table in which a column cannot be told, with those to choose from."""
    lacks = [column for column, there in (("file_name", found.images), ("label", found.labels)) if not there]
    lacks = lacks if wanted.labels else lacks[:1]
    what = " and ".join({"file_name": "images", "label": "labels"}[column] for column in lacks)
    needed = " and ".join("|".join(ALIASES[column]) for column in lacks)
    keys = [key(name) for name in header]
    open_to = rest_of_label_studio(header, keys, found.place) or [
        at for at, name in enumerate(header) if at not in found.place.values() and trimmed(name)
    ]
    options = " ".join(wanted.option.format(column) for column in lacks)
    way = f"; or say which it is: {options}" if options else "; rename one"
    return BadTable(
        f"{table} has no header that names {what}: {told(header[at] for at in open_to) or 'nothing else'}. "
        f"Needed: {needed}{way}."
    )


def told(names: Iterable[str]) -> str:
    """Names for a person, in one line."""
    some = [name[: 2 * _TOLD] for name in list(names)[:_TOLD]]
    return ", ".join(name if name.isprintable() else ascii(name) for name in some)
