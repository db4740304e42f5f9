"""The domain: cells are parsed one by one, codes are always valid, and decoding undoes encoding."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.cells import canonical_texts
from synth.schema import ColumnDomain, Schema
from tests.example_contract import contract

SPECIAL_TEXTS = st.sampled_from(
    ["", " ", "1", " 2 ", "3.0", "1e3", "1e999", "-0", "+7", "nan", "inf", "NULL", "true", "FALSE", "yes", "n", "0x10",
     "1_000", "٣", "Bern", " Bern", "bern", "a@b.example", "ß", "\N{PILE OF POO}", "x\x00y", "\x1f", "\\s",
     "9" * 40, "1,5", "2020-02-29", "20200229", "2021-02-29", "2020-01-01T10:00+02:00", "0001-01-01T00:00+10:00",
     "9999-12-31T23:59:59-10:00", "2020-01-01 24:00", "2020-06-30T23:59:60Z", "-2020-01-01", "٢٠٢٠-01-01"]
)  # fmt: skip
TEXTS = st.one_of(st.none(), SPECIAL_TEXTS, st.text(max_size=8))
FLOATS = st.one_of(st.none(), st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, 5e-324, 1e308, 2.0**63]))
INTEGERS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-5, 120))


@st.composite
def numeric_columns(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["integer", "number"]))
    number = st.integers(-(10**9), 10**9) if kind == "integer" else st.floats(-1e9, 1e9).map(lambda x: round(x, 3))
    low, high = sorted(draw(st.tuples(number, number).filter(lambda pair: abs(pair[0] - pair[1]) >= 0.01)))
    column: dict[str, Any] = {"type": kind, "min": low, "max": high, "nullable": draw(st.booleans())}
    column["scale"] = draw(st.sampled_from(["auto", "linear", "log"]))
    column["bins"] = draw(st.one_of(st.none(), st.integers(2, 64)))
    return column


@st.composite
def calendar_columns(draw: st.DrawFn) -> dict[str, Any]:
    days = st.dates(datetime.date(1, 1, 1), datetime.date(9999, 12, 31))
    first = draw(st.one_of(days, st.dates(datetime.date(2019, 1, 1), datetime.date(2021, 1, 1))))
    last = min(first.toordinal() + draw(st.sampled_from([0, 1, 20, 700, 40_000, 3_000_000])), 3_652_059)
    column = {"min": first.isoformat(), "max": datetime.date.fromordinal(last).isoformat()}
    column |= {"nullable": draw(st.booleans()), "bins": draw(st.one_of(st.none(), st.integers(2, 512)))}
    if draw(st.booleans()):
        return {"type": "date", **column}
    resolution = draw(st.sampled_from(["day", "hour", "minute", "second"]))
    return {"type": draw(st.sampled_from(["datetime", "timestamp"])), "resolution": resolution, **column}


@st.composite
def columns(draw: st.DrawFn) -> dict[str, Any]:
    nullable = draw(st.booleans())
    other = st.one_of(
        st.just({"type": "boolean", "nullable": nullable}),
        st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=6, unique=True).map(
            lambda c: {"type": "categorical", "categories": c, "nullable": nullable, "ordered": sorted(c) == c}
        ),
        st.lists(
            st.text(st.characters(codec="utf-8"), min_size=1, max_size=5).map(str.strip).filter(bool),
            min_size=1, max_size=6, unique=True,
        ).map(lambda c: {"type": "categorical", "categories": c, "nullable": nullable}),
    )  # fmt: skip
    return draw(st.one_of(numeric_columns(), calendar_columns(), other))


def domain(column: dict[str, Any], changes: dict[str, Any] | None = None) -> ColumnDomain:
    return Schema.from_contract(contract({"schema.x": column, **(changes or {})}))["x"]


def reparsed(column: ColumnDomain, values: pd.Series) -> Any:
    """As a consumer's file would be read."""
    return column.encode(column.parse(pa.array(values, from_pandas=True)))


