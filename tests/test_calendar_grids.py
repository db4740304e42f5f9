"""Calendar grids: cells in order over the whole range, cut where a calendar cuts, and few enough."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.calendar_grids import calendar_cells
from synth.contract.instants import DAY, FIRST, LAST, instant, seconds_of_text
from synth.schema import ColumnDomain, Schema
from tests.example_contract import contract

STEPS = st.sampled_from([1, 60, 3600, DAY])


def seconds(text: str) -> int:
    found = seconds_of_text(text)
    assert found is not None
    return found


@given(
    st.integers(FIRST // DAY, LAST // DAY) | st.integers(18_000, 19_000),
    st.sampled_from([1, 60, 3600, DAY, 31 * DAY, 3000 * DAY, 10**6 * DAY]),
    st.integers(0, 600),
    STEPS,
    st.sampled_from([2, 8, 64, 512]),
)
@settings(max_examples=400, deadline=None)
def test_cells_are_in_order_without_gaps_over_the_whole_range(
    day: int, unit: int, units: int, step: int, most: int
) -> None:
    low = day * DAY
    high = max(low, min(low + unit * units, LAST) // step * step)
    lower, upper = calendar_cells(low, high, step, most)
    assert (lower[0], upper[-1]) == (low, high)
    assert all(first <= last for first, last in zip(lower, upper, strict=True))
    assert all(last + step == after for last, after in zip(upper, lower[1:], strict=False))
    assert all(end % step == 0 for end in (*lower, *upper))
    assert len(lower) <= max(most, 101)  # centuries where even those are more


@pytest.mark.parametrize(
    ("low", "high", "step", "cells", "second"),
    [
        ("2020-01-01", "2021-05-26", DAY, 512, "2020-01-02"),
        ("2020-01-01", "2021-05-27", DAY, 74, "2020-01-06"),  # weeks start on Mondays
        ("2010-01-01", "2024-12-31", DAY, 180, "2010-02-01"),
        ("1925-03-15", "2026-01-01", DAY, 405, "1925-04-01"),
        ("1800-01-01", "2026-01-01", DAY, 227, "1801-01-01"),
        ("0001-01-01", "2026-01-01", DAY, 203, "0010-01-01"),
        ("0001-01-01", "9999-12-31", DAY, 100, "0100-01-01"),
        ("2020-01-01", "2020-01-20T23:59:59", 1, 480, "2020-01-01T01:00"),
        ("2020-01-01", "2020-01-03T23:59", 60, 432, "2020-01-01T00:10"),
        ("2020-01-01T09:00", "2020-01-01T12:30", 60, 211, "2020-01-01T09:01"),
        ("2020-01-01T09:00", "2020-01-01T09:08", 1, 481, "2020-01-01T09:00:01"),
        ("2020-01-01", "2020-12-31T23:00", 3600, 366, "2020-01-02"),
    ],
)
def test_the_finest_calendar_cells_that_are_few_enough_are_taken(
    low: str, high: str, step: int, cells: int, second: str
) -> None:
    lower, _ = calendar_cells(seconds(low), seconds(high), step)
    assert len(lower) == cells
    assert lower[1] == seconds(second)


@given(st.sampled_from([(30, DAY), (3000, DAY), (40_000, DAY), (400, 60)]), st.integers(0, 20_000))
@settings(max_examples=60, deadline=None)
def test_cells_after_the_first_start_where_a_calendar_does(span: tuple[int, int], day: int) -> None:
    days, step = span
    low = day * DAY
    starts = [instant(start) for start in calendar_cells(low, low + days * DAY, step)[0][1:]]
    assert all(start.minute == 0 and start.second == 0 for start in starts)
    if days > 3600:
        assert {start.day for start in starts} == {1}
    for before, after in pairwise(starts):
        assert before < after


def domain(column: dict[str, Any], changes: dict[str, Any] | None = None) -> ColumnDomain:
    return Schema.from_contract(contract({"schema.x": column, **(changes or {})}))["x"]


def test_independent_columns_have_fewer_cells_and_bins_bound_both() -> None:
    column = {"type": "date", "min": "2015-01-01", "max": "2024-12-31"}
    mixture = {"method.options": {"structure": "mixture"}}
    assert domain(column, mixture).cells == 120
    assert domain(column).cells == 10  # at most 13, of 2,000 units
    assert domain({**column, "bins": 40}, mixture).cells == domain({**column, "bins": 40}).cells == 40
    grown = {**mixture, "privacy.approximate_units": 90_000, "privacy.delta": 1e-6}
    assert domain(column, grown) == domain(column, mixture)
