"""Who answers: folder names, a CSV, someone mistaken now and then, or a person in a terminal."""

from __future__ import annotations

import io
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

import numpy as np
from jaxtyping import Int64

from vizsla import terminal
from vizsla.asking import Asker, some
from vizsla.data import tables
from vizsla.data.tables import stem
from vizsla.errors import BadOption, NoLabel
from vizsla.labels import COLUMNS, LabelLog
from vizsla.types import Label

if TYPE_CHECKING:
    from vizsla.data.indexed import IndexedDataset


log = logging.getLogger("vizsla")


class Quit(Exception):
    """The person has had enough for now. Every answer so far is kept."""


class Oracle(Protocol):
    """Anyone or anything that knows the classes of images."""

    def label(
        self, dataset: IndexedDataset, ids: Sequence[int], *, round: int = 0, source: str = "al"
    ) -> int:
        """Answer for these images, in this order, each written into the data set at once.

        An image of none of the classes gets no label but `dataset.mark_outlier`: that was an answer too.

        Returns: how many were labelled; an image that was skipped, or is an outlier, is none.
        """
        ...


class FilenameOracle:
    """Reads each class from the folder that the image lies in.

    Args: outliers: answer "none of the classes" for an image in the folder of no known class; without it,
          such an image is an error.
    """

    def __init__(self, *, outliers: bool = False) -> None:
        self.outliers = outliers

    def label(
        self, dataset: IndexedDataset, ids: Sequence[int], *, round: int = 0, source: str = "al"
    ) -> int:
        strange = {idx for idx in ids if self.outliers and not dataset.has_class(idx)}
        for idx in ids:
            if idx in strange:
                dataset.mark_outlier(idx)
            else:
                dataset.label_from_filename(idx)
        return len(ids) - len(strange)


class NoisyOracle:
    """A truth that is wrong now and then, for experiments.

    An image's answer is flipped with probability `flip_rate`, then to each other class alike. It depends on
    the seed and the image only: asked again, or in another order, the answer is the same. An outlier stays one.
    """

    def __init__(
        self,
        truth: Oracle | Sequence[int] | Int64[np.ndarray, " n"],
        flip_rate: float,
        n_classes: int,
        seed: int,
    ) -> None:
        if not 0 <= flip_rate <= 1:
            raise BadOption(
                f"a flip rate of {flip_rate} is no share. Give 0 (never wrong) to 1 (always wrong)."
            )
        if n_classes < 2:
            raise BadOption(f"with {n_classes} class there is no other to mistake it for. Give at least 2.")
        self.truth = truth
        self.flip_rate = flip_rate
        self.n_classes = n_classes
        self.seed = seed

    def label(
        self, dataset: IndexedDataset, ids: Sequence[int], *, round: int = 0, source: str = "al"
    ) -> int:
        if dataset.classes and self.n_classes != len(dataset.classes):
            raise BadOption(
                f"the oracle was told of {self.n_classes} classes, but the data set has {some(dataset.classes)}. "
                f"Give n_classes={len(dataset.classes)}."
            )
        if isinstance(self.truth, Sequence | np.ndarray):
            if len(self.truth) != len(dataset):
                raise BadOption(
                    f"the truth has {len(self.truth)} classes, but the data set {len(dataset)} images. "
                    "Give one for each image."
                )
            answers = {idx: int(self.truth[idx]) for idx in ids}
        else:
            self.truth.label(dataset, ids, round=round, source=source)
            answers = {idx: int(dataset.labels[idx]) for idx in ids if dataset.unlabeled_mask[idx] == 0}
        for idx, truth in answers.items():
            dataset.update_label(idx, self.answer(idx, truth))
        return len(answers)

    def answer(self, idx: int, truth: int) -> int:
        """What is said of image `idx`, whose true class is `truth`."""
        rng = np.random.default_rng((self.seed, idx))
        if rng.random() >= self.flip_rate:
            return truth
        return (truth + 1 + int(rng.integers(self.n_classes - 1))) % self.n_classes


@dataclass(frozen=True)
class _Row:
    """One image in a table of labels."""

    names: tuple[str, ...]
    """What the image may be called, first as it stands there."""
    label: str | None
    """None where the image was skipped."""
    line: str = ""
    """Where it is told, such as `line 3`."""

    @property
    def path(self) -> str:
        return self.names[0]

    def where(self, file: Path) -> str:
        return f"{file} {self.line}".rstrip()


