"""Lists of images: what they name, what they say of classes, and what is wrong with some."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from vizsla.data import images
from vizsla.data.indexed import IndexedDataset
from vizsla.data.manifest import Manifest
from vizsla.data.remote import Remote
from vizsla.data.sources import source_of
from vizsla.errors import NoImages, NoLabel, Unreachable
from vizsla.models.backbones import load_backbone
from vizsla.models.embed import embed
from vizsla.project import Project
from vizsla.testing import TOY_BACKBONE

ROWS = [("toys/red/000.png", "warm"), ("toys/blue/003.png", "cold"), ("toys/green/001.png", None)]


def as_csv(file: Path, rows: list, header: tuple[str, str] = ("file_name", "label")) -> Path:
    lines = [header, *rows] if header else rows
    file.write_text("".join(f"{name},{label or ''}\n" for name, label in lines), "utf-8")
    return file


def as_jsonl(file: Path, rows: list, header: tuple[str, str] = ("file_name", "label")) -> Path:
    file.write_text("".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows))
    return file


def as_parquet(file: Path, rows: list, header: tuple[str, str] = ("file_name", "label")) -> Path:
    parquet.write_table(pa.table({name: [row[n] for row in rows] for n, name in enumerate(header)}), file)
    return file


WRITERS = {"csv": as_csv, "jsonl": as_jsonl, "parquet": as_parquet}


@pytest.fixture(params=WRITERS)
def listed(request: pytest.FixtureRequest, tmp_path: Path, toys: Path) -> Path:
    return WRITERS[request.param](tmp_path / f"list.{request.param}", ROWS)


def test_a_list_gives_names_classes_and_images_in_every_form(listed: Path, toys: Path) -> None:
    source = source_of(listed)
    assert isinstance(source, Manifest)
    assert source.names() == tuple(sorted(name for name, _ in ROWS))
    assert {name: source.class_of(name) for name, _ in ROWS} == dict(ROWS)
    assert source.read("toys/red/000.png") == (toys / "red" / "000.png").read_bytes()
    assert source.class_names() == ["cold", "warm"]


def test_the_label_column_is_the_truth_of_a_test_set_not_the_folders(tmp_path: Path, toys: Path) -> None:
    file = as_csv(tmp_path / "list.csv", ROWS[:2])
    dataset = IndexedDataset(file, test=True)
    assert dataset.classes == ("cold", "warm")
    assert [(dataset.file_name(i), dataset.classes[dataset.labels[i]]) for i in range(2)] == sorted(ROWS[:2])
    shown = dataset[dataset.index_of("toys/red/000.png")][0]
    assert shown.tobytes() == images.load(toys / "red" / "000.png").tobytes()


def test_an_image_without_a_class_is_named_with_the_column_to_fill(tmp_path: Path, toys: Path) -> None:
    with pytest.raises(NoLabel, match=r"green/001.png has no class in .*list.csv. Fill its column 'label'"):
        IndexedDataset(as_csv(tmp_path / "list.csv", ROWS), test=True)


@pytest.mark.parametrize(
    "header",
    [("filename", "class"), ("File Path", "Class_Name"), ("image", "category"), ("path", "Label"), None],
)
def test_columns_go_by_many_names_or_by_none(header, tmp_path: Path, toys: Path) -> None:
    source = Manifest(as_csv(tmp_path / "list.csv", ROWS, header))
    assert {name: source.class_of(name) for name in source.names()} == dict(ROWS)


def test_absolute_paths_file_urls_and_backslashes_lead_to_the_same_image(tmp_path: Path, toys: Path) -> None:
    red = toys / "red" / "000.png"
    source = Manifest(
        as_csv(
            tmp_path / "list.csv",
            [(red, "a"), ("toys\\blue\\003.png", "b"), ((toys / "green/001.png").as_uri(), "c")],
        )
    )
    assert [
        source.class_of(name) for name in (str(red), "toys/blue/003.png", str(toys / "green/001.png"))
    ] == ["a", "b", "c"]
    assert source.read(str(red)) == red.read_bytes()


def test_a_list_moves_together_with_its_images(tmp_path: Path, toys: Path) -> None:
    as_csv(tmp_path / "list.csv", ROWS)
    shutil.move(toys, tmp_path / "elsewhere" / "toys")
    shutil.move(tmp_path / "list.csv", tmp_path / "elsewhere" / "list.csv")
    assert Manifest(tmp_path / "elsewhere" / "list.csv").read("toys/red/000.png").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "who,what\nx,y\n", r"has no header that names images: who, what. Needed: file_name\|"),
        ("a.csv", "", "a.csv is empty"),
        ("a.csv", "file_name,label\n", "lists no image"),
        ("a.csv", "file_name,label\n,cat\n", "line 2 names no image"),
        ("a.csv", "file_name,label\nx.png,cat\nx.png,dog\n", "says that x.png is cat and dog"),
        ("a.jsonl", '{"file_name": "x.png"}\nnonsense\n', "a.jsonl line 2 is no JSON"),
        ("a.jsonl", '["x.png"]\n', "a.jsonl line 1 is no JSON object"),
        ("a.parquet", "no parquet", "is no Parquet file"),
        ("missing.csv", None, "cannot read .*: No such file"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_in_one_line(
    name: str, content: str | None, said: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises((NoImages, NoLabel), match=said) as told:
        Manifest(tmp_path / name).names()
    assert "\n" not in str(told.value)


def test_a_project_on_a_list_takes_its_labels_and_notices_what_it_adds(tmp_path: Path, toys: Path) -> None:
    file = as_csv(tmp_path / "list.csv", ROWS)
    with Project.open(None, file) as project:
        assert project.address == str(tmp_path / ".vizsla")
        project.change(labels="folders")
        project.add_classes(())
        assert project.scan().added == 3
        assert {label.path: label.label for label in project.store.labels()} == dict(ROWS[:2])
        as_csv(file, [*ROWS[1:], ("toys/red/005.png", "warm")])
        found = project.scan()
        assert (found.added, found.missing) == (1, 1)
    with Project.open(tmp_path / ".vizsla") as again:
        assert again.source.address == str(file)


def test_listed_files_that_are_not_there_are_left_out_of_a_project_and_named_by_an_embedding(
    tmp_path: Path, toys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = as_csv(tmp_path / "list.csv", [*ROWS, ("toys/gone.png", "warm")])
    with Project.open(tmp_path / "project", file) as project:
        assert project.scan().added == 3
    assert "left out 1 images" in caplog.text
    found = embed(IndexedDataset(file, check=False), load_backbone(TOY_BACKBONE))
    assert found.unreadable == {1: "the file cannot be opened"}


def test_a_list_of_urls_is_fetched_once_and_a_dead_host_costs_only_its_own_images(
    tmp_path: Path, web_of: Callable, toys: Path, far: Remote
) -> None:
    alive, dead = web_of(toys), web_of(toys)
    dead.close()
    urls = [f"{alive.url}/red/{n:03}.png" for n in range(3)] + [
        f"{dead.url}/red/{n:03}.png" for n in range(3, 6)
    ]
    source = Manifest(as_csv(tmp_path / "list.csv", [(url, "red") for url in urls]), far)
    dataset = IndexedDataset(source, check=False)
    found = embed(dataset, load_backbone(TOY_BACKBONE))
    assert sorted(dataset.file_name(image) for image in found.ids.tolist()) == urls[:3]
    assert {dataset.file_name(image) for image in found.unreadable} == set(urls[3:])
    assert all("does not answer" in reason for reason in found.unreadable.values())
    assert len(alive.asked) == 3
    assert source.read(urls[0]) == (toys / "red" / "000.png").read_bytes()
    assert len(alive.asked) == 3


def test_where_the_only_host_is_dead_the_work_ends_instead_of_leaving_out_everything(
    tmp_path: Path, web_of: Callable, toys: Path, far: Remote
) -> None:
    web = web_of(toys)
    web.close()
    source = Manifest(as_csv(tmp_path / "list.csv", [(f"{web.url}/red/000.png", "red")]), far)
    with pytest.raises(Unreachable, match=r"127.0.0.1 does not answer .* the same command goes on"):
        source.read(f"{web.url}/red/000.png")
