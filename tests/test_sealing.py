"""What an encrypted workspace shows to whoever has the folder, and what it believes of what they put there."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synth.errors import SettingsError, TamperedArtifact, WorkspaceLocked
from synth.sealing import ENCRYPTED, RESTRICTED, Sealed
from synth.settings import Settings, new_workspace_key, workspace_keys
from synth.workspace import Workspace, is_temporary

KEY, OTHER = secrets.token_bytes(32), secrets.token_bytes(32)
PAYLOAD = bytes(range(100))
HEADER, FRAME, TAG = 52, 16, 16


def begun(tmp_path: Path, name: str = "one", keys: tuple[bytes, ...] = (KEY,)) -> Workspace:
    return Workspace(tmp_path / name, f"people/{name}", keys)


@pytest.fixture
def sealed() -> Sealed:
    """Of one run, in frames so small that the payload takes seven."""
    return Sealed(KEY, "people/one", FRAME)


def stored(sealed: Sealed, path: Path, name: str = "dp/a", payload: bytes = PAYLOAD) -> Path:
    path.write_bytes(b"".join(sealed.protect(name, payload)))
    return path


def read(sealed: Sealed, path: Path, name: str = "dp/a") -> bytes:
    with path.open("rb") as file:
        return sealed.open(name, file)


@pytest.mark.parametrize("length", [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME, 1_000_003])
def test_a_payload_of_any_length_comes_back(sealed: Sealed, tmp_path: Path, length: int) -> None:
    payload = secrets.token_bytes(length)
    assert read(sealed, stored(sealed, tmp_path / "a", payload=payload)) == payload


def test_what_is_read_says_its_own_frame_size(sealed: Sealed, tmp_path: Path) -> None:
    path = stored(sealed, tmp_path / "a")
    assert read(Sealed(KEY, "people/one"), path) == PAYLOAD


def test_a_write_holds_no_more_than_a_frame_at_a_time(sealed: Sealed) -> None:
    assert max(len(part) for part in sealed.protect("dp/a", PAYLOAD)) == HEADER
    assert max(len(part) for part in Sealed(KEY, "r", 64).protect("dp/a", PAYLOAD)) == 64 + TAG


def test_every_byte_of_header_and_frames_is_vouched_for(sealed: Sealed, tmp_path: Path) -> None:
    content = stored(sealed, tmp_path / "a").read_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1
        (tmp_path / "a").write_bytes(changed)
        with pytest.raises(TamperedArtifact, match="'dp/a'"):
            read(sealed, tmp_path / "a")


def frames(content: bytes) -> list[bytes]:
    size = FRAME + TAG
    return [content[start : start + size] for start in range(HEADER, len(content), size)]


def shorter(content: bytes, by: int) -> bytes:
    """The header of a payload that is shorter by so many bytes."""
    length = int.from_bytes(content[12:20], "big") - by
    return content[:12] + length.to_bytes(8, "big") + content[20:HEADER]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[: HEADER + 3 * (FRAME + TAG)],
        lambda content: content + content[HEADER : HEADER + FRAME + TAG],
        lambda content: shorter(content, FRAME) + b"".join(frames(content)[1:]),
        lambda content: shorter(content, 4) + b"".join(frames(content)[:-1]),
        lambda content: content[:HEADER] + b"".join([*frames(content)[1::-1], *frames(content)[2:]]),
        lambda content: content[:HEADER] + b"".join([frames(content)[1], *frames(content)[1:]]),
    ],
    ids=["cut", "extended", "first frame dropped", "last frame dropped", "two frames swapped", "a frame twice"],
)
def test_frames_that_were_dropped_or_moved_do_not_open(
    sealed: Sealed, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    path = stored(sealed, tmp_path / "a")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(TamperedArtifact):
        read(sealed, path)


def test_a_header_that_promises_more_than_the_file_has_takes_no_memory(sealed: Sealed, tmp_path: Path) -> None:
    content = stored(sealed, tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[:12] + (2**62).to_bytes(8, "big") + content[20:])
    with pytest.raises(TamperedArtifact):
        read(sealed, tmp_path / "a")


def swapped_artifacts_are_refused(one: Sealed, other: Sealed, folder: Path) -> bool:
    """Whether a file is refused under another artifact's name and in another run of the same key."""
    path = stored(one, folder / "a")
    refused = []
    for sealed, name in ((one, "dp/b"), (other, "dp/a")):
        try:
            read(sealed, path, name)
        except TamperedArtifact:
            refused.append(name)
    return refused == ["dp/b", "dp/a"]