@given(columns(), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_every_code_is_decoded_to_a_value_that_is_encoded_back(column: dict[str, Any], seed: int) -> None:
    x = domain(column)
    codes = np.arange(x.size if x.nullable else x.cells, dtype=np.int32).repeat(5)
    np.testing.assert_array_equal(reparsed(x, x.decode(codes, np.random.default_rng(seed))), codes)


@given(columns(), st.one_of(st.lists(TEXTS), st.lists(FLOATS), st.lists(INTEGERS)))
@settings(max_examples=200, deadline=None)
def test_whatever_is_parsed_has_a_valid_code(column: dict[str, Any], cells: list[Any]) -> None:
    x = domain(column)
    codes = x.encode(x.parse(pa.array(cells)))
    assert codes.shape == (len(cells),)
    assert codes.dtype == np.int32
    assert ((codes >= 0) & (codes <= x.null_code)).all()


@given(numeric_columns(), st.lists(st.floats(-2e9, 2e9), min_size=1))
@settings(max_examples=150, deadline=None)
def test_numbers_fall_into_the_cell_that_holds_them_and_outer_ones_are_clamped(
    column: dict[str, Any], numbers: list[float]
) -> None:
    x = domain(column)
    for number, code in zip(numbers, x.encode(np.array(numbers)), strict=True):
        clamped = min(max(number, x.lower[0]), x.upper[-1])
        moved = round(clamped) if x.kind == "integer" else clamped
        assert x.lower[code] <= moved <= x.upper[code]


@given(numeric_columns())
@settings(max_examples=150, deadline=None)
def test_cells_cover_the_declared_range_in_order_and_without_gaps(column: dict[str, Any]) -> None:
    x = domain(column)
    assert (x.lower[0], x.upper[-1]) == (column["min"], column["max"])
    gap = 1 if x.kind == "integer" else 0
    for (low, high), after in zip(zip(x.lower, x.upper, strict=True), [*x.lower[1:], None], strict=True):
        assert low <= high
        if after is not None:
            assert after > low
            assert after - high == gap or (high == 0.0 and after == 5e-324)


COLUMNS = {
    "integer": {"type": "integer", "min": 0, "max": 99},
    "number": {"type": "number", "min": -1, "max": 1000},
    "text": {"type": "categorical", "categories": ["Bern", "1", "3.0", "true"], "nullable": True},
    "whole": {"type": "categorical", "categories": [1, 2, 3]},
    "boolean": {"type": "boolean"},
    "date": {"type": "date", "min": "2000-01-01", "max": "2030-12-31"},
    "datetime": {"type": "datetime", "min": "2000-01-01", "max": "2030-12-31"},
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("cells", [TEXTS, FLOATS, INTEGERS], ids=["texts", "floats", "integers"])
def test_what_a_cell_is_parsed_to_depends_on_no_other_cell(column: dict[str, Any], cells: st.SearchStrategy) -> None:
    x = domain(column)

    @given(st.lists(cells, max_size=6), st.lists(cells, max_size=6), st.lists(cells, max_size=6))
    @settings(max_examples=60, deadline=None)
    def check(before: list[Any], shared: list[Any], after: list[Any]) -> None:
        kind = pa.array(["x"] if cells is TEXTS else [0.5] if cells is FLOATS else [1]).type
        alone = x.parse(pa.array(shared, kind))
        among = x.parse(pa.array(before + shared + after, kind))[len(before) : len(before) + len(shared)]
        assert pd.Series(alone).equals(pd.Series(among))
        by_one = [x.parse(pa.array([cell], kind))[0] for cell in shared]
        assert pd.Series(alone, dtype=object).equals(pd.Series(by_one, dtype=object))

    check()


WHOLE = [1, 2, None, 0, 3, 77]
STORED: dict[str, Callable[[], Any]] = {
    "int8": lambda: pa.array(WHOLE, pa.int8()),
    "uint64": lambda: pa.array(WHOLE, pa.uint64()),
    "float32": lambda: pa.array(WHOLE, pa.float32()),
    "float64": lambda: pa.array(WHOLE, pa.float64()),
    "string": lambda: pa.array(WHOLE).cast(pa.string()),
    "large_string": lambda: pa.array(WHOLE).cast(pa.large_string()),
    "string_view": lambda: pa.array(WHOLE).cast(pa.string()).cast(pa.string_view()),
    "binary": lambda: pa.array(WHOLE).cast(pa.string()).cast(pa.binary()),
    "padded": lambda: pa.array([None if cell is None else f" {cell} " for cell in WHOLE]),
    "dictionary of integers": lambda: pa.array(WHOLE).dictionary_encode(),
    "dictionary of text": lambda: pa.array(WHOLE).cast(pa.string()).dictionary_encode(),
    "dictionary that holds null": lambda: pa.DictionaryArray.from_arrays(
        pa.array([0, 1, 2, 3, 4, 5]), pa.array(WHOLE, pa.int64())
    ),
    "decimal": lambda: pa.array([None if c is None else decimal.Decimal(c) for c in WHOLE], pa.decimal128(9, 0)),
    "run ends": lambda: pa.RunEndEncodedArray.from_arrays(pa.array(range(1, 7), pa.int32()), pa.array(WHOLE)),
    "chunks": lambda: pa.chunked_array([pa.array(WHOLE[:2]), pa.array([], pa.int64()), pa.array(WHOLE[2:])]),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
def test_what_a_cell_is_parsed_to_does_not_depend_on_how_the_file_stores_it(
    column: dict[str, Any], stored: Callable[[], Any]
) -> None:
    x = domain(column)
    expected = x.parse(pa.array(WHOLE, pa.int64()))
    assert pd.Series(x.parse(stored())).equals(pd.Series(expected))
    assert list(canonical_texts(stored())) == ["1", "2", None, "0", "3", "77"]


def test_truth_values_are_the_same_stored_as_truth_values_as_text_or_as_numbers() -> None:
    x = domain(COLUMNS["boolean"])
    for cells in ([True, False, None], ["true", "False", None], ["yes", "n", ""], [1, 0, None], ["1.0", "0", "maybe"]):
        np.testing.assert_array_equal(x.encode(x.parse(pa.array(cells))), [1, 0, 2])
    assert list(canonical_texts(pa.array([True, False]))) == list(canonical_texts(pa.array(["true", "false"])))


NOT_UTF8 = pa.array([b"Bern", b"M\xfcnster", None, b"\xff\xfe"], pa.binary())
ODD: dict[str, Callable[[], Any]] = {
    "string that is not UTF-8": lambda: NOT_UTF8.view(pa.string()),
    "large string that is not UTF-8": lambda: NOT_UTF8.cast(pa.large_binary()).view(pa.large_string()),
    "binary": lambda: NOT_UTF8,
    "fixed size binary": lambda: pa.array([b"Bern", b"\xff\xfe\xff\xfe"], pa.binary(4)),
    "uuid": lambda: pa.array([b"\xff" * 16, None], pa.uuid()),
    "timestamp": lambda: pa.array([0, 2**62, -(2**62), None], pa.timestamp("s")),
    "timestamp with zone": lambda: pa.array([0, 2**62, -(2**62), None], pa.timestamp("us", "Nowhere/Land")),
    "date": lambda: pa.array([datetime.date(2020, 1, 1), None]),
    "date beyond Python's": lambda: pa.array([0, 2**30], pa.date32()),
    "time beyond a day": lambda: pa.array([0, 2**40], pa.time64("ns")),
    "duration": lambda: pa.array([0, 2**62], pa.duration("s")),
    "interval": lambda: pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
    "half": lambda: pa.array([np.float16(1.5), None], pa.float16()),
    "wide decimal": lambda: pa.array([decimal.Decimal("9" * 38), None], pa.decimal128(38, 0)),
    "small decimal": lambda: pa.array([decimal.Decimal("1e-38"), None], pa.decimal128(38, 38)),
    "list": lambda: pa.array([[1], None]),
    "struct": lambda: pa.array([{"a": 1}, None]),
    "null": lambda: pa.nulls(2),
    "empty": lambda: pa.array([], pa.string()),
    "no chunks": lambda: pa.chunked_array([], pa.string()),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("stored", ODD.values(), ids=ODD)
def test_no_cell_of_any_storage_type_makes_parsing_fail(column: dict[str, Any], stored: Callable[[], Any]) -> None:
    """A failure that depends on one cell would show in the state of a task."""
    x, cells = domain(column), stored()
    codes = x.encode(x.parse(cells))
    assert len(codes) == len(cells)
    assert ((codes >= 0) & (codes <= x.null_code)).all()
    assert len(canonical_texts(cells)) == len(cells)


def test_units_that_differ_in_bytes_stay_different_units() -> None:
    """Two people under one replacement character would share one kept row."""
    texts = canonical_texts(pa.array([b"M\xfcller", b"M\xf6ller", b"Muller"], pa.binary()).view(pa.string()))
    assert len(set(texts)) == 3


def test_decoded_columns_have_their_declared_types() -> None:
    schema = Schema.from_contract(
        contract(
            {
                "schema.age_or_null": {"type": "integer", "min": 0, "max": 9, "nullable": True},
                "schema.flag_or_null": {"type": "boolean", "nullable": True},
            }
        )
    )
    codes = np.zeros((3, len(schema.columns)), np.int32)
    for i, column in enumerate(schema.columns):
        codes[2, i] = column.null_code if column.nullable else 0
    frame = schema.decode(codes, np.random.default_rng(0))
    assert list(frame.columns) == list(schema.names)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "age": "int64",
        "income": "float64",
        "city": "category",
        "tier": "category",
        "smoker": "bool",
        "ill": "bool",
        "age_or_null": "Int64",
        "flag_or_null": "boolean",
    }
    assert list(frame["tier"].cat.categories) == [1, 2, 3]
    assert list(frame["city"].cat.categories) == ["Bern", "Graz", "Linz"]
    nullable = [column.name for column in schema.columns if column.nullable]
    assert frame.iloc[2][nullable].isna().all()
    assert not frame.iloc[:2].isna().any(axis=None)


def test_drawing_null_where_null_is_not_allowed_is_an_error() -> None:
    x = domain({"type": "boolean"})
    with pytest.raises(ValueError, match="not nullable"):
        x.decode(np.array([2], np.int32), np.random.default_rng(0))


@pytest.mark.parametrize("decimals", [0, 1, 3])
def test_released_numbers_have_the_declared_decimals_and_stay_in_range(decimals: int) -> None:
    x = domain({"type": "number", "min": -10, "max": 10, "decimals": decimals, "bins": 64})
    values = x.decode(np.arange(x.cells, dtype=np.int32).repeat(20), np.random.default_rng(0))
    assert values.between(-10, 10).all()
    assert (values == values.round(decimals)).all()


def test_zero_is_a_cell_of_its_own_where_it_is_in_range() -> None:
    for column in (
        {"type": "number", "min": 0, "max": 50_000},
        {"type": "number", "min": -20, "max": 20},
        {"type": "integer", "min": 0, "max": 10**6},
    ):
        x = domain(column)
        zero, near = x.encode(np.array([0.0, 1.0]))
        assert x.lower[zero] == x.upper[zero] == 0
        assert zero != near


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=2, max_size=12))
@settings(max_examples=150, deadline=None)
def test_two_rows_have_the_same_text_only_if_all_their_parsed_cells_are_the_same(rows: list[tuple[Any, Any]]) -> None:
    changes = {
        "schema.a": {"type": "categorical", "categories": ["x"]},
        "schema.b": {"type": "number", "min": 0, "max": 1},
    }
    schema = Schema.from_contract(contract(changes))
    schema = Schema((schema["a"], schema["b"]), "a")
    table = pa.table(
        {"a": pa.array([a for a, _ in rows], pa.string()), "b": pa.array([b for _, b in rows], pa.string())}
    )
    parsed = schema.parse(table)
    texts = schema.row_texts(parsed)
    keys = [tuple(None if pd.isna(cell) else cell for cell in row) for row in parsed.itertuples(index=False)]
    for i in range(len(rows)):
        for j in range(i):
            assert (texts[i] == texts[j]) == (keys[i] == keys[j])


def test_a_frame_is_encoded_column_by_column_in_the_contracts_order() -> None:
    schema = Schema.from_contract(contract())
    cells = {"ill": [1, 0], "smoker": [0, 1], "tier": [3, 9], "city": ["Graz", "?"], "income": [0, 1e9], "age": [5, -1]}
    codes = schema.encode(schema.parse(pa.table(cells)))
    assert codes.shape == (2, 6)
    assert codes[:, 2].tolist() == [1, 3]  # Graz, and null for a city that is not declared
    assert codes[:, 3].tolist() == [2, 3]
    assert codes[:, 4:].tolist() == [[0, 1], [1, 0]]
    assert codes[1, 0] == 0
    assert codes[1, 1] == schema["income"].cells - 1


NEW_YEAR = 1_577_836_800.0  # 2020-01-01 in UTC, in seconds


@pytest.mark.parametrize(
    ("text", "day", "instant"),
    [
        ("2020-01-01", 0, 0),
        (" 2020-01-01 ", 0, 0),
        ("20200101", 0, 0),
        ("2020-01-01T00:00:59.999999999Z", 0, 59),
        ("2020-01-01 10:30", 0, 37_800),
        ("2020-01-01t10:30:00z", 0, 37_800),
        ("2020-01-01T01:00:00+02:00", -86_400, -3_600),
        ("2020-01-01T23:30:00-0130", 86_400, 90_000),
        ("2019-12-31T23:00:00-01", 0, 0),
        ("2020-1-1", None, None),
        ("2020-02-30", None, None),
        ("01/02/2020", None, None),
        ("2020-01-01T10", None, None),
        ("2020-01-01T24:00:00", None, None),
        ("2020-06-30T23:59:60Z", None, None),
        ("2020-01-01T10:00 Europe/Vienna", None, None),
        ("2020-0101", None, None),
        ("today", None, None),
        ("٢٠٢٠-01-01", None, None),
        ("1577836800", None, None),
        ("9999-12-31T23:59-00:01", None, None),
        ("0001-01-01T00:00+00:01", None, None),
    ],
)
def test_a_text_is_read_as_a_day_and_as_an_instant_in_utc_or_is_null(
    text: str, day: int | None, instant: int | None
) -> None:
    for kind, expected in (("date", day), ("datetime", instant)):
        (value,) = domain(COLUMNS[kind]).parse(pa.array([text]))
        assert math.isnan(value) if expected is None else value == NEW_YEAR + expected


MOMENTS = [1_577_934_245_999_999, None, -1_000_000]  # in microseconds
DATES_STORED: dict[str, Callable[[], Any]] = {
    "text": lambda: pa.array(["2020-01-02T03:04:05.999999", None, "1969-12-31 23:59:59"]),
    "text with a zone": lambda: pa.array(["2020-01-02T05:04:05.9+02:00", "", "1969-12-31T22:59:59-01:00"]),
    "categories of text": lambda: pa.array(["2020-01-02 03:04:05", None, "1969-12-31 23:59:59"]).dictionary_encode(),
    **{unit: (lambda unit=unit: pa.array(MOMENTS, pa.timestamp("us")).cast(pa.timestamp(unit), safe=False))
       for unit in ("s", "ms", "us", "ns")},
    "zone": lambda: pa.array(MOMENTS, pa.timestamp("us")).cast(pa.timestamp("us", "UTC")).cast(
        pa.timestamp("us", "Asia/Tokyo")),
}  # fmt: skip


@pytest.mark.parametrize("stored", DATES_STORED.values(), ids=DATES_STORED)
def test_instants_and_days_are_the_same_however_the_file_stores_them(stored: Callable[[], Any]) -> None:
    low, high = -1.0, NEW_YEAR + 86_400 + 11_045
    parsed = domain(COLUMNS["datetime"]).parse(stored())
    if stored is DATES_STORED["s"] or stored is DATES_STORED["ms"]:
        parsed = np.floor(parsed)
    np.testing.assert_array_equal(parsed, [high, np.nan, low])
    np.testing.assert_array_equal(domain(COLUMNS["date"]).parse(stored()), [NEW_YEAR + 86_400, np.nan, -86_400.0])


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64(), pa.string(), pa.timestamp("ns")])
def test_days_are_the_same_however_the_file_stores_them(kind: pa.DataType) -> None:
    cells = pa.array([datetime.date(2020, 1, 2), None], pa.date32()).cast(kind)
    for column in ("date", "datetime"):
        np.testing.assert_array_equal(domain(COLUMNS[column]).parse(cells), [NEW_YEAR + 86_400, np.nan])


