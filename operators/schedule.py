"""How often a schedule fires, as far as that can be told from its text.

An approval that still waits when the next run is due would hold it back, and runs would pile up behind one question.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

from synth.errors import ContractError

_UNKNOWN_TO_CRONITER = {"@quarterly": "0 0 1 */3 *"}
# About two years of a weekday that is joined with a day of the month, so that the two have met.
_FIRES = 120
_FROM = datetime(2027, 6, 1, tzinfo=UTC)


def shortest_interval(schedule: str) -> timedelta | None:
    """The shortest time between two of a cron expression's next fires; None for what is no cron expression."""
    from croniter import CroniterError, croniter

    try:
        fires = croniter(_UNKNOWN_TO_CRONITER.get(schedule, schedule), _FROM).all_next(datetime)
        return min(later - earlier for earlier, later in pairwise(islice(fires, _FIRES)))
    except CroniterError:
        return None


def refuse_approval_longer_than_interval(schedule: str, timeout_hours: float) -> None:
    """Accept only an approval that is over before the next run is due.

    :raises ContractError: naming both and what is accepted.
    """
    interval = shortest_interval(schedule)
    if interval is None or timedelta(hours=timeout_hours) < interval:
        return
    hours = interval / timedelta(hours=1)
    raise ContractError(
        f"approval.timeout_hours={timeout_hours:g}: schedule {schedule!r} starts runs as little as {hours:g} hours "
        f"apart, and a question must be over before the next run is due; accepted: less than {hours:g}, or a schedule "
        "that runs less often"
    )
