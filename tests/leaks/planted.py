"""A table with values that must never be seen again, and everything in which they are looked for."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import Deployment, people

ID = "qzx-person-31337"
MAIL = "qzx.mail@eccles.example"
CATEGORY = "QzxCategory"
NUMBER = "77777.77"
HUGE = "424242424242"
NOTE = "qzx note of nobody"
BROKEN = "qzx broken line"
# The number alone lies in its column's domain, so a release may hold it by chance: about once in 10,000 runs.
PLANTED = (ID, MAIL, CATEGORY, NUMBER, HUGE, NOTE, BROKEN)


def plant(deployment: Deployment) -> None:
    """Write the table: ids, cells in and out of the domain, a column that nobody declared, a line that does not fit."""
    table = people().astype(object)
    table.loc[3, ["age", "region", "person"]] = MAIL, CATEGORY, ID
    table.loc[4, "income"] = MAIL
    table.loc[5, "income"] = float(NUMBER)
    table.loc[6, ["person", "age"]] = HUGE
    table.loc[7, ["age", "income", "member"]] = "inf", "-Infinity", "NaN"
    table.loc[8, ["buys", "member"]] = CATEGORY
    table["note"] = NOTE
    deployment.write(table)
    with (deployment.folder / "people.csv").open("a", encoding="utf-8") as file:
        file.write(f'"{BROKEN},{MAIL}\n{BROKEN}\n{BROKEN},1,2,3,4,5,6,7,8\n')


def holding(texts: Iterable[tuple[str, bytes]], planted: tuple[str, ...] = PLANTED) -> list[tuple[str, str]]:
    """Where what was planted is found: names and values."""
    return [(name, value) for name, text in texts for value in planted if value.encode() in text]


def contents(folder: Path, *, but: Iterable[Path] = ()) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder: its name, its bytes, and what a reader of its format sees."""
    left_out = set(but)
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path in left_out:
            continue
        content = path.read_bytes()
        yield str(path), str(path).encode() + b"\0" + content
        yield from decoded(str(path), content)


def decoded(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """The cells and the metadata of a table, behind whatever compression and heading the file has."""
    start = content.find(b"PAR1")
    if start >= 0 and content.endswith(b"PAR1"):
        table = pq.read_table(io.BytesIO(content[start:]))
        cells = [str(cell) for column in table.columns for cell in _flat(column).to_pylist()]
        yield f"{name} (cells)", "\n".join(cells).encode()
        yield f"{name} (schema)", str(table.schema.metadata).encode() + str(table.schema).encode()
    if content.startswith(b"SQLite format 3\0"):
        connection = sqlite3.connect(f"file:{name}?mode=ro", uri=True)
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for one in names:
            yield f"{name} ({one})", _text(connection.execute(f'SELECT * FROM "{one}"').fetchall())
        connection.close()


def dumped(connection: psycopg.Connection[Any]) -> Iterator[tuple[str, bytes]]:
    """Every column of the ledger's tables on PostgreSQL, and what the server knows of past statements."""
    for table in ("policies", "entries"):
        rows = connection.execute(f"SELECT * FROM {table}").fetchall()  # type: ignore[arg-type]
        assert rows
        yield table, _text(rows)
    yield "pg_stat_activity", _text(connection.execute("SELECT query FROM pg_stat_activity").fetchall())


def frame_of(facts: dict[str, Any]) -> pd.DataFrame:
    """The released rows."""
    return pd.read_parquet(Path(facts["publish"]["uri"].removeprefix("file://")) / "data")


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _text(rows: Any) -> bytes:
    return json.dumps(rows, default=str, ensure_ascii=False).encode()
