"""The noisy counts of a release on disk: ``measurements.parquet``, and whether it is what the statement says.

One row a cell of every released table: of each column's histogram and, where pairs were measured, of each pair's
table. Cells are given as consumers know them, by bounds or category; a cell of a pair that joins several categories
is told by ``group`` of the histogram's rows. :mod:`synth.measurements` reads it. All of it is output of charged
mechanisms, or public.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synth.measurements import CATEGORY, DATES, MARGINALS, NO_CELL, NULL, OTHERS, PAIRS, RANGE
from synth.release.data import IDENTIFIER
from synth.release.facts import ReleaseFacts
from synth.release.stamp import PARQUET_KEY
from synth.schema import ColumnDomain, Schema

_KINDS = (RANGE, DATES, CATEGORY, OTHERS, NULL)
_NAME = pa.dictionary(pa.int32(), pa.string())
_SIDE = (("cell", pa.int32()), ("kind", _NAME), ("label", _NAME), ("lower", pa.float64()), ("upper", pa.float64()))
LAYOUT = pa.schema(
    [
        ("mechanism", _NAME),
        ("column", _NAME),
        *_SIDE,
        ("column_2", _NAME),
        *((f"{name}_2", kind) for name, kind in _SIDE),
        ("group", pa.int32()),
        ("count", pa.int64()),
        ("noise_scale", pa.float64()),
    ]
)
_BATCH = 131_072  # cells of a row group


def write_measurements(path: Path, facts: ReleaseFacts, notice: str | None = None) -> None:
    """Write the file. Memory: some row groups beyond the counts.

    :param notice: what the file's metadata have to say.
    """
    layout = LAYOUT
    if notice is not None:
        layout = layout.with_metadata({PARQUET_KEY: notice.encode()})
    plain = "count"  # noise has no repetitions to look up
    others = [name for name in layout.names if name != plain]
    encoding = {plain: "DELTA_BINARY_PACKED"}
    with pq.ParquetWriter(path, layout, compression="zstd", use_dictionary=others, column_encoding=encoding) as writer:
        waiting: list[pa.Table] = []
        for table in _tables(facts):
            waiting.append(table)
            if sum(len(each) for each in waiting) >= _BATCH:
                _write(writer, waiting)
                waiting = []
        _write(writer, waiting)


def measurement_problems(file: IO[bytes], statement: Mapping[str, Any]) -> list[str]:
    """In what the file differs from the statement's columns and mechanisms. Memory: one row group."""
    parquet = pq.ParquetFile(file)
    if not parquet.schema_arrow.equals(LAYOUT):
        return ["does not have the columns of noisy counts"]
    found: dict[tuple[str, str, str | None], list[int]] = {}
    scales: dict[str, set[float]] = {}
    for group in range(parquet.num_row_groups):
        table = parquet.read_row_group(group)
        if table["count"].null_count:
            return ["holds a cell without a count"]
        keys = pa.table({
            **{name: table[name].cast(pa.string()) for name in ("mechanism", "column", "column_2")},
            **{name: table[name] for name in ("cell", "cell_2", "noise_scale")},
        })  # fmt: skip
        sizes = [("cell", "max"), ("cell_2", "max"), ("cell", "count"), ("noise_scale", "min"), ("noise_scale", "max")]
        for row in keys.group_by(["mechanism", "column", "column_2"]).aggregate(sizes).to_pylist():
            seen = found.setdefault((row["mechanism"], row["column"], row["column_2"]), [NO_CELL, NO_CELL, 0])
            seen[0], seen[1] = max(seen[0], row["cell_max"]), max(seen[1], row["cell_2_max"])
            seen[2] += row["cell_count"]
            scales.setdefault(row["mechanism"], set()).update((row["noise_scale_min"], row["noise_scale_max"]))
    return list(_differences(found, scales, statement))


def _differences(
    found: Mapping[tuple[str, str, str | None], Sequence[int]],
    scales: Mapping[str, set[float]],
    statement: Mapping[str, Any],
) -> Iterator[str]:
    stated = {m["name"]: m["event"]["sigma"] for m in statement["mechanisms"] if m["name"] in (MARGINALS, PAIRS)}
    measured = [column for column in statement["columns"] if column["type"] != IDENTIFIER]
    names = [column["name"] for column in measured]
    tables = {(MARGINALS, name, None) for name in names}
    tables |= {(PAIRS, *pair) for pair in combinations(names, 2)} if PAIRS in stated else set()
    if set(found) != tables:
        yield "does not hold the tables of the stated mechanisms and columns"
        return
    for name, sigma in stated.items():
        if scales[name] != {sigma}:
            yield f"has another noise scale of {name!r} than the stated {sigma:.6g}"
    sizes = {column["name"]: _codes(column) for column in measured}
    for (_, first, second), (last, last_2, cells) in found.items():
        whole = (last + 1) * (last_2 + 1) if second else sizes[first]
        if cells != whole or last >= sizes[first] or last_2 >= sizes.get(second or "", 0):
            yield f"has {cells} cells of {' and '.join(filter(None, (first, second)))!r}, of {whole} that it should"


def _codes(column: Mapping[str, Any]) -> int:
    """How many cells a stated column has, null among them."""
    if column["type"] == "boolean":
        return 3
    return int(column["cells"] if "cells" in column else len(column["categories"])) + 1


