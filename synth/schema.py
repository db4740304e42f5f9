"""The public domain of a table: an immutable value that parses, encodes and decodes its columns.

A cell goes through two maps, each of which looks at that cell alone: *parse* gives it the declared type (or null),
*encode* moves it into the declared domain and gives its integer code. The last code of every column is null. Grids
of numeric columns, dates among them, follow from the contract's public facts: bounds, ``approximate_units``, options.
A date or an instant is its seconds since 1970-01-01 in UTC. Identifiers are in no domain: they are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from synth.cells import canonical_text, day_of_text, distinct_texts, instant_of_text, number_of_text, truth_of_text
from synth.contract import (
    BooleanColumn,
    CategoricalColumn,
    Contract,
    DateColumn,
    DatetimeColumn,
    NumberColumn,
    OpenCategoricalColumn,
)
from synth.contract.columns import RESOLUTIONS
from synth.contract.id_patterns import IdPattern
from synth.contract.instants import DAY, text_of
from synth.grids import Grid
from synth.identifiers import made_up_ids

Codes = npt.NDArray[np.int32]

_SEPARATOR = "\x1f"
_READERS = {"boolean": truth_of_text, "date": day_of_text, "datetime": instant_of_text}


@dataclass(frozen=True)
class ColumnDomain:
    """One column: ``size`` codes, the last of them null.

    Numeric columns have closed cells ``[lower[i], upper[i]]`` that start at ``lower[i]``; categorical and boolean
    ones have ``categories``. An open column's last category stands for every value that is none of them; before its
    categories are selected it has as many as it may get, without meaning, and can parse but not encode.

    :ivar step: between two values that a numeric column can hold: 1 of integers, seconds of dates; 0 of real numbers.
    :ivar ordered: whether categories are given from the lowest to the highest.
    """

    name: str
    kind: str
    nullable: bool
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    categories: tuple[Any, ...] = ()
    decimals: int | None = None
    step: int = 0
    ordered: bool = False
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
        """Whether the codes are cells of numbers, dates and instants among them."""
        return bool(self.lower)

    @property
    def in_order(self) -> bool:
        """Whether neighbouring codes are neighbours in meaning, too."""
        return self.is_numeric or self.ordered

    @property
    def is_calendar(self) -> bool:
        """Whether the numbers are seconds since 1970-01-01."""
        return self.kind in ("date", "datetime")

    @cached_property
    def parses_to_float(self) -> bool:
        """Whether parsed values are floats (numbers, dates, whole-number categories, booleans) rather than text."""
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
        return self.span(code, code) if self.is_numeric else str(self.categories[code])

    def span(self, first: int, last: int) -> str:
        """How neighbouring cells of numbers are shown to people."""
        low, high = (self._shown(end) for end in (self.lower[first], self.upper[last]))
        return low if low == high else f"{low} to {high}"

    def _shown(self, end: float) -> str:
        if self.is_calendar:
            return text_of(end, time=self.step < DAY).replace("T", " ")
        return f"{end:g}"

    def parse(self, cells: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
        """Declared type for each cell: float64 with NaN for null, or text objects with None. Shape (rows,).

        Cell by cell: the result for one never depends on another, nor on how the file stores the column.
        """
        stored_as_numbers = pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type)
        if self.parses_to_float and not self.is_calendar and stored_as_numbers:
            values = pc.cast(cells, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            return np.where(np.isfinite(values), values, np.nan)
        codes, distinct = distinct_texts(cells)
        if self.parses_to_float:
            read = _READERS.get(self.kind, number_of_text)
            parsed: npt.NDArray[Any] = np.array([*(read(text) for text in distinct), np.nan])
        else:
            parsed = np.array([*distinct, None], dtype=object)
        return parsed[codes]

    def encode(self, parsed: npt.NDArray[Any]) -> Codes:
        """Codes of parsed values, clamped into the domain; a category that is not declared becomes null. (rows,)

        In an open column it becomes the level of the others.
        """
        if self.awaits_selection:
            raise ValueError(f"column {self.name!r} is open and its categories are not selected yet")
        if self.is_numeric:
            values = np.clip(parsed, self.lower[0], self.upper[-1])
            if self.is_calendar:
                values = np.floor(values / self.step) * self.step
            elif self.step:
                values = np.round(values)
            codes = np.searchsorted(np.asarray(self.lower), values, side="right") - 1
            return np.where(np.isnan(parsed), self.null_code, codes).astype(np.int32)
        known = {canonical_text(category): code for code, category in enumerate(self.categories)}
        unknown = self.null_code
        if self.is_open:
            known, unknown = {**known, "": self.null_code}, self.cells - 1
        distinct, inverse = np.unique(_as_texts(parsed), return_inverse=True)
        table = np.array([known.get(text, unknown) for text in distinct], dtype=np.int32)
        return table[inverse] if len(distinct) else np.zeros(0, np.int32)

    def decode(self, codes: Codes, generator: np.random.Generator) -> pd.Series:
        """Native values of codes, uniform inside a numeric cell.

        Integers come back as Int64 where null is allowed and int64 otherwise, categories as pandas categories of
        their own type, booleans as bool or boolean, dates and instants as datetime64. A null code in a column that is
        not nullable is an error of the caller: sampling never draws it.
        """
        null = codes == self.null_code
        if null.any() and not self.nullable:
            raise ValueError(f"column {self.name!r} is not nullable, yet a null code was drawn")
        safe = np.where(null, 0, codes)
        if not self.is_numeric:
            if self.kind == "boolean":
                values = pd.Series(safe.astype(bool), dtype="boolean" if self.nullable else "bool")
                return values.mask(null) if self.nullable else values
            categories = pd.Index(self.categories)
            return pd.Series(pd.Categorical.from_codes(np.where(null, -1, codes), categories, ordered=self.ordered))
        low, high = np.asarray(self.lower)[safe], np.asarray(self.upper)[safe]
        if self.step:
            steps = np.floor(generator.random(len(codes)) * ((high - low) / self.step + 1))
            series = pd.Series(np.minimum(low + steps * self.step, high).astype(np.int64))
            if self.is_calendar:
                return datetimes(series).mask(null)
            return series.astype("Int64").mask(null) if self.nullable else series
        drawn = low + generator.random(len(codes)) * (high - low)
        if self.decimals is not None:
            drawn = np.clip(np.round(drawn, self.decimals), self.lower[0], self.upper[-1])
        return pd.Series(np.where(null, np.nan, drawn))


@dataclass(frozen=True)
class Schema:
    """The domain of a table: its columns in the contract's order, and which of them are targets, in the task's.

    :ivar identifiers: by name the pattern of columns that are made up in a release, and the place that each has there.
    """

    columns: tuple[ColumnDomain, ...]
    targets: tuple[str, ...]
    identifiers: tuple[tuple[str, IdPattern, int], ...] = ()

    @classmethod
    def from_contract(cls, contract: Contract) -> Schema:
        """The domain that a contract declares."""
        grid = Grid.for_contract(contract)
        declared = contract.columns
        columns = tuple(_domain(name, declared[name], grid) for name in contract.measured)
        released = [name for name in declared if name not in contract.dropped]
        patterns = ((name, column.pattern) for name, column in contract.identifiers.items())
        made_up = tuple((name, IdPattern.of(pattern), released.index(name)) for name, pattern in patterns if pattern)
        return cls(columns, tuple(target.target for target in contract.task.wanted), made_up)

    def __getitem__(self, name: str) -> ColumnDomain:
        return self.columns[self.names.index(name)]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def released_names(self) -> tuple[str, ...]:
        """Names of the columns of a release in order: those of the domain, and identifiers that are made up."""
        names = list(self.names)
        for name, _, place in self.identifiers:
            names.insert(place, name)
        return tuple(names)

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

    def native(self, parsed: pd.DataFrame) -> pd.DataFrame:
        """A parsed frame whose dates are datetime64, as whoever compares them with dates needs them."""
        dates = [column.name for column in self.columns if column.is_calendar]
        return parsed.assign(**{name: datetimes(parsed[name]) for name in dates})

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

    def with_identifiers(self, frame: pd.DataFrame, first: int, seed: int) -> pd.DataFrame:
        """Decoded rows with made-up identifiers in their places.

        :param first: the number of the first row among those of the release.
        :param seed: the release's sampling seed.
        """
        completed = frame.copy(deep=False)
        for name, pattern, place in self.identifiers:
            completed.insert(place, name, pd.Series(made_up_ids(pattern, first, len(frame), seed, place), dtype="str"))
        return completed

    def decode(self, codes: Codes, generator: np.random.Generator) -> pd.DataFrame:
        """A frame of native values for codes of shape (rows, columns)."""
        return pd.DataFrame(
            {column.name: column.decode(codes[:, i], generator) for i, column in enumerate(self.columns)}
        )


def _as_texts(parsed: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Canonical texts of parsed values; null becomes the empty text, which is no category."""
    if parsed.dtype == object:
        return np.array(["" if value is None or value != value else str(value) for value in parsed], dtype=object)
    distinct, inverse = np.unique(parsed, return_inverse=True)
    texts = np.array([canonical_text(float(value)) or "" for value in distinct], dtype=object)
    return texts[inverse] if len(distinct) else np.zeros(0, dtype=object)


