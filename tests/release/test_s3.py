"""Publishing to S3, over HTTP, against moto's server: an emulator, see :mod:`tests.bucket`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synth.errors import ContractError, PublishFailed, VersionTaken
from synth.release.bucket import connection_of
from synth.release.manifest import artifact_digest, list_files, manifest_bytes
from synth.release.publish import publish_bundle
from synth.release.verify import verify_release
from tests.bucket import Hold, Request, Server, variables
from tests.release.conftest import VERSION, Release, approved_manifest

URI = "s3://releases/open/data"
ADDRESS = f"{URI}/visits/{VERSION}"
PREFIX = f"/releases/open/data/visits/{VERSION}/"
PART_BYTES = 5 << 20  # the least that S3 accepts
_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def large(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release with a file of three parts."""
    folder = shutil.copytree(release.folder, tmp_path_factory.mktemp("large") / "bundle")
    (folder / "appendix.bin").write_bytes(os.urandom(2 * PART_BYTES + 1000))
    return replace(release, folder=folder, manifest=approved_manifest(folder, artifact_digest(list_files(folder))))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda size, chunksize=None: PART_BYTES)


def keys(server: Server) -> dict[str, str]:
    """What is in the bucket: keys and entity tags."""
    found = server.client().list_objects_v2(Bucket="releases").get("Contents", [])
    return {entry["Key"]: entry["ETag"] for entry in found}


def no_release(server: Server) -> bool:
    (problem,) = verify_release(ADDRESS).problems
    return "manifest.json is missing" in problem and not any(key.endswith("manifest.json") for key in keys(server))


def test_a_release_on_s3_verifies(release: Release, server: Server) -> None:
    assert release.publish(URI) == ADDRESS
    found = verify_release(ADDRESS)
    assert found.ok, found.problems
    assert found.facts["epsilon"] == release.facts.budget.epsilon_release


def test_a_file_damaged_on_s3_is_found(release: Release, server: Server) -> None:
    release.publish(URI)
    server.client().put_object(Bucket="releases", Key=f"{PREFIX.removeprefix('/releases/')}README.md", Body=b"other")
    assert [problem for problem in verify_release(ADDRESS).problems if problem.startswith("README.md is not what")]


def test_the_manifest_is_written_last_and_only_where_there_is_none(release: Release, server: Server) -> None:
    release.publish(URI)
    names = [request.path.removeprefix(PREFIX) for request in server.writes]
    assert names == [*(entry["path"] for entry in release.manifest["files"]), "manifest.json"]
    assert server.writes[-1].if_none_match == "*"


def test_nothing_is_deleted_copied_or_written_elsewhere(release: Release, server: Server) -> None:
    server.refuse = lambda request: (
        "AccessDenied" if request.path.endswith("/manifest.json") and request.writes else None
    )
    with pytest.raises(PublishFailed):
        release.publish(URI)
    server.refuse = lambda request: None
    release.publish(URI)
    assert {request.method for request in server.writes} == {"PUT"}
    assert all(request.path.startswith(PREFIX) for request in server.writes)


def test_publishing_again_writes_nothing(release: Release, server: Server) -> None:
    release.publish(URI)
    server.requests.clear()
    assert release.publish(URI) == ADDRESS
    assert not server.writes


def test_a_large_file_goes_up_in_parts(large: Release, server: Server, small_parts: None) -> None:
    assert verify_release(large.publish(URI)).ok
    parts = [request for request in server.writes if "partNumber=" in request.query]
    assert len(parts) == 3
    assert server.writes[-1].path.endswith("/manifest.json")


def test_a_version_that_is_taken_is_refused_and_left_alone(release: Release, server: Server) -> None:
    release.publish(URI)
    before = keys(server)
    with pytest.raises(VersionTaken, match="versions never change"):
        release.publish(URI, _approved_by(release, "bob"))
    assert keys(server) == before


