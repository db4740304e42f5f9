"""What a deployment keeps, in a form that can be searched: cells of databases, objects of a bucket, packed messages."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from psycopg import sql

from tests.ledger.postgres import Server

# How Celery packs a message's body.
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")


def unpacked(content: bytes) -> bytes:
    """The content, and after it what is packed in base64 inside."""
    parts = [content]
    for match in _BASE64.finditer(content):
        packed = match.group().rstrip(b"=")
        try:
            parts.append(base64.b64decode(packed + b"=" * (-len(packed) % 4)))
        except binascii.Error:
            continue
    return b"\n".join(parts)


def cells(server: Server, database: str) -> Iterator[tuple[str, bytes]]:
    """Every column of every table of a database, with all its cells."""
    with server.psycopg(database) as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' "
            "AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for table in tables:
            found = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(*table)))
            rows, columns = found.fetchall(), found.description or []
            for number, column in enumerate(columns):
                yield f"{database}: {'.'.join(table)}.{column.name}", b"\n".join(_bytes(row[number]) for row in rows)


def objects(client: Any, bucket: str) -> Iterator[tuple[str, bytes]]:
    """Every object of a bucket: its name and what is in it."""
    for entry in client.list_objects_v2(Bucket=bucket).get("Contents", []):
        yield f"s3://{bucket}/{entry['Key']}", client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()


def _bytes(cell: Any) -> bytes:
    return cell if isinstance(cell, bytes) else str(cell).encode()
