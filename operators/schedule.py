"""Schedules that would go wrong, found before they start anything.

An approval that still waits when the next run is due would hold it back, and runs would pile up behind one question.
Releases that start each other would go on until the budget is spent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from synth.contract import AssetUpdate, Contract
from synth.errors import ContractError

if TYPE_CHECKING:
    from airflow.sdk import CronTriggerTimetable

_UNKNOWN_TO_CRONITER = {"@quarterly": "0 0 1 */3 *"}
# About two years of a weekday that is joined with a day of the month, so that the two have met.
_FIRES = 120
_IN_TIME = timedelta(minutes=5)
_FROM = datetime(2027, 6, 1, tzinfo=UTC)


def times(schedule: str) -> CronTriggerTimetable:
    """The times of a cron expression in Airflow's own time zone, from the next one on.

    Given the text alone, Airflow would start a new DAG at once for a time missed by less than a tenth of the interval,
    and takes ``run_immediately=False`` for the same. A few minutes have to count as in time: the DAG's file may be read
    again between its first time and the moment at which the scheduler acts on it, and that run would be lost.
    """
    import pendulum
    from airflow.sdk import CronTriggerTimetable, conf

    zone = conf.get("core", "default_timezone")
    local = pendulum.tz.local_timezone() if zone == "system" else zone
    return CronTriggerTimetable(schedule, timezone=local, run_immediately=_IN_TIME)


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


def refuse_loop(contract: Contract, started_by: Mapping[str, str]) -> None:
    """Accept only a contract whose releases start no run of its own by way of other contracts.

    :param started_by: of other contracts, the asset that starts them, by the asset that their releases update.
    :raises ContractError: naming the assets of the loop.
    """
    if not isinstance(contract.schedule, AssetUpdate):
        return
    chain = [contract.schedule.asset]
    while chain[-1] in started_by:
        chain.append(started_by[chain[-1]])
    if chain[-1] == contract.dataset.release_asset:
        loop = " → ".join([*reversed(chain), chain[-1]])
        raise ContractError(
            f"schedule.asset={contract.schedule.asset!r}: releases would start each other, {loop}, until the budget is "
            "spent; give one of these contracts another schedule"
        )
