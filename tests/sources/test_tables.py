"""The same odd tables as labels to import, as a list of images and as an oracle: all three say the same of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from vizsla.data import tables
from vizsla.data.indexed import IndexedDataset
from vizsla.data.manifest import Manifest
from vizsla.errors import BadTable, UserError
from vizsla.interop import Row, Unreadable, importers
from vizsla.oracle import CsvOracle

IMAGES = ("1.png", "2.png", "3.png", "4.png")
CLASSES = ("cat", "dog")
ANSWER = dict(zip(IMAGES, ("cat", "dog") * 2, strict=True))

Columns = Mapping[str, str] | None


def photos(folder: Path, *names: str) -> None:
    for name in names:
        with (folder / name).open("wb") as file:
            Image.new("RGB", (4, 4), "gray").save(file, "PNG")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos(tmp_path, *IMAGES)
    return tmp_path


def imported(file: Path, columns: Columns = None, classes: Sequence[str] = CLASSES) -> dict[str, str | None]:
    """What an import takes from a table; a row that it would pass over is an error here."""
    found = {}
    for row in importers[tables.kind_of(file.name)](file, columns):
        if isinstance(row, Unreadable):
            raise BadTable(f"{file} {row.where} {row.reason}.")
        if isinstance(row, Row):
            if not row.file_name:
                raise BadTable(f"{file} {row.where} names no image.")
            found[_meant(row, file.parent)] = row.label
    return found


def _meant(row: Row, folder: Path) -> str:
    """The image of that name, else of that name without suffix."""
    names = [name.replace("\\", "/").removeprefix("./") for name in (row.file_name, *row.other_names)]
    there = {path.name: path.name for path in folder.iterdir()}
    there |= {path.stem: path.name for path in folder.glob("*.png")}
    return next((there[name] for name in names if name in there), names[0])


def listed(file: Path, columns: Columns = None, classes: Sequence[str] = CLASSES) -> dict[str, str | None]:
    source = Manifest(file, columns=columns)
    return {name: source.class_of(name) for name, _ in source.files()}


def answered(file: Path, columns: Columns = None, classes: Sequence[str] = CLASSES) -> dict[str, str | None]:
    dataset = IndexedDataset(file.parent, classes=classes)
    CsvOracle(file, columns=columns).label(dataset, range(len(dataset)))
    return {dataset.file_name(idx): dataset.classes[dataset.labels[idx]] for idx in range(len(dataset))}


Reader = Callable[..., dict[str, str | None]]
READERS = [imported, listed, answered]


def rows(comma: str = ",", line: str = "{name}{comma}{label}\n", header: str = "") -> str:
    body = (line.format(name=name, label=label, comma=comma) for name, label in ANSWER.items())
    return header.replace(",", comma) + "".join(body)


PLAIN = rows(header="file_name,label\n")
WIDE = rows(";", "{name};Kim;{label}\n", "file_name,reviewer,label\n")
GOOD: dict[str, str | bytes] = {
    "plain": PLAIN,
    "a mark of UTF-8": b"\xef\xbb\xbf" + PLAIN.encode(),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16 without a mark": PLAIN.encode("utf-16-le"),
    "UTF-16, the other way round, without a mark": PLAIN.encode("utf-16-be"),
    "UTF-32": PLAIN.encode("utf-32"),
    "lines of old Macs": PLAIN.replace("\n", "\r"),
    "lines of Windows": PLAIN.replace("\n", "\r\n"),
    "no line break at the end": PLAIN.rstrip("\n"),
    "semicolons": rows(";", header="file_name,label\n"),
    "tabs": rows("\t", header="file_name,label\n"),
    "bars": rows("|", header="file_name,label\n"),
    "semicolons, three columns": WIDE,
    "commas inside of semicolons": rows(";", "{name};{label};1,5\n", "file_name,label,size; cm\n"),
    "a line that says what parts the cells": "sep=;\r\n" + WIDE,
    "the same with two columns": "sep=;\n" + rows(";", header="file_name,label\n"),
    "the same in quotes, for bars": '"sep=|"\n' + rows("|", header="file_name,label\n"),
    "the same for tabs, after a mark": b"\xef\xbb\xbf"
    + ("sep=\t\n" + rows("\t", header="path,class\n")).encode(),
    "the same for a sign that would not be found": "SEP=^\n" + rows("^", header="path,class\n"),
    "the same without a header": "sep=;\n" + rows(";"),
    "no header": rows(),
    "no header, semicolons": rows(";"),
    "a header with capitals, blanks and hyphens": rows(header=" File-Name ,\u00a0LABEL\n"),
    "a header whose names nobody knows, told by the images": rows(header="photo,species\n"),
    "the class before the image": rows(line="{label},{name}\n", header="label,file_name\n"),
    "the class before the image, under names that nobody knows": rows(
        line="{label},{name}\n", header="species,photo\n"
    ),
    "blank lines": "\n\n" + PLAIN.replace("\n", "\n\n  \n"),
    "rows of commas alone": PLAIN + ",\n , \n",
    "commas at the end": PLAIN.replace("\n", ",,\n"),
    "commas at the end of rows only": rows(line="{name},{label},,\n", header="file_name,label\n"),
    "all in quotes": rows(line='"{name}","{label}"\n', header='"file_name","label"\n'),
    "blanks around names": rows(line=" {name}\t,\u00a0{label} \n", header="file_name,label\n"),
    "blanks around quotes": rows(line='"{name}" , "{label}" \n', header="file_name,label\n"),
    "marks of no width around names": rows(line="\ufeff{name},{label}\u200b\n", header="file_name,label\n"),
    "a column for each class": "image,cat,dog\n1.png,1,0\n2.png,0,1\n3.png,1,0\n4.png,0,1\n",
    "the same as floats, names without suffix": "image,cat, dog\n1,1.0,0.0\n2,0.0,1.0\n3,1.,0.\n4,0.0,1.0\n",
    "the same with decimal commas": "image;cat;dog\n1.png;1,0;0,0\n2.png;0,0;1,0\n3.png;1;0\n4.png;0;1\n",
    "the same with numbers in front": ",id,image,cat,dog\n0,1,1,1,0\n1,2,2,0,1\n2,3,3,1,0\n3,4,4,0,1\n",
    "a dot and a backslash": rows(line=".\\{name},{label}\n", header="file_name,label\n"),
    "cells that are lists": rows(line='{name},"{{""choices"": [""{label}""]}}"\n', header="image,choice\n"),
    "a table of Label Studio with one column that is left": rows(
        line="7,1,2024-03-01T10:00:00Z,3,{name},2.5,{label},2024-03-01T10:00:00Z\n",
        header="annotation_id,annotator,created_at,id,image,lead_time,species,updated_at\n",
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", GOOD)
def test_odd_tables_say_what_they_mean_to_every_reader(case: str, reader: Reader, folder: Path) -> None:
    data = GOOD[case]
    (folder / "table.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
    assert reader(folder / "table.csv") == ANSWER


BAD: dict[str, tuple[str | bytes, str]] = {
    "an open quote": ('file_name,label\n1.png,cat\n2.png,"dog\n3.png,cat\n4.png,dog\n', "line 3: the quote"),
    "an open quote that the next quote closes": (
        'file_name,label\n1.png,"cat"\n2.png,"dog\n3.png,"cat"\n4.png,"dog"\n',
        "line 3: the quote",
    ),
    "an open quote that a later row closes": (
        'file_name,label\n1.png,"dog\n2.png,cat\n3.png,cat"\n4.png,dog\n',
        "line 2: the quote",
    ),
    "an open quote that the next row closes": (
        'file_name,label\n1.png,"dog\n2.png,cat"\n3.png,cat\n',
        "line 2: the quote",
    ),
    "an open quote before a name": (
        'file_name,label\n1.png,cat\n"2.png,dog\n3.png",cat\n',
        "line 3: the quote",
    ),
    "an open quote in the middle of wide rows": (
        'file_name,who,label\n1.png,"Kim,cat\n2.png,Kim",dog\n',
        "line 2: the quote",
    ),
    "an open quote before a name that the end of another row closes": (
        'file_name,label\n1.png,cat\n"2.png,dog\n3.png,cat\n4.png,dog"\n',
        "line 3: the quote",
    ),
    "an open quote that takes the end of its row and of another": (
        'file_name,who,label\n1.png,"Kim,cat\n2.png,Kim,dog"\n3.png,Kim,cat\n',
        "line 2: the quote",
    ),
    "an open quote in the header": ('"file_name,label\n1.png,cat\n2.png,dog\n', "line 1: the quote"),
    "an open quote after a name with a line break": (
        'file_name,label\n"1\n.png",cat\n"2\n.png","dog\n3.png,cat\n',
        "line 5: the quote",
    ),
    "an open quote in a long table": (
        'file_name,label\n1.png,"cat\n' + "2.png,dog\n" * 50_000,
        "line 2: the quote",
    ),
    "an open quote after a line that says what parts the cells": (
        'sep=;\nfile_name;label\n1.png;cat\n2.png;"dog\n',
        "line 4: the quote",
    ),
    "text after a quote": ('file_name,label\n1.png,cat\n2.png,"dog"s\n', "line 3: the quote"),
    "letters that may be others": (
        PLAIN.replace("dog", "ko\u010dka").encode("cp1250"),
        r"line 3: 'ko\\xe8ka' is no text",
    ),
    "letters of a language of their own": (
        PLAIN.replace("dog", "кот").encode("cp1251"),
        "line 3: .* is no text",
    ),
    "Japanese": (PLAIN.replace("dog", "犬").encode("shift-jis"), "line 3: .* is no text"),
    "UTF-8 and something else": (
        PLAIN.replace("cat", "J\u00e4ger").encode() + "5.png,H\u00e4her\n".encode("cp1252"),
        r"line 6: 'H\\xe4her' is no text in UTF-8, as other words here are. Save it as CSV UTF-8",
    ),
    "UTF-16 that breaks off": (PLAIN.encode("utf-16")[:-1], "breaks off inside a character of utf-16"),
    "two columns of one name": (
        rows(line="{name},{label},{label}\n", header="file_name,label, Label\n"),
        r"two columns of one name: 'label' \(column 2\) and ' Label' \(column 3\)",
    ),
    "two classes of one name": (
        "file_name,cat,dog,cat\n1.png,1,0,0\n",
        r"two columns of one name: 'cat' \(column 2\) and 'cat' \(column 4\)",
    ),
    "a class whose letters were lost before": (
        "file_name,label\n1.png,cat\n2.png,H\ufffdher\n",
        "line 3: 'H\ufffdher' has lost letters",
    ),
    "an unquoted comma": ("file_name,label\n1.png,cat\na,2.png,dog\n", "line 3:? has too many cells"),
    "no name": ("file_name,label\n1.png,cat\n,dog\n", "line 3"),
    "a table of something else": ("who,what,why\nx,y,z\n", "no header that names images.*: who, what, why"),
    "NUL in the header": ("file\0name,label\n1.png,cat\n", "no header that names images"),
    "nothing": ("", "is empty"),
    "nothing but a line that says what parts the cells": ("sep=;\n", "is empty"),
    "two of one": (
        "image,cat,dog\n1.png,1,0\n2.png,1,1\n",
        r"2.png \(line 3\):? has a 1 in the columns of several",
    ),
    "neither 0 nor 1": (
        "image,cat,dog\n1.png,1,0\n2.png,0.3,0.7\n",
        r"2.png \(line 3\):? has a number that is neither",
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_told_is_one_line_with_the_place_from_every_reader(
    case: str, reader: Reader, folder: Path
) -> None:
    data, said = BAD[case]
    (folder / "table.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(UserError, match=said) as told:
        reader(folder / "table.csv")
    assert "\n" not in str(told.value) and "table.csv" in str(told.value) and str(told.value).endswith(".")


def as_jsonl(file: Path, columns: dict[str, list]) -> None:
    lines = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def as_parquet(file: Path, columns: dict[str, list]) -> None:
    parquet.write_table(pa.table(columns), file)


def as_csv(file: Path, columns: dict[str, list]) -> None:
    with file.open("w", newline="", errors="surrogateescape") as text:
        csv.writer(text).writerows([list(columns), *zip(*columns.values(), strict=True)])


WRITERS = {"csv": as_csv, "jsonl": as_jsonl, "parquet": as_parquet}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_table_is_read_alike(kind: str, reader: Reader, folder: Path) -> None:
    said: list[dict[str, list]] = [
        {"file_name": list(IMAGES), "label": list(ANSWER.values())},
        {
            "Image": [f" {name}" for name in IMAGES],
            "Class Name": [f"{label}\u00a0" for label in ANSWER.values()],
        },
        {"image": ["1", "2", "3", "4"], "cat": [1, 0, 1, 0], "dog": [0, 1, 0, 1]},
        {"image": list(IMAGES), "cat": [1.0, 0.0] * 2, "dog": [0.0, 1.0] * 2},
    ]
    for columns in said:
        WRITERS[kind](folder / f"table.{kind}", columns)
        assert reader(folder / f"table.{kind}") == ANSWER


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_class_in_a_list_is_that_class_and_several_are_an_error_with_the_line(
    kind: str, reader: Reader, folder: Path
) -> None:
    file = folder / f"table.{kind}"
    WRITERS[kind](file, {"file_name": list(IMAGES), "label": [[label] for label in ANSWER.values()]})
    assert reader(file) == ANSWER
    WRITERS[kind](file, {"file_name": list(IMAGES[:2]), "label": [["cat"], ["cat", "dog"]]})
    with pytest.raises(UserError, match=r"2\.png \((line|row) 2\):? names several classes"):
        reader(file)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", WRITERS)
def test_a_column_that_cannot_be_told_is_asked_for_and_can_be_said(
    kind: str, reader: Reader, folder: Path
) -> None:
    file = folder / f"table.{kind}"
    labels = list(ANSWER.values())
    WRITERS[kind](file, {"photo": list(IMAGES), "site": ["north"] * 4, "Species": labels})
    with pytest.raises(UserError, match=r"names (no )?image.*photo, site, Species"):
        reader(file)
    assert reader(file, {"file_name": "photo", "label": "species"}) == ANSWER
    with pytest.raises(UserError, match=r"no column 'genus'. Choose one of photo, site|names no image"):
        reader(file, {"file_name": "genus", "label": "genus"})
    WRITERS[kind](file, {"image": list(IMAGES), "label": ["x"] * 4, "species": labels})
    assert reader(file, {"label": "species"}) == ANSWER


@pytest.mark.parametrize("reader", READERS)
def test_names_of_files_come_back_byte_for_byte_whatever_the_words_are(
    reader: Reader, tmp_path: Path
) -> None:
    names = [
        "H\udce4her.png",
        "H\udcfcher.png",
        " blank.png",
        "blank.png",
        "new\nline.png",
        "\u00fc \U0001f415.png",
    ]
    photos(tmp_path, *names)
    answers = dict(zip(names, CLASSES * 3, strict=True))
    as_csv(tmp_path / "table.csv", {"file_name": names, "label": list(answers.values())})
    assert reader(tmp_path / "table.csv") == answers


@pytest.mark.parametrize("reader", READERS)
def test_a_windows_table_gives_the_right_names_of_files_and_classes(reader: Reader, tmp_path: Path) -> None:
    birds = {"Gr\u00fcn.png": "H\u00e4her", "2.png": "H\u00fcher", "3.png": "Meise"}
    photos(tmp_path, *birds)
    text = "file_name,label\r\n" + "".join(f"{name},{label}\r\n" for name, label in birds.items())
    (tmp_path / "table.csv").write_bytes(text.encode("cp1252"))
    assert reader(tmp_path / "table.csv", classes=tuple(birds.values())) == birds


def notes(text: str | bytes, kind: str = "csv") -> list[str]:
    data = text if isinstance(text, bytes) else text.encode()
    found = tables.read(io.BytesIO(data), "t", kind, tables.Wanted())
    return [one.text for one in found if isinstance(one, tables.Note)]


def test_what_was_odd_is_said_once_with_a_count_and_the_first_place() -> None:
    assert notes(PLAIN) == []
    assert notes("file_name,label\n 1.png,cat\n2.png ,dog \n3.png,\u00a0cat\n") == [
        "2 × blanks around a file name, such as ' 1.png' (line 2): looked for with and without them",
        "2 × blanks around a class name, such as 'dog ' (line 3): left out",
    ]
    assert notes("image,cat,dog\n1,0,1\n") == ["took each of the columns cat, dog for a class"]
    assert notes("photo,species\n1.png,cat\n") == [
        "took file_name from the column 'photo', label from 'species'"
    ]
    assert notes("path,class,category\n1.png,cat,animal\n") == [
        "took label from the column 'class', not from category"
    ]
    assert notes("file_name,label\n1.png,M\u00fccke\n".encode("cp1252")) == [
        "it is no UTF-8 and was read as Windows-1252, such as 'M\u00fccke' (line 2)"
    ]


def test_a_list_of_images_says_what_was_odd_too(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "table.csv").write_text("file_name,label\n1.png, cat\n2.png,cat;dog\n")
    listed(folder / "table.csv")
    assert "1 × blanks around a class name, such as ' cat' (line 2): left out" in caplog.text
    assert "the class 'cat;dog' looks like several" in caplog.text


def test_rows_without_a_one_have_no_class_and_the_others_one_each() -> None:
    data = b"image,cat,dog\n1.png,0,0\n2.png,0,1\n"
    found = list(tables.read(io.BytesIO(data), "t", "csv", tables.Wanted()))
    assert [(one.names, one.label) for one in found[:2]] == [(("1.png",), None), (("2.png",), "dog")]


def test_columns_of_numbers_that_are_not_all_0_and_1_are_no_classes() -> None:
    for text in ("image,width,height\n1.png,1,32\n", "image,cat\n1.png,1\n", "image,size,note\n1.png,1,\n"):
        with pytest.raises(BadTable, match="no header that names labels"):
            list(tables.read(io.BytesIO(text.encode()), "t", "csv", tables.Wanted()))


@pytest.mark.parametrize(
    ("kind", "row"), [("csv", b"1.png,cat\n"), ("jsonl", b'{"file_name": "1.png", "label": "cat"}\n')]
)
def test_rows_are_handed_on_while_the_file_is_read(kind: str, row: bytes) -> None:
    file = io.BytesIO(row * 100_000)
    found = tables.read(file, "t", kind, tables.Wanted())
    assert {one.label for one, _ in zip(found, range(1000), strict=False)} == {"cat"}
    assert file.tell() < 100_000
