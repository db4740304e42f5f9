"""Publishing: from a finished bundle to ``<uri>/<dataset>/<version>/``, all of it or nothing that counts.

Files are staged beside the destination, checked, and moved; ``manifest.json`` comes last. On a local file system the
move is one rename of the whole folder. On an object store, which cannot rename, files are copied and a prefix
without a manifest is no release. Trying again after any crash completes: what the crash left is removed first.
Versions never change.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from synth.contract import resolve_uri
from synth.errors import NotApproved, PublishFailed, SluiceError, TamperedArtifact, VersionTaken
from synth.release.manifest import MANIFEST, artifact_digest, list_files, manifest_bytes, manifest_digest

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def publish_bundle(folder: Path, uri: str, dataset: str, version: str, manifest: Mapping[str, Any]) -> str:
    """Publish a bundle; returns the address of the release. Doing it again with the same manifest does nothing.

    :param folder: as :func:`synth.release.bundle.build_bundle` left it.
    :param uri: the contract's ``publish.uri``.
    :param manifest: with its approval, see :func:`synth.release.manifest.with_approval`.
    :raises NotApproved: if the manifest's approval is missing or about another artifact.
    :raises TamperedArtifact: if the folder does not hold exactly the manifest's files.
    :raises VersionTaken: if the version exists with another manifest.
    :raises PublishFailed: if the bucket refuses or cannot be reached.
    """
    _require_sound(folder, dataset, version, manifest)
    resolved = resolve_uri(uri)
    try:
        file_system, root = fsspec.core.url_to_fs(resolved)
        _Publication(file_system, f"{root.rstrip('/')}/{dataset}", version, folder, manifest).run()
    except SluiceError:
        raise
    except Exception as error:
        raise PublishFailed(
            f"publish.uri {uri!r}: version {version} cannot be written ({type(error).__name__}); check that the place "
            "exists, that the worker may write there and that support for its protocol is installed, then try again. "
            "What was uploaded so far does not count as a release"
        ) from None
    return f"{resolved.rstrip('/')}/{dataset}/{version}"


def _require_sound(folder: Path, dataset: str, version: str, manifest: Mapping[str, Any]) -> None:
    for field, name in (("dataset", dataset), ("version", version)):
        if not _SAFE_NAME.fullmatch(name) or manifest[field] != name:
            raise ValueError(f"Expected {field}={manifest[field]!r} of the manifest as a plain name, given {name!r}.")
    digest = artifact_digest(manifest["files"])
    approved = manifest.get("approval", {}).get("artifact_digest")
    if approved != digest:
        raise NotApproved(
            f"release {version} of {dataset}: there is no approval of artifact {digest}"
            + (f", only of {approved}" if approved else "")
            + "; have exactly this artifact approved"
        )
    if artifact_digest(list_files(folder)) != digest:
        raise TamperedArtifact(
            f"release {version} of {dataset}: the bundle's files are not those that were approved; nothing of this "
            "run may be published: start a new run and find out who can write to the workspace"
        )


class _Publication:
    """One attempt to publish one version into one dataset's folder."""

    def __init__(
        self,
        file_system: fsspec.AbstractFileSystem,
        base: str,
        version: str,
        folder: Path,
        manifest: Mapping[str, Any],
    ) -> None:
        self.file_system = file_system
        self.base = base
        self.version = version
        self.folder = folder
        self.manifest = manifest
        self.target = f"{base}/{version}"
        self.staging = f"{base}/.staging-{version}-{secrets.token_hex(8)}"

    def run(self) -> None:
        """Publish, unless it is published already."""
        self.file_system.makedirs(self.base, exist_ok=True)
        self._remove_leftovers()
        if self._published():
            return
        for entry in self.manifest["files"]:
            self._upload(entry)
        if isinstance(self.file_system, LocalFileSystem):
            self._rename()
        else:
            self._copy()

    def _published(self) -> bool:
        self.file_system.invalidate_cache()
        path = f"{self.target}/{MANIFEST}"
        if not self.file_system.exists(path):
            return False
        there = json.loads(self.file_system.cat_file(path))
        if manifest_digest(there) != manifest_digest(self.manifest):
            raise VersionTaken(
                f"version {self.version} is published already at {self.target} with another manifest; versions never "
                "change: start a new run, which gets a version of its own"
            )
        return True

    def _remove_leftovers(self) -> None:
        staging = re.compile(rf"\.staging-{re.escape(self.version)}-[0-9a-f]{{16}}")
        self.file_system.invalidate_cache()
        for path in self.file_system.ls(self.base, detail=False):
            if staging.fullmatch(path.rstrip("/").rsplit("/", 1)[-1]):
                self.file_system.rm(path, recursive=True)

    def _upload(self, entry: Mapping[str, Any]) -> None:
        path = f"{self.staging}/{entry['path']}"
        self.file_system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self.file_system.put_file(str(self.folder / entry["path"]), path)
        self._require_size(path, entry["bytes"])

    def _require_size(self, path: str, expected: int) -> None:
        size = self.file_system.info(path)["size"]
        if size != expected:
            raise PublishFailed(
                f"{path} holds {size} bytes of {expected} after the upload; check the place's quota, then try again"
            )

    def _rename(self) -> None:
        """Manifest into the staging folder, all of it to disk, then one rename."""
        self.file_system.pipe_file(f"{self.staging}/{MANIFEST}", manifest_bytes(self.manifest))
        for place, _, names in os.walk(self.staging):
            for path in (*(os.path.join(place, name) for name in names), place):
                _to_disk(path)
        try:
            os.rename(self.staging, self.target)
        except OSError:
            if not self._published():  # else another attempt of this run was faster
                raise
            if self.file_system.exists(self.staging):
                self.file_system.rm(self.staging, recursive=True)
        _to_disk(self.base)

    def _copy(self) -> None:
        """Every file to its place, then the manifest, which makes them a release."""
        if self.file_system.exists(self.target):  # an attempt died before its manifest
            self.file_system.rm(self.target, recursive=True)
        for entry in self.manifest["files"]:
            path = f"{self.target}/{entry['path']}"
            self.file_system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            self.file_system.cp_file(f"{self.staging}/{entry['path']}", path)
            self._require_size(path, entry["bytes"])
        self.file_system.pipe_file(f"{self.target}/{MANIFEST}", manifest_bytes(self.manifest))
        self.file_system.rm(self.staging, recursive=True)


def _to_disk(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
