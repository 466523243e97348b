"""Who asks, and whether they may: hosts, origins, tokens, cookies.

On loopback nobody logs in: a cookie given at first contact makes one annotator per browser. Anywhere else every
call needs a token. Other web pages in the same browser get nothing: their `Host` or `Origin` is not ours.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vizsla.errors import VizslaError
from vizsla.store import Annotator, Store
from vizsla.web import problems

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_TOKEN = re.compile(r"[A-Za-z0-9_-]{20,100}")
_YEAR = 365 * 24 * 3600
_SAFE = ("GET", "HEAD", "OPTIONS")
_KNOWN_SECONDS = 1.0  # that a token still lets in once it is revoked
_FOR_MACHINES = ("/healthz", "/readyz", "/metrics")  # which keep no cookie

NO_TOKEN = (
    "no annotator has this token. Ask for one (vizsla users add NAME) and open the page with /?token=TOKEN."
)

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True, kw_only=True)
class Door:
    """How a server lets people in."""

    host: str = "127.0.0.1"
    allowed: frozenset[str] = frozenset()
    """More host names to be reached by."""
    read_only: bool = False
    cookie: str = "vizsla"
    """Name of the cookie that knows a browser again; empty: browsers are not expected."""
    newcomer: str = "me"
    """What an annotator without a name is called."""
    guarded: str = "/api/"
    """Begin of the paths that nobody reads without a token, off loopback."""
    largest_body: int = 8 * 2**20
    """Bytes that a request may bring."""
    pictures_from: str = ""
    """Where else the page may load pictures from, such as `https://bucket.example.org`."""

    @property
    def needs_token(self) -> bool:
        return self.host not in LOOPBACK

    def knows(self, host: str) -> bool:
        """Whether a `Host` header names this server."""
        name = _bare(host)
        if name in LOOPBACK or name == self.host.lower() or name in self.allowed:
            return True
        return self.needs_token and (_is_address(name) or name in _own_names())


def cookie_name(mark: str) -> str:
    """A cookie of its own for each project: browsers share cookies among the ports of a host."""
    return f"vizsla-{mark[:8]}"


class Guard:
    """What every request passes, before any route sees it.

    Args: wrote: told the token of whoever is about to read that a change is kept.
    """

    def __init__(
        self, app: ASGIApp, door: Door, store: Store, wrote: Callable[[str | None], None] | None = None
    ) -> None:
        self.app = app
        self.door = door
        self.store = store
        self._wrote = wrote
        self._met: dict[str, tuple[Annotator, float]] = {}
        images = f"img-src 'self' {door.pictures_from}".rstrip()
        policy = HEADERS["Content-Security-Policy"].replace("img-src 'self'", images)
        self._headers = HEADERS | {"Content-Security-Policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        token = token_of(headers, self.door)
        scope.setdefault("state", {})
        refusal = self._refusal(scope, headers) or await self._stranger(scope, token)
        fresh = None
        wants_cookie = self.door.cookie and scope["path"] not in _FOR_MACHINES
        if token is None and not self.door.needs_token and wants_cookie:
            fresh = token = secrets.token_urlsafe(32)
        scope["state"]["token"] = token

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                if self._wrote and scope["method"] not in _SAFE:
                    self._wrote(token)
                out = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    out.setdefault(name, value)
                if fresh:
                    out.append("Set-Cookie", set_cookie(self.door, fresh))
            await send(message)

        await (refusal or self.app)(scope, receive, guarded)

    async def _stranger(self, scope: Scope, token: str | None) -> JSONResponse | None:
        """Note who asks, found once for each request; off loopback nothing is read of who has no token."""
        scope["state"]["annotator"] = None
        if not scope["path"].startswith((self.door.guarded, "/metrics")):
            return None
        try:
            known = None if token is None else await self._who(token)
        except VizslaError as error:
            status, headers = problems.status_of(error)
            return _problem(status, str(error), headers)
        scope["state"]["annotator"] = known
        if known or not self.door.needs_token:
            return None
        return _problem(401, NO_TOKEN, {"WWW-Authenticate": "Bearer"})

    async def _who(self, token: str) -> Annotator | None:
        """Whose token it is, and perhaps was a second ago: somebody who works asks several times in one."""
        now = time.monotonic()
        found, until = self._met.get(token, (None, now))
        if now < until:
            return found
        self._met = {met: entry for met, entry in self._met.items() if now < entry[1]}
        found = await asyncio.to_thread(self.store.who, token)
        if found is not None:
            self._met[token] = found, now + _KNOWN_SECONDS
        return found

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if not self.door.knows(host):
            return _problem(
                421, f"this server is not {host!r}. Start it with --allow-host {_bare(host) or 'NAME'}."
            )
        origin = headers.get("origin")
        if scope["method"] not in _SAFE:
            if origin is not None and origin.partition("://")[2].lower() != host.lower():  # ports count, too
                return _problem(403, f"a page of {origin} may not write here.")
            if self.door.read_only:
                return _problem(403, "this server only shows: it was started with --read-only.")
        most = self.door.largest_body
        if int_of(headers.get("content-length")) > most:
            return _problem(413, f"a body of more than {most:,} bytes is too large. Send it in parts.")
        return None


def set_cookie(door: Door, token: str) -> str:
    return f"{door.cookie}={token}; Path=/; Max-Age={_YEAR}; HttpOnly; SameSite=Strict"


def token_of(headers: Headers, door: Door) -> str | None:
    """The token of a request: `Authorization: Bearer …`, the password of `Authorization: Basic …`, or the cookie."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given:
        return given.strip()
    if scheme.lower() == "basic":
        return _password(given)
    # Not http.cookies: it gives up at the first odd cookie, and those of all ports of a host come along.
    cookie = cookie_parser(headers.get("cookie", "")).get(door.cookie, "")
    return cookie if is_token(cookie) else None


def _password(given: str) -> str:
    """Of Basic credentials; whoever they name."""
    try:
        return base64.b64decode(given.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def is_token(text: str) -> bool:
    """Whether it may be a token at all."""
    return _TOKEN.fullmatch(text) is not None


async def annotator(request: Request) -> Annotator:
    """Who asks; made on loopback if nobody has that token yet. Raises 401 elsewhere."""
    if (known := _known(request)) is not None:
        return known
    door: Door = request.app.state.door
    store: Store = request.app.state.project.store
    one = await asyncio.to_thread(store.newcomer, door.newcomer, request.state.token)
    request.state.annotator = one
    return one


async def visitor(request: Request) -> str:
    """The name of who asks, without making an annotator of someone who only looks. Raises 401 off loopback."""
    one = _known(request)
    newcomer: str = request.app.state.door.newcomer
    return one.name if one else newcomer


def _known(request: Request) -> Annotator | None:
    """Who the guard found; None for a newcomer on loopback. A token that nobody has is refused even there."""
    one: Annotator | None = request.state.annotator
    if one is None and request.headers.get("authorization"):
        raise HTTPException(401, NO_TOKEN, {"WWW-Authenticate": "Bearer"})
    return one


Me = Annotated[Annotator, Depends(annotator)]
Visitor = Annotated[str, Depends(visitor)]


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


def int_of(text: str | None) -> int:
    """A number from a header; 0 where there is none."""
    return int(text) if text and text.isascii() and text.isdecimal() else 0


def _bare(host: str) -> str:
    """A host without port and brackets, in small letters."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@cache
def _own_names() -> set[str]:
    """What this machine is called; asked once, for a resolver may be slow."""
    return {socket.gethostname().lower(), socket.getfqdn().lower()}
