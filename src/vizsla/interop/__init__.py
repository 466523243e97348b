"""Labels out to other tools and in from them.

base.py          the row that every format shares, the registries `formats` and `importers`

csv.py           a table
jsonl.py         an object per line
parquet.py       a typed table
folders.py       a folder per class
imagefolder.py   Hugging Face's folders
label_studio.py  Label Studio's tasks
fiftyone.py      FiftyOne's two layouts
cvat.py          CVAT's ImageNet
coco.py          COCO's annotations

importing.py     a file into a project, and the report
matching.py      which image a foreign name means
files.py         opening what is imported
exporting.py     a project into a file or folder
outgoing.py      what is exported
tables.py        what is common to tables
trees.py         what is common to formats of many files
zips.py          a zip that is written as it is sent
fields.py        cells as rows, and rows as cells
foldernames.py   any class name as a folder's
jsonstream.py    JSON a value at a time

label_studio_ml.py    what Label Studio and a machine-learning backend say to each other
label_studio_host.py  asking a Label Studio for its tasks and images
"""

from __future__ import annotations

from vizsla.interop import (  # noqa: F401 — they register themselves
    coco,
    csv,
    cvat,
    fiftyone,
    folders,
    imagefolder,
    jsonl,
    label_studio,
    parquet,
)
from vizsla.interop.base import Format, Importer, Note, Row, Unreadable, formats, importers
from vizsla.interop.exporting import export_labels
from vizsla.interop.importing import Reason, Report, import_labels, read_rows
from vizsla.interop.label_studio import label_studio_config
from vizsla.interop.outgoing import Outgoing

__all__ = [
    "Format",
    "Importer",
    "Note",
    "Outgoing",
    "Reason",
    "Report",
    "Row",
    "Unreadable",
    "export_labels",
    "formats",
    "import_labels",
    "importers",
    "label_studio_config",
    "read_rows",
]
