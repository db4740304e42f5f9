"""The Airflow connection that ``publish.uri`` names, as what fsspec needs to open the bucket.

``s3://connection@bucket/prefix`` is Airflow's own way to write it, see ``airflow.sdk.ObjectStoragePath``; the provider
that knows the connection's type turns it into a file system (for S3 the Amazon provider, with all that its connections
can do, such as assuming a role). A connection that does not exist publishes nothing: the Amazon provider alone would go
on with whatever credentials the worker has.
"""

from __future__ import annotations

from typing import Any

from synth.errors import PublishFailed


def storage_options(uri: str) -> dict[str, Any]:
    """What fsspec needs beyond the URI; nothing if it names no connection. May hold credentials: never log it.

    :param uri: the contract's ``publish.uri``.
    :raises PublishFailed: if the connection cannot be used.
    """
    from airflow.sdk import Connection, ObjectStoragePath

    from synth.contract import resolve_uri
    from synth.release.bucket import connection_of

    name = connection_of(uri)
    if name is None:
        return {}
    try:
        Connection.get(name)
        return dict(ObjectStoragePath(resolve_uri(uri)).fs.storage_options)
    except Exception as error:
        # The text of the error is left out, which could quote the connection's extra fields.
        raise PublishFailed(
            f"publish.uri names the Airflow connection {name!r}, which cannot be used ({type(error).__name__}); check "
            "that it exists, that it is of the type Amazon Web Services, and that the workers have "
            "apache-airflow-providers-amazon[s3fs]"
        ) from None
