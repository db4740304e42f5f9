"""How the bytes of a run's artifacts are protected: authenticated, or encrypted as well.

Without a workspace key of the deployment an artifact carries an HMAC-SHA256 under a key that is drawn for the run. With
one it is encrypted by AES-256-GCM. The run's key follows from the deployment's key and a random salt in the file
``key`` of the run (HKDF-SHA256, RFC 5869), so whoever has the folder alone reads nothing, and whoever has the
deployment's key alone reads nothing either once that file is gone.

An encrypted artifact is a header (magic bytes with the format's version, size of a frame, length of the payload, salt)
and frames, each with its tag. Every artifact has a key of its own, derived with the header's salt, and counts its
frames as nonces, so no nonce is ever used twice with a key (the construction of Hoang, Reyhanitabar, Rogaway and Vizár,
2015). Header, number of the frame, run and name of the artifact are associated data: a frame that was changed,
dropped, put elsewhere, or taken from another artifact or run does not open. Beyond the payload, memory holds one
frame in the clear and one encrypted.

What breaks it: who reads the memory of a worker or has both folder and deployment's key, and a file system that keeps
old versions of the file ``key`` after it was removed.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import secrets
import struct
from collections.abc import Iterator, Sequence
from typing import IO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from synth.errors import TamperedArtifact, WorkspaceLocked

ENCRYPTED, RESTRICTED = "encrypted", "access-restricted"
FRAME_BYTES = 64 * 2**20
_AUTHENTICATED_MAGIC, _SEALED_MAGIC = b"SLUICE1\n", b"SLUICE2\n"
_KEY_FILE_MAGIC = b"SLUICE sealed 1\n"
_KEY_BYTES = _SALT_BYTES = _MAC_BYTES = 32
_TAG_BYTES = 16
_HEADER = struct.Struct(f">8sIQ{_SALT_BYTES}s")


class Protection(Protocol):
    """What stands between an artifact's payload and its file."""

    kind: str

    def protect(self, name: str, payload: bytes) -> Iterator[bytes]:
        """The bytes of the file, part by part."""
        ...

    def open(self, name: str, file: IO[bytes]) -> bytes:
        """The payload.

        :raises TamperedArtifact: if the file is not what :meth:`protect` made under this name.
        """
        ...


def new_key_file(workspace_keys: Sequence[bytes]) -> bytes:
    """What the file ``key`` of a new run holds: a key, or the salt of one and what tells the deployment's key by."""
    if not workspace_keys:
        return secrets.token_bytes(_KEY_BYTES)
    salt = secrets.token_bytes(_SALT_BYTES)
    return _KEY_FILE_MAGIC + salt + _check(workspace_keys[0], salt)


def protection(key_file: bytes, workspace_keys: Sequence[bytes], run: str) -> Protection:
    """The protection with which a run was begun.

    :param workspace_keys: of the deployment; any of them may be the one.
    :raises WorkspaceLocked: if the run was begun with a key that is not among them.
    :raises TamperedArtifact: if it is not encrypted though there are keys.
    """
    if len(key_file) == _KEY_BYTES:
        if workspace_keys:  # or whoever can write to the folder could take the encryption off
            raise TamperedArtifact(
                f"the workspace of run {run!r} is not encrypted, though a workspace key is configured; it was begun "
                "before that, or its file 'key' was replaced: settle the run and start a new one"
            )
        return Authenticated(key_file)
    salt, check = key_file[len(_KEY_FILE_MAGIC) :][:_SALT_BYTES], key_file[len(_KEY_FILE_MAGIC) + _SALT_BYTES :]
    if not key_file.startswith(_KEY_FILE_MAGIC) or len(check) != _KEY_BYTES:
        raise TamperedArtifact(f"run {run!r}: the file 'key' of its workspace is not what was written; start a new run")
    if not workspace_keys:
        raise WorkspaceLocked(
            f"the workspace of run {run!r} is encrypted and no workspace key is configured here: set "
            "SLUICE_WORKSPACE_KEY, or in Airflow the password of the connection sluice_workspace, to the key that the "
            "run was begun with",
            retry=True,
        )
    for key in workspace_keys:
        if hmac.compare_digest(check, _check(key, salt)):
            return Sealed(_derived(key, salt, b"sluice workspace 1: key of the run"), run)
    raise WorkspaceLocked(
        f"the workspace of run {run!r} is encrypted, and none of the {len(workspace_keys)} configured workspace keys "
        "is the one it was begun with: append that one to SLUICE_WORKSPACE_KEY, or to the password of the Airflow "
        "connection, after a comma; if it is lost, settle the run and start a new one"
    )


