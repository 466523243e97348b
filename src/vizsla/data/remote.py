"""Images behind URLs: s3://, gs://, http:// and whatever else fsspec opens. Fetched once, and patiently."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from vizsla.data.images import IMAGE_SUFFIXES
from vizsla.data.kept import Kept
from vizsla.data.leftout import LeftOut, hides_one_thing, is_hidden, is_set_apart, suffix_of
from vizsla.data.sources import Source, Stamp, tops
from vizsla.data.splits import Layout, layout_of
from vizsla.errors import BadOption, NoImages, Unreachable, UserError

AT_ONCE = 32
"""Images on their way at once: enough to hide a server 100 ms away behind the backbone's work."""

_UNASKED: Stamp = (-1, 0, 0)  # of a file that nobody wants to know more of
_TRIES = 5
_FIRST_WAIT = 0.5  # seconds, doubled with each try
_GONE = (404, 410)
_PASSING = (408, 425, 429)  # states of a server that may be another soon, as those from 500 on
_STRANGER = ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError")
_NETWORK = frozenset(
    {"aiohttp", "aiobotocore", "botocore", "gcsfs", "google", "azure", "requests", "urllib3"}
)

T = TypeVar("T")


def is_url(text: str) -> bool:
    """Whether it is the address of something far away.

    >>> is_url("s3://bucket/photos"), is_url("/home/me/photos"), is_url("C:\\\\photos")
    (True, False, False)
    """
    return "://" in text


