"""Who answers: folder names, a CSV, someone mistaken now and then, or a person in a terminal."""

from __future__ import annotations

import builtins
import csv
import io
import re
import shutil
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

import numpy as np
from jaxtyping import Int64
from rich.cells import cell_len

from vizsla import terminal
from vizsla.data import images
from vizsla.errors import BadOption, NoLabel, UnreadableImage
from vizsla.labels import COLUMNS, LabelLog
from vizsla.types import Label

if TYPE_CHECKING:
    from vizsla.data.indexed import IndexedDataset


class Quit(Exception):
    """The person has had enough for now. Every answer so far is kept."""


class Oracle(Protocol):
    """Anyone or anything that knows the classes of images."""

    def label(
        self, dataset: IndexedDataset, ids: Sequence[int], *, round: int = 0, source: str = "al"
    ) -> int:
        """Answer for these images, in this order, each written into the data set at once.

        Returns: how many were labelled; an image that was skipped is none.
        """
        ...


class FilenameOracle:
    """Reads each class from the folder that the image lies in."""

    def label(
        self, dataset: IndexedDataset, ids: Sequence[int], *, round: int = 0, source: str = "al"
    ) -> int:
        for idx in ids:
            dataset.label_from_filename(idx)
        return len(ids)


class NoisyOracle:
    """A truth that is wrong now and then, for experiments.

    An image's answer is flipped with probability `flip_rate`, then to each other class alike. It depends on
    the seed and the image only: asked again, or in another order, the answer is the same.
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
        if isinstance(self.truth, Sequence | np.ndarray):
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
    """One image in a CSV of labels."""

    path: str
    label: str | None
    """None where the image was skipped."""
    line: int | None = None

    def where(self, file: Path) -> str:
        return f"{file} line {self.line}" if self.line else str(file)


class CsvOracle:
    """Looks each class up in a CSV, with a row per image; of several rows of an image the last counts.

    The image is in a column named file_name, filename, filepath, path or image, the class in one named
    label, class, class_name or category; a file of two columns needs no header. An image is found by its
    relative path, else by its file name where only one image has it. Classes are names, or numbers if
    none of them is a name of the data set's. Vizsla's own label files are read as well.
    """

    IMAGE_COLUMNS = ("file_name", "filename", "filepath", "path", "image")
    LABEL_COLUMNS = ("label", "class", "class_name", "category")

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def label(
        self, dataset: IndexedDataset, ids: Sequence[int], *, round: int = 0, source: str = "al"
    ) -> int:
        same_name = Counter(_base(dataset.file_name(idx)) for idx in range(len(dataset)))
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
        if row := self._by_path.get(name):
            return row
        rows = self._by_base.get(_base(name), [])
        tails = [row for row in rows if row.path.endswith("/" + name)]
        if len(tails) == 1:
            return tails[0]
        if rows and (len(rows) > 1 or same_name[_base(name)] > 1):
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
            rows.setdefault(_base(row.path), []).append(row)
        return rows

    @cached_property
    def _by_path(self) -> dict[str, _Row]:
        data = self._read()
        if data.startswith(",".join(COLUMNS).encode()):
            log = LabelLog(self.path).current()
            return {name: _Row(name, label.label) for name, label in log.items()}
        image, label, rows = self._columns(self._table(data))
        return {row.path: row for row in (self._parse(line, cells, image, label) for line, cells in rows)}

    def _read(self) -> bytes:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise BadOption(
                f"cannot read {self.path}: {error.strerror}. Give a CSV file of labels."
            ) from None
        if not data.strip():
            raise BadOption(f"{self.path} is empty. Give a CSV with a line file_name,label for each image.")
        return data

    def _table(self, data: bytes) -> list[tuple[int, list[str]]]:
        """Line numbers and cells of all lines that are not blank."""
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BadOption(f"{self.path} is not UTF-8 text. Save it as CSV in UTF-8.") from None
        first = text.lstrip().splitlines()[0]
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
        try:
            return [(reader.line_num, row) for row in reader if any(row)]
        except csv.Error as error:
            raise BadOption(f"{self.path} line {reader.line_num}: {error}. Correct that line.") from None

    def _columns(self, table: list[tuple[int, list[str]]]) -> tuple[int, int, list[tuple[int, list[str]]]]:
        """Where image and label stand, and the rows that hold them."""
        header = [cell.strip().lower() for cell in table[0][1]]
        image = next((header.index(name) for name in self.IMAGE_COLUMNS if name in header), None)
        label = next((header.index(name) for name in self.LABEL_COLUMNS if name in header), None)
        if image is not None and label is not None:
            return image, label, table[1:]
        if image is None and label is None and len(header) == 2:
            return 0, 1, table
        raise BadOption(
            f"{self.path} has the columns {', '.join(header)}. It needs one of "
            f"{', '.join(self.IMAGE_COLUMNS)} and one of {', '.join(self.LABEL_COLUMNS)}."
        )

    def _parse(self, line: int, cells: list[str], image: int, label: int) -> _Row:
        if len(cells) <= max(image, label) or not cells[image].strip() or not cells[label].strip():
            raise NoLabel(f"{self.path} line {line}: an image and a class belong here. Fill in or delete it.")
        path = cells[image].strip().replace("\\", "/").removeprefix("./")
        return _Row(path, cells[label].strip(), line)


def _base(path: str) -> str:
    return path.rpartition("/")[2]


class Choices:
    """What a person may type for a class: its number, its name, or the beginning of its name.

    Where classes are themselves named by numbers, a number means the name, and labels are written #0, #1, …

    >>> choices = Choices(["cat", "dog", "donkey"])
    >>> choices.parse("1"), choices.parse("don"), choices.parse("CAT")
    (1, 2, 0)
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        sign = "#" if any(name.isdigit() for name in self.classes) else ""
        self.keys = tuple(f"{sign}{label}" for label in range(len(self.classes)))

    def parse(self, text: str) -> int:
        """The label meant; raises NoLabel, saying what is allowed, where none or several may be meant."""
        if text in self.classes:
            return self.classes.index(text)
        if text in self.keys:
            return self.keys.index(text)
        folded = [name.casefold() for name in self.classes]
        meant = [label for label, name in enumerate(folded) if name == text.casefold()]
        meant = meant or [label for label, name in enumerate(folded) if name.startswith(text.casefold())]
        if len(meant) == 1 and text:
            return meant[0]
        if meant and text:
            raise NoLabel(
                f"{text!r} may be {_some(self.classes[label] for label in meant)}. Type more of it."
            )
        raise NoLabel(
            f"{f'no class {text!r}. ' if text else ''}Type {self.keys[0]} to {self.keys[-1]}, "
            "or the beginning of a name; ? for help."
        )

    def table(self, width: int) -> list[str]:
        """The classes with their numbers, in as many even columns as fit."""
        key_width = len(self.keys[-1])
        cells = [f"{key:>{key_width}} {name}" for key, name in zip(self.keys, self.classes, strict=True)]
        widest = max(map(cell_len, cells)) + 3
        n_columns = min(max(1, (width + 3) // widest), len(cells))
        n_rows = -(-len(cells) // n_columns)
        padded = [cell + " " * (widest - cell_len(cell)) for cell in cells]
        return ["".join(padded[row::n_rows]).rstrip() for row in range(n_rows)]


def _some(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


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

    COMMANDS = ("u", "s", "?", "q")
    MENU = "number or name · u undo · s skip · ? help · q quit"
    MOST_TABLE_ROWS = 8

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
        if not classes:
            raise BadOption("no classes to choose from. Give --classes cat,dog")
        if twice := [name for name, times in Counter(classes).items() if times > 1]:
            raise BadOption(f"the class {twice[0]!r} is given twice. Give each class once.")
        self.choices = Choices(classes)
        self.log = log
        self.annotator = annotator
        self._input, self._show, self._out = input, show, out
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
            self._out_now.write("\n")
            raise Quit from None
        return int(sum(dataset.unlabeled_mask[idx] == 0 for idx in ids))

    def _check(self, dataset: IndexedDataset) -> None:
        if dataset.classes and dataset.classes != self.choices.classes:
            raise BadOption(
                f"the choices are {_some(self.choices.classes)}, but the data set's classes are "
                f"{_some(dataset.classes)}. Give both the same classes, in the same order."
            )

    def _step(self, dataset: IndexedDataset, waiting: deque[_Question], place: str) -> None:
        """Ask the first question that waits, and do as told."""
        began = time.monotonic()
        self._draw(dataset, waiting[0].idx, f"{place} · {len(dataset.labelled())} labelled{self._last}")
        answer = self._answer()
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
        name = self.choices.classes[label]
        self._write(dataset, question, "labelled", name, lead_ms)
        dataset.update_label(question.idx, label)
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

    # --- the screen

    def _draw(self, dataset: IndexedDataset, idx: int, heading: str) -> None:
        out, size = self._out_now, shutil.get_terminal_size()
        table = self.choices.table(size.columns)
        if len(table) > self.MOST_TABLE_ROWS:
            table = [f"{len(self.choices.classes)} classes: type the beginning of a name; ? lists them all"]
        others = 7 + len(table)  # lines that are not the picture: heading, spaces, classes, menu, answer
        rows = min(terminal.MAX_ROWS, max(6, size.lines - others))
        terminal.clear(out)
        out.write(self._dim(heading) + "\n\n")
        try:
            image = images.load(Path(dataset.image_filenames[idx]))
            self._show(image, out, columns=size.columns, rows=rows, name=dataset.image_filenames[idx])
        except UnreadableImage as error:
            out.write(f"{error}\n")
        out.write("\n" + "\n".join(table) + "\n\n" + self._dim(self.MENU) + "\n")
        out.flush()

    def _answer(self) -> int | str:
        """A label or a command; asks until it gets one."""
        while True:
            text = _ESCAPE_SEQUENCE.sub("", (self._input or builtins.input)("> ")).strip()
            if text not in self.choices.classes and text.lower() in self.COMMANDS:
                text = text.lower()
            if text == "u" and not self._answered:
                self._say("nothing to undo: this is your first answer here.")
            elif text == "?":
                self._say(self._help())
            elif text in self.COMMANDS:
                return text
            else:
                try:
                    return self.choices.parse(text)
                except NoLabel as problem:
                    self._say(str(problem))

    def _say(self, text: str) -> None:
        self._out_now.write(text + "\n")
        self._out_now.flush()

    def _help(self) -> str:
        keys, classes = self.choices.keys, self.choices.classes
        taken = [f"The class {name!r} is number {keys[classes.index(name)]}; {name} alone is the command."
                 for name in self.COMMANDS if name in classes]  # fmt: skip
        return "\n".join(
            [
                "",
                f"a class   its number ({keys[0]} to {keys[-1]}), its name, or the beginning of its name",
                "u         undo: take the last answer back and ask again, as often as you like",
                "s         skip: leave this image without a label",
                "q         quit, as Ctrl-C does; every answer is already saved",
                *taken,
                "",
                *self.choices.table(shutil.get_terminal_size().columns),
                "",
            ]
        )

    def _dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self._out_now.isatty() else text

    @property
    def _out_now(self) -> TextIO:
        return self._out or sys.stdout


_ESCAPE_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[_P].*?\x1b\\|O.)")
"""Arrow keys, and a terminal's late answer to what `terminal.detect` asked: no part of what was typed."""
