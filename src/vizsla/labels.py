"""The append-only label file: a CSV in which every answer is a row, and the newest row of an image wins."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from filelock import FileLock

from vizsla.caching import explain_write_errors
from vizsla.errors import BadOption, NoLabel
from vizsla.types import Label

if TYPE_CHECKING:
    from vizsla.data.indexed import IndexedDataset

COLUMNS = ("file_name", "label", "status", "annotator", "labelled_at", "lead_ms", "round", "source")
STATUSES = ("labelled", "skipped", "undone")
_KEEP_ODD_BYTES = "surrogateescape"  # file names need not be UTF-8, and Python holds them so


@dataclass(frozen=True)
class Replayed:
    """What came back from a label file into a data set."""

    labelled: int
    skipped: int
    missing: tuple[str, ...]
    """Images that the file names and the data set no longer has."""

    def __str__(self) -> str:
        lost = f", {len(self.missing)} no longer there" if self.missing else ""
        return f"{self.labelled} labels and {self.skipped} skips taken up again{lost}"


class LabelLog:
    """Labels on disk, safe against crashes and against other processes that append.

    A label counts as given once `append` has returned: its row is on disk. A crash in the middle of a write
    leaves at most half a row at the end, which reading passes over and the next append removes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))

    def append(self, *labels: Label) -> None:
        """Write the labels, in order, and return when they are on disk."""
        with explain_write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock, self.path.open("ab+") as file:
                self._mend(file)
                file.write(_csv(map(_to_row, labels)))
                file.flush()
                os.fsync(file.fileno())

    def read(self) -> list[Label]:
        """Every row, oldest first; none if there is no file yet."""
        if not self.path.exists():
            return []
        rows = self._rows(_whole(self.path.read_bytes()))
        return [self._label(number, row) for number, row in rows[1:]]

    def current(self) -> dict[str, Label]:
        """The newest answer of each image by file name, oldest first; what was undone is left out."""
        newest: dict[str, Label] = {}
        for label in self.read():
            newest.pop(label.file_name, None)
            if label.status != "undone":
                newest[label.file_name] = label
        return newest

    def _mend(self, file: BinaryIO) -> None:
        """Leave the file with our header, and with a line break after its last row."""
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        ends_whole = file.read(1) == b"\n"
        file.seek(0)
        data = file.readline() if ends_whole else file.read()
        whole = _whole(data)
        if not self._rows(whole) and not _csv([COLUMNS]).startswith(data):
            raise self._no_label_file()
        if not ends_whole:
            file.truncate(min(size, len(whole)))
            file.write(whole[size:] if whole else _csv([COLUMNS]))

    def _rows(self, data: bytes) -> list[tuple[int, list[str]]]:
        """Line numbers and cells; the first row is the header, and it is ours."""
        text = data.decode("utf-8-sig", errors=_KEEP_ODD_BYTES)
        reader = csv.reader(io.StringIO(text, newline=""))
        rows = [(reader.line_num, row) for row in reader if row]
        if rows and tuple(rows[0][1]) != COLUMNS:
            raise self._no_label_file()
        return rows

    def _no_label_file(self) -> BadOption:
        columns = ",".join(COLUMNS)
        return BadOption(
            f"{self.path} is no label file: its first line is not {columns}. Choose another file."
        )

    def _label(self, number: int, row: list[str]) -> Label:
        try:
            return _from_row(row)
        except ValueError as error:
            raise BadOption(f"{self.path} line {number}: {error}. Correct or delete that line.") from None


def replay(dataset: IndexedDataset, log: LabelLog, classes: Mapping[str, int] | None = None) -> Replayed:
    """Put a label file's labels and skips back into a data set, as they stood.

    Args:
        dataset: where to; its other labels stay.
        log: where from.
        classes: label of each class name; the data set's own classes if not given.
    """
    known = {name: label for label, name in enumerate(dataset.classes)} if classes is None else classes
    ids = {dataset.file_name(idx): idx for idx in range(len(dataset))}
    answers = log.current()
    present = [answer for answer in answers.values() if answer.file_name in ids]
    labelled = [answer for answer in present if answer.status == "labelled"]
    _check_classes(labelled, known, log.path)
    for answer in labelled:
        dataset.update_label(ids[answer.file_name], known[answer.label or ""])
    skipped = [answer for answer in present if answer.status == "skipped"]
    for answer in skipped:
        dataset.skip(ids[answer.file_name])
    return Replayed(len(labelled), len(skipped), tuple(name for name in answers if name not in ids))


def _check_classes(answers: list[Label], known: Mapping[str, int], path: Path) -> None:
    if strange := sorted({answer.label or "" for answer in answers} - set(known)):
        raise NoLabel(
            f"{path} has labels of class {', '.join(map(repr, strange))}, "
            f"but the classes are {', '.join(known) or 'not known'}. "
            f"Add the class (--classes) or choose another label file."
        )


def _whole(data: bytes) -> bytes:
    """The file up to its last whole row. A last row that lacks only its line break is whole, and gets one."""
    head, tail = data[: data.rfind(b"\n") + 1], data[data.rfind(b"\n") + 1 :]
    if tail and _is_row(tail.rstrip(b"\r")):
        return data + (b"\n" if tail.endswith(b"\r") else b"\r\n")
    while head.count(b'"') % 2:  # torn inside quotes, in a file name that has line breaks
        head = head[: head.rfind(b"\n", 0, -1) + 1]
    return head


def _is_row(line: bytes) -> bool:
    try:
        (row,) = csv.reader([line.decode(errors=_KEEP_ODD_BYTES)], strict=True)
        return bool(_from_row(row)) and bool(row[-1])
    except (ValueError, csv.Error):
        return False


def _to_row(label: Label) -> list[object]:
    values = dict(zip((field.name for field in fields(label)), astuple(label), strict=True))
    return [values[column] for column in COLUMNS]


def _from_row(row: list[str]) -> Label:
    """The label in a row. Raises ValueError, saying why, where there is none."""
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(row)} cells where {len(COLUMNS)} belong")
    cells = dict(zip(COLUMNS, row, strict=True))
    if cells["status"] not in STATUSES:
        raise ValueError(f"status {cells['status']!r} is none of {', '.join(STATUSES)}")
    return Label(
        file_name=cells["file_name"],
        status=cells["status"],
        label=cells["label"] or None,
        annotator=cells["annotator"],
        source=cells["source"],
        round=int(cells["round"]),
        lead_ms=int(cells["lead_ms"]) if cells["lead_ms"] else None,
        labelled_at=cells["labelled_at"],
    )


def _csv(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(errors=_KEEP_ODD_BYTES)
