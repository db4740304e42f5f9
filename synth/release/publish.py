"""Publishing: from a finished bundle to ``<uri>/<dataset>/<version>/``, all of it or nothing that counts.

``manifest.json`` comes last, and a prefix without one is no release. On a local file system files are staged beside
the destination and moved by one rename of the whole folder. An object store cannot rename: files go straight to their
place, the listing is compared with the manifest, and the manifest is written on the condition that none is there.
What an attempt has staged is removed by itself, or once the release is there: never from under one that is at work.
Nothing in an object store is ever deleted, so the credentials need no right to. Trying again after any crash completes.
Versions never change.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from synth.errors import NotApproved, NotPrivate, PublishFailed, SluiceError, TamperedArtifact, VersionTaken
from synth.release.bucket import open_place
from synth.release.manifest import MANIFEST, artifact_digest, list_files, manifest_bytes, manifest_digest
from synth.release.stamp import NOT_PRIVATE, is_stamped

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def publish_bundle(
    folder: Path,
    uri: str,
    dataset: str,
    version: str,
    manifest: Mapping[str, Any],
    storage_options: Mapping[str, Any] | None = None,
) -> str:
    """Publish a bundle; returns the address of the release. Doing it again with the same manifest does nothing.

    :param folder: as :func:`synth.release.bundle.build_bundle` left it.
    :param uri: the contract's ``publish.uri``.
    :param manifest: with its approval, see :func:`synth.release.manifest.with_approval`.
    :param storage_options: what fsspec needs to open the bucket, beyond the URI and the environment; never shown.
    :raises ContractError: if ``uri`` holds credentials, or a variable in it is not set.
    :raises NotApproved: if the manifest's approval is missing or about another artifact, or the bundle is not private.
    :raises TamperedArtifact: if the folder does not hold exactly the manifest's files.
    :raises VersionTaken: if the version exists with another manifest.
    :raises PublishFailed: if the bucket refuses or cannot be reached.
    """
    _require_sound(folder, dataset, version, manifest)
    try:
        place = open_place(uri, storage_options)
        _Publication(place.file_system, f"{place.path}/{dataset}", version, folder, manifest).run()
    except SluiceError:
        raise
    except Exception as error:
        raise PublishFailed(
            f"publish.uri {uri!r}: version {version} cannot be written ({type(error).__name__}); check that the place "
            "exists and has room, that the worker may write there and that support for its protocol is installed, then "
            "try again. What was uploaded so far does not count as a release"
        ) from None
    return f"{place.address}/{dataset}/{version}"


def _require_sound(folder: Path, dataset: str, version: str, manifest: Mapping[str, Any]) -> None:
    for field, name in (("dataset", dataset), ("version", version)):
        if not _SAFE_NAME.fullmatch(name) or manifest[field] != name:
            raise ValueError(f"Expected {field}={manifest[field]!r} of the manifest as a plain name, given {name!r}.")
    if "not_private" in manifest or is_stamped(folder):
        raise NotPrivate(
            f"release {version} of {dataset} is {NOT_PRIVATE}: it was drawn with --unsafe-seed and is never published"
        )
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
        if isinstance(self.file_system, LocalFileSystem):
            self._publish_folder()
        else:
            self._publish_objects()

    def _publish_folder(self) -> None:
        self.file_system.makedirs(self.base, exist_ok=True)
        if not self._published():
            try:
                for entry in self.manifest["files"]:
                    self._stage(entry)
                self._rename()
            except Exception:
                self._remove(self.staging)
                if not self._published():  # else another attempt of this run was faster
                    raise
        _to_disk(self.base)
        self._remove_leftovers()

    def _publish_objects(self) -> None:
        if self._published():
            return
        # What an attempt that died has left is written again: without a manifest nobody has relied on it.
        for entry in self.manifest["files"]:
            self.file_system.put_file(str(self.folder / entry["path"]), f"{self.target}/{entry['path']}")
        self._require_exactly_the_files()
        self._write_manifest()

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
        """What other attempts have staged, once the release is in its place.

        Earlier it could be the work of one that is alive: it would rename what is left of its folder.
        """
        staging = re.compile(rf"\.staging-{re.escape(self.version)}-[0-9a-f]{{16}}")
        self.file_system.invalidate_cache()
        for path in self.file_system.ls(self.base, detail=False):
            if staging.fullmatch(path.rstrip("/").rsplit("/", 1)[-1]):
                self._remove(path)

    def _remove(self, path: str) -> None:
        shutil.rmtree(path, ignore_errors=True)  # another attempt may be removing the same

    def _stage(self, entry: Mapping[str, Any]) -> None:
        path = f"{self.staging}/{entry['path']}"
        self.file_system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self.file_system.put_file(str(self.folder / entry["path"]), path)
        _require_size(path, self.file_system.info(path)["size"], entry["bytes"])

    def _rename(self) -> None:
        """Manifest into the staging folder, all of it to disk, then one rename."""
        self.file_system.pipe_file(f"{self.staging}/{MANIFEST}", manifest_bytes(self.manifest))
        for place, _, names in os.walk(self.staging):
            for path in (*(os.path.join(place, name) for name in names), place):
                _to_disk(path)
        os.rename(self.staging, self.target)

    def _require_exactly_the_files(self) -> None:
        self.file_system.invalidate_cache()
        there = {path: about["size"] for path, about in self.file_system.find(self.target, detail=True).items()}
        prefix = self.file_system._strip_protocol(self.target)
        for entry in self.manifest["files"]:
            path = f"{prefix}/{entry['path']}"
            _require_size(path, there.pop(path, 0), entry["bytes"])
        there.pop(f"{prefix}/{MANIFEST}", None)  # of another attempt, this moment: the condition below decides
        if there:
            raise PublishFailed(
                f"{prefix} holds {len(there)} files that are not of this release, such as "
                f"{min(there).removeprefix(prefix + '/')}; find out who wrote there, remove them, then try again"
            )

    def _write_manifest(self) -> None:
        """The manifest makes the files a release; it is written once."""
        path, content = f"{self.target}/{MANIFEST}", manifest_bytes(self.manifest)
        try:
            self.file_system.pipe_file(path, content, mode="create")
        except FileExistsError:
            if not self._published():
                raise
        except OSError as error:
            # A store without conditional writes; then looking first is the best there is.
            if error.errno != errno.ENOSYS:
                raise
            if not self._published():
                self.file_system.pipe_file(path, content)


def _require_size(path: str, size: int, expected: int) -> None:
    if size != expected:
        raise PublishFailed(
            f"{path} holds {size} bytes of {expected} after the upload; check the place's quota, then try again"
        )


def _to_disk(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
