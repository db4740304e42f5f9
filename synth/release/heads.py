"""The heads of the ledger that published statements tell.

Statements are read for this alone: a forged one can stop releases under its policy, and can hide nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import fsspec

from synth.errors import AnchorsUnavailable, PolicyError, SluiceError
from synth.release.bucket import open_place

_STATEMENT = "privacy_statement.json"
_NEWEST = 20  # statements that are read of a dataset's releases: an older head is implied by a newer one


def head_of_release(uri: str, policy: str) -> dict[int, str]:
    """The head that the policy's ledger had when a release was made, by its sequence.

    :raises SluiceError: if the statement cannot be read, tells none, or is of another policy.
    """
    try:
        place = open_place(uri)
        statement = json.loads(place.file_system.cat_file(f"{place.path}/{_STATEMENT}"))
    except SluiceError:
        raise
    except Exception as error:
        raise AnchorsUnavailable(
            f"the statement of the release at {uri} cannot be read ({type(error).__name__}); check the address"
        ) from None
    told = _told(statement)
    if told is None:
        raise SluiceError(f"the statement of the release at {uri} does not tell the head of the ledger")
    name, head = told
    if name != policy:
        raise PolicyError(f"the release at {uri} was charged to policy {name!r}: verify that one")
    return head


def heads_of_releases(
    uri: str, dataset: str, policy: str, storage_options: Mapping[str, Any] | None = None
) -> dict[int, str]:
    """What the newest releases of a dataset tell about the policy's ledger; nothing where there is no release yet.

    :param uri: the contract's ``publish.uri``.
    :raises AnchorsUnavailable: if the place cannot be read.
    """
    try:
        place = open_place(uri, storage_options)
        names = _versions(place.file_system, f"{place.path}/{dataset}")
        paths = [f"{place.path}/{dataset}/{name}/{_STATEMENT}" for name in sorted(names)[-_NEWEST:]]
        told = [_told(_read(place.file_system, path)) for path in paths]
    except SluiceError:
        raise
    except Exception as error:  # clients of object stores raise what they like, and quote what they were given
        failure = type(error).__name__
    else:
        heads = (head for name, head in filter(None, told) if name == policy)
        return {sequence: digest for head in heads for sequence, digest in head.items()}
    raise AnchorsUnavailable(
        f"publish.uri {uri!r}: earlier releases cannot be read ({failure}), so nobody can tell whether the ledger is "
        "complete, and nothing is released; check that the place exists and that the worker may list and read there, "
        "then try again"
    )


def _versions(file_system: fsspec.AbstractFileSystem, folder: str) -> list[str]:
    """Versions start with their day, so the last in order are the newest."""
    file_system.invalidate_cache()
    try:
        paths = file_system.ls(folder, detail=False)
    except FileNotFoundError:
        return []
    return [name for path in paths if not (name := path.rstrip("/").rsplit("/", 1)[-1]).startswith(".")]


def _read(file_system: fsspec.AbstractFileSystem, path: str) -> Any:
    """A statement; None for what an attempt that died has left, or is no statement."""
    try:
        return json.loads(file_system.cat_file(path))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _told(statement: Any) -> tuple[str, dict[int, str]] | None:
    """Policy and head."""
    match statement:
        case {"ledger": {"policy": str(policy), "sequence": int(sequence), "digest": str(digest)}}:
            return policy, {sequence: digest}
    return None
