"""What the documentation tells people to type runs, and says what it is said to say.

A page is one session in a folder with `photos`, `pets`, `pets-test` and `labels.csv`. In order of the page:

- ```console: lines after `$ ` are run; what follows must be the whole output, white space aside, where … stands for
  anything. After `<!-- numbers vary -->` any number will do for a number. An output that begins with `vizsla: ` is a
  mistake's.
- ```sh: each line is run and must succeed.
- ```python: executed; a ```text directly after it is what it prints. One page, one namespace. After `<!-- theirs -->`
  it runs by itself in `.venv-rivals`, where the other libraries are.
- any block with a title is a file of that name.

Servers (`vizsla label`, `serve`, `worker`) run until the page ends; the address they name takes the place of the one
that the page shows. A few commands run elsewhere, and are listed here with the reason.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from vizsla.strategy.base import strategies
from vizsla.testing import toy_images

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RUN_ELSEWHERE = {
    r"python3 -m venv .*": "the README's first command, run by whoever installs Vizsla",
    r"pip install .*": "extras are checked against pyproject.toml below",
    r"scripts/(test|campaign).*": "the tests themselves, and what takes hours",
    r"vizsla demo\b": "two minutes: tests/test_cli.py",
    r"vizsla compare pets --(strategies random,margin,auto|long-tail 10) ": "the README's, ten seeds to 300 labels",
    r"vizsla \w+ (s3|gs|https|torchvision|hf):.*|vizsla select .* s3://.*": "far away: tests/sources",
    r"docker .*": "there is no Docker where tests run",
    r"SSRF_PROTECTION_ENABLED.*|curl -H .*": "Label Studio itself: tests/web/test_label_studio_real.py",
    r".* \| jq .*": "jq is the reader's: tests/test_cli_json.py has the command",
    r".*--engine ray.*": "a cluster of several machines: tests/engine",
    r".*vizsla completion .*": "writes into a shell's own files: tests/test_cli_completion.py",
}
KINDS = ("console", "sh", "python", "text")
FENCE = re.compile(
    r"(?:^<!-- (?P<note>[a-z ]+) -->\n+)?"
    r"^(?P<indent> *)```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<body>.*?)"
    r"^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
NUMBER = re.compile(r"\d[\d,.]*")
ADDRESS = "http://localhost:8050"
SERVERS = ("label", "serve", "worker")


@dataclass(frozen=True)
class Block:
    kind: str
    body: str
    title: str
    note: str
    line: int
    follows: bool
    """Nothing but empty lines lies between it and the block before."""


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    found, end = [], 0
    for match in FENCE.finditer(text):
        body = textwrap.dedent(match["body"])
        line = text.count("\n", 0, match.start("body"))
        found.append(
            Block(
                match["kind"],
                body,
                match["title"] or "",
                match["note"] or "",
                line,
                not text[end : match.start()].strip(),
            )
        )
        end = match.end()
    return [block for block in found if block.kind in KINDS or block.title]


PAGES = sorted(page for page in DOCS.glob("*.md") if any(block.kind != "text" for block in blocks(page)))


def pattern(expected: str, numbers_vary: bool) -> re.Pattern[str]:
    """What output fits: literally, but for … and, where they vary, numbers."""
    parts = []
    for part in expected.rstrip().split("…"):
        pieces = NUMBER.split(part) if numbers_vary else [part]
        parts.append(NUMBER.pattern.join(re.escape(piece) for piece in pieces))
    return re.compile(".*?".join(parts), re.DOTALL)


def tidy(output: str) -> str:
    """White space aside: where a sentence is broken depends on the length of a folder's name."""
    return " ".join(output.split())


