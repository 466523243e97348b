"""Many rows: the work grows as the rows do, one transaction takes them in, and few are held at a time."""

from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, event

from vizsla.interop import export_labels, import_labels, importers
from vizsla.store import ImageFile, Store

if TYPE_CHECKING:
    from tests.interop.conftest import Made

    Make = Callable[..., Made]

FEW, MANY = 500, 2000
FORMS = [
    ("coco", None),
    ("csv", None),
    ("cvat", None),
    ("fiftyone", None),
    ("imagefolder", "csv"),
    ("imagefolder", "jsonl"),
    ("imagefolder", "parquet"),
    ("jsonl", None),
    ("label-studio", None),
    ("parquet", None),
]


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Store]]:
    """Projects of few and of many labelled images. Only to be read."""
    folder = tmp_path_factory.mktemp("sizes")
    made = {n: empty(folder / str(n), n) for n in (FEW, MANY)}
    for n, store in made.items():
        table = "".join(f"folder {k % 10}/{k}.jpg,class {k % 7}\n" for k in range(n))
        (folder / "x.csv").write_text("path,label\n" + table)
        assert import_labels(store, "csv", folder / "x.csv").taken == n
    yield made
    for store in made.values():
        store.close()


def empty(home: Path, n: int) -> Store:
    store = Store.open(home)
    store.add_images(ImageFile(f"folder {k % 10}/{k}.jpg", k, k) for k in range(n))
    return store


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Calls of Python functions in this thread; statements and commits of all databases."""
    counts: Counter[str] = Counter()

    def called(frame: Any, kind: str, argument: Any) -> None:
        counts["calls"] += kind == "call"

    def executed(*_: Any) -> None:
        counts["statements"] += 1

    def committed(_: Any) -> None:
        counts["commits"] += 1

    event.listen(Engine, "before_cursor_execute", executed)
    event.listen(Engine, "commit", committed)
    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield counts
    finally:
        sys.setprofile(before)
        event.remove(Engine, "before_cursor_execute", executed)
        event.remove(Engine, "commit", committed)


@pytest.mark.parametrize(("format", "form"), FORMS)
def test_the_work_grows_as_the_rows_do_and_an_import_is_one_transaction(
    format: str, form: str | None, sizes: dict[int, Store], tmp_path: Path
) -> None:
    out, taken = {}, {}
    for n, store in sizes.items():
        with counted() as out[n]:
            export_labels(store, tmp_path, format, tmp_path / f"out{n}", form=form, labels_only=True)
        with empty(tmp_path / f"project{n}", n) as fresh, counted() as taken[n]:
            assert import_labels(fresh, format, tmp_path / f"out{n}").taken == n
        assert (out[n]["commits"], taken[n]["commits"]) == (0, 1)
    for counts in (out, taken):
        for kind in ("calls", "statements"):
            assert counts[MANY][kind] <= 1.1 * MANY / FEW * counts[FEW][kind]


@pytest.mark.parametrize(("format", "form"), [one for one in FORMS if one[0] != "coco"])  # it joins lists
def test_reading_many_rows_holds_few_of_them(
    format: str, form: str | None, sizes: dict[int, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vizsla.data.tables import parquet
    from vizsla.interop import jsonstream

    monkeypatch.setattr(parquet, "_AT_ONCE", 100)
    monkeypatch.setattr(jsonstream, "_BYTES", 1 << 12)
    peaks = {}
    for n, store in sizes.items():
        export_labels(store, tmp_path, format, tmp_path / f"out{n}", form=form, labels_only=True)
        tracemalloc.start()
        assert sum(1 for _ in importers[format](tmp_path / f"out{n}")) == n
        peaks[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[MANY] < 1.3 * peaks[FEW]
