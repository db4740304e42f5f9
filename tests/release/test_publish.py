"""Publishing is all or nothing, once for ever, and survives a crash anywhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from synth.errors import NotApproved, PublishFailed, TamperedArtifact, VersionTaken
from synth.release.manifest import manifest_bytes
from synth.release.verify import verify_release
from tests.release.conftest import VERSION, Release, approved_manifest


@pytest.fixture(params=["local", "object store"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A bucket that can rename folders, and one that cannot."""
    if request.param == "local":
        yield str(tmp_path / "bucket")
        return
    MemoryFileSystem.store.clear()
    yield "memory://bucket"
    MemoryFileSystem.store.clear()


def listing(bucket: str) -> dict[str, bytes]:
    """Every file below a bucket."""
    file_system, root = fsspec.core.url_to_fs(bucket)
    return {path: file_system.cat_file(path) for path in file_system.find(root, withdirs=False)}


def test_a_published_release_verifies(release: Release, bucket: str) -> None:
    address = release.publish(bucket)
    assert address.endswith(f"bucket/visits/{VERSION}")
    verification = verify_release(address)
    assert verification.ok, verification.problems
    assert verification.facts["epsilon"] == release.facts.budget.epsilon_release
    assert all(".staging" not in path for path in listing(bucket))


def test_publishing_again_changes_nothing(release: Release, bucket: str) -> None:
    first, before = release.publish(bucket), listing(bucket)
    assert release.publish(bucket) == first
    assert listing(bucket) == before


def test_a_version_that_is_taken_is_refused_and_left_alone(release: Release, bucket: str, tmp_path: Path) -> None:
    release.publish(bucket)
    before = listing(bucket)
    other = {**release.manifest, "approval": {**release.manifest["approval"], "by": "bob"}}
    with pytest.raises(VersionTaken, match="versions never change") as refused:
        release.publish(bucket, other)
    assert not refused.value.retry
    assert listing(bucket) == before


def test_an_artifact_without_approval_is_not_published(release: Release, bucket: str) -> None:
    manifest = {key: value for key, value in release.manifest.items() if key != "approval"}
    with pytest.raises(NotApproved, match="no approval"):
        release.publish(bucket, manifest)
    with pytest.raises(NotApproved, match="only of 0000"):
        release.publish(bucket, approved_manifest(release.folder, "0000"))
    assert not listing(bucket) if bucket.startswith("memory") else not Path(bucket).exists()