class WithoutAssociatedData(Sealed):
    """The broken twin: every frame is authentic wherever it is put."""

    def _associated(self, header: bytes, number: int, name: str) -> bytes:
        return b""


@pytest.mark.parametrize(("kind", "refused"), [(Sealed, True), (WithoutAssociatedData, False)])
def test_artifacts_do_not_pass_for_each_other(tmp_path: Path, kind: type[Sealed], refused: bool) -> None:
    one, other = kind(KEY, "people/one", FRAME), kind(KEY, "people/two", FRAME)
    assert swapped_artifacts_are_refused(one, other, tmp_path) is refused


def test_a_whole_folder_does_not_pass_for_another_run_s(tmp_path: Path) -> None:
    begun(tmp_path).write("dp/a", PAYLOAD)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    with pytest.raises(TamperedArtifact):
        begun(tmp_path, "two").read("dp/a")


def test_the_same_payload_is_written_differently_each_time(sealed: Sealed) -> None:
    once, again = (b"".join(sealed.protect("dp/a", PAYLOAD)) for _ in range(2))
    assert not set(frames(once)) & set(frames(again))


def test_an_old_key_still_opens_and_the_first_one_encrypts(tmp_path: Path) -> None:
    begun(tmp_path).write("dp/a", PAYLOAD)
    rotated = (OTHER, KEY)
    assert begun(tmp_path, keys=rotated).read("dp/a") == PAYLOAD
    begun(tmp_path, keys=rotated).write("dp/b", PAYLOAD)
    assert begun(tmp_path).read("dp/b") == PAYLOAD, "a run keeps the key it was begun with"
    begun(tmp_path, "two", rotated).write("dp/a", PAYLOAD)
    assert begun(tmp_path, "two", (OTHER,)).read("dp/a") == PAYLOAD
    with pytest.raises(WorkspaceLocked):
        begun(tmp_path, "two", (KEY,))


def test_a_run_that_was_begun_with_encryption_does_not_go_on_without(tmp_path: Path) -> None:
    begun(tmp_path).write("dp/a", PAYLOAD)
    with pytest.raises(WorkspaceLocked, match="SLUICE_WORKSPACE_KEY") as none:
        begun(tmp_path, keys=())
    assert none.value.retry, "whoever keeps the key may only be out of reach"
    with pytest.raises(WorkspaceLocked, match="none of the 2 configured workspace keys") as wrong:
        begun(tmp_path, keys=(OTHER, bytes(32)))
    assert not wrong.value.retry
    assert begun(tmp_path).protection == ENCRYPTED


def test_a_run_that_was_begun_without_goes_on_without(tmp_path: Path) -> None:
    begun(tmp_path, keys=()).write("dp/a", PAYLOAD)
    assert begun(tmp_path, keys=()).protection == RESTRICTED
    assert begun(tmp_path, keys=()).read("dp/a") == PAYLOAD


def test_a_run_that_was_begun_without_is_refused_once_there_is_a_key(tmp_path: Path) -> None:
    begun(tmp_path, keys=()).write("dp/a", PAYLOAD)
    with pytest.raises(TamperedArtifact, match="is not encrypted, though a workspace key is configured"):
        begun(tmp_path)


