"""Windows of time: calendar years, quarters or months, as names that anyone can read.

Which window a row belongs to is decided by one of its own cells, so it never depends on another row.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Literal

from pydantic import Field

WindowLength = Literal["month", "quarter", "year"]
WindowName = Annotated[str, Field(pattern=r"^\d{4}(-Q[1-4]|-(0[1-9]|1[0-2]))?$")]

_EXAMPLES = {"year": "2026", "quarter": "2026-Q3", "month": "2026-07"}
_FORMS = {"year": "[0-9]{4}", "quarter": "[0-9]{4}-Q[1-4]", "month": "[0-9]{4}-(0[1-9]|1[0-2])"}
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?![0-9])", re.ASCII)


def names_window(name: str, every: WindowLength) -> bool:
    """Whether ``name`` is a window of this length."""
    return re.fullmatch(_FORMS[every], name) is not None


def form_of(every: WindowLength) -> str:
    """What such a name looks like, as a regular expression of the whole."""
    return _FORMS[every]


def example_of(every: WindowLength) -> str:
    """A name of such a window."""
    return _EXAMPLES[every]


def window_of(day: date, every: WindowLength) -> str:
    """The window that a day is in.

    >>> window_of(date(2026, 8, 1), "quarter")
    '2026-Q3'
    """
    names = {
        "year": f"{day.year:04d}",
        "quarter": f"{day.year:04d}-Q{(day.month + 2) // 3}",
        "month": f"{day.year:04d}-{day.month:02d}",
    }
    return names[every]


def window_of_text(text: str | None, every: WindowLength) -> str | None:
    """The window of a cell that starts with an ISO 8601 date; None for any other."""
    found = _DATE.match(text) if text is not None else None
    if found is None:
        return None
    try:
        return window_of(date(*map(int, found.groups())), every)
    except ValueError:
        return None


def last_window_before(day: date, every: WindowLength) -> str:
    """The window that was over last.

    >>> last_window_before(date(2026, 1, 15), "quarter")
    '2025-Q4'
    """
    first_month = {"year": 1, "quarter": (day.month - 1) // 3 * 3 + 1, "month": day.month}[every]
    start = date(day.year, first_month, 1)
    return window_of(date.fromordinal(start.toordinal() - 1), every)