def datetimes(seconds: pd.Series) -> pd.Series:
    """Seconds since 1970-01-01 as datetime64; NaN as NaT."""
    known = seconds.notna()
    return seconds.where(known, 0).astype("int64").astype("datetime64[s]").astype("datetime64[us]").where(known)


def _domain(name: str, column: Any, grid: Grid) -> ColumnDomain:
    if isinstance(column, CategoricalColumn):
        categories = tuple(c if isinstance(c, int) else c.strip() for c in column.categories)
        return ColumnDomain(name, "categorical", column.nullable, categories=categories, ordered=column.ordered)
    if isinstance(column, OpenCategoricalColumn):
        anything = (*(f"({number})" for number in range(column.max_categories)), column.other)
        return ColumnDomain(
            name, "categorical", column.nullable, categories=anything, is_open=True, awaits_selection=True
        )
    if isinstance(column, BooleanColumn):
        return ColumnDomain(name, "boolean", column.nullable, categories=(0, 1))
    lower, upper = (tuple(map(float, ends)) for ends in grid.cells(column))
    if isinstance(column, DateColumn):
        return ColumnDomain(name, "date", column.nullable, lower, upper, step=DAY)
    if isinstance(column, DatetimeColumn):
        return ColumnDomain(name, "datetime", column.nullable, lower, upper, step=RESOLUTIONS[column.resolution])
    if isinstance(column, NumberColumn):
        return ColumnDomain(name, "number", column.nullable, lower, upper, decimals=column.decimals)
    return ColumnDomain(name, "integer", column.nullable, lower, upper, step=1)