class CsvOracle:
    """Looks each class up in a table, with a row per image; of several rows of an image the last counts.

    The table is a CSV, or a .jsonl or .parquet file, and is read as `vizsla import` reads it: the image is in a
    column called as IMAGE_COLUMNS says, the class in one of LABEL_COLUMNS; a file of two columns needs no header. An
    image is found by its relative path, else by its file name where only one image has it. Classes are names, or
    numbers if none of them is a name of the data set's. Vizsla's own label files are read as well.

    Args: columns: `file_name` and `label` → what these columns are called, where their names do not tell.
    """

    IMAGE_COLUMNS = tables.ALIASES["file_name"]
    LABEL_COLUMNS = tables.ALIASES["label"]

    def __init__(self, path: str | Path, *, columns: Mapping[str, str] | None = None) -> None:
        self.path = Path(path)
        self.columns = columns or {}

    def label(
        self, dataset: IndexedDataset, ids: Sequence[int], *, round: int = 0, source: str = "al"
    ) -> int:
        names = map(dataset.file_name, range(len(dataset)))
        same_name = Counter(one for name in names for one in {_base(name), stem(name), stem(_base(name))})
        numbers = not {row.label for row in self._by_path.values()} & set(dataset.classes)
        labelled = 0
        for idx in ids:
            row = self._row(dataset.file_name(idx), same_name)
            if row.label is None:
                dataset.skip(idx)
            else:
                dataset.update_label(idx, self._class(row, row.label, dataset.classes, numbers))
                labelled += 1
        return labelled

    def _row(self, name: str, same_name: Counter[str]) -> _Row:
        if row := self._by_path.get(name) or self._by_other.get(name):
            return row
        meant = name if _base(name) in self._by_base else stem(name)  # tables leave suffixes out
        rows = self._by_base.get(_base(meant), [])
        tails = [row for row in rows if any(f"/{one}".endswith(f"/{meant}") for one in row.names)]
        if len(tails) == 1 and (meant == name or same_name[meant] == 1):
            return tails[0]
        if rows and (len(rows) > 1 or same_name[_base(meant)] > 1):
            raise NoLabel(
                f"{rows[0].where(self.path)} names {rows[0].path!r}, which may or may not be {name}: "
                f"several have that name. Write the whole path, {name}."
            )
        if not rows:
            raise NoLabel(
                f"no label for {name} in {self.path}, which has {len(self._by_path)} images. "
                f"Add a line such as {name},CLASS."
            )
        return rows[0]

    def _class(self, row: _Row, label: str, classes: tuple[str, ...], numbers: bool) -> int:
        if label in classes:
            return classes.index(label)
        numbers = numbers and label.isascii() and label.isdigit()
        if numbers and (not classes or int(label) < len(classes)):
            return int(label)
        known = ", ".join(classes) or "not known; give them with --classes"
        raise NoLabel(f"{row.where(self.path)}: no class named {label!r}. Classes: {known}.")

    @cached_property
    def _by_base(self) -> dict[str, list[_Row]]:
        rows: dict[str, list[_Row]] = {}
        for row in self._by_path.values():
            for base in {_base(name) for name in row.names}:
                rows.setdefault(base, []).append(row)
        return rows

    @cached_property
    def _by_path(self) -> dict[str, _Row]:
        data = self._read()
        if data.startswith(",".join(COLUMNS).encode()):
            answers = LabelLog(self.path).current()
            return {name: _Row((name,), label.label) for name, label in answers.items()}
        return {row.path: row for row in self._rows(data)}

    @cached_property
    def _by_other(self) -> dict[str, _Row]:
        return {name: row for row in self._by_path.values() for name in row.names[1:]}

    def _read(self) -> bytes:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise BadOption(
                f"cannot read {self.path}: {error.strerror}. Give a table of labels, such as a CSV file."
            ) from None
        if not data.strip():
            raise BadOption(f"{self.path} is empty. Give a CSV with a line file_name,label for each image.")
        return data

    def _rows(self, data: bytes) -> Iterator[_Row]:
        option = "columns={{'{}': NAME}}"
        wanted = tables.Wanted(chosen=self.columns, option=option)
        for found in tables.read(io.BytesIO(data), str(self.path), tables.kind_of(self.path.name), wanted):
            if isinstance(found, tables.Note):
                log.warning("%s: %s", self.path, found.text)
            elif isinstance(found, tables.Unreadable):
                raise NoLabel(f"{self.path} {found.where}: {found.reason}. Fill in or delete it.")
            elif not found.names or found.label is None:
                raise NoLabel(
                    f"{self.path} {found.where}: an image and a class belong here. Fill in or delete it."
                )
            else:
                names = tuple(name.replace("\\", "/").removeprefix("./") for name in found.names)
                yield _Row(names, found.label, found.where)


