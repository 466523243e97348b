"""`Observed`: every request is counted, timed, and given an id under which the log tells of it."""

from __future__ import annotations

import re
import secrets
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vizsla import logs
from vizsla.web.metrics import Metrics

REQUEST_ID = "X-Request-ID"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Observed:
    """What every request passes first."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, told = perf_counter(), False
        request_id = _id_of(Headers(scope=scope))

        async def observed(message: Message) -> None:
            nonlocal told
            if message["type"] == "http.response.start":
                told = True
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
                self._note(scope, request_id, message["status"], perf_counter() - began)
            await send(message)

        try:
            await self.app(scope, receive, observed)
        except BaseException:
            if not told:
                self._note(scope, request_id, 500, perf_counter() - began)
            raise

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """A stream of news may last for hours, so a request is noted when its answer begins."""
        self.metrics.request(scope["method"], _route(scope), status, seconds)
        if logs.is_json() and scope["path"] not in ("/healthz", "/readyz"):  # asked every few seconds
            annotator = scope.get("state", {}).get("annotator")
            logs.tell(
                "request",
                request_id=request_id,
                annotator_id=annotator.id if annotator else None,
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round(1000 * seconds, 1),
            )


def _id_of(headers: Headers) -> str:
    """The id that a proxy in front of us gave it, or a new one."""
    given = headers.get(REQUEST_ID, "")
    return given if _ID.fullmatch(given) else secrets.token_hex(8)


def _route(scope: Scope) -> str:
    """The path's pattern, of which there are few, and not the path, of which there is one for each image."""
    path = getattr(scope.get("route"), "path", None)
    return path or ("/static" if scope["path"].startswith("/static/") else "other")
