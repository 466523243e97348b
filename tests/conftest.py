"""What all tests share: a cache of their own, the real dogs, toy images, projects on real databases and real
servers, and no silent skips in CI."""

from __future__ import annotations

import os

# Before numpy and torch load: tests share the cores, and there several threads on small arrays are many times
# slower than one; idle ones must not spin either.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests import preloaded
from tests import s3 as object_storage
from tests.postgres import Postgres, programs, run_sql
from xdist.scheduler import LoadFileScheduling

from vizsla.cli import main
from vizsla.project import Project
from vizsla.store import Store
from vizsla.store.schema import metadata
from vizsla.testing import TOY_BACKBONE, toy_images

if TYPE_CHECKING:
    from playwright.sync_api import Browser

QUICK_HAS_NONE = frozenset(
    {"browser", "postgres", "postgres_server", "ray_engine", "s3_server", "serve", "vizsla", "websites"}
)
"""Fixtures of tests that need a browser, a database server, Ray, or processes of their own."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick", action="store_true", help="only what needs no browser, server, Ray or process"
    )
    parser.addoption("--full", action="store_true", help="the runs of full size too")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: a run of full size, left out unless --full is given")
    config.addinivalue_line(
        "markers", "slow: left out where --quick is given: it starts processes, or takes seconds"
    )
    if config.getoption("--quick"):
        preloaded.refuse("it is no quick test: mark it slow")
        return
    if config.option.collectonly or sys.platform != "linux":
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells have it for what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = tempfile.mkdtemp(prefix="vizsla-tests-")
        os.environ[preloaded.ADDRESS] = f"{folder}/preloaded"
        process = preloaded.start(os.environ[preloaded.ADDRESS])
        config.add_cleanup(lambda: (process.communicate(), shutil.rmtree(folder, ignore_errors=True)))
    preloaded.use(os.environ[preloaded.ADDRESS])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    quick, full = config.getoption("--quick"), config.getoption("--full")

    def left_out(item: pytest.Item) -> bool:
        needs = QUICK_HAS_NONE.intersection(getattr(item, "fixturenames", ()))
        slow = "postgresql" in item.keywords or item.get_closest_marker("slow") or needs
        large = item.get_closest_marker("full")
        return bool((large and not full) or (quick and (slow or large)))

    gone = [item for item in items if left_out(item)]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in set(gone)]


FINE_TO_SKIP = ("VIZSLA_DATA is not set", "root", "Windows", "POSIX", "Linux")
"""Reasons that are no missing component: in CI any other skip is a failure."""


class _Shared(LoadFileScheduling):
    """Tests of one file share a process; those of the engines do, and one Ray cluster, slow to start."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "tests/engine" if file.startswith("tests/engine/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    return _Shared(config, log)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for this run only, so that tests neither see nor fill the person's own.

    The workers of one run share it, as processes of one person do.
    """
    here = tmp_path_factory.getbasetemp()
    folder = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIZSLA_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def real_dogs() -> Path:
    """Ten dog breeds in the seed's layout, `train/` and `test/`."""
    if "VIZSLA_DATA" not in os.environ:
        pytest.skip("VIZSLA_DATA is not set: it names a folder with real images, dogs/{train,test}")
    folder = Path(os.environ["VIZSLA_DATA"]) / "dogs"
    assert folder.is_dir(), f"VIZSLA_DATA is set, but there is no {folder}"
    return folder


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """Three classes of twelve small one-colour images."""
    return toy_images(tmp_path / "toys")


@pytest.fixture(scope="session")
def sixty_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat folder of 60 photos of three classes; the file name says which. Only to be read."""
    made, flat = tmp_path_factory.mktemp("toys"), tmp_path_factory.mktemp("photos")
    for number, file in enumerate(sorted(toy_images(made, per_class=20).rglob("*.png"))):
        file.rename(flat / f"{number:03}-{file.parent.name}.png")
    return flat


@pytest.fixture
def photos(sixty_photos: Path, tmp_path: Path) -> Path:
    """The same for one test, which may do with them what it likes."""
    return Path(shutil.copytree(sixty_photos, tmp_path / "photos"))


@pytest.fixture
def breeds(tmp_path: Path) -> Path:
    """Class folders of three classes with 100 toys each."""
    return toy_images(tmp_path / "breeds", per_class=100)


@pytest.fixture
def brittle(tmp_path: Path) -> tuple[str, Path]:
    """Name of a backbone that crashes while a file is there, and that file."""
    crash = tmp_path / "crash"
    (tmp_path / "brittle.py").write_text(
        textwrap.dedent(f"""
        from pathlib import Path
        from vizsla.testing import ToyNetwork, toy_backbone

        class Brittle(ToyNetwork):
            def forward(self, pixels):
                if Path({str(crash)!r}).exists():
                    raise RuntimeError("the network caught fire")
                return super().forward(pixels)

        def make():
            return Brittle(), toy_backbone()[1]
        """)
    )
    return f"module:{tmp_path / 'brittle.py'}:make", crash


@pytest.fixture
def project(tmp_path: Path, photos: Path) -> Iterator[Project]:
    """Sixty photos, three classes, nothing labelled, scanned."""
    with Project.open(tmp_path / "project", photos) as opened:
        opened.change(backbone=TOY_BACKBONE)
        opened.add_classes(["blue", "green", "red"])
        opened.scan()
        yield opened


# the command line


Vizsla = Callable[..., subprocess.CompletedProcess[str]]


def vizsla(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """`vizsla …` as a process of its own."""
    command = [sys.executable, "-m", "vizsla", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300, **options)


@pytest.fixture(name="vizsla")
def vizsla_fixture() -> Vizsla:
    return vizsla


@pytest.fixture
def vizsla_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vizsla:
    """`vizsla …` in this process: all but the start of Python, and seconds quicker where torch is loaded."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = ["vizsla", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        said, complained = capsys.readouterr()
        return subprocess.CompletedProcess(command, left.value.code or 0, said, complained)

    return run