def _base(path: str) -> str:
    return path.rpartition("/")[2]


@dataclass(frozen=True)
class _Question:
    idx: int
    round: int
    source: str


class TerminalOracle:
    """A person at a terminal or a notebook: one picture, one short answer, and a way back from every slip.

    Each answer is on disk before the next question. Quitting (`q`, Ctrl-C, or the end of the input) raises
    Quit and loses nothing.

    Args:
        classes: names, by label.
        log: the label file to write; without one the labels are only in the data set.
        annotator: who is asked, for the label file.
        input: asks for a line of text; the builtin of the moment if not given (a notebook changes it).
        show: puts an image on the screen, as `terminal.show` does.
        out: the screen; the standard output of the moment if not given.
    """

    def __init__(
        self,
        classes: Sequence[str],
        log: LabelLog | None = None,
        *,
        annotator: str = "me",
        input: Callable[[str], str] | None = None,
        show: Callable[..., None] = terminal.show,
        out: TextIO | None = None,
    ) -> None:
        self.asker = Asker(classes, input=input, show=show, out=out)
        self.log = log
        self.annotator = annotator
        self._answered: list[_Question] = []
        self._last = ""

    def label(
        self, dataset: IndexedDataset, ids: Sequence[int], *, round: int = 0, source: str = "al"
    ) -> int:
        self._check(dataset)
        waiting = deque(_Question(idx, round, source) for idx in ids)
        try:
            while waiting:
                place = f"{max(1, len(ids) - len(waiting) + 1)} of {len(ids)}"
                self._step(dataset, waiting, place)
        except (KeyboardInterrupt, EOFError):
            self.asker.new_line()
            raise Quit from None
        return int(sum(dataset.unlabeled_mask[idx] == 0 for idx in ids))

    def _check(self, dataset: IndexedDataset) -> None:
        if dataset.classes and set(dataset.classes) != set(self.asker.choices.classes):
            raise BadOption(
                f"the choices are {some(self.asker.choices.classes)}, but the data set's classes are "
                f"{some(dataset.classes)}. Give both the same classes."
            )

    def _step(self, dataset: IndexedDataset, waiting: deque[_Question], place: str) -> None:
        """Ask the first question that waits, and do as told."""
        began = time.monotonic()
        heading = f"{place} · {len(dataset.labelled())} labelled{self._last}"
        self.asker.draw(dataset.source, dataset.file_name(waiting[0].idx), heading)
        answer = self.asker.answer(may_undo=bool(self._answered))
        lead_ms = round((time.monotonic() - began) * 1000)
        if answer == "q":
            raise Quit
        if answer == "u":
            waiting.appendleft(self._undo(dataset))
        elif answer == "s":
            self._skip(dataset, waiting.popleft(), lead_ms)
        else:
            self._label(dataset, waiting.popleft(), int(answer), lead_ms)

    def _label(self, dataset: IndexedDataset, question: _Question, label: int, lead_ms: int) -> None:
        name = self.asker.choices.classes[label]
        self._write(dataset, question, "labelled", name, lead_ms)
        dataset.update_label(question.idx, dataset.classes.index(name) if dataset.classes else label)
        self._answered.append(question)
        self._last = f" · last: {name}"

    def _skip(self, dataset: IndexedDataset, question: _Question, lead_ms: int) -> None:
        self._write(dataset, question, "skipped", None, lead_ms)
        dataset.skip(question.idx)
        self._answered.append(question)
        self._last = " · last: skipped"

    def _undo(self, dataset: IndexedDataset) -> _Question:
        question = self._answered.pop()
        self._write(dataset, question, "undone", None, None)
        dataset.clear_label(question.idx)
        self._last = " · taken back: answer again"
        return question

    def _write(
        self,
        dataset: IndexedDataset,
        question: _Question,
        status: str,
        label: str | None,
        lead_ms: int | None,
    ) -> None:
        if self.log is not None:
            name = dataset.file_name(question.idx)
            self.log.append(
                Label(name, status, label, self.annotator, question.source, question.round, lead_ms)
            )
