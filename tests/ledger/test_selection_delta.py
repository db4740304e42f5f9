"""What is added to δ whatever the ε: an account of its own, as strict as the other, and absent where nothing is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from synth.errors import BudgetExceeded, LedgerError, PolicyError, TamperedArtifact
from synth.ledger import Charge, Entry, Ledger
from synth.ledger.chain import Chain
from synth.ledger.database import Database
from tests.ledger.conftest import only_sqlite
from tests.ledger.test_races import at_once

DOCUMENT = {"sources": ["s3://hospital/notes.parquet"], "unit": {"column": "patient"}, "epsilon": 3.0}
CHARGES = (Charge("validation", ("train", "holdout"), 5), Charge("categories", ("train",), 5, 100))


@pytest.fixture
def wards(ledger: Ledger, officer: Ledger) -> Ledger:
    """With a policy that has much to spend and 1000 set aside."""
    officer.register("wards", DOCUMENT, 1_000_000, "officer@hospital.example", delta_capacity=1000)
    return ledger


def reserve(ledger: Ledger, run: str, **changes: Any) -> Entry:
    arguments: dict[str, Any] = {
        "plan_digest": "plan-1",
        "split_id": "split-1",
        "max_attempts": 3,
        "charges": CHARGES,
        "details": {},
    }
    return ledger.reserve("wards", run, **(arguments | changes))


def held(ledger: Ledger, window: str = "") -> int:
    return ledger.balance("wards", window).delta_held


def test_what_was_set_aside_is_never_passed(wards: Ledger) -> None:
    for number in range(10):
        reserve(wards, f"run-{number}")
    with pytest.raises(BudgetExceeded, match=r"run 'run-10'.*selection_delta"):
        reserve(wards, "run-10")
    assert held(wards) == 1000
    reserve(wards, "without", charges=CHARGES[:1])
    wards.verify("wards")


def test_a_further_attempt_is_charged_again_and_refused_at_the_end(wards: Ledger) -> None:
    reserve(wards, "run", charges=[Charge("categories", ("train",), 5, 400)])
    for attempt in (1, 2):
        assert wards.begin("wards", "run", "categories", plan_digest="plan-1") == attempt
        assert held(wards) == attempt * 400
    with pytest.raises(BudgetExceeded, match="attempt 3 of mechanism 'categories'"):
        wards.begin("wards", "run", "categories", plan_digest="plan-1")
    assert wards.attempts("wards", "run") == {"categories": 2}
    wards.verify("wards")


def test_what_never_started_comes_back_and_what_started_does_not(wards: Ledger) -> None:
    reserve(wards, "one")
    reserve(wards, "two")
    wards.begin("wards", "two", "categories", plan_digest="plan-1")
    wards.settle("wards", "one")
    wards.settle("wards", "two")
    assert held(wards) == 100
    wards.verify("wards")


def test_the_worse_branch_counts_and_splits_add_up(wards: Ledger) -> None:
    reserve(wards, "one", charges=[Charge("a", ("train",), 5, 100), Charge("b", ("holdout",), 5, 70)])
    assert held(wards) == 100
    reserve(wards, "two", split_id="split-2")
    assert held(wards) == 200


def test_windows_have_an_account_each(wards: Ledger) -> None:
    for number in range(10):
        reserve(wards, f"run-{number}", window="2026-Q3")
    with pytest.raises(BudgetExceeded, match="2026-Q3"):
        reserve(wards, "more", window="2026-Q3")
    reserve(wards, "later", window="2026-Q4")
    assert (held(wards, "2026-Q3"), held(wards, "2026-Q4")) == (1000, 100)


def test_a_policy_that_sets_nothing_aside_admits_nothing_that_adds_to_delta(ledger: Ledger) -> None:
    with pytest.raises(BudgetExceeded, match="selection_delta"):
        ledger.reserve(
            "patients", "run", plan_digest="p", split_id="s", max_attempts=1, details={}, charges=[CHARGES[1]]
        )


def test_thirty_two_threads_racing_for_the_last_of_it_never_pass_it(wards: Ledger) -> None:
    def attempt(number: int) -> bool:
        try:
            reserve(wards, f"run-{number}", charges=[Charge("categories", ("train",), 5, 90)])
        except BudgetExceeded:
            return False
        return True

    assert sum(at_once(32, attempt)) == 1000 // 90
    assert held(wards) == 990
    wards.verify("wards")


@only_sqlite
def test_a_forged_account_with_a_sound_chain_is_found(wards: Ledger, url: str) -> None:
    reserve(wards, "run")
    forged = {"split-1": {"train": 10, "holdout": 5, "train_delta": 0, "holdout_delta": 0}}
    with Database.connect(url).writing("a forger") as connection:
        Chain(connection, "wards").append("note", "forged:note", "forged", {}, balance=forged)
    with pytest.raises(TamperedArtifact, match="balance"):
        wards.verify("wards")


def test_a_successor_takes_over_what_was_added_to_delta(wards: Ledger, officer: Ledger) -> None:
    reserve(wards, "run")
    wards.begin("wards", "run", "categories", plan_digest="plan-1")
    wards.settle("wards", "run")
    with pytest.raises(PolicyError, match="delta_capacity"):
        officer.register("next", DOCUMENT, 1_000_000, "officer", succeeds="wards")
    officer.register("next", DOCUMENT, 1_000_000, "officer", succeeds="wards", delta_capacity=1000)
    assert officer.balance("next").delta_held == 100
    officer.verify("next")
    with pytest.raises(BudgetExceeded):
        wards.reserve(
            "next", "run", plan_digest="p", split_id="s", max_attempts=1, details={},
            charges=[Charge("categories", ("train",), 5, 901)],
        )  # fmt: skip


def test_a_horizon_shares_out_what_is_left_of_it(wards: Ledger) -> None:
    assert wards.delta_pace("wards", 4) == 250
    reserve(wards, "run")
    assert wards.delta_pace("wards", 4) == 300


def test_a_registered_policy_cannot_get_another_account(wards: Ledger, officer: Ledger) -> None:
    with pytest.raises(PolicyError, match="delta_capacity"):
        officer.register("wards", DOCUMENT, 1_000_000, "officer", delta_capacity=2000)


@pytest.mark.parametrize("delta", [-1, 0.5, True])
def test_a_charge_that_is_no_whole_number_is_refused(delta: Any) -> None:
    with pytest.raises(LedgerError, match="10⁻¹⁸"):
        Charge("categories", ("train",), 5, delta)


def test_where_nothing_is_added_to_delta_no_entry_mentions_it(ledger: Ledger) -> None:
    """So entries written before there was such an account are written the same today."""
    entry = ledger.reserve(
        "patients", "run", plan_digest="p", split_id="s", max_attempts=1, details={}, charges=[CHARGES[0]]
    )
    assert json.loads(entry.balance_text) == {"s": {"train": 5, "holdout": 5}}
    for written in ledger.entries("patients"):
        assert "delta" not in written.payload_text + written.balance_text


def test_units_that_may_move_need_a_holdout_that_adds_no_more(wards: Ledger) -> None:
    with pytest.raises(LedgerError, match="holdout"):
        reserve(wards, "run", charges=[Charge("a", ("train",), 9, 1), Charge("b", ("holdout",), 5, 2)],
                units_may_move=True)  # fmt: skip
    reserve(wards, "run", units_may_move=True)
    for _ in range(2):
        wards.begin("wards", "run", "categories", plan_digest="plan-1")
    assert wards.entries("wards")[-1].balance["split-1"]["holdout_delta"] == 100
    wards.verify("wards")
