"""Numbers that stand on a grid of multiples, and bounds that follow from other bounds. For floats and arrays alike.

Dates are seconds since 1970, in UTC.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

from synth.contract.columns import RESOLUTIONS

_EPSILON = 1e-9  # of a step: what a multiple may be off by in floating point
_DAY = 86_400.0
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?")


def up(value: Any, step: float | None, strict: bool = False) -> Any:
    """The lowest multiple of ``step`` that is not below ``value``; above it, where strict. Without step the value."""
    if step is None:
        return value
    places = value / step
    return step * ((places + _EPSILON) // 1 + 1 if strict else -((_EPSILON - places) // 1))


def down(value: Any, step: float | None, strict: bool = False) -> Any:
    """The highest multiple of ``step`` that is not above ``value``; below it, where strict. Without step the value."""
    return -up(-value, step, strict)


def step_of(column: Any) -> float | None:
    """The distance between two neighbouring values of a column; None where there are values between any two."""
    if column.type == "integer":
        return 1.0
    if column.type == "date":
        return _DAY
    if column.type in ("datetime", "timestamp"):  # of a contract, or as a statement describes it
        return float(getattr(column, "step_seconds", None) or RESOLUTIONS[column.resolution])
    decimals = getattr(column, "decimals", None)
    return None if decimals is None else 10.0**-decimals


def is_ordered(column: Any) -> bool:
    """Whether a column of a contract holds numbers or dates between bounds."""
    return getattr(column, "min", None) is not None and getattr(column, "max", None) is not None


def holds_dates(column: Any) -> bool:
    """Whether a column of a contract holds dates or moments."""
    return column.type in ("date", "datetime", "timestamp")


def number_of(value: Any) -> float | None:
    """A bound or constant as a number, a date as seconds; None for text that is no ISO 8601 date."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        if not _DATE.fullmatch(value.strip()):
            return None
        try:
            value = datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day, tzinfo=datetime.UTC)
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return float(value.timestamp())


def bounds_of(column: Any) -> tuple[float, float]:
    """The lowest and the highest value of an ordered column.

    :raises ValueError: if a bound is neither number nor date, which no contract has.
    """
    low, high = number_of(column.min), number_of(column.max)
    if low is None or high is None:
        raise ValueError("Expected bounds that are numbers or ISO 8601 dates.")
    return low, high
