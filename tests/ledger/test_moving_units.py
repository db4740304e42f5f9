"""Units that may change their branch between releases: further attempts are charged to both branches."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from synth.errors import LedgerError
from synth.ledger import Charge, Ledger

CHARGES = [
    Charge("validation", ("train", "holdout"), 3),
    Charge("model", ("train",), 40),
    Charge("gate", ("holdout",), 38),
]


def release(ledger: Ledger, run: str, attempts: dict[str, int], **options: Any) -> None:
    ledger.reserve("people", run, plan_digest="p", split_id="s", max_attempts=3, charges=CHARGES, details={}, **options)
    for mechanism, count in attempts.items():
        for _ in range(count):
            number = ledger.begin("people", run, mechanism, plan_digest="p")
        ledger.commit("people", run, mechanism, number)
    ledger.settle("people", run)


def worst(*releases: dict[str, int]) -> int:
    """What a unit can have paid that was in any branch of any release."""
    cost = {charge.mechanism: charge for charge in CHARGES}
    sums = [
        {b: sum(n * cost[m].cost for m, n in attempts.items() if b in cost[m].branches) for b in ("train", "holdout")}
        for attempts in releases
    ]
    return max(
        sum(paid[b] for paid, b in zip(sums, way, strict=True)) for way in product(*[("train", "holdout")] * len(sums))
    )


ONCE = {"validation": 1, "model": 1, "gate": 1}
DIED = {"validation": 1, "model": 1, "gate": 3}


@pytest.mark.parametrize("releases", [(ONCE,), (ONCE, ONCE), (ONCE, DIED), (DIED, ONCE, DIED), (DIED, DIED)])
def test_the_ledger_counts_at_least_what_any_unit_paid(
    officer: Ledger, ledger: Ledger, releases: tuple[dict[str, int], ...]
) -> None:
    officer.register("people", {"sources": ["s"]}, 10_000, "officer")
    for number, attempts in enumerate(releases):
        release(ledger, f"r{number}", attempts, units_may_move=True)
    assert ledger.balance("people").total >= worst(*releases)
    ledger.verify("people")


def test_charging_branch_by_branch_would_count_too_little(officer: Ledger, ledger: Ledger) -> None:
    """The broken twin: as where units stay in their branch."""
    officer.register("people", {"sources": ["s"]}, 10_000, "officer")
    for number, attempts in enumerate((ONCE, DIED)):
        release(ledger, f"r{number}", attempts)
    assert ledger.balance("people").total < worst(ONCE, DIED)


def test_a_holdout_that_costs_more_than_training_is_refused(officer: Ledger, ledger: Ledger) -> None:
    officer.register("people", {"sources": ["s"]}, 10_000, "officer")
    with pytest.raises(LedgerError, match="must not cost more than training"):
        ledger.reserve(
            "people", "r", plan_digest="p", split_id="s", max_attempts=1, details={}, units_may_move=True,
            charges=[Charge("gate", ("holdout",), 2), Charge("model", ("train",), 1)],
        )  # fmt: skip