class Remote:
    """Files by URL. One for each source; safe in threads, and made anew after a fork or in another process."""

    def __init__(self, kept: Kept | None = None) -> None:
        self._given = kept
        self._filesystems: dict[tuple[int, str], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_given": None, "_filesystems": {}}

    @cached_property
    def kept(self) -> Kept:
        return self._given or Kept()

    def filesystem(self, url: str) -> Any:
        """What fsspec opens this kind of URL with. Raises BadOption where its package is missing."""
        protocol = url.partition("://")[0]
        mine = os.getpid(), protocol  # none of them outlives a fork
        if mine not in self._filesystems:
            self._filesystems[mine] = _open(protocol)
        return self._filesystems[mine]

    def read(self, url: str, stamp: Stamp) -> bytes:
        """The content, from this disk where it was fetched before under the same stamp.

        Raises: OSError where there is no such file, or it may not be read; Unreachable.
        """
        key = f"{url}\n{stamp[0]}\n{stamp[1]}"
        content = self.kept.get(key)
        if content is None:
            content = patiently(url, partial(self._fetch, url, stamp[0]))
            self.kept.put(key, content)
        return content

    def _fetch(self, url: str, size: int) -> bytes:
        fs = self.filesystem(url)
        content: bytes = fs.cat_file(url)
        if 0 <= size != len(content) and _size(fs.info(url)) not in (-1, len(content)):
            raise ConnectionError(f"{len(content)} bytes came instead of {size}")
        return content

    def fetch(self, url: str) -> bytes:
        """The content as it is now, whatever was kept. Raises as `read` does."""
        return patiently(url, partial(self._fetch, url, -1))

    def put(self, url: str, content: bytes) -> None:
        """Put it there. Raises OSError where that is not allowed, or there is no such bucket; Unreachable."""
        patiently(url, lambda: self.filesystem(url).pipe_file(url, content))

    def stamp(self, url: str) -> Stamp:
        """Asks the server. Raises OSError where there is no such file; Unreachable."""
        return _stamp(patiently(url, lambda: self.filesystem(url).info(url)))

    def listing(self, url: str, left_out: LeftOut | None = None) -> Iterator[tuple[str, Stamp]]:
        """Every file below the URL, as its path from there. Raises OSError; Unreachable.

        `left_out` counts folders that are not looked into, and those that may not be.
        """
        fs = self.filesystem(url)
        fs.invalidate_cache()
        found = _find(fs, url, LeftOut() if left_out is None else left_out)
        fs.invalidate_cache()
        base = _base(fs, url)
        inside = ((path.removeprefix(base), about) for path, about in found.items() if path.startswith(base))
        if any(about.get("size") is None for about in found.values()):  # a page of links names no sizes
            yield from self._asked(url, base, [path for path, _ in inside])
            return
        stamps = [(path, _stamp(about)) for path, about in inside]
        del found, inside  # the better part of a kilobyte for each
        yield from stamps

    def _asked(self, url: str, base: str, paths: Sequence[str]) -> Iterator[tuple[str, Stamp]]:
        """Only for images is it worth it."""
        wanted = [path for path in paths if _is_image(path) and not is_hidden(_plain(url, path))]
        yield from ((path, _UNASKED) for path in sorted(set(paths) - set(wanted)))
        with ThreadPoolExecutor(AT_ONCE) as threads:
            yield from threads.map(lambda path: (path, self.stamp(base + path)), wanted)

    def signed(self, url: str, seconds: int) -> str:
        """A URL by which anyone may read the file for a while. Raises BadOption where there are none."""
        try:
            return str(self.filesystem(url).sign(url, expiration=seconds))
        except UserError:
            raise
        except (
            Exception
        ) as error:  # no such thing, no key to sign with, …: each package says so in its own way
            why = "" if isinstance(error, NotImplementedError) else f" ({_said(error)})"
            raise BadOption(f"{_host(url)} gives no signed URLs{why}. Leave out --signed-urls.") from None


class Bucket(Source):
    """Everything below a URL: a bucket, a folder of one, or a web page with links to images."""

    def __init__(self, url: str, remote: Remote | None = None) -> None:
        self.url = url.rstrip("/")
        self.remote = remote or Remote()
        self._stamps: dict[str, Stamp] = {}
        self._quoted = _is_quoted(url)

    @property
    def address(self) -> str:
        return self.url

    @property
    def at_once(self) -> int:
        return AT_ONCE

    @property
    def title(self) -> str:
        return PurePosixPath(unquote(self.url)).name or "images"

    def visit(self) -> None:
        try:
            about = patiently(self.url, lambda: self.remote.filesystem(self.url).info(self.url))
        except OSError as error:
            raise NoImages(not_there(self.url, error)) from None
        if about["type"] == "file" and _is_image(self.url):
            raise NoImages(f"{self.url} is a single file. Give the folder that holds the images.")

    def files(self) -> Iterator[tuple[str, Stamp]]:
        found: dict[str, Stamp] = {}
        left_out = LeftOut()
        try:
            for path, stamp in self.remote.listing(self.url, left_out):
                name = _plain(self.url, path)
                if is_hidden(name):
                    left_out.hidden_path(name)
                elif _is_image(name):
                    self._stamps[name] = found[name] = stamp
                    yield name, stamp
                else:
                    left_out.other_file(name, suffix_of(name))
        except OSError as error:
            raise NoImages(not_there(self.url, error)) from None
        if not found:
            suffixes = " ".join(sorted(IMAGE_SUFFIXES))
            raise NoImages(f"no image below {self.url}{left_out.aside()}. Vizsla reads {suffixes}.")
        self._stamps = found
        self._layout, self._left_out = layout_of(tops(found)), left_out.say()

    def layout(self) -> Layout:
        """By what was found so far: to list a large bucket takes minutes."""
        if self.splits and self._layout is None:
            return layout_of(tops(self._stamps))
        return super().layout()

    def expect(self, stamps: Mapping[str, Stamp]) -> None:
        self._stamps |= stamps

    def where(self, name: str) -> str:
        return f"{self.url}/{quote(name) if self._quoted else name}"

    def stamp(self, name: str) -> Stamp:
        if name not in self._stamps:
            self._stamps[name] = self.remote.stamp(self.where(name))
        return self._stamps[name]

    def read(self, name: str) -> bytes:
        return self.remote.read(self.where(name), self.stamp(name))

    def class_names(self) -> Sequence[str]:
        """Those found so far."""
        layout = self.layout()
        return sorted({found for name in self._stamps if (found := layout.class_folder(name)) is not None})

    def signed(self, name: str, seconds: int) -> str:
        return self.remote.signed(self.where(name), seconds)


def patiently(url: str, ask: Callable[[], T]) -> T:
    """What it returns, asked again for a while where the network or the server fails.

    Raises: FileNotFoundError, PermissionError or another OSError where asking again would not help; Unreachable
            where nobody answers, or nobody who knows us; BadOption where fsspec lacks a package.
    """
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(0.7, 1.3))
        try:
            return ask()
        except UserError:
            raise
        except Exception as error:
            last = _cause(error)
            if not _may_pass(last):
                break
    raise _told(url, last) from None


