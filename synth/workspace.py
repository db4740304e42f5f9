"""A run's private folder of write-once artifacts.

An artifact appears whole or not at all, and never changes: the first writer wins and every later one gets what is
there. Each carries an HMAC-SHA256 under a key that is drawn for the run and dies with the folder; a plain digest
of private bytes would let anyone confirm a guess. The folder is readable by its owner only. Artifacts under
``private/`` hold rows and are erased when the run is settled; those under ``dp/`` are outputs of charged
mechanisms; those under ``public/`` are facts of contract and plan.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import safetensors.numpy

from synth.canonical import canonical_json
from synth.errors import StorageUnavailable, TamperedArtifact

_MAGIC = b"SLUICE1\n"
_MAC_BYTES = 32
_ROOM = 4 << 20


class Workspace:
    """The folder of one run; created on first use.

    :param root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        for part in ("private", "dp", "public"):
            _private_folder(root / part)
        self._key = self._load_key()

    def _load_key(self) -> bytes:
        path = self.root / "key"
        if not path.exists():
            self._link(path, secrets.token_bytes(32))
        return path.read_bytes()

    def exists(self, name: str) -> bool:
        """Whether the artifact was committed."""
        return (self.root / name).exists()

    def write(self, name: str, payload: bytes) -> None:
        """Commit an artifact; if one is there already it stays, and this payload is dropped."""
        self._link(self.root / name, _MAGIC + self._mac(name, payload) + payload)

    def read(self, name: str) -> bytes:
        """The payload of a committed artifact.

        :raises TamperedArtifact: if it is missing, cut short, or not what was written.
        """
        try:
            content = (self.root / name).read_bytes()
        except FileNotFoundError:
            raise TamperedArtifact(
                f"artifact {name!r} is not in the run's workspace; it was erased or never made: start a new run"
            ) from None
        head = len(_MAGIC) + _MAC_BYTES
        mac, payload = content[len(_MAGIC) : head], content[head:]
        if content[: len(_MAGIC)] != _MAGIC or not hmac.compare_digest(mac, self._mac(name, payload)):
            raise TamperedArtifact(
                f"artifact {name!r} does not carry its authentication code; it was changed after it was written. "
                "Nothing of this run may be published: start a new run and find out who can write to the workspace"
            )
        return payload

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
        private = self.root / "private"
        shutil.rmtree(private, ignore_errors=True)
        if private.exists() and any(private.iterdir()):
            raise StorageUnavailable(
                f"private rows are still in {private}, which cannot be removed; check that its disk is writable and "
                "that the folder belongs to this account, then try again"
            )
        _private_folder(private)

    def _mac(self, name: str, payload: bytes) -> bytes:
        return hmac.digest(self._key, name.encode() + b"\0" + payload, hashlib.sha256)

    def _link(self, path: Path, content: bytes) -> None:
        """Write beside, flush to disk, then link into place: atomic, and refused if the name is taken."""
        _private_folder(path.parent)
        temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, path)
            except FileExistsError:
                return
        finally:
            temporary.unlink()


def _private_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner only; ``parents=True`` would open those."""
    if not path.is_dir():
        _private_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
