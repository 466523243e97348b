"""Tables of images and classes, in CSV, JSON Lines or Parquet: one reader for labels, lists of images and oracles.

read       a table, row by row
columns    what its columns may be called
cells      what a cell says
decoding   which letters its bytes are
delimited  CSV
objects    JSON Lines
parquet    Parquet
"""

from __future__ import annotations

from vizsla.data.tables.cells import SeveralClasses, is_image_name, several_in_one, stem
from vizsla.data.tables.columns import ALIASES, COLUMNS, Wanted, columns
from vizsla.data.tables.reading import KINDS, Note, Record, Unreadable, kind_of, read

__all__ = [
    "ALIASES",
    "COLUMNS",
    "KINDS",
    "Note",
    "Record",
    "SeveralClasses",
    "Unreadable",
    "Wanted",
    "columns",
    "is_image_name",
    "kind_of",
    "read",
    "several_in_one",
    "stem",
]