def _write(writer: pq.ParquetWriter, tables: Sequence[pa.Table]) -> None:
    if tables:
        table = pa.concat_tables(tables).cast(writer.schema)
        writer.write_table(table, row_group_size=max(1, len(table)))


def _tables(facts: ReleaseFacts) -> Iterator[pa.Table]:
    """Every column's histogram, then every pair's table, in order."""
    schema, pairs = facts.schema, facts.pair_counts
    labels = list(dict.fromkeys(label for column in schema.columns for label in _labels(column)))
    words = _Words(schema, labels)
    for column in schema.columns:
        cells = words.of_codes(column)
        groups = np.full(column.size, NO_CELL, np.int32) if pairs is None else pairs.groups[column.name]
        yield words.table(MARGINALS, [(column.name, cells)], groups, facts.marginals[column.name], facts.marginal_sigma)
    if pairs is None:
        return
    grouped = {column.name: words.of_groups(column, pairs.groups[column.name]) for column in schema.columns}
    start = 0
    for first, second in combinations(schema.names, 2):
        a, b = len(grouped[first]), len(grouped[second])
        sides = [
            (first, grouped[first].take(pa.array(np.repeat(np.arange(a), b)))),
            (second, grouped[second].take(pa.array(np.tile(np.arange(b), a)))),
        ]
        nothing = np.full(a * b, NO_CELL, np.int32)
        yield words.table(PAIRS, sides, nothing, pairs.counts[start : start + a * b], pairs.sigma)
        start += a * b


class _Words:
    """Tables whose texts are numbers in dictionaries that all of them share."""

    def __init__(self, schema: Schema, labels: Sequence[str]) -> None:
        self.names = pa.array(schema.names)
        self.kinds = pa.array(_KINDS)
        self.labels = pa.array(labels, pa.string())
        self.places = {label: place for place, label in enumerate(labels)}

    def of_codes(self, column: ColumnDomain) -> pa.Table:
        """A column's cells, null last."""
        return self.of_groups(column, np.arange(column.size, dtype=np.int32))

    def of_groups(self, column: ColumnDomain, groups: npt.NDArray[np.int32]) -> pa.Table:
        """The cells of a column in pairs."""
        labels, kinds, places, lower, upper = _labels(column), [], [], [], []
        for group in range(int(groups.max()) + 1):
            codes = np.flatnonzero(groups == group)
            null, alone = codes[0] == column.null_code, len(codes) == 1
            spans = DATES if column.is_calendar else RANGE if column.is_numeric else None
            kind = NULL if null else spans or (CATEGORY if alone else OTHERS)
            kinds.append(_KINDS.index(kind))
            places.append(self.places[labels[codes[0]]] if kind == CATEGORY else None)
            lower.append(column.lower[codes[0]] if kind == spans else math.nan)
            upper.append(column.upper[codes[-1]] if kind == spans else math.nan)
        return pa.table({
            "cell": pa.array(np.arange(len(kinds), dtype=np.int32)),
            "kind": pa.DictionaryArray.from_arrays(pa.array(kinds, pa.int32()), self.kinds),
            "label": pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), self.labels),
            "lower": pa.array(lower, pa.float64(), from_pandas=True),
            "upper": pa.array(upper, pa.float64(), from_pandas=True),
        })  # fmt: skip

    def table(
        self,
        mechanism: str,
        sides: Sequence[tuple[str, pa.Table]],
        groups: npt.NDArray[np.int32],
        counts: npt.NDArray[np.int64],
        sigma: float,
    ) -> pa.Table:
        """Rows of one histogram or of one table of two columns."""
        size = len(counts)
        arrays: dict[str, Any] = {"mechanism": self._same(pa.array([MARGINALS, PAIRS]), mechanism, size)}
        for mark, (name, cells) in zip(("", "_2"), sides, strict=False):
            arrays[f"column{mark}"] = self._same(self.names, name, size)
            arrays |= {f"{field}{mark}": cells[field] for field, _ in _SIDE}
        if len(sides) == 1:
            nothing = pa.nulls(size, pa.int32())
            arrays |= {
                "column_2": pa.DictionaryArray.from_arrays(nothing, self.names),
                "cell_2": pa.array(np.full(size, NO_CELL, np.int32)),
                "kind_2": pa.DictionaryArray.from_arrays(nothing, self.kinds),
                "label_2": pa.DictionaryArray.from_arrays(nothing, self.labels),
                "lower_2": pa.nulls(size, pa.float64()),
                "upper_2": pa.nulls(size, pa.float64()),
            }
        arrays |= {
            "group": pa.array(groups.astype(np.int32)),
            "count": pa.array(counts),
            "noise_scale": pa.array(np.full(size, sigma)),
        }
        return pa.table({name: arrays[name] for name in LAYOUT.names}, schema=LAYOUT)

    @staticmethod
    def _same(dictionary: pa.Array, value: str, size: int) -> pa.DictionaryArray:
        place = pc.index(dictionary, value).as_py()
        return pa.DictionaryArray.from_arrays(pa.array(np.full(size, place, np.int32)), dictionary)


def _labels(column: ColumnDomain) -> list[str]:
    """A category's text for each code that has one."""
    if column.is_numeric:
        return []
    return ["false", "true"] if column.kind == "boolean" else [str(category) for category in column.categories]
