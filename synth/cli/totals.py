"""What a policy's total covers, and how many of the releases that it plans are still to come."""

from __future__ import annotations

from synth.errors import BudgetExceeded
from synth.ledger import Ledger


def covered(every: str | None) -> str:
    """Which releases share the total; ``every`` is the length of the policy's windows, if it has any."""
    return f"in each {every}" if every else "over all releases"


def releases_left(ledger: Ledger, policy: str, horizon: int, window: str) -> int:
    """How many of the planned releases may still be admitted in a window."""
    try:
        return ledger.releases_left(policy, horizon, window)
    except BudgetExceeded:
        return 0