@dataclass
class Session:
    """One page's commands, in one folder."""

    vizsla: Callable[..., subprocess.CompletedProcess[str]]
    servers: list[subprocess.Popen[str]] = field(default_factory=list)
    names: dict[str, object] = field(default_factory=dict)
    address: str = ADDRESS

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command as typed: ours in this process where the shell has nothing to do, others by bash."""
        words = shlex.split(command, comments=True)
        bare = re.sub(r"\s#.*", "", command)
        if words[0] == "vizsla" and words[1] in SERVERS and "--terminal" not in words:
            return self.serve(words)
        if words[0] == "vizsla" and not re.search(r"[|><&;$]", bare):
            return self.vizsla(*words[1:])
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace(ADDRESS, self.address)],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=300,
            env=os.environ | {"PATH": path},
        )

    def serve(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Start a server and wait for its last line, which says how to end it or how to get in."""
        running = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONUNBUFFERED": "1", "BROWSER": "true"},
        )
        self.servers.append(running)
        assert running.stdout is not None
        waiting = threading.Timer(60, running.kill)
        waiting.start()
        said = []
        for line in running.stdout:
            said.append(line)
            if "Ctrl-C ends" in line:
                break
        waiting.cancel()
        output = "".join(said)
        if found := re.search(r"http://localhost:\d+", output):
            self.address = found[0]
        return subprocess.CompletedProcess(
            words, running.poll() or 0, output.replace(self.address, ADDRESS), ""
        )

    def execute(self, code: str, where: str) -> str:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(code.replace(ADDRESS, self.address), where, "exec"), self.names)
        return printed.getvalue()

    def theirs(self, code: str, where: str) -> str:
        """What a program prints in the environment of the other libraries."""
        python = next((ROOT / ".venv-rivals").glob("*/python"), None)
        assert python is not None, "there is no .venv-rivals. Run: scripts/peers rivals"
        own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [python, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=300,
            env=own,
        )
        assert done.returncode == 0, f"{where}: {done.stderr}"
        return done.stdout

    def close(self) -> None:
        for server in self.servers:
            server.kill()
            server.wait()
            if server.stdout is not None:
                server.stdout.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pages find: photos of pets without labels, some labels for them, and class folders."""
    folder = tmp_path_factory.mktemp("world")
    kinds = ("cat", "dog", "rabbit")
    toy_images(folder / "pets", classes=kinds, per_class=14, side=48)
    toy_images(folder / "pets-test", classes=kinds, per_class=6, side=48, seed=1)
    made = toy_images(folder / "made", classes=kinds, per_class=14, side=48, seed=2)
    (folder / "photos").mkdir()
    rows = ["file_name,label"]
    for number, file in enumerate(sorted(made.rglob("*.png"), key=lambda file: (file.name, file.parent))):
        rows.append(f"IMG_{number:04}.png,{file.parent.name}")
        file.rename(folder / "photos" / f"IMG_{number:04}.png")
    shutil.rmtree(made)
    (folder / "labels.csv").write_text("\n".join(rows[:31]) + "\n")
    rng = np.random.default_rng(0)
    np.save(folder / "H.npy", rng.normal(size=(500, 16)).astype(np.float32))
    np.save(folder / "P.npy", rng.dirichlet(np.ones(4), 500).astype(np.float32))
    return folder


@pytest.fixture
def session(
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    vizsla_here: Callable[..., subprocess.CompletedProcess[str]],
) -> Iterator[Session]:
    monkeypatch.chdir(shutil.copytree(world, tmp_path / "here"))
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.delitem(sys.modules, "digits", raising=False)
    monkeypatch.setattr(strategies, "_entries", dict(strategies._entries))  # a page may add one of its own
    opened = Session(vizsla_here)
    yield opened
    opened.close()


def elsewhere(command: str) -> bool:
    return any(re.match(expression, command) for expression in RUN_ELSEWHERE)


def spoken(block: Block) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output shown."""
    _, *parts = re.split(r"^\$ ", block.body, flags=re.MULTILINE)
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def check_console(session: Session, block: Block, where: str) -> None:
    for command, expected in spoken(block):
        if elsewhere(command):
            continue
        done = session.run(command)
        mistake = expected.startswith("vizsla: ")
        assert (done.returncode != 0) == mistake, f"{where}: {command}\n{done.stdout}{done.stderr}"
        output = tidy(done.stderr if mistake else done.stdout)
        fits = pattern(tidy(expected), block.note == "numbers vary").fullmatch(output)
        assert fits, f"{where}: {command}\n--- the page says\n{expected}\n--- it says\n{output}"


def check_shell(session: Session, block: Block, where: str) -> None:
    for command in block.body.splitlines():
        if command and not command.startswith("#") and not elsewhere(command):
            done = session.run(command)
            assert done.returncode == 0, f"{where}: {command}\n{done.stdout}{done.stderr}"


def check(session: Session, found: list[Block], page: str) -> None:
    """Run a page's blocks in their order."""
    printed: str | None = None  # by the block before, if that was Python
    for block in found:
        where = f"{page}:{block.line}"
        before, printed = printed, None
        if block.title:
            Path(block.title).write_text(block.body, "utf-8")
        elif block.kind == "console":
            check_console(session, block, where)
        elif block.kind == "sh":
            check_shell(session, block, where)
        elif block.kind == "python":
            run = session.theirs if block.note == "theirs" else session.execute
            printed = run(block.body, where)
        elif block.follows and before is not None:
            expected = pattern(tidy(block.body), block.note == "numbers vary")
            assert expected.fullmatch(tidy(before)), f"{where}: it prints\n{before}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_everything_on_a_page_runs_and_says_what_is_shown(page: Path, session: Session):
    check(session, blocks(page), page.name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("```console\n$ echo yes\nno\n```\n", "the page says"),
        ("```console\n$ echo yes\n```\n", "the page says"),
        ("```console\n$ exit 3\n```\n", "exit 3"),
        ("```console\n$ vizsla select --strategy bold -n 3\n3 rows\n```\n", "Did you mean 'bald'"),
        ("```sh\ntrue\nfalse\n```\n", "page.md:1: false"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "it prints"),
        ("```python\npass\n```\n\n```text\nsomething\n```\n", "it prints"),
    ],
)
def test_a_page_that_is_wrong_fails(page: str, complaint: str, session: Session):
    Path("page.md").write_text(page, "utf-8")
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check(session, blocks(Path("page.md")), "page.md")


@pytest.mark.slow
def test_the_commands_of_the_readme_run_once_somebody_has_labelled(session: Session):
    session.run("vizsla import csv labels.csv --project photos/.vizsla --images photos")
    session.run("vizsla train --project photos/.vizsla")
    shutil.copytree("pets-test/cat", "more-photos")
    shell = [block for block in blocks(ROOT / "README.md") if block.kind == "sh"]
    assert len(shell) == 3
    for block in shell:
        check_shell(session, block, f"README.md:{block.line}")


def test_extras_that_pages_name_are_there():
    known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    named = re.findall(r"vizsla\[([\w,-]+)\]", "".join(page.read_text("utf-8") for page in pages))
    assert {name for names in named for name in names.split(",")} <= set(known)


def test_a_pattern_takes_other_numbers_only_where_they_vary():
    assert pattern("model 1, from 40 labels", True).fullmatch("model 12, from 1,040 labels")
    assert not pattern("model 1, from 40 labels", True).fullmatch("model one, from 40 labels")
    assert not pattern("model 1, from 40 labels", False).fullmatch("model 2, from 40 labels")
    assert pattern("kept in …/x done", False).fullmatch("kept in /a/b/x done")
    assert not pattern("kept in …/x done", False).fullmatch("kept in /a/b/x done and more")
