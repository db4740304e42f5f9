"""Artifacts are written once, whole, for their owner only, and are not believed if they changed: encrypted or not."""

from __future__ import annotations

import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pandas as pd
import pytest

from synth.errors import StorageUnavailable, TamperedArtifact
from synth.workspace import Workspace

KEY = bytes(range(32))


@pytest.fixture(params=[(), (KEY,)], ids=["access-restricted", "encrypted"])
def keys(request: pytest.FixtureRequest) -> tuple[bytes, ...]:
    return request.param


@pytest.fixture
def workspace(tmp_path: Path, keys: tuple[bytes, ...]) -> Workspace:
    return Workspace(tmp_path / "runs" / "one", "people/one", keys)


def files(workspace: Workspace) -> set[str]:
    return {str(path.relative_to(workspace.root)) for path in workspace.root.rglob("*") if path.is_file()}


def test_the_first_writer_wins_and_later_ones_get_what_is_there(workspace: Workspace) -> None:
    workspace.write("dp/a", b"first")
    workspace.write("dp/a", b"second")
    assert workspace.read("dp/a") == b"first"


def test_writers_at_once_all_find_one_whole_artifact(tmp_path: Path, keys: tuple[bytes, ...]) -> None:
    """Each with a workspace of its own, so that the key is raced for as well."""
    for attempt in range(8):
        start = Barrier(8)
        root = tmp_path / str(attempt)

        def write(number: int, root: Path = root, start: Barrier = start) -> bytes:
            start.wait()
            mine = Workspace(root, "people/one", keys)
            mine.write("dp/a", bytes([number]) * 100_000)
            return mine.read("dp/a")

        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(write, range(8)))
        assert len(found) == 1
        assert found.pop() in {bytes([number]) * 100_000 for number in range(8)}
        assert files(Workspace(root, "people/one", keys)) == {"key", "dp/a"}


def test_another_worker_reads_what_was_committed(workspace: Workspace, keys: tuple[bytes, ...]) -> None:
    workspace.write("dp/a", b"noise")
    assert Workspace(workspace.root, "people/one", keys).read("dp/a") == b"noise"


@pytest.mark.parametrize("position", [0, 7, 8, 20, 39, 40, -1])
def test_a_changed_byte_is_found_wherever_it_is(workspace: Workspace, position: int) -> None:
    workspace.write("dp/a", b"exact noisy counts")
    path = workspace.root / "dp/a"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(TamperedArtifact, match="'dp/a'"):
        workspace.read("dp/a")


@pytest.mark.parametrize("length", [0, 5, 8, 39, 45])
def test_an_artifact_that_was_cut_or_extended_is_found(workspace: Workspace, length: int) -> None:
    workspace.write("dp/a", b"exact noisy counts")
    path = workspace.root / "dp/a"
    content = path.read_bytes()
    for changed in (content[:length], content + b"x"):
        path.write_bytes(changed)
        with pytest.raises(TamperedArtifact):
            workspace.read("dp/a")


def test_an_artifact_under_another_name_or_from_another_run_is_not_believed(
    workspace: Workspace, tmp_path: Path, keys: tuple[bytes, ...]
) -> None:
    workspace.write("dp/a", b"of a")
    shutil.copy(workspace.root / "dp/a", workspace.root / "dp/b")
    with pytest.raises(TamperedArtifact, match="'dp/b'"):
        workspace.read("dp/b")
    other = Workspace(tmp_path / "runs" / "two", "people/two", keys)
    shutil.copy(workspace.root / "dp/a", other.root / "dp/a")
    with pytest.raises(TamperedArtifact):
        other.read("dp/a")


def test_a_missing_artifact_says_so(workspace: Workspace) -> None:
    assert not workspace.exists("private/train.parquet")
    with pytest.raises(TamperedArtifact, match="erased or never made"):
        workspace.read("private/train.parquet")


def test_private_artifacts_are_erased_and_the_others_stay(workspace: Workspace) -> None:
    for name in ("private/rows", "private/deep/rows", "dp/counts", "public/plan.json"):
        workspace.write(name, b"x")
    workspace.erase_private()
    workspace.erase_private()
    assert files(workspace) == {"key", "dp/counts", "public/plan.json"}
    workspace.write("private/rows", b"y")
    assert workspace.read("private/rows") == b"y"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_may_look(tmp_path: Path, umask: int, keys: tuple[bytes, ...]) -> None:
    before = os.umask(umask)
    try:
        workspace = Workspace(tmp_path / "run", "people/one", keys)
        workspace.write("private/deep/rows", b"x")
        (workspace.folder("release/data") / "part").write_bytes(b"x")
        workspace.restrict("release")
        workspace.erase_private()
        workspace.write("private/rows", b"x")
    finally:
        os.umask(before)
    for path in [workspace.root, *workspace.root.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("failing", ["fsync", "link"])
def test_a_crash_in_the_middle_leaves_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(OSError, match="disk full"):
            workspace.write("dp/a", b"half")
    assert not workspace.exists("dp/a")
    assert files(workspace) == {"key"}
    workspace.write("dp/a", b"whole")
    assert workspace.read("dp/a") == b"whole"


def test_values_arrays_and_tables_come_back_as_they_were(workspace: Workspace) -> None:
    workspace.write_json("public/a.json", {"ε": [1, 2.5, None, "x"]})
    assert workspace.read_json("public/a.json") == {"ε": [1, 2.5, None, "x"]}
    arrays = {"counts": np.array([-3, 4]), "share": np.array(0.25), "weights": np.ones((2, 3), np.float32)}
    workspace.write_arrays("dp/a.npz", arrays)
    for name, value in workspace.read_arrays("dp/a.npz").items():
        np.testing.assert_array_equal(value, arrays[name])
        assert value.dtype == arrays[name].dtype
    frame = pd.DataFrame({"a": [1.5, None], "b": ["x", None], "c": [None, None], "d": [True, False]})
    workspace.write_frame("private/a.parquet", frame)
    pd.testing.assert_frame_equal(workspace.read_frame("private/a.parquet"), frame)


def test_arrays_that_would_need_pickle_are_refused(workspace: Workspace) -> None:
    workspace.write_arrays("dp/a.npz", {"a": np.array([object()])})
    with pytest.raises(ValueError, match="allow_pickle"):
        workspace.read_arrays("dp/a.npz")


def test_rows_that_cannot_be_removed_are_not_passed_over(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write("private/rows", b"x")
    monkeypatch.setattr(shutil, "rmtree", lambda *arguments, **options: None)
    with pytest.raises(StorageUnavailable, match="private rows are still in"):
        workspace.erase_private()
