"""Labels out to other tools and in from them.

base.py          the row that every format shares, the registries `formats` and `importers`
csv.py           a table
jsonl.py         an object per line
folders.py       a folder per class, as a zip
label_studio.py  Label Studio's tasks
importing.py     a file into a project, and the report
matching.py      which image a foreign name means
fields.py        columns and what others call them
foldernames.py   any class name as a folder's
zips.py          a zip that is written as it is sent
files.py         opening what is imported
"""

from __future__ import annotations

from vizsla.interop import csv, folders, jsonl, label_studio  # noqa: F401 — they register themselves
from vizsla.interop.base import Format, Importer, Row, Unreadable, formats, importers
from vizsla.interop.importing import Reason, Report, import_labels
from vizsla.interop.label_studio import label_studio_config

__all__ = [
    "Format",
    "Importer",
    "Reason",
    "Report",
    "Row",
    "Unreadable",
    "formats",
    "import_labels",
    "importers",
    "label_studio_config",
]
