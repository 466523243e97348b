"""Every exception Vizsla raises on purpose.

    VizslaError                    something of ours went wrong; exit code 1
    ├── DatabaseAway               nothing answers where the database was, or another holds it; the same call may
    │                              succeed in a moment
    ├── DeadlyWork                 work on a shard kills its worker, however often it is tried
    └── UserError (ValueError)     the caller can mend it; exit code 2, one line, no traceback
        ├── NoImages               a folder is missing or holds nothing we can read
        ├── OneClass               an experiment needs at least two classes
        ├── NoLabel                an image's class cannot be read or is not known
        ├── UnreadableImage        one file cannot be decoded
        ├── Unreachable            a server with images does not answer
        ├── UnknownName            no strategy, backbone, … of that name
        ├── NotEnoughImages        more images asked for than there are
        ├── BadArray               an array has the wrong shape or values
        │   └── BadBatch           a strategy gives anything but the batch asked for
        ├── BadWeights             pretrained weights are missing, unreadable or of another network
        ├── BadOption              options that do not go together
        │   ├── BadTable           a table of images or labels that cannot be read
        │   ├── NotWritable        a file or folder that may only be read
        │   └── Damaged            a file that is not what it was written as
        ├── KeyTaken               a key that names another answer already
        └── DiskFull               no room to write

A message says what was given, what is allowed, and the mend. It is raised where these are known.
"""

from __future__ import annotations


class VizslaError(Exception):
    """Base of every deliberate exception."""

    exit_code = 1


class DatabaseAway(VizslaError): ...


class DeadlyWork(VizslaError):
    """Args: places: of the shards, among those that the work was given."""

    def __init__(self, message: str, places: tuple[int, ...] = ()) -> None:
        super().__init__(message, places)
        self.places = places

    def __str__(self) -> str:
        return str(self.args[0])


class UserError(VizslaError, ValueError):
    """A mistake that the caller can mend; the message says how."""

    exit_code = 2


class NoImages(UserError): ...


class OneClass(UserError): ...


class NoLabel(UserError): ...


class UnreadableImage(UserError): ...


class Unreachable(UserError): ...


class UnknownName(UserError): ...


class NotEnoughImages(UserError): ...


class BadArray(UserError): ...


class BadBatch(BadArray): ...


class BadWeights(UserError): ...


class BadOption(UserError): ...


class BadTable(BadOption): ...


class KeyTaken(UserError): ...


class NotWritable(BadOption): ...


class Damaged(BadOption):
    exit_code = 1  # no other option would help


class DiskFull(UserError): ...
