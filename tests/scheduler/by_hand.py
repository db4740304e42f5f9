"""Runs that somebody interferes with: tasks or runs marked by hand, a paused DAG, a contract that is edited meanwhile.

Where a task has to be caught before it runs, the DAG is paused, or its training waits for a pool without a slot.
"""

from __future__ import annotations

from typing import Any

from tests.scheduler.rest import Account, DagRun

POOL = "closed"
_AT_THE_POOL: dict[str, Any] = {"approval": {"mode": "automatic"}, "compute": {"pool": POOL}}
CONTRACTS: dict[str, dict[str, Any]] = {
    **{name: {"approval": {"mode": "automatic"}} for name in ("marked_allocate", "marked_train", "marked_check")},
    **dict.fromkeys(("held_success", "held_failed", "edited"), _AT_THE_POOL),
}
# Of runs whose DAG is paused: these tasks are marked successful before any has run.
MARKED = {
    "marked_allocate": ("allocate",),
    "marked_train": ("train",),
    "marked_check": ("check", "publish"),
}


def start(account: Account) -> dict[str, DagRun]:
    """Trigger all of them; those with marks only so far that they wait for their DAG."""
    account.make_pool(POOL, 0)
    for name in MARKED:
        account.pause(f"share_{name}", True)
    return {name: account.trigger(f"share_{name}") for name in CONTRACTS}
