"""Who asks, and whether they may: hosts, origins, tokens, cookies.

On loopback nobody logs in: a cookie given at first contact makes one annotator per browser. Anywhere else every
call needs a token. Other web pages in the same browser get nothing: their `Host` or `Origin` is not ours.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vizsla.store import Annotator, Store

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_TOKEN = re.compile(r"[A-Za-z0-9_-]{20,100}")
_YEAR = 365 * 24 * 3600
_SAFE = ("GET", "HEAD", "OPTIONS")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True)
class Door:
    """How a server lets people in."""

    host: str = "127.0.0.1"
    allowed: frozenset[str] = frozenset()
    """More host names to be reached by."""
    read_only: bool = False
    cookie: str = "vizsla"
    newcomer: str = "me"
    """What an annotator without a name is called."""

    @property
    def needs_token(self) -> bool:
        return self.host not in LOOPBACK

    def knows(self, host: str) -> bool:
        """Whether a `Host` header names this server."""
        name = _bare(host)
        if name in LOOPBACK or name == self.host.lower() or name in self.allowed:
            return True
        return self.needs_token and (_is_address(name) or name in _own_names())


def cookie_name(address: str) -> str:
    """A cookie of its own for each project: browsers share cookies among the ports of a host."""
    return f"vizsla-{hashlib.sha256(address.encode(errors='replace')).hexdigest()[:8]}"


class Guard:
    """What every request passes, before any route sees it."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app = app
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        token = token_of(headers, self.door)
        fresh = None
        if token is None and not self.door.needs_token and scope["path"] != "/healthz":
            fresh = token = secrets.token_urlsafe(32)
        scope.setdefault("state", {})["token"] = token

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    out.setdefault(name, value)
                if fresh:
                    out.append("Set-Cookie", set_cookie(self.door, fresh))
            await send(message)

        await (refusal or self.app)(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | RedirectResponse | None:
        host = headers.get("host", "")
        if not self.door.knows(host):
            return _problem(
                421, f"this server is not {host!r}. Start it with --allow-host {_bare(host) or 'NAME'}."
            )
        origin = headers.get("origin")
        if scope["method"] not in _SAFE:
            if origin is not None and _bare(origin.partition("://")[2]) != _bare(host):
                return _problem(403, f"a page of {origin} may not write here.")
            if self.door.read_only:
                return _problem(403, "this server only shows: it was started with --read-only.")
        token = QueryParams(scope.get("query_string", b"")).get("token")
        if scope["path"] == "/" and token and _TOKEN.fullmatch(token):
            return RedirectResponse("/", 303, {"Set-Cookie": set_cookie(self.door, token)})
        return None


def set_cookie(door: Door, token: str) -> str:
    return f"{door.cookie}={token}; Path=/; Max-Age={_YEAR}; HttpOnly; SameSite=Strict"


def token_of(headers: Headers, door: Door) -> str | None:
    """The token of a request: `Authorization: Bearer …`, or the cookie."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given:
        return given.strip()
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(door.cookie)
    except CookieError:
        return None
    return morsel.value if morsel and _TOKEN.fullmatch(morsel.value) else None


def annotator(request: Request) -> Annotator:
    """Who asks; made on loopback if nobody has that token yet. Raises 401 elsewhere."""
    door: Door = request.app.state.door
    store: Store = request.app.state.project.store
    token: str | None = request.state.token
    if token is not None and (one := store.who(token)):
        return one
    if door.needs_token or request.headers.get("authorization"):
        raise HTTPException(
            401,
            "no annotator has this token. Ask for one (vizsla users add NAME) and open the page with /?token=TOKEN.",
            {"WWW-Authenticate": "Bearer"},
        )
    assert token is not None  # the guard has made one
    return store.newcomer(door.newcomer, token)


def visitor(request: Request) -> str:
    """The name of who asks, without making an annotator of someone who only looks. Raises 401 off loopback."""
    door: Door = request.app.state.door
    if door.needs_token or request.headers.get("authorization"):
        return annotator(request).name
    one = request.app.state.project.store.who(request.state.token)
    return one.name if one else door.newcomer


Me = Annotated[Annotator, Depends(annotator)]
Visitor = Annotated[str, Depends(visitor)]


def _problem(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)


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


def _own_names() -> set[str]:
    return {socket.gethostname().lower(), socket.getfqdn().lower()}