def _told(url: str, error: Exception) -> Exception:
    """What went wrong, as an error that says what to do about it."""
    if _status(error) in _GONE:
        return FileNotFoundError(errno.ENOENT, _said(error))
    if _may_pass(error):
        return Unreachable(
            f"{_host(url)} does not answer ({_said(error)}). "
            "What is done is kept: the same command goes on from there."
        )
    if type(error).__name__ in _STRANGER:
        return Unreachable(f"no credentials for {url}. {_credentials(url)}")
    if isinstance(error, OSError) or not _is_of_network(error):
        return error
    return PermissionError(errno.EACCES, _said(error))


def _find(fs: Any, url: str, left_out: LeftOut) -> Mapping[str, Mapping[str, Any]]:
    """Every file below the URL by its whole path; what cannot be seen is an error, or counted as left out."""
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    # Where fsspec walks from folder to folder it leaves out in silence what it cannot list; buckets are listed whole.
    walks = type(fs).find is AbstractFileSystem.find or getattr(type(fs), "_find", 0) is AsyncFileSystem._find
    if walks:
        return _walked(fs, url, left_out)
    found: Mapping[str, Mapping[str, Any]] = patiently(url, lambda: fs.find(url, detail=True))
    return found


def _walked(fs: Any, url: str, left_out: LeftOut) -> Mapping[str, Mapping[str, Any]]:
    root, base = fs._strip_protocol(url), _base(fs, url)
    todo, seen, found = [root], {root, base}, {}
    while todo:
        folder = todo.pop()
        try:
            listed = patiently(url, partial(fs.ls, folder, detail=True))
        except OSError as error:
            if folder == root or not hides_one_thing(error):
                raise
            left_out.closed(_plain(url, folder.removeprefix(base)), error)
            continue
        for about in listed:
            path = about["name"].rstrip("/")
            if about["type"] != "directory":
                found[about["name"]] = about
            elif path.startswith(base) and path not in seen:
                seen.add(path)
                name = _plain(url, path.removeprefix(base))
                if is_set_apart(name.rpartition("/")[2]):
                    left_out.set_apart(name)
                else:
                    todo.append(path)
    return dict(sorted(found.items()))


def _base(fs: Any, url: str) -> str:
    """What the paths of all files below the URL begin with, as the file system gives them."""
    return str(fs._strip_protocol(url)).rstrip("/") + "/"


