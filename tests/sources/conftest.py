"""A real S3 server and real web servers on loopback, with the images that tests put there."""

from __future__ import annotations

import functools
import http.server
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vizsla.data import remote
from vizsla.data.kept import Kept
from vizsla.data.remote import Remote
from vizsla.testing import toy_images

PEER = Path(__file__).parents[2] / ".venv-s3"
"""What `scripts/peers s3` makes: the client and the server of S3."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a hundredth of the time before asking again."""
    monkeypatch.setattr(remote, "_FIRST_WAIT", 0.005)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """A cache of this test alone."""
    return Kept(tmp_path / "kept", limit=10**9)


@pytest.fixture
def far(kept: Kept) -> Remote:
    return Remote(kept)


def png(colour: object = "red", side: int = 8) -> bytes:
    """A small image file."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG")  # type: ignore[arg-type]
    return file.getvalue()


@pytest.fixture(name="png")
def png_fixture() -> Callable[..., bytes]:
    return png


# http


class Web:
    """A folder behind a real HTTP server, which counts what is asked and fails when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.faults: list[str] = []
        """What happens to the next requests for images: nothing, `drop`, `cut` or a status."""
        self.lost_pages: set[str] = set()
        """Pages of links for which the connection is dropped."""
        handler = functools.partial(_Handler, self, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, web: Web, *args: Any, **options: Any) -> None:
        self.web = web
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        if "." not in self.path.rpartition("/")[2]:  # a page of links
            if self.path.strip("/") in self.web.lost_pages:
                self.close_connection = True
                return None
            return super().do_GET()
        self.web.asked.append(self.path)
        fault = self.web.faults.pop(0) if self.web.faults else ""
        if fault == "drop":
            self.close_connection = True
            return None
        if fault == "cut":  # half of what was promised
            content = (self.web.folder / self.path.lstrip("/")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        if fault:
            return self.send_error(int(fault))
        return super().do_GET()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def web_of() -> Iterator[Callable[[Path], Web]]:
    """Puts folders behind web servers."""
    opened: list[Web] = []

    def serve(folder: Path) -> Web:
        opened.append(Web(folder))
        return opened[-1]

    yield serve
    for web in opened:
        web.close()


@pytest.fixture
def web(tmp_path: Path, web_of: Callable[[Path], Web]) -> Web:
    """Six toys of each of three colours, in class folders."""
    return web_of(toy_images(tmp_path / "web", per_class=6))


# S3


SERVE_S3 = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("port", server.get_host_and_port()[1], flush=True)
input()
"""


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3 server in a process of its own; yields its URL. This process and those it starts talk to it."""
    packages = PEER / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    assert packages.is_dir(), f"{PEER} is missing. Make it: scripts/peers s3"
    log = tmp_path_factory.mktemp("moto") / "log"
    with pytest.MonkeyPatch.context() as patch, log.open("wb") as errors:
        process = subprocess.Popen(
            [str(PEER / "bin" / "python"), "-c", SERVE_S3],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"PYTHONPATH": ""},
        )
        assert process.stdout is not None
        port = next((line.split()[1] for line in process.stdout if line.startswith("port ")), None)
        assert port is not None, f"the S3 server ended: {log.read_text()}"
        patch.setattr(sys, "path", [*sys.path, str(packages)])
        ours = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [*ours, str(packages)])))
        for name, value in S3_ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.communicate()


S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "anyone",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class S3:
    """Buckets, as somebody else fills them: through boto3, not through us."""

    def __init__(self, endpoint: str) -> None:
        import boto3

        self.endpoint = endpoint
        self.client = boto3.client("s3")

    def fill(self, bucket: str, objects: dict[str, bytes]) -> str:
        """A bucket with these objects; returns its URL."""
        self.client.create_bucket(Bucket=bucket)
        for key, content in objects.items():
            self.client.put_object(Bucket=bucket, Key=key, Body=content)
        return f"s3://{bucket}"

    def keys(self, bucket: str) -> set[str]:
        found = self.client.list_objects_v2(Bucket=bucket)
        return {entry["Key"] for entry in found.get("Contents", [])}

    def get(self, bucket: str, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=bucket, Key=key)["Body"].read())


@pytest.fixture(scope="session")
def s3(s3_server: str) -> S3:
    return S3(s3_server)