def test_the_folder_without_its_key_file_is_unreadable_for_who_has_the_deployment_s_key(tmp_path: Path) -> None:
    begun(tmp_path).write("dp/a", PAYLOAD)
    (tmp_path / "one" / "key").unlink()
    with pytest.raises(TamperedArtifact):
        begun(tmp_path).read("dp/a")


@pytest.mark.parametrize("position", [0, 15, 16, 47, 48, 79])
def test_a_changed_key_file_opens_nothing(tmp_path: Path, position: int) -> None:
    begun(tmp_path).write("dp/a", PAYLOAD)
    path = tmp_path / "one" / "key"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises((WorkspaceLocked, TamperedArtifact)):
        begun(tmp_path)


def test_artifacts_in_the_clear_are_not_believed_in_an_encrypted_run(tmp_path: Path) -> None:
    begun(tmp_path, "plain", ()).write("dp/a", PAYLOAD)
    encrypted = begun(tmp_path)
    shutil.copy(tmp_path / "plain" / "dp" / "a", encrypted.root / "dp" / "a")
    with pytest.raises(TamperedArtifact):
        encrypted.read("dp/a")


_KILLED = """
import os, signal, sys
from pathlib import Path

from synth.workspace import Workspace

keys = (bytes.fromhex(sys.argv[2]),) if sys.argv[2] else ()
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
Workspace(Path(sys.argv[1]), "people/one", keys).write("private/rows", b"PLANTED-CELL" * 10_000)
"""


@pytest.mark.parametrize("key", [KEY, None], ids=["encrypted", "access-restricted"])
def test_a_write_that_is_killed_leaves_no_payload_in_its_temporary(tmp_path: Path, key: bytes | None) -> None:
    """Where nothing is encrypted the same search finds it, so the search can find."""
    keys = (key,) if key else ()
    begun(tmp_path, keys=keys)
    code = [sys.executable, "-c", _KILLED, str(tmp_path / "one"), key.hex() if key else ""]
    assert subprocess.run(code, check=False, timeout=60).returncode == -9
    left = [path for path in (tmp_path / "one" / "private").iterdir() if is_temporary(path.name)]
    assert len(left) == 1
    assert left[0].stat().st_size > 12 * 10_000
    assert (b"PLANTED-CELL" in left[0].read_bytes()) is (key is None)
    assert not begun(tmp_path, keys=keys).exists("private/rows")


def test_the_keys_of_the_environment_are_read_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = new_workspace_key(), new_workspace_key()
    monkeypatch.setenv("SLUICE_WORKSPACE_KEY", f"{first}, {second.rstrip('=')}")
    settings = Settings.from_environment()
    assert settings.workspace_keys == workspace_keys(first, "") + workspace_keys(second, "")
    monkeypatch.setenv("SLUICE_WORKSPACE_KEY", " ")
    assert Settings.from_environment().workspace_keys == ()


@pytest.mark.parametrize(
    "text",
    ["qzxsecret", f"{new_workspace_key()},", new_workspace_key()[:-4], "ключ", new_workspace_key() * 2],
    ids=["words", "one and nothing", "too short", "other letters", "two without a comma"],
)
def test_a_text_that_is_no_key_is_refused_without_quoting_it(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SLUICE_WORKSPACE_KEY", text)
    with pytest.raises(SettingsError, match=r"SLUICE_WORKSPACE_KEY.*sluice keys new-workspace") as refused:
        Settings.from_environment()
    assert text not in str(refused.value)
    assert refused.value.__context__ is None


def test_no_representation_shows_a_key(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    text = new_workspace_key()
    monkeypatch.setenv("SLUICE_WORKSPACE_KEY", text)
    settings = Settings.from_environment()
    shown = repr(settings) + str(settings) + caplog.text
    assert text not in shown
    assert repr(settings.workspace_keys[0]) not in shown
    assert os.environ["SLUICE_WORKSPACE_KEY"] == text


@pytest.mark.parametrize("name", ["SLUICE_RETENTION_HOURS", "SLUICE_WORKSPACE_DAYS"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "a week", ""])
def test_a_time_that_is_none_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment()
