"""The Great Expectations expectations that look at one row at a time.

Only these have a count of violating units with a bounded sensitivity: adding one person changes the verdict on
that person's row and on no other. An expectation on a mean, a maximum or on uniqueness has not. Nor has one with a
``row_condition``, a query over the whole frame that may compare rows with their mean: so only the options listed
here are accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from synth.contract.columns import DateColumn, DatetimeColumn, IdentifierColumn
from synth.contract.instants import instant, seconds_of, seconds_of_text


@dataclass(frozen=True)
class RowExpectation:
    """How an expectation names the columns it looks at, and what else it may be told."""

    options: tuple[str, ...] = ()
    single: tuple[str, ...] = ("column",)
    many: tuple[str, ...] = ()

    def columns(self, kwargs: Mapping[str, Any]) -> list[str]:
        """The columns used, in order; empty if one is missing or no list where a list belongs."""
        if any(name not in kwargs for name in self.single):
            return []
        if any(not isinstance(kwargs.get(name), list | tuple) for name in self.many):
            return []
        named = [str(kwargs[name]) for name in self.single]
        return named + [str(column) for name in self.many for column in kwargs[name]]

    @property
    def accepted(self) -> tuple[str, ...]:
        """Names of all kwargs that may be given."""
        return (*self.single, *self.many, *self.options)


_RANGE = RowExpectation(("min_value", "max_value", "strict_min", "strict_max"))
_SET = RowExpectation(("value_set",))
_NULL = RowExpectation()
_REGEX = RowExpectation(("regex",))
_PAIR = ("column_A", "column_B")
_INSTANTS = ("min_value", "max_value", "value_set")  # kwargs that hold values of the column

ROW_EXPECTATIONS: dict[str, RowExpectation] = {
    "expect_column_values_to_be_between": _RANGE,
    "expect_column_values_to_be_in_set": _SET,
    "expect_column_values_to_not_be_in_set": _SET,
    "expect_column_values_to_not_be_null": _NULL,
    "expect_column_values_to_be_null": _NULL,
    "expect_column_values_to_match_regex": _REGEX,
    "expect_column_values_to_not_match_regex": _REGEX,
    "expect_column_value_lengths_to_be_between": _RANGE,
    "expect_column_value_lengths_to_equal": RowExpectation(("value",)),
    "expect_column_pair_values_a_to_be_greater_than_b": RowExpectation(("or_equal", "ignore_row_if"), _PAIR),
    "expect_column_pair_values_to_be_equal": RowExpectation(("ignore_row_if",), _PAIR),
    "expect_multicolumn_sum_to_equal": RowExpectation(("sum_total", "ignore_row_if"), (), ("column_list",)),
}
_OF_TEXT_OR_NUMBERS = {
    name for name, row in ROW_EXPECTATIONS.items() if "regex" in row.options or "length" in name or "sum" in name
}


def column_problems(kind: str, kwargs: Mapping[str, Any], columns: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with an expectation's kwargs, seen beside the declared columns: name and problem."""
    used = ROW_EXPECTATIONS[kind].columns(kwargs)
    identifiers = [name for name in used if isinstance(columns.get(name), IdentifierColumn)]
    dates = [name for name in used if isinstance(columns.get(name), DateColumn | DatetimeColumn)]
    for name in identifiers:
        yield "column", f"{name!r} is an identifier, which no step reads; declare it otherwise or drop the expectation"
    if dates and kind in _OF_TEXT_OR_NUMBERS:
        yield "column", f"{dates[0]!r} holds dates, of which {kind} says nothing; accepted: comparisons, sets and nulls"
    elif dates:
        for key in _INSTANTS:
            given = kwargs.get(key)
            values = given if isinstance(given, list | tuple) else [] if given is None else [given]
            if any(_seconds(value) is None for value in values):
                yield key, f"{dates[0]!r} holds dates; accepted: ISO 8601 text such as 2026-07-01"


def with_instants(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The kwargs of an expectation on dates, its texts read as instants in UTC."""
    return {key: _read(value) if key in _INSTANTS else value for key, value in kwargs.items()}


def _read(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_read(each) for each in value]
    seconds = _seconds(value)
    return value if seconds is None else instant(seconds)


def _seconds(value: Any) -> int | None:
    if isinstance(value, date):
        return seconds_of(value)
    return seconds_of_text(value) if isinstance(value, str) else None
