"""An S3 server on the loopback interface whose requests can be watched, refused and held.

It is moto's server: an emulator of S3 that speaks its HTTP API. What is asserted against it holds for the requests that
we send; that AWS answers them in the same way is AWS's documentation, not our test.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pytest

_REASON = "publishing to S3 is NOT tested: install the extras s3 and dev"
boto3 = pytest.importorskip("boto3", reason=_REASON)
moto_server = pytest.importorskip("moto.server", reason=_REASON)
s3fs = pytest.importorskip("s3fs", reason=_REASON)

_ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>refused by the test</Message></Error>"
_STATUS = {"AccessDenied": "403 Forbidden", "NotImplemented": "501 Not Implemented"}


@dataclass(frozen=True)
class Request:
    """What the server was asked."""

    method: str
    path: str
    query: str
    if_none_match: str | None

    @property
    def writes(self) -> bool:
        return self.method not in ("GET", "HEAD")


class Server:
    """The server, and every request that it got."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.refuse: Callable[[Request], str | None] = lambda request: None
        self._server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        while self._server._server is None:
            time.sleep(0.01)
        self._emulator = self._server._server.app
        self._server._server.app = self
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(
            environ["REQUEST_METHOD"],
            unquote(environ["PATH_INFO"]),
            environ.get("QUERY_STRING", ""),
            environ.get("HTTP_IF_NONE_MATCH"),
        )
        self.requests.append(request)
        code = self.refuse(request)
        if code is None:
            return self._emulator(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(_STATUS[code], [("Content-Type", "application/xml")])
        return [_ERROR.format(code=code).encode()]

    def stop(self) -> None:
        self._server.stop()

    def client(self, service: str = "s3", key: str = "administrator", secret: str = "administrator") -> Any:
        """A client of its administrator, or of somebody else."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )

    @property
    def writes(self) -> list[Request]:
        return [request for request in self.requests if request.writes]


class Hold:
    """Stops the server at one write, until it is let go; that write is not carried out."""

    def __init__(self, matches: Callable[[Request], bool]) -> None:
        self.reached = threading.Event()
        self.gone = threading.Event()
        self._matches = matches

    def __call__(self, request: Request) -> str | None:
        if not request.writes or not self._matches(request):
            return None
        self.reached.set()
        self.gone.wait(60)
        return "AccessDenied"


def variables(url: str, key: str = "key", secret: str = "secret") -> dict[str, str]:
    """The variables of the environment that lead every AWS client to a server, and to nothing else."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextlib.contextmanager
def releases_bucket(server: Server) -> Iterator[None]:
    """A fresh bucket ``releases`` on the server; at the end all is gone."""
    client = server.client()
    client.create_bucket(Bucket="releases")
    server.requests.clear()
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        yield
    finally:
        server.refuse = lambda request: None
        s3fs.S3FileSystem.clear_instance_cache()
        for entry in client.list_objects_v2(Bucket="releases").get("Contents", []):
            client.delete_object(Bucket="releases", Key=entry["Key"])
        for upload in client.list_multipart_uploads(Bucket="releases").get("Uploads", []):
            client.abort_multipart_upload(Bucket="releases", Key=upload["Key"], UploadId=upload["UploadId"])
        client.delete_bucket(Bucket="releases")
