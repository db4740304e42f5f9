"""The place that ``publish.uri`` names: how it is opened, and the address that readers use.

``s3://connection@bucket/prefix`` names an Airflow connection that holds the credentials. Whoever publishes resolves it
and hands over what fsspec needs to open the bucket; without that, and outside Airflow, the name is ignored and the
usual variables of the environment count (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL_S3`` and so on). The name is no part
of an address, because readers come with credentials of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import fsspec

from synth.contract import resolve_uri
from synth.contract.models import holds_password
from synth.errors import ContractError

_WITH_USER = re.compile(r"s3://([^/@]*)@(.*)", re.DOTALL)
_CONNECTION = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Place:
    """A folder or prefix, opened.

    :ivar path: in the file system's own words, without a slash at the end.
    :ivar address: the URI that anyone may see.
    """

    file_system: fsspec.AbstractFileSystem
    path: str
    address: str


def open_place(uri: str, storage_options: Mapping[str, Any] | None = None) -> Place:
    """The place behind a URI.

    :param storage_options: what fsspec needs beyond the URI, such as credentials.
    :raises ContractError: if the URI holds credentials, or a variable in it is not set.
    """
    _, address = _split(uri)
    file_system, path = fsspec.core.url_to_fs(address, **(storage_options or {}))
    return Place(file_system, path.rstrip("/"), address)


def connection_of(uri: str) -> str | None:
    """The Airflow connection that a URI names.

    :raises ContractError: see :func:`open_place`.
    """
    return _split(uri)[0]


def _split(uri: str) -> tuple[str | None, str]:
    resolved = resolve_uri(uri)
    found = _WITH_USER.fullmatch(resolved)
    if found is None:
        if holds_password(resolved):
            raise ContractError(
                "publish.uri holds a password, which the address of a release would show; if it was real, replace it"
            )
        return None, resolved.rstrip("/")
    name, rest = found.groups()
    if not _CONNECTION.fullmatch(name):
        raise ContractError(
            "publish.uri: what stands before the @ of an s3:// address is the name of an Airflow connection, made of "
            "letters, digits, dot, dash and underscore; credentials belong in the connection or the environment, never "
            "in a contract: if these were real, replace them"
        )
    return name, f"s3://{rest}".rstrip("/")
