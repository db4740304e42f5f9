"""The Great Expectations expectations that look at one row at a time.

Only these have a count of violating units with a bounded sensitivity: adding one person changes the verdict on
that person's row and on no other. An expectation on a mean, a maximum or on uniqueness has not. Nor has one with a
``row_condition``, a query over the whole frame that may compare rows with their mean: so only the options listed
here are accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