def test_released_dates_are_datetimes_inside_their_cell_and_whole_multiples_of_the_resolution() -> None:
    column = {"type": "datetime", "min": "2015-01-01", "max": "2024-12-31", "resolution": "hour", "nullable": True}
    x = domain(column, {"method.options": {"structure": "mixture"}})
    codes = np.arange(x.size, dtype=np.int32).repeat(50)
    values = x.decode(codes, np.random.default_rng(0))
    assert str(values.dtype) == "datetime64[us]"
    assert (values.isna() == (codes == x.null_code)).all()
    known = values.dropna()
    assert (known == known.dt.floor("h")).all()
    assert known.between("2015-01-01", "2024-12-31 23:00").all()
    assert (x.encode(x.parse(pa.array(values, from_pandas=True))) == codes).all()
    assert known.dt.hour.nunique() == 24


def test_cells_beyond_a_column_s_dates_are_moved_to_its_first_or_last_day() -> None:
    x = domain({"type": "date", "min": "2020-01-01", "max": "2020-01-31"})
    codes = x.encode(x.parse(pa.array(["1931-07-13", "0001-01-01", "2020-01-31T23:59", "9999-12-31", "x"])))
    assert codes.tolist() == [0, 0, x.cells - 1, x.cells - 1, x.null_code]


@pytest.mark.parametrize(
    "column",
    [
        {"type": "integer", "min": 7, "max": 7},
        {"type": "number", "min": -0.5, "max": -0.5, "decimals": 1},
        {"type": "number", "min": 0, "max": 0, "scale": "decimal"},
        {"type": "date", "min": "2020-01-01", "max": "2020-01-01"},
        {"type": "categorical", "categories": ["one"]},
    ],
)
def test_a_constant_is_one_cell(column: dict[str, Any]) -> None:
    x = domain(column)
    assert x.cells == 1
    values = x.decode(np.zeros(20, np.int32), np.random.default_rng(0))
    assert values.nunique() == 1
    assert reparsed(x, values).tolist() == [0] * 20