# databases


NOTHING = ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A PostgreSQL server; whoever stops it starts it again."""
    assert programs() is not None, "PostgreSQL is not installed. Run: apt-get install postgresql"
    with Postgres() as running:
        yield running


@pytest.fixture(scope="session")
def postgres(postgres_server: Postgres) -> str:
    """The URL of its database."""
    return postgres_server.address


@pytest.fixture(params=["sqlite", "postgresql"])
def new_address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a project may be opened that does not exist yet."""
    if request.param == "sqlite":
        yield str(tmp_path / "project")
        return
    server: str = request.getfixturevalue("postgres")
    run_sql(server, *NOTHING)
    yield server
    run_sql(server, *NOTHING)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty project."""
    if request.param == "sqlite":
        return str(tmp_path / "project")
    server: str = request.getfixturevalue("postgres")
    Store.open(server).close()
    run_sql(server, f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY CASCADE")
    return server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3 server; yields its URL. This process and those it starts from now on talk to it."""
    with object_storage.served(tmp_path_factory.mktemp("moto") / "log") as url:
        yield url


@pytest.fixture(scope="session")
def s3(s3_server: str) -> object_storage.S3:
    return object_storage.S3(s3_server)


# servers


class Server:
    """A real `vizsla label` or `serve` in a process of its own."""

    def __init__(self, *arguments: object, env: dict[str, str] | None = None) -> None:
        self.arguments = [str(argument) for argument in arguments]
        self.env = env or {}
        self.said: list[str] = []
        self.start()

    def start(self, port: int = 0) -> None:
        """Start, and wait until it answers."""
        command = [sys.executable, "-m", "vizsla", *self.arguments, "--port", str(port)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | self.env,
        )
        found = threading.Event()
        self._listener = threading.Thread(target=self._listen, args=(self.process, found), daemon=True)
        self._listener.start()
        if not found.wait(60):
            self.kill()
            raise AssertionError(f"the server said nothing of an address: {self.said}")
        self.url = next(url for line in reversed(self.said) for url in re.findall(r'http://[^ "]+', line))

    def _listen(self, process: subprocess.Popen[str], found: threading.Event) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.said.append(line.rstrip())
                if "http://" in line:
                    found.set()

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])

    def kill(self) -> None:
        """As a power cut would: kill −9."""
        self.process.kill()
        self.process.wait()
        self._listener.join(10)

    def restart(self) -> None:
        """Start it again where it was."""
        self.start(self.port)

    def stop(self) -> int:
        """As Ctrl-C would."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(15)
        finally:
            self.kill()

    def get(self, path: str) -> bytes:
        """What it answers to a stranger."""
        with urllib.request.urlopen(self.url.rstrip("/") + path, timeout=30) as answer:
            content: bytes = answer.read()
            return content


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers that end with the test: `serve(images, …)` with the toy backbone set."""
    running: list[Server] = []

    def start(images: Path, *options: object, project: object = None, command: str = "label") -> Server:
        where = tmp_path / "project" if project is None else project
        more = ["--no-browser"] if command == "label" else []
        backbone = [] if "--backbone" in options else ["--backbone", TOY_BACKBONE]
        server = Server(command, images, "--project", where, *more, *backbone, *options)
        running.append(server)
        return server

    yield start
    for server in running:
        server.kill()


class Website:
    """A web server that answers as told, and remembers what was asked with which credentials."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.replies: dict[str, tuple[int, dict[str, str]]] = {}
        """Other answers than 200, by path: status and headers."""
        self.asked: list[tuple[str, str | None]] = []
        site = self

        class Asked(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers.get("Authorization")))
                status, headers = site.replies.get(self.path, (200 if self.path in site.pages else 404, {}))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(site.pages.get(self.path, b""))

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def websites() -> Iterator[Callable[[], Website]]:
    """Starts web servers that end with the test."""
    running: list[Website] = []

    def start() -> Website:
        running.append(Website())
        return running[-1]

    yield start
    for site in running:
        site.close()


def wait_until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for something to come true; fail if it does not."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"still not true after {seconds} s"
        time.sleep(0.05)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[..., None]:
    return wait_until


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(fine in reason for fine in FINE_TO_SKIP):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI, where nothing may be missing: {reason}"
    return report


CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a screen; Playwright lets a process have one."""
    program = CHROMIUM if Path(CHROMIUM).exists() else shutil.which("chromium")
    assert program is not None, "Chromium is not installed. Run: apt-get install chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=program,
            args=["--no-sandbox"] if os.geteuid() == 0 else [],
        )
        yield opened
        opened.close()
