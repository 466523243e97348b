"""Real web servers on loopback, and the images that tests put there."""

from __future__ import annotations

import functools
import http.server
import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vizsla.data import remote
from vizsla.data.kept import Kept
from vizsla.data.remote import Remote
from vizsla.testing import toy_images


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a hundredth of the time before asking again."""
    monkeypatch.setattr(remote, "_FIRST_WAIT", 0.005)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """A cache of this test alone."""
    return Kept(tmp_path / "kept", limit=10**9)


@pytest.fixture
def far(kept: Kept) -> Remote:
    return Remote(kept)


def png(colour: object = "red", side: int = 8) -> bytes:
    """A small image file."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG")  # type: ignore[arg-type]
    return file.getvalue()


@pytest.fixture(name="png")
def png_fixture() -> Callable[..., bytes]:
    return png


# http


class Web:
    """A folder behind a real HTTP server, which counts what is asked and fails when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.faults: list[str] = []
        """What happens to the next requests for images: nothing, `drop`, `cut` or a status."""
        self.lost_pages: set[str] = set()
        """Pages of links for which the connection is dropped."""
        self.forbidden_pages: set[str] = set()
        """Pages of links that nobody may see."""
        handler = functools.partial(_Handler, self, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, web: Web, *args: Any, **options: Any) -> None:
        self.web = web
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        if "." not in self.path.rpartition("/")[2]:  # a page of links
            if self.path.strip("/") in self.web.lost_pages:
                self.close_connection = True
                return None
            if self.path.strip("/") in self.web.forbidden_pages:
                return self.send_error(403)
            return super().do_GET()
        self.web.asked.append(self.path)
        fault = self.web.faults.pop(0) if self.web.faults else ""
        if fault == "drop":
            self.close_connection = True
            return None
        if fault == "cut":  # half of what was promised
            content = (self.web.folder / self.path.lstrip("/")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        if fault:
            return self.send_error(int(fault))
        return super().do_GET()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def web_of() -> Iterator[Callable[[Path], Web]]:
    """Puts folders behind web servers."""
    opened: list[Web] = []

    def serve(folder: Path) -> Web:
        opened.append(Web(folder))
        return opened[-1]

    yield serve
    for web in opened:
        web.close()


@pytest.fixture
def web(tmp_path: Path, web_of: Callable[[Path], Web]) -> Web:
    """Six toys of each of three colours, in class folders."""
    return web_of(toy_images(tmp_path / "web", per_class=6))
