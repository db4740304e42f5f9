"""Pacing: how much the next release may cost, so that as many as were planned fit the budget.

A *horizon* is the number of releases that a policy plans, in each window where it has windows. What is left is shared
out evenly among those still to come, so a release that cost more, by another attempt say, makes the later ones smaller
and pushes none of them out. A run counts as a release from its reservation on, unless all of it was given back: then
nothing of it ever started. A policy that succeeds another goes on counting where that one ended.

Counting takes one query. It reads index entries of the policy's reservations, two each, and the rows of those that
count; so its cost grows with the runs under the policy, by some microseconds a run, not with what they recorded.
"""

from __future__ import annotations

from synth.errors import BudgetExceeded, LedgerError
from synth.ledger.balance import budget_name, delta_total, total, window_name
from synth.ledger.chain import Chain


def pace(chain: Chain, horizon: int, window: str) -> int:
    """See `Ledger.pace`."""
    remaining = releases_left(chain, horizon, window)
    capacity: int = chain.policy_entry().payload["capacity"]
    return (capacity - total(chain.last().balance, window)) // remaining


def delta_pace(chain: Chain, horizon: int, window: str) -> int:
    """See `Ledger.delta_pace`."""
    remaining = releases_left(chain, horizon, window)
    capacity: int = chain.policy_entry().payload.get("delta_capacity", 0)
    return (capacity - delta_total(chain.last().balance, window)) // remaining


def releases_left(chain: Chain, horizon: int, window: str) -> int:
    """How many releases may still be admitted in a window, at least one.

    :raises BudgetExceeded: if as many as planned were admitted.
    """
    if type(horizon) is not int or horizon < 1:
        raise LedgerError(f"horizon {horizon!r} is not accepted: a whole number of releases, at least 1")
    carried = chain.policy_entry().payload.get("succeeds", {}).get("carried", {})
    before: int = carried.get(window_name(window), {}).get("releases", 0)
    admitted = before + chain.admitted().get(window, 0)
    if admitted >= horizon:
        planned = "1 release" if horizon == 1 else f"{horizon} releases"
        raise BudgetExceeded(
            f"{budget_name(chain.policy, window)} plans {planned} and {admitted} {'was' if admitted == 1 else 'were'} "
            f"admitted, so there is no further one; `sluice budget history {chain.policy}` shows them. A run that was "
            "settled before any of its mechanisms started does not count. To plan more, the privacy officer registers "
            "a policy with a longer horizon that succeeds this one"
        )
    return horizon - admitted
