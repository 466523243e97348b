"""A real S3 server on loopback, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PEER = Path(__file__).parents[1] / ".venv-s3"
"""What `scripts/peers s3` makes: the client and the server of S3."""

SERVE = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("port", server.get_host_and_port()[1], flush=True)
input()
"""

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "anyone",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


@contextmanager
def served(log: Path) -> Iterator[str]:
    """The server in a process of its own; yields its URL. This process and those it starts talk to it."""
    packages = PEER / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    assert packages.is_dir(), f"{PEER} is missing. Make it: scripts/peers s3"
    with pytest.MonkeyPatch.context() as patch, log.open("wb") as errors:
        process = subprocess.Popen(
            [str(PEER / "bin" / "python"), "-c", SERVE],
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
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.communicate()


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
