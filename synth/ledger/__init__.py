"""The budget ledger: an insert-only, hash-chained record of what was reserved, started, spent and decided.

`Ledger` is the way in; `Charge` says what a mechanism costs.
"""

from synth.ledger.balance import Balance, Charge
from synth.ledger.entries import Entry
from synth.ledger.history import RunSummary
from synth.ledger.ledger import Ledger
from synth.ledger.policies import PolicyRecord
from synth.ledger.succession import SUCCESSOR

__all__ = ["SUCCESSOR", "Balance", "Charge", "Entry", "Ledger", "PolicyRecord", "RunSummary"]
