"""The manifest: which files a release is, and the approval of exactly those.

The *artifact digest* is the SHA-256 of the canonical list of files, each with path, size and SHA-256; it is what a
person or a condition approves. The manifest is written after everything else: a folder without one is no release.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from synth.canonical import canonical_json
from synth.release.stamp import NOT_PRIVATE, is_stamped

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
_CHUNK = 1 << 20


def sha256_of(file: IO[bytes]) -> tuple[int, str]:
    """Size and SHA-256 of an open file, read in pieces."""
    digest, size = hashlib.sha256(), 0
    while piece := file.read(_CHUNK):
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()


def list_files(folder: Path) -> list[dict[str, Any]]:
    """Every file below ``folder``: path, bytes and SHA-256, sorted by path."""
    files = []
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        with path.open("rb") as file:
            size, digest = sha256_of(file)
        files.append({"path": path.relative_to(folder).as_posix(), "bytes": size, "sha256": digest})
    return sorted(files, key=lambda entry: entry["path"])


def artifact_digest(files: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of the canonical file list: what an approval is about."""
    canonical = sorted(({key: f[key] for key in ("path", "bytes", "sha256")} for f in files), key=lambda f: f["path"])
    return hashlib.sha256(canonical_json(canonical).encode()).hexdigest()


def build_manifest(folder: Path, *, dataset: str, version: str, created_at: str) -> dict[str, Any]:
    """The manifest of a finished bundle, not approved yet; stamped if the bundle is."""
    return {
        "format_version": FORMAT_VERSION,
        "dataset": dataset,
        "version": version,
        "created_at": created_at,
        "files": list_files(folder),
        **({"not_private": True, "notice": NOT_PRIVATE} if is_stamped(folder) else {}),
    }


def with_approval(manifest: Mapping[str, Any], *, mode: str, by: str, at: str, artifact: str) -> dict[str, Any]:
    """The manifest with its approval.

    :param mode: ``automatic`` or ``human``.
    :param by: who decided; for automatic, the policy whose conditions were met.
    :param at: ISO 8601, UTC.
    :param artifact: the artifact digest that was decided on, as the ledger recorded it.
    """
    return {**manifest, "approval": {"mode": mode, "by": by, "at": at, "artifact_digest": artifact}}


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """The one text of a manifest: sorted keys, two spaces, UTF-8."""
    text = json.dumps(manifest, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of :func:`manifest_bytes`."""
    return hashlib.sha256(manifest_bytes(manifest)).hexdigest()
