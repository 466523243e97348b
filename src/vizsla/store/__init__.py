"""What a project remembers: images, classes, labels, the queue, models. SQLite or PostgreSQL.

store.py      `Store`, the only way in: one call, one transaction
records.py    what goes in and comes out
database.py   one way to read and one to write, with group commit; migrations run once
sqlite.py     what SQLite needs: engines, projects that can only be read, what errors mean
postgres.py   connections that are alive, what errors mean, roles held by a session
lead.py       being the only one in a role
catalogue.py  images by content; rescans
classes.py    added, renamed, merged
queue.py      rankings and leases
answers.py    labels, counts
imports.py    answers given elsewhere
foreign.py    tasks of another labelling tool
undo.py       taking labels back
overview.py   what changed; images by predicted class, cluster or status
versions.py   models
people.py     annotators and tokens
moving.py     all of it into another database
schema.py     the tables; migrations/ brings a database to them
"""

from __future__ import annotations

from vizsla.store.lead import Lead
from vizsla.store.records import (
    Annotator,
    Answer,
    Change,
    ClassChange,
    Counts,
    Disagreement,
    Group,
    Image,
    ImageClass,
    ImageFile,
    Imported,
    Item,
    Label,
    Model,
    Place,
    Places,
    Published,
    Pulse,
    Ranked,
    Rescanned,
    Saved,
    TakenIn,
    Task,
    Tile,
    Upcoming,
)
from vizsla.store.store import Store

__all__ = [
    "Annotator",
    "Answer",
    "Change",
    "ClassChange",
    "Counts",
    "Disagreement",
    "Group",
    "Image",
    "ImageClass",
    "ImageFile",
    "Imported",
    "Item",
    "Label",
    "Lead",
    "Model",
    "Place",
    "Places",
    "Published",
    "Pulse",
    "Ranked",
    "Rescanned",
    "Saved",
    "Store",
    "TakenIn",
    "Task",
    "Tile",
    "Upcoming",
]
