"""The released rows on disk: Parquet parts, the public description of their columns, and whether rows keep to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from synth.constraints.repair import Rules
from synth.contract import Contract, OpenCategoricalColumn
from synth.contract.constraints import Constraints
from synth.contract.id_patterns import IdPattern
from synth.contract.instants import seconds_of_text, text_of
from synth.release.stamp import PARQUET_KEY
from synth.schema import ColumnDomain, Schema

IDENTIFIER = "identifier"
_PART_ROWS = 1_000_000


def column_document(domain: ColumnDomain, contract: Contract) -> dict[str, Any]:
    """What consumers may rely on for one column. Plain values; public facts of the contract."""
    column = contract.columns[domain.name]
    document: dict[str, Any] = {
        "name": domain.name,
        "type": domain.kind,
        "stored_as": stored_as(domain),
        "nullable": domain.nullable,
        "description": column.description,
    }
    if domain.is_calendar:
        document |= {
            "min": text_of(domain.lower[0], time=domain.kind == "datetime"),
            "max": text_of(domain.upper[-1], time=domain.kind == "datetime"),
            "cells": domain.cells,
            "step_seconds": domain.step,
        }
    elif domain.is_numeric:
        document |= {"min": column.min, "max": column.max, "cells": domain.cells}  # type: ignore[union-attr]
        if domain.decimals is not None:
            document["decimals"] = domain.decimals
    elif domain.kind == "categorical":
        document["categories"] = list(domain.categories)
        document["ordered"] = domain.ordered
        if isinstance(column, OpenCategoricalColumn):
            document |= {"other": column.other, "max_categories": column.max_categories}
    return document


def column_documents(schema: Schema, contract: Contract) -> list[dict[str, Any]]:
    """Of all columns of a release, in order; the identifiers among them were made up."""
    documents = {domain.name: column_document(domain, contract) for domain in schema.columns}
    for name, pattern, _ in schema.identifiers:
        documents[name] = {
            "name": name,
            "type": IDENTIFIER,
            "stored_as": "str",
            "nullable": False,
            "description": contract.columns[name].description,
            "pattern": contract.identifiers[name].pattern,
            "possible": pattern.possible,
        }
    return [documents[name] for name in schema.released_names]


def stored_as(domain: ColumnDomain) -> str:
    """The pandas dtype that comes back from ``pandas.read_parquet``.

    Whole-number categories are stored as integers: Parquet keeps dictionaries of text only, and integers would
    otherwise come back as floats wherever one is null.
    """
    if domain.kind == "integer" or (domain.kind == "categorical" and domain.parses_to_float):
        return "Int64" if domain.nullable else "int64"
    if domain.is_calendar:
        return "datetime64[us]"
    if domain.kind == "boolean":
        return "boolean" if domain.nullable else "bool"
    return "category" if domain.kind == "categorical" else "float64"


def write_parts(folder: Path, frames: Iterator[pd.DataFrame], schema: Schema, notice: str | None = None) -> int:
    """Write ``part-00000.parquet`` and so on, a row group for each frame; returns the number of rows.

    :param frames: decoded chunks with the schema's columns. Memory: one chunk.
    :param notice: what the metadata of every part has to say.
    """
    folder.mkdir()
    written, part, in_part = 0, 0, 0
    writer: pq.ParquetWriter | None = None
    first = next(frames, None)
    layout: pa.Schema | None = None
    try:
        for frame in chain([first] if first is not None else [], frames):
            table = pa.Table.from_pandas(as_stored(frame, schema), schema=layout, preserve_index=False)
            if notice is not None:
                table = table.replace_schema_metadata({**(table.schema.metadata or {}), PARQUET_KEY: notice.encode()})
            layout = table.schema
            if writer is not None and in_part + len(frame) > _PART_ROWS:
                writer.close()
                writer, part, in_part = None, part + 1, 0
            if writer is None:
                path = folder / f"part-{part:05d}.parquet"
                writer = pq.ParquetWriter(path, layout, compression="zstd")
            writer.write_table(table, row_group_size=max(1, len(frame)))
            written, in_part = written + len(frame), in_part + len(frame)
    finally:
        if writer is not None:
            writer.close()
    return written


def part_problems(
    file: IO[bytes], columns: Sequence[dict[str, Any]], constraints: Sequence[Mapping[str, Any]] = ()
) -> tuple[int, list[str]]:
    """Rows of one part, and in what it differs from the stated columns and constraints. Memory: one row group.

    :param columns: as :func:`column_document` describes them.
    :param constraints: as a contract's document has them.
    """
    rules = _stated_rules(columns, constraints)
    parquet = pq.ParquetFile(file)
    names, stated = parquet.schema_arrow.names, [column["name"] for column in columns]
    if names != stated:
        return parquet.metadata.num_rows, [f"has the columns {names}, stated: {stated}"]
    wrong: dict[str, None] = {}
    for column in columns:
        kind = parquet.schema_arrow.field(column["name"]).type
        if not _type_fits(kind, column["stored_as"]):
            wrong[f"column {column['name']!r} is stored as {kind}, stated: {column['stored_as']}"] = None
    if not wrong:
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group)
            for column in columns:
                for problem in _cell_problems(table[column["name"]], column):
                    wrong[f"column {column['name']!r} {problem}"] = None
            broken = rules.broken(table.select(list(rules.touched)).to_pandas()) if rules else ()
            for constraint, rows in zip(rules.constraints, broken, strict=True):
                if rows.any():
                    wrong[f"breaks a declared constraint: {constraint.text}"] = None
    return parquet.metadata.num_rows, list(wrong)


def _stated_rules(columns: Sequence[dict[str, Any]], constraints: Sequence[Mapping[str, Any]]) -> Rules:
    declared = TypeAdapter(Constraints).validate_python(list(constraints))
    return Rules(declared, {column["name"]: SimpleNamespace(**column) for column in columns})


def as_stored(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The frame in the dtypes that come back from Parquet."""
    if list(frame.columns) != list(schema.released_names):
        raise ValueError(f"Expected the columns {list(schema.released_names)}, given {list(frame.columns)}.")
    return frame.astype({c.name: stored_as(c) for c in schema.columns if stored_as(c) != "category"})


