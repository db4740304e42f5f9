"""The bucket cannot be reached, refuses, does not answer, or goes away in the middle of an upload."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from synth import steps
from synth.errors import AnchorsUnavailable, PublishFailed
from synth.release.verify import verify_release
from synth.run import Run
from tests.bucket import Server, s3fs, variables
from tests.conftest import Deployment
from tests.faults.promises import SECRET, complete, refused, up_to
from tests.faults.proxy import Relay
from tests.ledger.postgres import free_port

PUBLISH = {"publish": {"uri": "s3://releases/open"}}


@pytest.fixture
def approved(on_sqlite: Deployment, server: Server, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of which only the publication is left; its client tries each request once."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    run = on_sqlite.run(**PUBLISH)
    up_to(run, steps.publish)
    return run


@pytest.fixture
def relay(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """The server is reached through it."""
    made = Relay(int(server.url.rpartition(":")[2]))
    _lead_to(monkeypatch, f"http://127.0.0.1:{made.port}")
    yield made
    made.close()


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_an_endpoint_that_cannot_be_reached(
    approved: Run, on_sqlite: Deployment, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lead_to(monkeypatch, f"http://127.0.0.1:{free_port()}")
    _fails_and_shows_nothing(approved, server)
    _lead_to(monkeypatch, server.url)
    _completes(on_sqlite, server)


@pytest.mark.parametrize("refuses", ["reading", "writing", "the manifest"])
def test_credentials_that_are_refused(approved: Run, on_sqlite: Deployment, server: Server, refuses: str) -> None:
    server.refuse = lambda request: (
        "AccessDenied"
        if refuses == "reading" or (request.writes and (refuses == "writing" or "manifest" in request.path))
        else None
    )
    _fails_and_shows_nothing(approved, server)
    _completes(on_sqlite, server)


def test_an_endpoint_that_does_not_answer(
    approved: Run, on_sqlite: Deployment, server: Server, silent_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the operator's own bound on the wait; the client's is a minute a try."""
    approved.storage_options = {
        "endpoint_url": silent_url,
        "secret": SECRET,
        "key": "key",
        "config_kwargs": {"read_timeout": 0.3, "connect_timeout": 0.3, "retries": {"max_attempts": 0}},
    }
    _fails_and_shows_nothing(approved, server)
    approved.storage_options = {}
    _completes(on_sqlite, server)


@pytest.mark.parametrize("at", [b"part-00000.parquet", b"README.md", b"manifest.json"], ids=bytes.decode)
def test_a_server_that_goes_away_in_an_upload(
    approved: Run, on_sqlite: Deployment, server: Server, relay: Relay, at: bytes
) -> None:
    """From this request on, until it is back; the client in this process finds its way again."""
    gone = False

    def cut(sent: bytes) -> bool:
        nonlocal gone
        gone = gone or (sent.startswith(b"PUT") and at in sent.partition(b"\r\n")[0])
        return gone

    relay.cut = cut
    _fails_and_shows_nothing(approved, server)
    assert gone
    relay.cut = lambda sent: False
    _completes(on_sqlite, server)


def test_an_upload_that_is_not_confirmed_is_found_and_nothing_goes_up_twice(
    approved: Run, on_sqlite: Deployment, server: Server, relay: Relay
) -> None:
    """The manifest arrived, its answer did not: the release stands, and the retry records it."""

    def lose(sent: bytes) -> bool:
        head, _, body = sent[sent.rfind(b"PUT /") :].partition(b"\r\n\r\n")
        return b"/manifest.json" in head.partition(b"\r\n")[0] and bool(body)

    relay.lose = lose
    with contextlib.suppress(PublishFailed):  # or the client asked again by itself
        steps.publish(approved)
    assert relay.lost
    relay.lose = lambda sent: False
    before = _objects(server)
    assert any(key.endswith("manifest.json") for key in before)
    _completes(on_sqlite, server)
    assert _objects(server) == before


def _lead_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name, value in variables(url, secret=SECRET).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()


def _fails_and_shows_nothing(run: Run, server: Server) -> None:
    with refused((PublishFailed, AnchorsUnavailable)):  # earlier releases are read before anything is written
        steps.publish(run)
    server.refuse = lambda request: None
    assert run.ledger.find("people_policy", run.name, "published") is None
    assert not any(key.endswith("manifest.json") for key in _objects(server))


def _completes(deployment: Deployment, server: Server) -> None:
    facts: dict[str, Any] = complete(deployment, run=deployment.run(**PUBLISH))
    manifests = [key for key in _objects(server) if key.endswith("manifest.json")]
    assert manifests == [f"{facts['publish']['uri'].removeprefix('s3://releases/')}/manifest.json"]
    assert verify_release(facts["publish"]["uri"]).ok


def _objects(server: Server) -> dict[str, str]:
    found = server.client().list_objects_v2(Bucket="releases").get("Contents", [])
    return {entry["Key"]: entry["ETag"] for entry in found}