def test_a_bundle_that_changed_after_its_approval_is_not_published(
    release: Release, bucket: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(release.folder, tmp_path / "bundle")
    (folder / "README.md").write_text("other")
    with pytest.raises(TamperedArtifact, match="not those that were approved"):
        Release(release.facts, release.frames, folder, release.manifest).publish(bucket)


def test_a_name_that_leads_out_of_the_bucket_is_refused(release: Release, tmp_path: Path) -> None:
    from synth.release.publish import publish_bundle

    manifest = {**release.manifest, "version": "../../elsewhere"}
    with pytest.raises(ValueError, match="plain name"):
        publish_bundle(release.folder, str(tmp_path), "visits", "../../elsewhere", manifest)


def test_a_bucket_that_refuses_is_named_and_can_be_tried_again(release: Release, tmp_path: Path) -> None:
    (tmp_path / "bucket").write_text("a file, not a folder")
    with pytest.raises(PublishFailed, match=r"publish\.uri '.*bucket'") as failed:
        release.publish(str(tmp_path / "bucket"))
    assert failed.value.retry
    assert failed.value.__suppress_context__


def test_an_upload_cut_short_is_no_release(release: Release, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = MemoryFileSystem if bucket.startswith("memory") else LocalFileSystem
    monkeypatch.setattr(kind, "put_file", _cut_short)
    with pytest.raises(PublishFailed, match="bytes of"):
        release.publish(bucket)
    monkeypatch.undo()
    left = [path for path in listing(bucket) if "/.staging-" not in path]
    assert not left if kind is LocalFileSystem else not any(path.endswith("manifest.json") for path in left)
    assert verify_release(release.publish(bucket)).ok


def _cut_short(file_system: Any, source: str, target: str, **options: Any) -> None:
    file_system.pipe_file(target, Path(source).read_bytes()[:-1])


class _Dies:
    """Lets ``spared`` calls of some functions through and then dies, half way through a write if it is one."""

    def __init__(self, spared: int, death: Callable[[], None]) -> None:
        self.left = spared
        self.death = death

    def before(self, original: Callable[..., Any], half: Callable[..., Any] | None = None) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if self.left == 0:
                if half is not None:
                    half(*arguments)
                self.death()
            self.left -= 1
            return original(*arguments, **options)

        return wrapped


def _half_put(file_system: Any, source: str, target: str) -> None:
    content = Path(source).read_bytes()
    file_system.pipe_file(target, content[: len(content) // 2])


def _half_pipe(file_system: Any, path: str, content: bytes) -> None:
    with file_system.open(path, "wb") as file:
        file.write(content[: len(content) // 2])


def test_a_worker_killed_at_any_write_leaves_no_release_and_a_retry_completes(release: Release, tmp_path: Path) -> None:
    finished, deaths = False, 0
    while not finished:
        bucket = tmp_path / f"bucket{deaths}"
        finished = _publish_in_a_child_that_dies(release, str(bucket), spared=deaths)
        visible = [path for path in (bucket / "visits").glob("*") if not path.name.startswith(".")]
        assert all(verify_release(str(path)).ok for path in visible)
        if not finished:
            deaths += 1
        assert verify_release(release.publish(str(bucket))).ok
        assert [path.name for path in (bucket / "visits").iterdir()] == [VERSION]
    assert deaths > 2 * len(release.manifest["files"])


def _publish_in_a_child_that_dies(release: Release, bucket: str, spared: int) -> bool:
    """Whether the child lived to the end."""
    child = os.fork()
    if child == 0:
        try:
            dies = _Dies(spared, lambda: os._exit(9))
            real = LocalFileSystem.pipe_file
            LocalFileSystem.put_file = dies.before(LocalFileSystem.put_file, _half_put)  # type: ignore[method-assign]
            LocalFileSystem.pipe_file = dies.before(real, _half_pipe)  # type: ignore[method-assign]
            os.fsync = dies.before(os.fsync)  # type: ignore[assignment]
            os.rename = dies.before(os.rename)  # type: ignore[assignment]
            release.publish(bucket)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 0


class _Crash(BaseException):
    pass


def test_an_object_store_upload_that_dies_anywhere_is_no_release_and_a_retry_completes(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash() -> None:
        raise _Crash

    finished, deaths = False, 0
    while not finished:
        MemoryFileSystem.store.clear()
        dies = _Dies(deaths, crash)
        with monkeypatch.context() as patch:
            real = MemoryFileSystem.put_file
            patch.setattr(MemoryFileSystem, "put_file", dies.before(real, _half_put_bytes))
            patch.setattr(MemoryFileSystem, "pipe_file", dies.before(MemoryFileSystem.pipe_file))
            try:
                release.publish("memory://bucket")
                finished = True
            except _Crash:
                deaths += 1
        manifest = f"/bucket/visits/{VERSION}/manifest.json"
        if manifest in MemoryFileSystem.store:
            assert verify_release(f"memory://bucket/visits/{VERSION}").ok
        else:
            found = verify_release(f"memory://bucket/visits/{VERSION}")
            assert "manifest.json is missing" in found.problems[0]
        assert verify_release(release.publish("memory://bucket")).ok
        assert len(MemoryFileSystem.store) == len(release.manifest["files"]) + 1
    MemoryFileSystem.store.clear()
    assert deaths == len(release.manifest["files"]) + 1


def _half_put_bytes(file_system: Any, source: str, target: str) -> None:
    content = Path(source).read_bytes()
    with file_system.open(target, "wb") as file:
        file.write(content[: len(content) // 2])


def test_of_two_attempts_at_once_both_end_at_the_same_release(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def after_another_attempt(source: str, target: str) -> None:
        monkeypatch.setattr(os, "rename", rename)
        release.publish(str(tmp_path))
        rename(source, target)

    monkeypatch.setattr(os, "rename", after_another_attempt)
    assert verify_release(release.publish(str(tmp_path))).ok
    assert [path.name for path in (tmp_path / "visits").iterdir()] == [VERSION]


@pytest.mark.parametrize("other", ["publishes", "dies at its first file"])
@pytest.mark.parametrize("late", range(5))
def test_another_attempt_takes_nothing_out_of_the_one_that_is_at_work(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str, late: int
) -> None:
    """Whoever comes between two files of an attempt must not leave it a part of them to publish."""
    put, done = LocalFileSystem.put_file, []

    def dies(file_system: Any, source: str, target: str, **options: Any) -> None:
        raise _Crash

    def between(file_system: Any, source: str, target: str, **options: Any) -> None:
        if len(done) == late:
            monkeypatch.setattr(LocalFileSystem, "put_file", put if other == "publishes" else dies)
            with contextlib.suppress(_Crash):
                release.publish(str(tmp_path))
            monkeypatch.setattr(LocalFileSystem, "put_file", between)
        done.append(target)
        put(file_system, source, target, **options)

    monkeypatch.setattr(LocalFileSystem, "put_file", between)
    verification = verify_release(release.publish(str(tmp_path)))
    assert verification.ok, verification.problems
    assert [path.name for path in (tmp_path / "visits").iterdir()] == [VERSION]


def test_an_attempt_that_fails_leaves_the_place_as_it_was(release: Release, tmp_path: Path) -> None:
    """A full disk is not filled further by each retry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalFileSystem, "put_file", _cut_short)
        with pytest.raises(PublishFailed):
            release.publish(str(tmp_path / "bucket"))
    assert list((tmp_path / "bucket" / "visits").iterdir()) == []


def test_the_manifest_that_is_published_is_the_one_that_was_approved(release: Release, bucket: str) -> None:
    release.publish(bucket)
    published = {path: content for path, content in listing(bucket).items() if path.endswith("manifest.json")}
    assert list(published.values()) == [manifest_bytes(release.manifest)]
