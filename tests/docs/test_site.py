"""The documentation builds without a warning, asks nobody else for anything, and its reference is the program's own."""

from __future__ import annotations

import functools
import html
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser

import vizsla
from vizsla.cli import cli
from vizsla.interop import formats, importers

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r'<(?:link|script|img|iframe|source)\b[^>]*?(?:href|src)="(https?:)?//', re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as `$VIZSLA_SITE`, where `scripts/test` has just built it, or as it is built now."""
    if "VIZSLA_SITE" in os.environ:
        return Path(os.environ["VIZSLA_SITE"])
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [ROOT / "scripts" / "docs", folder], capture_output=True, text=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0 and not done.stdout and not done.stderr, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text("utf-8")))


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path):
    """With the settings and scripts of ours, on three pages."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    menu = re.compile(r"^nav:\n(?:[ -].*\n)+", re.MULTILINE)
    few = "nav:\n  - Strategies: [index.md]\n  - Records: [errata.md]\n"
    settings, menus = menu.subn(few, (ROOT / "mkdocs.yml").read_text("utf-8"))
    assert menus == 1
    (tmp_path / "mkdocs.yml").write_text(settings, "utf-8")
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "vizsla.css", tmp_path / "docs")
    for name in ("docs/index.md", "CHANGELOG.md"):
        (tmp_path / name).write_text("# A page\n", "utf-8")
    (tmp_path / "docs" / "errata.md").write_text(
        "# Errata\n\n[Gone](../benchmarks/gone/README.md)\n", "utf-8"
    )
    done = subprocess.run(
        [tmp_path / "scripts" / "docs"], capture_output=True, text=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 1
    assert "'errata.md' contains a link '../benchmarks/gone/README.md'" in done.stderr
    assert done.stderr.count("WARNING") == 1


def test_every_page_of_the_folder_is_in_the_menu(site: Path):
    menu = (site / "index.html").read_text("utf-8")
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")]
    assert len(pages) > 40
    for page in pages:
        built = page.with_name("index.html" if page.stem in ("README", "index") else f"{page.stem}.html")
        assert f'href="{built.as_posix()}"' in menu, f"{page} is not in the menu of mkdocs.yml"


def test_no_page_names_a_style_script_or_picture_of_another_site(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    assert not [page for page in pages if LOADED.search(page.read_text("utf-8"))]


def test_a_browser_asks_nobody_else_finds_pages_by_search_and_nothing_is_wider_than_a_phone(
    address: str, browser: Browser
):
    context = browser.new_context(viewport={"width": 375, "height": 740})
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name in (
        "index",
        "label",
        "comparing",
        "python-api",
        "http-api",
        "cli",
        "strategies/index",
        "faq",
    ):
        page.goto(f"{address}/{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{address}/index.html")
    page.locator(".md-search__input").fill("never-lose gate")
    page.locator(".md-search-result__link[href*=comparing]").first.wait_for()
    context.close()
    assert not errors
    assert asked and not [url for url in asked if not url.startswith(address)]


def test_the_reference_of_the_commands_is_their_help(
    site: Path, vizsla_here: Callable[..., subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "88")  # click leaves two of them free
    shown = text_of(site / "cli.html")
    for name in cli.commands:
        assert vizsla_here(name, "--help").stdout.strip() in shown, name


def test_the_reference_of_the_calls_and_formats_has_them_all(site: Path):
    calls = text_of(site / "http-api.html")
    assert all(
        call in calls for call in ("POST /api/queue", "POST /api/labels/batch", "GET /api/export/{format}")
    )
    assert all(field in calls for field in ("lease_id", "suggestion_shown", "labels_to_next"))
    told = text_of(site / "formats.html")
    assert all(name in told for name in [*formats, *importers])


def test_the_reference_of_python_gives_arguments_one_by_one(site: Path):
    page = (site / "python-api.html").read_text("utf-8")
    assert (
        "<li><code>labelled</code>: row numbers that are labelled already, or a mask of all rows.</li>"
        in page
    )
    assert "<li><code>labels</code>: their classes, by name or number, in the same order.</li>" in page
    assert (
        "<li><code>check</code>: decode every file once, now, and leave out the unreadable ones.</li>" in page
    )
    assert set(vizsla.__all__) - {"functional", "strategies"} <= set(re.findall(r">(\w+)</span>", page))
    assert all(f"vizsla.{name}" in page for name in ("functional", "strategies"))
    assert {"bald", "margin", "suspects", "check_strategy"} <= set(re.findall(r">(\w+)</span>", page))