def _is_quoted(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _plain(url: str, path: str) -> str:
    """The name of what lies at this path below the URL."""
    return unquote(path) if _is_quoted(url) else path


def downloaded(url: str, folder: Path) -> Path:
    """The file, in this folder. Raises NoImages where there is none; Unreachable; BadOption."""
    file = folder / PurePosixPath(url).name
    fs = Remote().filesystem(url)
    try:
        patiently(url, lambda: fs.get_file(url, str(file)))
    except OSError as error:
        raise NoImages(not_there(url, error)) from None
    return file


def upload(file: Path, url: str) -> None:
    """Put the file there; it is seen whole or not at all. Raises NoImages where nothing may be put; Unreachable."""
    fs = Remote().filesystem(url)
    try:
        patiently(url, lambda: fs.put_file(str(file), url))
    except OSError as error:
        raise NoImages(not_there(url, error)) from None


def _open(protocol: str) -> Any:
    options: dict[str, Any] = {}
    if protocol in ("s3", "s3a"):  # it tries again by itself, too: twice is enough
        again = {"total_max_attempts": 2, "mode": "standard"}
        options["config_kwargs"] = {"retries": again, "connect_timeout": 10, "max_pool_connections": AT_ONCE}
    try:
        import fsspec

        if protocol in ("http", "https"):
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
            options["client_kwargs"] = {"timeout": timeout}
        return fsspec.filesystem(protocol, **options)
    except ImportError:
        mend = {"gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs", "sftp": "paramiko"}.get(
            protocol
        )
        raise BadOption(
            f"images at {protocol}:// need a package that is not installed. "
            f"Run: pip install {mend or repr('vizsla[remote]')}."
        ) from None
    except ValueError:
        raise BadOption(f"nothing here opens {protocol}://. Use s3://, gs:// or http(s)://.") from None


def _cause(error: BaseException) -> Exception:
    """What went wrong below: fsspec's HTTP says "not found" for every failure of a connection."""
    below = error.__cause__ or error.__context__
    if isinstance(error, FileNotFoundError) and isinstance(below, Exception) and _may_pass(below):
        return below
    assert isinstance(error, Exception)
    return error


def _may_pass(error: Exception) -> bool:
    """Whether asking again may help."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
        return False
    if (status := _status(error)) is not None:
        return status in _PASSING or status >= 500
    if isinstance(error, OSError):
        return error.errno != errno.EINVAL  # by which s3fs says that a request makes no sense
    return _is_of_network(error) and "Credential" not in type(error).__name__


def _is_of_network(error: Exception) -> bool:
    known = any(kind.__module__.partition(".")[0] in _NETWORK for kind in type(error).__mro__)
    return known or isinstance(error, OSError) or type(error).__name__ == "FSTimeoutError"


def _status(error: Exception) -> int | None:
    """The HTTP status of the answer, where there was one: aiohttp says it in one way, botocore in another."""
    answer = getattr(error, "response", None)
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(answer, dict) else None
    status = status or getattr(error, "status", None)
    return status if isinstance(status, int) and status else None


def _said(error: Exception) -> str:
    if (status := _status(error)) is not None:
        return f"HTTP status {status}"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()).rstrip(".") or type(error).__name__


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or parts.netloc}"


def not_there(url: str, error: OSError, done: str = "read") -> str:
    """What to tell a person about a URL that could not be read, or written."""
    if isinstance(error, FileNotFoundError):
        return f"there is no {url}. Check the address."
    if isinstance(error, PermissionError):
        return f"{url} may not be {done} ({_said(error)}). {_credentials(url)}"
    return f"{url} cannot be {done}: {_said(error)}. Check the address."


def _credentials(url: str) -> str:
    """How to give some."""
    protocol = url.partition("://")[0]
    if protocol in ("s3", "s3a"):
        return (
            "Give credentials by AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `aws configure`; "
            "for a public bucket set FSSPEC_S3_ANON=true."
        )
    if protocol in ("gs", "gcs"):
        return (
            "Give credentials by `gcloud auth application-default login` or GOOGLE_APPLICATION_CREDENTIALS."
        )
    return f"Ask its owner, or give what fsspec takes for it as FSSPEC_{protocol.upper()}_OPTION=VALUE."


def _is_image(name: str) -> bool:
    return suffix_of(name) in IMAGE_SUFFIXES


def _size(about: Mapping[str, Any]) -> int:
    size = about.get("size")
    return -1 if size is None else int(size)


_VERSIONS = ("ETag", "etag", "generation", "content_md5", "Last-Modified", "LastModified", "last_modified")
_TIMES = ("mtime", "updated", "modified", "created")


def _stamp(about: Mapping[str, Any]) -> Stamp:
    """Size, and minus a number made of the ETag, or of the time where there is none; 0 where there is neither."""
    said = next((about[name] for name in (*_VERSIONS, *_TIMES) if about.get(name) is not None), None)
    if said is None:
        return _size(about), 0, 0
    number = int.from_bytes(hashlib.blake2b(str(said).encode(), digest_size=8).digest()) >> 1
    return _size(about), -number, 0