@pytest.mark.parametrize("by", ["ada", "bob"])
def test_a_manifest_that_appears_at_the_last_moment_is_never_replaced(
    release: Release, server: Server, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """The same manifest is the work of another attempt of this run; a different one is refused."""
    theirs = manifest_bytes(_approved_by(release, by))

    def another_writer_is_faster(request: Request) -> None:
        if request.writes and request.path.endswith("/manifest.json"):
            server.refuse = lambda request: None
            server.client().put_object(Bucket="releases", Key=request.path.removeprefix("/releases/"), Body=theirs)

    server.refuse = another_writer_is_faster
    if by == "ada":
        assert release.publish(URI) == ADDRESS
    else:
        with pytest.raises(VersionTaken):
            release.publish(URI)
    key = f"{PREFIX.removeprefix('/releases/')}manifest.json"
    assert server.client().get_object(Bucket="releases", Key=key)["Body"].read() == theirs


def test_a_store_without_conditional_writes_is_looked_at_once_more(release: Release, server: Server) -> None:
    server.refuse = lambda request: "NotImplemented" if request.if_none_match else None
    assert verify_release(release.publish(URI)).ok
    with pytest.raises(VersionTaken):
        release.publish(URI, _approved_by(release, "bob"))


def test_files_of_somebody_else_are_not_published_along(release: Release, server: Server) -> None:
    server.client().put_object(Bucket="releases", Key=f"{PREFIX.removeprefix('/releases/')}data/more", Body=b"rows")
    with pytest.raises(PublishFailed, match="not of this release, such as data/more"):
        release.publish(URI)
    assert not any(key.endswith("manifest.json") for key in keys(server))


def test_a_client_that_fails_at_any_write_leaves_no_release_and_a_retry_completes(
    large: Release, server: Server, small_parts: None
) -> None:
    """A file in parts is a start, three parts, an end: and an abort, after which nothing of it is left."""
    writes = len(large.manifest["files"]) - 1 + 5 + 1
    for spared in range(writes):
        server.client().delete_objects(
            Bucket="releases", Delete={"Objects": [{"Key": key} for key in keys(server)] or [{"Key": "none"}]}
        )
        server.requests.clear()
        server.refuse = lambda request, spared=spared: (  # type: ignore[misc]
            "AccessDenied" if request.method != "DELETE" and request.writes and len(server.writes) > spared else None
        )
        with pytest.raises(PublishFailed, match="does not count as a release"):
            large.publish(URI)
        server.refuse = lambda request: None
        assert no_release(server)
        assert "Uploads" not in server.client().list_multipart_uploads(Bucket="releases")
        large.publish(URI)
    assert verify_release(ADDRESS).ok


@pytest.mark.parametrize(
    "killed_at",
    [
        pytest.param(lambda request: "partNumber=2" in request.query, id="a part"),
        pytest.param(lambda request: request.path.endswith("/manifest.json"), id="the manifest"),
    ],
)
def test_a_killed_worker_leaves_no_release_and_a_retry_completes(
    large: Release, server: Server, tmp_path: Path, small_parts: None, killed_at: Callable[[Request], bool]
) -> None:
    (tmp_path / "manifest.json").write_bytes(manifest_bytes(large.manifest))
    hold = Hold(killed_at)
    server.refuse = hold
    program = (
        "import json, sys, s3fs.core\n"
        "from pathlib import Path\n"
        "from synth.release.publish import publish_bundle\n"
        f"s3fs.core.calculate_chunksize = lambda size, chunksize=None: {PART_BYTES}\n"
        "folder, manifest = sys.argv[1:]\n"
        f"publish_bundle(Path(folder), {URI!r}, 'visits', {VERSION!r}, json.loads(Path(manifest).read_text()))\n"
    )
    arguments = [sys.executable, "-c", program, str(large.folder), str(tmp_path / "manifest.json")]
    worker = subprocess.Popen(arguments, env=os.environ | variables(server.url), cwd=_ROOT)
    try:
        assert hold.reached.wait(60)
    finally:
        worker.kill()
        assert worker.wait(10) == -9
        hold.gone.set()
        server.refuse = lambda request: None
    assert no_release(server)
    assert verify_release(large.publish(URI)).ok
    assert len(keys(server)) == len(large.manifest["files"]) + 1


def test_of_many_attempts_at_once_each_ends_at_the_same_release(release: Release, server: Server) -> None:
    addresses: list[str] = []
    attempts = [threading.Thread(target=lambda: addresses.append(release.publish(URI))) for _ in range(4)]
    for attempt in attempts:
        attempt.start()
    for attempt in attempts:
        attempt.join()
    assert addresses == [ADDRESS] * 4
    assert verify_release(ADDRESS).ok


def test_a_bucket_that_does_not_exist_is_not_made(release: Release, server: Server) -> None:
    def buckets() -> list[str]:
        return [bucket["Name"] for bucket in server.client().list_buckets()["Buckets"]]

    before = buckets()
    with pytest.raises(PublishFailed, match=r"publish\.uri 's3://elsewhere'"):
        release.publish("s3://elsewhere")
    assert buckets() == before


def test_a_reader_without_credentials_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables("http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (problem,) = verify_release(ADDRESS, {"skip_instance_cache": True}).problems
    assert "cannot be read (NoCredentialsError)" in problem


def test_options_open_the_bucket_where_the_environment_does_not(
    release: Release, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in variables(""):
        monkeypatch.delenv(name)
    options = {"key": "key", "secret": "qzxsecret", "endpoint_url": server.url}
    manifest = release.manifest
    address = publish_bundle(release.folder, f"s3://office@{URI[5:]}", "visits", VERSION, manifest, options)
    assert address == ADDRESS
    assert verify_release(f"s3://office@{ADDRESS[5:]}", options).ok


def test_what_a_failure_says_does_not_hold_the_options(release: Release, server: Server) -> None:
    server.refuse = lambda request: "AccessDenied"
    options = {"key": "key", "secret": "qzxsecret", "endpoint_url": server.url}
    with pytest.raises(PublishFailed) as failed:
        publish_bundle(release.folder, URI, "visits", VERSION, release.manifest, options)
    assert "qzxsecret" not in str(failed.value)
    assert failed.value.__suppress_context__
    found = verify_release(ADDRESS, options)
    assert not found.ok
    assert "qzxsecret" not in repr(found)


def test_credentials_in_the_uri_are_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_TEST_PASSWORD", "qzxsecret")
    with pytest.raises(ContractError, match="name of an Airflow connection") as refused:
        connection_of("s3://AKIA:qzxsecret@releases/open")
    assert "qzxsecret" not in str(refused.value)
    for uri in ("sftp://me:qzxsecret@host/releases", "sftp://me:${SLUICE_TEST_PASSWORD}@host/releases"):
        with pytest.raises(ContractError, match="holds a password") as refused:
            connection_of(uri)
        assert "qzxsecret" not in str(refused.value)
    assert connection_of("abfs://container@account.dfs.core.windows.net/a:b@c") is None
    assert connection_of("s3://office@releases/open") == "office"
    assert connection_of("s3://releases/open/a@b") is None
    assert connection_of("/releases") is None


def documented_policy() -> dict[str, Any]:
    """The policy in the documentation, for this bucket."""
    page = (_ROOT / "docs" / "bucket.md").read_text(encoding="utf-8")
    (found,) = (text for text in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if '"Version"' in text)
    return json.loads(found.replace("BUCKET", "releases").replace("PREFIX", "open/data"))


def test_the_documented_policy_is_enough_and_allows_nothing_else(
    large: Release, server: Server, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator applies a denial without looking at its condition, so that statement is left out here."""
    from moto.core.authorization import enable_iam_authentication

    policy = documented_policy()
    policy["Statement"] = [one for one in policy["Statement"] if one["Effect"] == "Allow"]
    administrator = server.client("iam")
    administrator.create_user(UserName="worker")
    administrator.put_user_policy(UserName="worker", PolicyName="publish", PolicyDocument=json.dumps(policy))
    key = administrator.create_access_key(UserName="worker")["AccessKey"]
    for name, value in variables(server.url, key["AccessKeyId"], key["SecretAccessKey"]).items():
        monkeypatch.setenv(name, value)
    with enable_iam_authentication():
        with pytest.raises(PublishFailed):
            large.publish("s3://releases/closed")
        assert verify_release(large.publish(URI)).ok
        worker = server.client("s3", key["AccessKeyId"], key["SecretAccessKey"])
        with pytest.raises(worker.exceptions.ClientError, match="AccessDenied"):
            worker.delete_object(Bucket="releases", Key=f"{PREFIX.removeprefix('/releases/')}README.md")
        with pytest.raises(worker.exceptions.ClientError, match="AccessDenied"):
            worker.put_object(Bucket="releases", Key="open/elsewhere", Body=b"")


def _approved_by(release: Release, by: str) -> dict[str, Any]:
    return {**release.manifest, "approval": {**release.manifest["approval"], "by": by}}
