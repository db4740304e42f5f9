"""Public grids of dates and instants: the closed cells of the calendar that a column's range is cut into.

A cell is a part of a day, a day, a week from Monday on, a month, a quarter, a year, a decade or a century: the finest
of these that takes no more cells than are wanted. So the cells follow from the contract alone, and consumers find them
in any calendar. The first and the last are cut off at the column's bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from synth.contract.instants import DAY, instant, seconds_of

MOST_CELLS = 512
_PARTS = (1, 10, 60, 600, 3600, 6 * 3600, DAY)  # of a day, in seconds
_MONTHS = (1, 3, 12, 120, 1200)


def calendar_cells(low: int, high: int, step: int, most: int = MOST_CELLS) -> tuple[Sequence[float], Sequence[float]]:
    """First and last instants of the cells of a range, in order, in seconds since 1970-01-01.

    :param low: first instant of the range, a multiple of ``step``; ``high`` is the last.
    :param step: seconds between two instants that a column can hold: 1, 60, 3600 or a day.
    :param most: cells, at most; centuries are taken even where they are more.

    >>> calendar_cells(0, 3 * 86400, 86400)
    ([0, 86400, 172800, 259200], [0, 86400, 172800, 259200])
    """
    starts: list[int] = []
    for starts in _grids(low, high, step, most):
        if len(starts) <= most:
            break
    lower = [max(low, start) for start in starts]
    return lower, [*(start - step for start in lower[1:]), high]


def _grids(low: int, high: int, step: int, most: int) -> Iterator[list[int]]:
    """Where cells start, from the finest grid on; the first start may be before ``low``."""
    for part in _PARTS:
        if part >= step and (high - low) // part <= most:  # or its list would be long
            yield list(range(low - low % part, high + 1, part))
    first = instant(low).date()
    if (high - low) // (7 * DAY) <= most:
        yield list(range(seconds_of(first) - first.weekday() * DAY, high + 1, 7 * DAY))
    for months in _MONTHS:
        yield _of_months(first, high, months)


def _of_months(first: date, high: int, months: int) -> list[int]:
    """Starts of spans of so many months; those of years and more begin with years that they divide."""
    place = (first.year * 12 + first.month - 1) // months * months
    last = instant(high).year * 12 + instant(high).month - 1
    return [seconds_of(date(max(1, at // 12), at % 12 + 1, 1)) for at in range(place, last + 1, months)]