def _type_fits(kind: pa.DataType, dtype: str) -> bool:
    if dtype == "category":
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        return bool(pa.types.is_string(value) or pa.types.is_large_string(value))
    if dtype in ("int64", "Int64"):
        return bool(pa.types.is_int64(kind))
    if dtype == "datetime64[us]":
        return bool(kind == pa.timestamp("us"))
    if dtype == "str":
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    return bool(pa.types.is_boolean(kind) if dtype in ("bool", "boolean") else pa.types.is_float64(kind))


def _cell_problems(cells: pa.ChunkedArray, column: dict[str, Any]) -> Iterator[str]:
    if cells.null_count and not column["nullable"]:
        yield "holds null, which it must not"
    present = cells.drop_null()
    if column["type"] == "categorical":
        distinct = set(pc.unique(present).to_pylist())
        if not distinct <= set(column["categories"]):
            yield "holds a category that is not declared"
        if pa.types.is_dictionary(cells.type) and cells.type.ordered != column.get("ordered", False):
            yield "is stored with another order of its categories than is stated"
    elif column["type"] in ("date", "datetime") and len(present):
        seconds, beyond = np.divmod(present.cast(pa.int64()).to_numpy(), 1_000_000)
        low, high = (seconds_of_text(column[bound]) for bound in ("min", "max"))
        if not np.all((seconds >= low) & (seconds <= high)):
            yield f"holds a value outside of [{column['min']}, {column['max']}]"
        if np.any(beyond) or np.any(seconds % column["step_seconds"]):
            yield f"holds a value that is no multiple of {column['step_seconds']} s"
    elif column["type"] == IDENTIFIER and len(present):
        expression = IdPattern.of(column["pattern"]).expression
        if not pc.all(pc.match_substring_regex(present, f"^(?:{expression})$")).as_py():
            yield f"holds an identifier that is not of the pattern {column['pattern']}"
        if len(pc.unique(present)) < len(present):
            yield "holds an identifier twice"
    elif column["type"] in ("integer", "number") and len(present):
        values = present.to_numpy().astype(np.float64)
        if not np.all((values >= column["min"]) & (values <= column["max"])):
            yield f"holds a value outside of [{column['min']}, {column['max']}]"
        decimals = column.get("decimals")
        if decimals is not None:
            bound = (values == column["min"]) | (values == column["max"])
            if not np.all(bound | (np.round(values, decimals) == values)):
                yield f"holds a value of more than {decimals} decimals"
