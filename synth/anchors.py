"""Heads of the ledger, noted outside of it, so that an older copy of the ledger cannot pass for the ledger.

A hash chain shows that nothing in a history was changed. That its end was cut off it cannot show: a backup of last
month is a whole chain, in which this month's spending never happened. So the head of a policy's chain is noted in
another place, a folder or a bucket, as one empty object whose name says it all: ``<policy>/<sequence>-<digest>``. Each
is written once and none is ever read, only listed. ``Ledger.verify(policy, anchors=noted(place, policy))`` then refuses
a history that lacks an entry which was noted. Where another policy takes over, its registration is noted under the
sequence 0 of the one that it succeeds, see :func:`note_successor`.

What breaks it: whoever can delete there can hide that a head was noted, so give workflows no right to (object lock, an
append-only share), and do not back the place up and restore it together with the ledger. Spending after the last head
that was noted stays unseen.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from synth.contract import resolve_uri
from synth.errors import AnchorsUnavailable, SluiceError, TamperedArtifact
from synth.ledger import SUCCESSOR, Entry
from synth.ledger.entries import policy_name

_NAME = re.compile(r"(\d{12,})-([0-9a-f]{64})")


def note(place: str, policy: str, entry: Entry, storage_options: Mapping[str, Any] | None = None) -> None:
    """Note the head of a policy's chain; again is the same.

    :param place: an fsspec URI of a folder, or of a prefix in a bucket; a local folder is created.
    :param entry: the last entry, as `Ledger.verify` returns it.
    :param storage_options: what fsspec needs to open the place, beyond the URI and the environment; never shown.
    :raises AnchorsUnavailable: if the place cannot be written to: what is not noted cannot be told from what is lost.
    """
    _write(place, policy, entry.sequence, entry.digest, storage_options)


def note_successor(place: str, policy: str, entry: Entry, storage_options: Mapping[str, Any] | None = None) -> None:
    """Note that ``policy`` was succeeded by the one whose registration this is: see :func:`note`."""
    _write(place, policy, SUCCESSOR, entry.digest, storage_options)


def noted(place: str, policy: str, storage_options: Mapping[str, Any] | None = None) -> Mapping[int, str]:
    """Every digest that was noted for a policy, by sequence number; empty where nothing was noted so far.

    Cost: one listing of names.

    :raises AnchorsUnavailable: if the place cannot be listed.
    :raises TamperedArtifact: if two digests were noted for one entry.
    """
    with _open(place, policy, storage_options) as (file_system, folder):
        names = [path.rstrip("/").rsplit("/", 1)[-1] for path in _paths(file_system, folder)]
    heads = (_NAME.fullmatch(name) for name in names)
    return merged(policy, [{int(head[1]): head[2]} for head in heads if head is not None])


def merged(policy: str, anchors: list[Mapping[int, str]]) -> dict[int, str]:
    """Heads from several places, as one.

    :raises TamperedArtifact: if they contradict each other: the ledger had two histories.
    """
    together: dict[int, str] = {}
    for mapping in anchors:
        for sequence, digest in mapping.items():
            if together.setdefault(sequence, digest) != digest:
                raise TamperedArtifact(
                    f"policy {policy!r}: two digests were noted for entry {sequence}, so its ledger went on from an "
                    "older copy; do not release from this database, find out which history is the true one"
                )
    return together


def _write(place: str, policy: str, sequence: int, digest: str, storage_options: Mapping[str, Any] | None) -> None:
    with _open(place, policy, storage_options) as (file_system, folder):
        path = f"{folder}/{sequence:012d}-{digest}"
        if isinstance(file_system, LocalFileSystem):
            _write_local(Path(path))
            return
        try:
            file_system.pipe_file(path, b"", mode="create")
        except FileExistsError:
            pass
        except OSError as error:
            # A store without conditional writes; the same nothing is written then.
            if error.errno != errno.ENOSYS:
                raise
            file_system.pipe_file(path, b"")


def _write_local(path: Path) -> None:
    """On disk when this returns, the names of the folders above included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444))
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _paths(file_system: fsspec.AbstractFileSystem, folder: str) -> list[str]:
    file_system.invalidate_cache()
    if not isinstance(file_system, LocalFileSystem):
        return list(file_system.find(folder))
    try:
        return os.listdir(folder)  # `find` would take a folder that may not be read for an empty one
    except FileNotFoundError:
        return []


@contextmanager
def _open(
    place: str, policy: str, storage_options: Mapping[str, Any] | None
) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """The file system of the place and a policy's folder in it; whatever goes wrong there has one text."""
    try:
        file_system, path = fsspec.core.url_to_fs(resolve_uri(place), **(storage_options or {}))
        yield file_system, f"{path.rstrip('/')}/{policy_name(policy)}"
    except SluiceError:
        raise
    except Exception as error:  # clients of object stores raise what they like, and quote what they were given
        failure = type(error).__name__
    else:
        return
    raise AnchorsUnavailable(
        f"the place where heads of the ledger are noted (SLUICE_ANCHORS) cannot be used ({failure}), so nobody can "
        "tell whether the ledger is complete, and nothing is released; check that it exists, that its credentials are "
        "set and that the worker may list and add there, then try again"
    )
