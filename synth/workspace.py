"""A run's private folder of write-once artifacts.

An artifact appears whole or not at all, and never changes: the first writer wins and every later one gets what is
there. Each is authenticated, and encrypted where the deployment has a workspace key, by :mod:`synth.sealing`, under a
key that dies with the folder's file ``key``; a plain digest of private bytes would let anyone confirm a guess. As a run
was begun, encrypted or not, so it goes on. The folder is readable by its owner only. Artifacts under ``private/`` hold
rows and are erased when the run is settled; those under ``dp/`` are outputs of charged mechanisms; those under
``public/`` are facts of contract and plan.

Two things are no artifacts: working folders, such as the release that is about to be published, and
``public/run.json``, which says whose folder this is and must be readable when keys are lost; only
:mod:`synth.housekeeping` believes it.
"""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import safetensors.numpy

from synth.canonical import canonical_json
from synth.errors import StorageUnavailable, TamperedArtifact
from synth.sealing import Protection, new_key_file, protection

KEY = "key"
_PRIVATE, _RUN = "private", "public/run.json"
_ROOM = 4 << 20


@dataclass(frozen=True)
class Occupant:
    """Whose folder it is: a run, when its folder was made, and how long a person may take to decide about it.

    The run's policy is not here: the ledger knows under which one it reserved, and is believed.
    """

    dataset: str
    run_id: str
    created_at: datetime
    approval_hours: float

    @property
    def run(self) -> str:
        """The run's key in the ledger."""
        return f"{self.dataset}/{self.run_id}"

    def write(self, root: Path) -> None:
        """Say so in the run's folder, once."""
        document = {**asdict(self), "created_at": self.created_at.isoformat(timespec="seconds")}
        if not (root / _RUN).exists():
            _link(root / _RUN, [canonical_json(document).encode()])

    @classmethod
    def read(cls, root: Path) -> Occupant | None:
        """Who is said to be in a folder; None where nothing readable says so."""
        try:
            given = json.loads((root / _RUN).read_bytes())
            created_at = datetime.fromisoformat(given["created_at"]).astimezone(UTC)
            return cls(str(given["dataset"]), str(given["run_id"]), created_at, float(given["approval_hours"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None


class Workspace:
    """The folder of one run; created on first use.

    :param root: the folder.
    :param run: the run's name; an encrypted artifact is none of another run.
    :param keys: the deployment's workspace keys: the first encrypts a new workspace, any may open an old one.
    :raises WorkspaceLocked: if it was begun with a key that is not among them.
    """

    def __init__(self, root: Path, run: str = "", keys: Sequence[bytes] = ()) -> None:
        self.root = root
        for part in (_PRIVATE, "dp", "public"):
            _private_folder(root / part)
        self._protection = self._begun(run, keys)

    def _begun(self, run: str, keys: Sequence[bytes]) -> Protection:
        path = self.root / KEY
        if not path.exists():
            _link(path, [new_key_file(keys)])
        return protection(path.read_bytes(), keys, run)

    @property
    def protection(self) -> str:
        """``encrypted`` or ``access-restricted``."""
        return self._protection.kind

    def exists(self, name: str) -> bool:
        """Whether the artifact was committed."""
        return (self.root / name).exists()

    def write(self, name: str, payload: bytes) -> None:
        """Commit an artifact; if one is there already it stays, and this payload is dropped."""
        _link(self.root / name, self._protection.protect(name, payload))

    def read(self, name: str) -> bytes:
        """The payload of a committed artifact.

        :raises TamperedArtifact: if it is missing, cut short, or not what was written.
        """
        try:
            with (self.root / name).open("rb") as file:
                return self._protection.open(name, file)
        except FileNotFoundError:
            raise TamperedArtifact(
                f"artifact {name!r} is not in the run's workspace; it was erased or never made: start a new run"
            ) from None

    def write_json(self, name: str, value: Any) -> None:
        """Commit plain values."""
        self.write(name, canonical_json(value).encode())

    def read_json(self, name: str) -> Any:
        """Plain values of a committed artifact."""
        return json.loads(self.read(name))

    def write_arrays(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Commit named arrays."""
        buffer = io.BytesIO()
        np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
        self.write(name, buffer.getvalue())

    def read_arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Named arrays of a committed artifact."""
        with np.load(io.BytesIO(self.read(name)), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}

    def write_tensors(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Commit a model's tensors as safetensors, which hold numbers and no code."""
        self.write(name, safetensors.numpy.save({key: np.asarray(value, order="C") for key, value in arrays.items()}))

    def read_tensors(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """A model's tensors."""
        return dict(safetensors.numpy.load(self.read(name)))

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        """Commit a table."""
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        self.write(name, buffer.getvalue())

    def read_frame(self, name: str) -> pd.DataFrame:
        """The table of a committed artifact."""
        return pd.read_parquet(io.BytesIO(self.read(name)))

    def folder(self, name: str) -> Path:
        """A working folder for files that are checked by other means before use."""
        path = self.root / name
        _private_folder(path)
        return path

    def restrict(self, name: str) -> None:
        """Take from others what a library that wrote into a working folder left them."""
        for path in (self.root / name).rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)

    def require_room(self) -> None:
        """Find a full or read-only disk before a mechanism is charged for an output that could not be kept.

        :raises OSError: if a file of some megabytes cannot be made.
        """
        with tempfile.TemporaryFile(dir=self.root / "dp") as probe:
            probe.write(bytes(_ROOM))
            probe.flush()

    def erase_private(self) -> None:
        """Remove every artifact that holds private rows.

        :raises StorageUnavailable: if some of them are still there.
        """
        erase_private(self.root)


def _link(path: Path, parts: Iterable[bytes]) -> None:
    """Write beside, flush to disk, then link into place: atomic, and refused if the name is taken."""
    _private_folder(path.parent)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink(missing_ok=True)  # gone where the run was settled in this moment


def is_temporary(name: str) -> bool:
    """Whether a file of this name is what a write that was killed left behind."""
    return re.fullmatch(r"\..+\.[0-9a-f]{16}", name) is not None


def holds_private(root: Path) -> bool:
    """Whether a run's folder holds private rows, whole or half written."""
    return any(not path.is_dir() for path in (root / _PRIVATE).rglob("*"))


def erase_private(root: Path) -> None:
    """Remove every artifact that holds private rows from a run's folder; needs no key.

    :raises StorageUnavailable: if some of them are still there.
    """
    private = root / _PRIVATE
    if not private.exists():
        return
    shutil.rmtree(private, ignore_errors=True)  # another one may be erasing at the same time
    _private_folder(private)
    if holds_private(root):
        raise StorageUnavailable(
            f"private rows are still in {private}, which cannot be removed; check that its disk is writable and "
            "that the folder belongs to this account, then try again"
        )


def _private_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner only; ``parents=True`` would open those."""
    if not path.is_dir():
        _private_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
