"""Each strategy has a page whose example runs, and the table of them all is that of the registry."""

from __future__ import annotations

import re
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import vizsla

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "strategies"
PAGES = sorted(page for page in DOCS.glob("*.md") if page.name != "README.md")
HEADINGS = ["When to use it", "When not", "Formula", "Cost", "What it reads", "Example", "Source"]
OPTIONS = {"pool_size.md"}
BATCH = 5


def load_script() -> ModuleType:
    loader = SourceFileLoader("strategy_table", str(ROOT / "scripts" / "strategy-table"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)  # no scripts/strategy-tablec
        loader.exec_module(module)
    return module


TABLE = load_script()
NAMES = [strategy.name for strategy in TABLE.ours()]


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_has_a_page_that_names_it(name: str):
    page = DOCS / TABLE.page_of(name)
    assert page.is_file(), f"strategy {name!r} has no page {page.relative_to(ROOT)}"
    assert re.search(rf"\b{name}\b", page.read_text("utf-8"))


def test_every_page_is_of_a_strategy_or_of_an_option():
    assert {page.name for page in PAGES} - OPTIONS == {TABLE.page_of(name) for name in NAMES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_name_as_title_and_all_headings_in_order(page: Path):
    text = page.read_text("utf-8")
    assert text.startswith(f"# {page.stem}")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_example_of_a_page_chooses_unlabelled_images_by_its_strategy(page: Path):
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        known = arrays()
        exec(compile(block, str(page), "exec"), known)
        rows = known["rows"]
        assert len(set(rows.tolist())) == BATCH
        assert not set(rows.tolist()) & set(known["labelled"].tolist())
        assert page.stem in block


@pytest.mark.parametrize("page", [*PAGES, DOCS / "README.md"], ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_table_is_that_of_the_registry():
    text = (DOCS / "README.md").read_text("utf-8")
    assert TABLE.rendered(text) == text, "run scripts/strategy-table"
    assert re.findall(r"^\| \[(\w+)\]", text, re.MULTILINE) == sorted(NAMES)


def test_a_stale_table_is_told_with_its_mend_and_writing_it_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    page = tmp_path / "README.md"
    fresh = (DOCS / "README.md").read_text("utf-8")
    page.write_text(fresh.replace("| [margin]", "| [marginal]"), encoding="utf-8")
    monkeypatch.setattr(TABLE, "PAGE", page)
    assert run(["--check"], monkeypatch) == 1
    assert capsys.readouterr().out.endswith("run scripts/strategy-table\n")
    assert run([], monkeypatch) == 0
    assert page.read_text("utf-8") == fresh
    assert run(["--check"], monkeypatch) == 0


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["strategy-table", *arguments])
    return int(TABLE.main())


def arrays() -> dict[str, object]:
    """60 images of three classes, of which 9 are labelled; what the examples take as given."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    embeddings = rng.normal(size=(60, 8)) + 3 * np.eye(3, 8)[labels]
    draws = np.exp(rng.normal(size=(60, 4, 3)) + 2 * np.eye(3)[labels][:, None])
    draws /= draws.sum(axis=2, keepdims=True)
    labelled = np.array([3, 4, 5, 23, 24, 25, 43, 44, 45])
    return {
        "vizsla": vizsla,
        "np": np,
        "embeddings": embeddings,
        "draws": draws,
        "probs": draws.mean(axis=1),
        "labelled": labelled,
        "labels": labels[labelled],
    }
