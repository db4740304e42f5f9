"""The public domain of a table: an immutable value that parses, encodes and decodes its columns.

A cell goes through two maps, each of which looks at that cell alone: *parse* gives it the declared type (or null),
*encode* moves it into the declared domain and gives its integer code. The last code of every column is null. Grids
of numeric columns follow from the contract's public facts: bounds, ``approximate_units`` and options.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from synth.contract import BooleanColumn, CategoricalColumn, Contract, NumberColumn, OpenCategoricalColumn
from synth.grids import Grid

Codes = npt.NDArray[np.int32]

_TRUE, _FALSE = {"true", "t", "yes", "y", "1"}, {"false", "f", "no", "n", "0"}
_SEPARATOR = "\x1f"
_BYTES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)  # linear in the text's length
_LONGEST_NUMBER = 400  # characters; longer than any finite float's digits


@dataclass(frozen=True)
class ColumnDomain:
    """One column: ``size`` codes, the last of them null.

    Numeric columns have closed cells ``[lower[i], upper[i]]`` that start at ``lower[i]``; categorical and boolean
    ones have ``categories``. An open column's last category stands for every value that is none of them; before its
    categories are selected it has as many as it may get, without meaning, and can parse but not encode.
    """

    name: str
    kind: str
    nullable: bool
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    categories: tuple[Any, ...] = ()
    decimals: int | None = None
    is_open: bool = False
    awaits_selection: bool = False

    @property
    def cells(self) -> int:
        """Codes that are not null."""
        return len(self.lower) or len(self.categories)

    @property
    def size(self) -> int:
        """All codes, null among them."""
        return self.cells + 1

    @property
    def null_code(self) -> int:
        """The code of null, which also stands for what could not be parsed."""
        return self.cells

    @property
    def is_numeric(self) -> bool:
        """Whether the codes are ordered cells of numbers."""
        return bool(self.lower)

    @cached_property
    def parses_to_float(self) -> bool:
        """Whether parsed values are floats (numbers, whole-number categories, booleans) rather than text."""
        return self.kind != "categorical" or all(isinstance(category, int) for category in self.categories)

    @cached_property
    def representatives(self) -> npt.NDArray[np.float64]:
        """A number for each code: the middle of a cell, the position of a category; NaN for null. Shape (size,)."""
        if self.is_numeric:
            middles = (np.asarray(self.lower) + np.asarray(self.upper)) / 2
        else:
            middles = np.arange(self.cells, dtype=np.float64)
        return np.append(middles, np.nan)

    def label(self, code: int) -> str:
        """How a code is shown to people."""
        if code == self.null_code:
            return "null"
        if not self.is_numeric:
            return str(self.categories[code])
        low, high = self.lower[code], self.upper[code]
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"

    def parse(self, cells: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
        """Declared type for each cell: float64 with NaN for null, or text objects with None. Shape (rows,).

        Cell by cell: the result for one never depends on another, nor on how the file stores the column.
        """
        if self.parses_to_float and (pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type)):
            values = pc.cast(cells, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            return np.where(np.isfinite(values), values, np.nan)
        codes, distinct = _distinct_texts(cells)
        if self.parses_to_float:
            parsed: npt.NDArray[Any] = np.array([*(self._number(text) for text in distinct), np.nan])
        else:
            parsed = np.array([*distinct, None], dtype=object)
        return parsed[codes]

    def _number(self, text: str) -> float:
        lowered = text.lower()
        if self.kind == "boolean":
            if lowered in _TRUE:
                return 1.0
            if lowered in _FALSE:
                return 0.0
        if lowered in ("true", "false"):
            return float(lowered == "true")
        value = float(text) if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) else math.nan
        return value if math.isfinite(value) else math.nan

    def encode(self, parsed: npt.NDArray[Any]) -> Codes:
        """Codes of parsed values, clamped into the domain; a category that is not declared becomes null. (rows,)

        In an open column it becomes the level of the others.
        """
        if self.awaits_selection:
            raise ValueError(f"column {self.name!r} is open and its categories are not selected yet")
        if self.is_numeric:
            values = np.clip(parsed, self.lower[0], self.upper[-1])
            if self.kind == "integer":
                values = np.round(values)
            codes = np.searchsorted(np.asarray(self.lower), values, side="right") - 1
            return np.where(np.isnan(parsed), self.null_code, codes).astype(np.int32)
        known = {_canonical(category): code for code, category in enumerate(self.categories)}
        unknown = self.null_code
        if self.is_open:
            known, unknown = {**known, "": self.null_code}, self.cells - 1
        distinct, inverse = np.unique(_as_texts(parsed), return_inverse=True)
        table = np.array([known.get(text, unknown) for text in distinct], dtype=np.int32)
        return table[inverse] if len(distinct) else np.zeros(0, np.int32)

    def decode(self, codes: Codes, generator: np.random.Generator) -> pd.Series:
        """Native values of codes, uniform inside a numeric cell.

        Integers come back as Int64 where null is allowed and int64 otherwise, categories as pandas categories of
        their own type, booleans as bool or boolean. A null code in a column that is not nullable is an error of
        the caller: sampling never draws it.
        """
        null = codes == self.null_code
        if null.any() and not self.nullable:
            raise ValueError(f"column {self.name!r} is not nullable, yet a null code was drawn")
        safe = np.where(null, 0, codes)
        if not self.is_numeric:
            if self.kind == "boolean":
                values = pd.Series(safe.astype(bool), dtype="boolean" if self.nullable else "bool")
                return values.mask(null) if self.nullable else values
            return pd.Series(pd.Categorical.from_codes(np.where(null, -1, codes), pd.Index(self.categories)))
        low, high = np.asarray(self.lower)[safe], np.asarray(self.upper)[safe]
        if self.kind == "integer":
            drawn = np.floor(low + generator.random(len(codes)) * (high - low + 1))
            series = pd.Series(np.minimum(drawn, high).astype(np.int64))
            return series.astype("Int64").mask(null) if self.nullable else series
        drawn = low + generator.random(len(codes)) * (high - low)
        if self.decimals is not None:
            drawn = np.clip(np.round(drawn, self.decimals), self.lower[0], self.upper[-1])
        return pd.Series(np.where(null, np.nan, drawn))


@dataclass(frozen=True)
class Schema:
    """The domain of a table: its columns in the contract's order, and which of them are targets, in the task's."""

    columns: tuple[ColumnDomain, ...]
    targets: tuple[str, ...]

    @classmethod
    def from_contract(cls, contract: Contract) -> Schema:
        """The domain that a contract declares."""
        grid = Grid.for_contract(contract)
        columns = tuple(_domain(name, column, grid) for name, column in contract.columns.items())
        return cls(columns, tuple(target.target for target in contract.task.wanted))

    def __getitem__(self, name: str) -> ColumnDomain:
        return self.columns[self.names.index(name)]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)

    @property
    def awaits_selection(self) -> bool:
        """Whether the categories of some open column are not known yet."""
        return any(column.awaits_selection for column in self.columns)

    @property
    def target(self) -> str:
        """The only target.

        :raises ValueError: if there are several, or none.
        """
        if len(self.targets) != 1:
            raise ValueError(f"Expected one target, the schema has {len(self.targets)}.")
        return self.targets[0]

    @property
    def target_index(self) -> int:
        """Position of the only target's column."""
        return self.names.index(self.target)

    @property
    def target_places(self) -> tuple[int, ...]:
        """Positions of the targets' columns, in the task's order."""
        return tuple(self.names.index(name) for name in self.targets)

    def without(self, target: str) -> tuple[ColumnDomain, ...]:
        """All columns but one: what it is predicted from."""
        return tuple(column for column in self.columns if column.name != target)

    def split_by_column(self, values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """One array of shape (size,) for each column, from all columns' codes in one row."""
        return np.split(values, np.cumsum([column.size for column in self.columns])[:-1])

    def parse(self, table: pa.Table) -> pd.DataFrame:
        """A frame of parsed values, one column for each of the domain's; the table must hold them all."""
        return pd.DataFrame({column.name: column.parse(table[column.name]) for column in self.columns})

    def encode(self, parsed: pd.DataFrame) -> Codes:
        """Codes of a parsed frame, shape (rows, columns)."""
        codes = [column.encode(parsed[column.name].to_numpy()) for column in self.columns]
        return np.column_stack(codes).astype(np.int32) if codes else np.zeros((len(parsed), 0), np.int32)

    def row_texts(self, parsed: pd.DataFrame) -> npt.NDArray[Any]:
        """One text for each row; two rows have the same text only if all their parsed values are the same."""
        cells = []
        for column in self.columns:
            distinct, inverse = np.unique(_as_texts(parsed[column.name].to_numpy()), return_inverse=True)
            escaped = [text.replace("\\", "\\\\").replace(_SEPARATOR, "\\s") for text in distinct]
            cells.append(np.array(escaped, dtype=object)[inverse] if len(distinct) else distinct)
        return np.array([_SEPARATOR.join(row) for row in zip(*cells, strict=True)], dtype=object)

    def decode(self, codes: Codes, generator: np.random.Generator) -> pd.DataFrame:
        """A frame of native values for codes of shape (rows, columns)."""
        return pd.DataFrame(
            {column.name: column.decode(codes[:, i], generator) for i, column in enumerate(self.columns)}
        )


def canonical_texts(cells: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
    """One text for each cell, None for null: the numbers 3 and 3.0 and the text " 3 " all are "3"."""
    codes, distinct = _distinct_texts(cells)
    return np.array([*distinct, None], dtype=object)[codes]


def _distinct_texts(cells: pa.ChunkedArray | pa.Array) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Codes into the distinct canonical texts, the last code for null."""
    column = cells if isinstance(cells, pa.ChunkedArray) else pa.chunked_array([cells])
    array = plain_column(column).combine_chunks()
    encoded = array.dictionary_encode()
    texts = [_canonical(value.as_py()) for value in encoded.dictionary]
    distinct = [text for text in dict.fromkeys(texts) if text is not None]
    position = {text: code for code, text in enumerate(distinct)}
    table = np.array([position.get(text, len(distinct)) for text in texts] + [len(distinct)], dtype=np.int64)  # type: ignore[arg-type]
    indices = encoded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
    return table[indices], distinct


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in a type whose rows can be taken and whose chunks can be joined, whatever its cells hold.

    Chunk by chunk: to join dictionaries may overflow their index type by one cell, and to join texts their offsets.
    """
    kind = _plain(pa.array([], column.type)).type
    return pa.chunked_array([_plain(chunk) for chunk in column.chunks], kind)


def _plain(array: pa.Array) -> pa.Array:
    """Integers, floats, booleans or bytes: types whose cells all become Python values, whatever they hold.

    Text is looked at as bytes, since one cell that is not UTF-8 would fail the whole column. Types that have no
    text, lists say, become null.
    """
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        elif pa.types.is_run_end_encoded(array.type):
            array = pc.run_end_decode(array)
        else:
            break
    kind = array.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return array
    if pa.types.is_nested(kind):
        return pa.nulls(len(array), pa.large_binary())
    if pa.types.is_timestamp(kind):
        array = array.cast(pa.timestamp(kind.unit))  # in UTC: a worker may not know the zone
    try:
        if not any(test(kind) for test in _BYTES):
            array = array.cast(pa.string())  # Python objects of dates can fail on one extreme cell; text cannot
        return array.cast(pa.large_binary())
    except pa.ArrowNotImplementedError:
        return pa.nulls(len(array), pa.large_binary())


def _canonical(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")  # distinct bytes stay distinct units
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 2**63 else repr(value)
    text = str(value).strip()
    return text or None


def _as_texts(parsed: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Canonical texts of parsed values; null becomes the empty text, which is no category."""
    if parsed.dtype == object:
        return np.array(["" if value is None or value != value else str(value) for value in parsed], dtype=object)
    distinct, inverse = np.unique(parsed, return_inverse=True)
    texts = np.array([_canonical(float(value)) or "" for value in distinct], dtype=object)
    return texts[inverse] if len(distinct) else np.zeros(0, dtype=object)


def _domain(name: str, column: Any, grid: Grid) -> ColumnDomain:
    if isinstance(column, CategoricalColumn):
        categories = tuple(c if isinstance(c, int) else c.strip() for c in column.categories)
        return ColumnDomain(name, "categorical", column.nullable, categories=categories)
    if isinstance(column, OpenCategoricalColumn):
        anything = (*(f"({number})" for number in range(column.max_categories)), column.other)
        return ColumnDomain(
            name, "categorical", column.nullable, categories=anything, is_open=True, awaits_selection=True
        )
    if isinstance(column, BooleanColumn):
        return ColumnDomain(name, "boolean", column.nullable, categories=(0, 1))
    lower, upper = grid.cells(column)
    decimals = column.decimals if isinstance(column, NumberColumn) else None
    return ColumnDomain(name, column.type, column.nullable, tuple(lower), tuple(upper), decimals=decimals)
