"""The trainer as a child process, kept alive beside whoever asks for labels. Never loads torch itself."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from vizsla.project import Project
from vizsla.store.overview import TRAINING

_log = logging.getLogger("vizsla")

_LONG_LIFE = 60.0  # seconds after which an end is an accident, no habit
_FIRST_WAIT, _MOST_WAIT = 0.5, 30.0  # seconds before a trainer that ended is started again


@contextmanager
def trainer_beside(project: Project, options: Sequence[str] = ()) -> Iterator[None]:
    """Have a trainer at work while the context lasts. It ends with this process, however that ends.

    Args: options: of `vizsla worker`.
    """
    stop = threading.Event()
    keeper = threading.Thread(target=_keep, args=(project, options, stop), name="vizsla-trainer", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join(5)


def _keep(project: Project, options: Sequence[str], stop: threading.Event) -> None:
    """Start the trainer, and again when it ends: the labels are safe, only the learning has stopped."""
    wait = _FIRST_WAIT
    while not stop.is_set():
        began = time.monotonic()
        child = _start(project, options)
        while child.poll() is None and not stop.is_set():
            stop.wait(0.2)
        if stop.is_set():
            _end(child)
            return
        wait = _FIRST_WAIT if time.monotonic() - began > _LONG_LIFE else min(_MOST_WAIT, 2 * wait)
        _log.warning("the trainer ended with code %s; it is started again.", child.returncode)
        with suppress(Exception):  # a database that restarts, say: the trainer is started again all the same
            _say_so(project, f"the trainer ended with code {child.returncode}; it is started again.")
        stop.wait(wait)


def _say_so(project: Project, what: str) -> None:
    """Show it on the page, unless the trainer that works is another one."""
    with project.store.lead("trainer") as nobody_else:
        if nobody_else:
            project.store.set_setting(TRAINING, {"state": "failed", "error": what})


def _start(project: Project, options: Sequence[str]) -> subprocess.Popen[bytes]:
    # Its address by the environment: others can read a command line, and a URL may hold a password.
    # OpenMP's idle threads spin by default and steal the cores from the page.
    own = {
        "VIZSLA_PROJECT": project.address,
        "VIZSLA_IMAGES": project.source.address,
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "vizsla", "worker", "--with-parent", *options],
        stdin=subprocess.PIPE,
        env=os.environ | own,
        # Ctrl-C is for this process, which ends the trainer by itself.
        start_new_session=os.name == "posix",
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()  # upon which it leaves
    try:
        child.wait(2)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


# what the trainer itself does before it loads torch, which takes seconds


def end_with_parent() -> None:
    """Leave at once when the standard input closes, as it does when the server that started us is gone."""

    def watch() -> None:
        with suppress(OSError, ValueError):
            while sys.stdin.buffer.read(1024):
                pass
        os._exit(0)  # nothing is lost: the trainer keeps nothing that cannot be found again

    threading.Thread(target=watch, daemon=True).start()


def be_kind() -> None:
    """Leave the processor to the page where both want it."""
    with suppress(OSError, AttributeError):
        os.nice(10)
