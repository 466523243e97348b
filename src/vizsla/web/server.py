"""Serving: a port, uvicorn, the trainer as a child process, and a browser where there is one."""

from __future__ import annotations

import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import uvicorn
from fastapi import FastAPI

from vizsla.companion import trainer_beside
from vizsla.errors import BadOption
from vizsla.project import Project
from vizsla.web.app import create_app
from vizsla.web.door import Door
from vizsla.web.watch import Watch

PORT = 8050
_NEXT_PORTS = 20  # tried when nobody asked for a certain port


def bind(host: str, port: int | None) -> socket.socket:
    """A listening socket on that port; without one, on the first free port from 8050 on.

    Raises: BadOption where the port is taken or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in [port] if port is not None else [*range(PORT, PORT + _NEXT_PORTS), 0]:
        # Named as TCP, or asyncio leaves Nagle's algorithm on and every answer takes 40 ms longer.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if os.name == "posix":  # on Windows this would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(128)
            return listener
        except (OSError, OverflowError) as error:
            listener.close()
            if port is not None:
                why = error.strerror if isinstance(error, OSError) else "ports go from 0 to 65535"
                raise BadOption(f"cannot listen on {host}:{port}: {why}. Choose another --port.") from None
            last = error
    raise BadOption(f"cannot listen on {host}: {last}. Choose another --host.")


def address_of(listener: socket.socket, host: str) -> str:
    """What to type into a browser."""
    shown = (
        "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1") else f"[{host}]" if ":" in host else host
    )
    return f"http://{shown}:{listener.getsockname()[1]}/"


def serve(
    project: Project,
    door: Door,
    listener: socket.socket,
    *,
    trainer: Sequence[str] | None = (),
    on_ready: Callable[[], None] | None = None,
    make: Callable[[Project, Door], FastAPI] = create_app,
) -> None:
    """Serve until interrupted; with a trainer beside it that ends when this process does.

    Args: trainer: options of the trainer; None: there is none.
          make: what is served: the page, or what else there is to a project.
    """
    app = make(project, door)
    config = uvicorn.Config(
        app,
        log_level="warning",
        log_config=None,  # as the rest of the program
        access_log=False,
        timeout_graceful_shutdown=1,
        lifespan="on",
    )
    watch: Watch | None = getattr(app.state, "watch", None)
    server = _Server(config, on_ready, watch.close if watch else None)
    with trainer_beside(project, trainer) if trainer is not None else nullcontext():
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        on_ready: Callable[[], None] | None,
        on_leaving: Callable[[], None] | None,
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_leaving = on_leaving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_ready and self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._on_leaving:
            self._on_leaving()
        await super().shutdown(sockets)


def open_browser(address: str) -> bool:
    """Show the page, where there is a browser with a screen; never one in a terminal."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    if isinstance(browser, webbrowser.GenericBrowser) and not isinstance(
        browser, webbrowser.BackgroundBrowser
    ):
        return False
    threading.Thread(target=browser.open, args=(address,), daemon=True).start()
    return True