class Authenticated:
    """Payloads in the clear, each with its authentication code."""

    kind = RESTRICTED

    def __init__(self, key: bytes) -> None:
        self._key = key

    def protect(self, name: str, payload: bytes) -> Iterator[bytes]:
        yield _AUTHENTICATED_MAGIC + self._mac(name, payload)
        yield payload

    def open(self, name: str, file: IO[bytes]) -> bytes:
        magic, mac, payload = file.read(len(_AUTHENTICATED_MAGIC)), file.read(_MAC_BYTES), file.read()
        if magic != _AUTHENTICATED_MAGIC or not hmac.compare_digest(mac, self._mac(name, payload)):
            raise _changed(name)
        return payload

    def _mac(self, name: str, payload: bytes) -> bytes:
        mac = hmac.new(self._key, name.encode() + b"\0", hashlib.sha256)
        mac.update(payload)
        return mac.digest()


class Sealed:
    """Payloads encrypted in frames.

    :param key: of the run.
    :param run: its name.
    :param frame_bytes: of what is written; what is read says its own.
    """

    kind = ENCRYPTED

    def __init__(self, key: bytes, run: str, frame_bytes: int = FRAME_BYTES) -> None:
        self._key = key
        self._run = run
        self._frame_bytes = frame_bytes

    def protect(self, name: str, payload: bytes) -> Iterator[bytes]:
        salt = secrets.token_bytes(_SALT_BYTES)
        header = _HEADER.pack(_SEALED_MAGIC, self._frame_bytes, len(payload), salt)
        cipher, view = self._cipher(salt), memoryview(payload)
        yield header
        for number in range(_frames(len(payload), self._frame_bytes)):
            frame = view[number * self._frame_bytes : (number + 1) * self._frame_bytes]
            yield cipher.encrypt(_nonce(number), frame, self._associated(header, number, name))

    def open(self, name: str, file: IO[bytes]) -> bytes:
        header = file.read(_HEADER.size)
        if len(header) != _HEADER.size:
            raise _changed(name)
        magic, frame_bytes, length, salt = _HEADER.unpack(header)
        if magic != _SEALED_MAGIC or not 0 < frame_bytes <= FRAME_BYTES:
            raise _changed(name)
        frames = _frames(length, frame_bytes)
        if os.fstat(file.fileno()).st_size != _HEADER.size + length + frames * _TAG_BYTES:
            raise _changed(name)
        cipher, payload = self._cipher(salt), io.BytesIO()
        for number in range(frames):
            frame = file.read(min(frame_bytes, length - number * frame_bytes) + _TAG_BYTES)
            try:
                payload.write(cipher.decrypt(_nonce(number), frame, self._associated(header, number, name)))
            except InvalidTag:
                raise _changed(name) from None
        return payload.getvalue()

    def _cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(_derived(self._key, salt, b"sluice artifact 2"))

    def _associated(self, header: bytes, number: int, name: str) -> bytes:
        run = self._run.encode()
        return header + struct.pack(">QI", number, len(run)) + run + name.encode()


def _frames(length: int, frame_bytes: int) -> int:
    """How many there are; an empty payload has one as well, whose tag vouches for it."""
    return max(1, -(-length // frame_bytes))


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _derived(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=purpose).derive(key)


def _check(workspace_key: bytes, salt: bytes) -> bytes:
    return _derived(workspace_key, salt, b"sluice workspace 1: tells the key by")


def _changed(name: str) -> TamperedArtifact:
    return TamperedArtifact(
        f"artifact {name!r} is not what was written under this name in this run; it was changed afterwards. Nothing "
        "of this run may be published: start a new run and find out who can write to the workspace"
    )
