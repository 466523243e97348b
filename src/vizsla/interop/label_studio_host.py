"""A Label Studio that is asked for its tasks and images, with the token it gave. Never another host."""

from __future__ import annotations

import ipaddress
import json
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

from vizsla.errors import Unreachable

MOST_BYTES = 64 * 2**20
"""Of one image, or of one page of tasks."""

_PAGE = 100  # tasks
_SECONDS = 30.0


@dataclass(frozen=True)
class Host:
    """One Label Studio."""

    address: str
    """Such as `http://localhost:8080`, with a path where it lives under one."""
    token: str

    def owns(self, uri: str) -> bool:
        """Whether this Label Studio itself serves what lies there."""
        if uri.startswith("/") and not uri.startswith("//"):
            return bool(self.address)
        return _origin(uri) is not None and _origin(uri) == _origin(self.address)

    def get(self, uri: str) -> bytes:
        """What lies at an absolute path, or at a URL of this host.

        Raises: Unreachable, whatever went wrong: another host, a refusal, too much, no answer.
        """
        if not self.owns(uri) or _origin(self.address) is None:
            raise Unreachable(f"{uri} does not lie on {self.address or 'any Label Studio'}")
        request = urllib.request.Request(self._whole(uri), headers={"Authorization": f"Token {self.token}"})
        try:
            with _opener(self.address).open(request, timeout=_SECONDS) as reply:
                content: bytes = reply.read(MOST_BYTES + 1)
        except (OSError, HTTPException, ValueError) as error:  # HTTPError is an OSError
            raise Unreachable(f"{uri}: {_reason(error)}") from None
        if len(content) > MOST_BYTES:
            raise Unreachable(f"{uri}: larger than {MOST_BYTES >> 20} MB")
        return content

    def _whole(self, uri: str) -> str:
        legal = quote(uri, safe="%/:?#[]@!$&'()*+,;=~-._")
        if not uri.startswith("/"):
            return legal
        parts = urlsplit(self.address)
        prefix = parts.path.rstrip("/")
        return f"{parts.scheme}://{parts.netloc}{'' if legal.startswith(prefix + '/') else prefix}{legal}"

    def tasks(self, project: int) -> Iterator[list[Mapping[str, Any]]]:
        """All tasks of a project with their annotations, page by page. Raises Unreachable."""
        page, seen = 1, 0
        while True:
            query = f"project={project}&fields=all&page={page}&page_size={_PAGE}"
            content = self.get(f"/api/tasks?{query}")
            try:
                found = json.loads(content)
                tasks, total = list(found["tasks"]), int(found["total"])
            except (ValueError, KeyError, TypeError):
                raise Unreachable(f"{self.address} answers in no way that Label Studio does") from None
            yield [task for task in tasks if isinstance(task, dict)]
            page, seen = page + 1, seen + len(tasks)
            if not tasks or seen >= total:
                return


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only where it stays, for the token goes with it."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if _origin(newurl) != _origin(req.full_url):
            raise HTTPError(
                req.full_url, code, f"it lies elsewhere, on {urlsplit(newurl).netloc}", headers, fp
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(address: str) -> urllib.request.OpenerDirector:
    """One that uses the environment's proxy, but not for this machine itself."""
    direct = [urllib.request.ProxyHandler({})] if _is_loopback(urlsplit(address).hostname or "") else []
    return urllib.request.build_opener(_SameHost, *direct)


def _is_loopback(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for anything but http and https."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or {"http": 80, "https": 443}[parts.scheme]


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        said = f"{error.code} {error.reason}"
        error.close()
        if error.code in (401, 403):
            said += ". Allow legacy tokens in Label Studio: Organization, API Tokens Settings"
        return said
    return " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
