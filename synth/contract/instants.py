"""Days and instants as ISO 8601 text, read one by one, and as whole seconds since 1970-01-01 in UTC.

What is read: ``2026-07-01``, ``20260701``, or a day with a time of day such as ``2026-07-01T09:30``,
``2026-07-01 09:30:15.5`` and ``2026-07-01T09:30:15+02:00``. A text without a zone is taken as UTC, another is moved to
UTC, and what is finer than a second is cut off. Anything else is no instant: a leap second, the hour 24, and what its
zone moves out of the years 1 to 9999, where libraries that compare dates fail.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()
FIRST, LAST = (date.min.toordinal() - _EPOCH) * DAY, (date.max.toordinal() - _EPOCH + 1) * DAY - 1  # that have a year
_ISO = re.compile(
    r"(\d{4})(-?)(\d\d)\2(\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,]\d{1,12})?)?(?:Z|z|([+-])(\d\d)(?::?(\d\d))?)?)?",
    re.ASCII,
)


def seconds_of_text(text: str) -> int | None:
    """Whole seconds since 1970-01-01T00:00:00 in UTC; None for a text that names no instant.

    >>> seconds_of_text("1970-01-02T01:00+01:00")
    86400
    """
    found = _ISO.fullmatch(text.strip())
    if found is None:
        return None
    year, _, month, day, hour, minute, second, sign, zone_hour, zone_minute = found.groups(default="0")
    if int(hour) > 23 or int(minute) > 59 or int(second) > 59 or int(zone_hour) > 23 or int(zone_minute) > 59:
        return None
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH
    except ValueError:
        return None
    of_day = 3600 * int(hour) + 60 * int(minute) + int(second)
    offset = 3600 * int(zone_hour) + 60 * int(zone_minute)
    seconds = days * DAY + of_day - (-offset if sign == "-" else offset)
    return seconds if FIRST <= seconds <= LAST else None


def seconds_of(value: date | datetime) -> int:
    """Whole seconds since 1970-01-01T00:00:00 in UTC, of which a datetime without a zone is one."""
    if not isinstance(value, datetime):
        return (value.toordinal() - _EPOCH) * DAY
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)


def instant(seconds: float) -> datetime:
    """The instant in UTC, without a zone. ``seconds`` must lie in the years 1 to 9999."""
    return datetime(1970, 1, 1) + timedelta(seconds=int(seconds))  # noqa: DTZ001 - all are UTC


def text_of(seconds: float, *, time: bool = True) -> str:
    """ISO 8601 of an instant; of its day alone, unless ``time``.

    >>> text_of(86400), text_of(86400, time=False)
    ('1970-01-02T00:00:00', '1970-01-02')
    """
    value = instant(seconds)
    return value.isoformat() if time else value.date().isoformat()
