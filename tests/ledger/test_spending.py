from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, event

from synth.errors import (
    AttemptsExhausted,
    BudgetExceeded,
    LedgerError,
    NotReserved,
    PlanChanged,
    ReservationReleased,
)
from synth.ledger import Balance, Charge, Ledger
from tests.ledger.conftest import CAPACITY, CHARGES, Reserve, only_sqlite, reserve_in


def test_a_release_costs_the_worse_of_its_two_branches(ledger: Ledger, reserve: Reserve) -> None:
    reserve("run")
    by_split = {"split-1": {"train": 250, "holdout": 150}}
    assert ledger.balance("patients") == Balance(CAPACITY, spent=0, reserved=250, left=750, by_split=by_split)


def test_branches_add_up_over_releases_before_the_worse_one_is_taken(ledger: Ledger, reserve: Reserve) -> None:
    reserve("one", charges=[Charge("m", ("train",), 300)])
    reserve("two", charges=[Charge("m", ("holdout",), 200)])
    assert ledger.balance("patients").total == 300
    reserve("three", charges=[Charge("m", ("holdout",), 200)])
    assert ledger.balance("patients").total == 400


def test_another_split_charges_both_branches(ledger: Ledger, reserve: Reserve) -> None:
    reserve("one", charges=[Charge("m", ("train",), 300)])
    reserve("two", charges=[Charge("m", ("holdout",), 200)], split_id="split-2")
    assert ledger.balance("patients").total == 500


def test_a_budget_can_be_used_to_the_last_nano_nat_and_not_beyond(ledger: Ledger, reserve: Reserve) -> None:
    reserve("one", charges=[Charge("m", ("train",), CAPACITY)])
    assert ledger.balance("patients").left == 0
    before = ledger.entries("patients")
    with pytest.raises(BudgetExceeded):
        reserve("two", charges=[Charge("m", ("train",), 1)])
    assert ledger.entries("patients") == before
    reserve("three", charges=[Charge("m", ("holdout",), CAPACITY)])


def test_a_refusal_says_what_is_there_what_was_asked_and_what_to_do(ledger: Ledger, reserve: Reserve) -> None:
    reserve("one")
    ledger.begin("patients", "one", "validation", plan_digest="plan-1")
    with pytest.raises(BudgetExceeded) as refused:
        reserve("two", charges=[Charge("m", ("train",), 751)])
    text = str(refused.value)
    assert "total capacity 100 %, spent 5.00 %, reserved 20.00 %, asked 75.10 %, left 75.00 %" in text
    assert "Lower the release's epsilon" in text
    assert refused.value.retry is False


def test_a_refusal_by_one_nano_nat_in_a_large_budget_still_reads_as_too_much(ledger: Ledger, officer: Ledger) -> None:
    officer.register("large", {"sources": ["s3://hospital/large"]}, 3_000_000_001, "officer")
    with pytest.raises(BudgetExceeded, match=r"asked 100\.01 %, left 100\.00 %"):
        ledger.reserve(
            "large",
            "run",
            plan_digest="plan",
            split_id="split",
            max_attempts=1,
            charges=[Charge("m", ("train",), 3_000_000_002)],
            details={},
        )


def test_reserving_the_same_plan_again_is_recorded_once(ledger: Ledger, reserve: Reserve) -> None:
    first = reserve("run")
    assert reserve("run", details={"epsilon": 1.0, "note": "cleared"}) == first
    assert ledger.balance("patients").total == 250


def test_a_run_cannot_reserve_a_second_plan(ledger: Ledger, reserve: Reserve) -> None:
    reserve("run")
    with pytest.raises(PlanChanged, match="plan-1 and was handed plan plan-2"):
        reserve("run", plan_digest="plan-2")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"charges": CHARGES[:2]}, "charges"),
        ({"split_id": "split-2"}, "split_id"),
        ({"max_attempts": 2}, "max_attempts"),
    ],
)
def test_a_digest_that_does_not_cover_the_reservation_is_noticed(
    reserve: Reserve, change: dict[str, Any], named: str
) -> None:
    reserve("run")
    with pytest.raises(PlanChanged, match=named):
        reserve("run", **change)


@only_sqlite
@pytest.mark.parametrize(
    "change",
    [
        {"charges": []},
        {"charges": [CHARGES[0], CHARGES[0]]},
        {"max_attempts": 0},
        {"max_attempts": True},
        {"max_attempts": 101},
        {"split_id": ""},
        {"plan_digest": ""},
        {"details": {"loss": float("inf")}},
    ],
)
def test_a_malformed_reservation_is_refused(ledger: Ledger, reserve: Reserve, change: dict[str, Any]) -> None:
    with pytest.raises(LedgerError):
        reserve("run", **change)
    assert ledger.balance("patients").total == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("m", (), 1),
        ("m", ("test",), 1),
        ("m", ("train", "train"), 1),
        ("m", ("train",), 0),
        ("m", ("train",), -1),
        ("m", ("train",), 1.0),
        ("m", ("train",), True),
        ("", ("train",), 1),
        ("a:b", ("train",), 1),
        ("a\n", ("train",), 1),
    ],
)
def test_a_charge_that_charges_nobody_or_no_whole_cost_is_refused(arguments: tuple[Any, Any, Any]) -> None:
    with pytest.raises(LedgerError, match="accepted"):
        Charge(*arguments)


def test_a_mechanism_starts_on_what_was_reserved_for_it(ledger: Ledger, reserve: Reserve) -> None:
    reserve("run")
    assert ledger.begin("patients", "run", "training", plan_digest="plan-1") == 1
    assert ledger.entries("patients")[-1].key == "run:training:begin:1"
    balance = ledger.balance("patients")
    assert (balance.spent, balance.reserved, balance.total) == (200, 50, 250)


def test_a_mechanism_without_a_reservation_does_not_start(ledger: Ledger) -> None:
    with pytest.raises(NotReserved, match="no reservation"):
        ledger.begin("patients", "run", "training", plan_digest="plan-1")


def test_a_mechanism_of_another_plan_does_not_start(ledger: Ledger, reserve: Reserve) -> None:
    reserve("run")
    with pytest.raises(PlanChanged):
        ledger.begin("patients", "run", "training", plan_digest="plan-2")


def test_a_mechanism_outside_the_plan_does_not_start(ledger: Ledger, reserve: Reserve) -> None:
    reserve("run")
    with pytest.raises(LedgerError, match="which holds validation, training, gate"):
        ledger.begin("patients", "run", "histogram", plan_digest="plan-1")
    assert ledger.attempts("patients", "run") == {"validation": 0, "training": 0, "gate": 0}


def test_an_attempt_whose_output_was_lost_stays_spent_and_the_next_is_charged_again(
    ledger: Ledger, reserve: Reserve
) -> None:
    reserve("run")
    attempts = [ledger.begin("patients", "run", "training", plan_digest="plan-1") for _ in range(3)]
    assert attempts == [1, 2, 3]
    balance = ledger.balance("patients")
    assert (balance.spent, balance.reserved) == (600, 50)
    assert ledger.attempts("patients", "run")["training"] == 3
    with pytest.raises(AttemptsExhausted, match="3 times"):
        ledger.begin("patients", "run", "training", plan_digest="plan-1")


def test_another_attempt_needs_budget_too(ledger: Ledger, reserve: Reserve) -> None:
    reserve("run")
    reserve("other", charges=[Charge("m", ("train",), 600)])
    ledger.begin("patients", "run", "training", plan_digest="plan-1")
    with pytest.raises(BudgetExceeded, match=r"attempt 2 of mechanism 'training'.* asked 20\.00 %, left 15\.00 %"):
        ledger.begin("patients", "run", "training", plan_digest="plan-1")
    assert ledger.attempts("patients", "run")["training"] == 1


def test_a_commit_is_recorded_once_and_only_for_an_attempt_that_started(ledger: Ledger, reserve: Reserve) -> None:
    reserve("run")
    with pytest.raises(NotReserved, match="never started"):
        ledger.commit("patients", "run", "training", 1)
    attempt = ledger.begin("patients", "run", "training", plan_digest="plan-1")
    assert not ledger.committed("patients", "run", "training")
    first = ledger.commit("patients", "run", "training", attempt)
    assert ledger.commit("patients", "run", "training", attempt) == first
    assert ledger.committed("patients", "run", "training")
    assert not ledger.committed("patients", "run", "gate")


def test_settling_gives_back_only_what_never_started(ledger: Ledger, reserve: Reserve) -> None:
    reserve("run")
    ledger.begin("patients", "run", "validation", plan_digest="plan-1")
    assert ledger.settle("patients", "run") == ["training", "gate"]
    by_split = {"split-1": {"train": 50, "holdout": 50}}
    assert ledger.balance("patients") == Balance(CAPACITY, spent=50, reserved=0, left=950, by_split=by_split)
    entries = ledger.entries("patients")
    assert ledger.settle("patients", "run") == ["training", "gate"]
    assert ledger.entries("patients") == entries


def test_a_paused_worker_cannot_start_what_was_given_back(ledger: Ledger, reserve: Reserve) -> None:
    reserve("run")
    ledger.settle("patients", "run")
    with pytest.raises(ReservationReleased, match="was settled before"):
        ledger.begin("patients", "run", "training", plan_digest="plan-1")
    with pytest.raises(NotReserved):
        ledger.commit("patients", "run", "training", 1)
    assert ledger.balance("patients").total == 0


def test_a_mechanism_that_started_before_the_run_was_settled_may_be_tried_again_at_its_cost(
    ledger: Ledger, reserve: Reserve
) -> None:
    reserve("run")
    ledger.begin("patients", "run", "training", plan_digest="plan-1")
    ledger.settle("patients", "run")
    assert ledger.begin("patients", "run", "training", plan_digest="plan-1") == 2
    assert ledger.balance("patients").spent == 400


def test_a_run_that_reserved_nothing_settles_to_nothing(ledger: Ledger) -> None:
    assert ledger.settle("patients", "run") == []
    assert ledger.attempts("patients", "run") == {}
    assert len(ledger.entries("patients")) == 1


def test_a_settled_run_that_reserves_again_gets_nothing_back(ledger: Ledger, reserve: Reserve) -> None:
    first = reserve("run")
    ledger.settle("patients", "run")
    assert reserve("run") == first
    assert ledger.balance("patients").total == 0


def test_runs_whose_names_and_mechanisms_run_together_stay_apart(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a", charges=[Charge("m", ("train",), 10)])
    reserve("a:m", charges=[Charge("m", ("train",), 10)])
    assert ledger.begin("patients", "a", "m", plan_digest="plan-1") == 1
    assert ledger.begin("patients", "a:m", "m", plan_digest="plan-1") == 1
    assert ledger.balance("patients").spent == 20


def test_policies_do_not_share_a_budget(ledger: Ledger, officer: Ledger, reserve: Reserve) -> None:
    officer.register("staff", {"sources": ["s3://hospital/staff"]}, 7, "officer")
    reserve("run")
    assert ledger.balance("staff").left == 7
    assert ledger.entries("staff")[0].previous == ""


def _rows_fetched(ledger: Ledger, work: Any) -> tuple[int, int]:
    """Statements issued and rows that they returned while ``work`` ran, seen from the driver's cursor."""
    statements = rows = 0
    engine: Engine = ledger._database.engine

    def count(_connection: Any, cursor: Any, *_rest: Any) -> None:
        nonlocal statements, rows
        statements += 1
        # SQLite's driver does not know how many rows a SELECT will return, and says -1.
        rows += max(cursor.rowcount, 0)

    def count_rows(connection: Any, _record: object) -> None:
        def factory(cursor: Any, row: tuple[Any, ...]) -> tuple[Any, ...]:
            nonlocal rows
            rows += 1
            return row

        connection.row_factory = factory

    event.listen(engine, "after_cursor_execute", count)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", count_rows)
    try:
        work()
    finally:
        event.remove(engine, "after_cursor_execute", count)
        if engine.dialect.name == "sqlite":
            event.remove(engine, "connect", count_rows)
    return statements, rows


def test_admission_does_not_read_history(ledger: Ledger) -> None:
    small = [Charge("m", ("train",), 1), Charge("never", ("train",), 1)]

    def one_run(name: str) -> None:
        reserve_in(ledger, name, charges=small)
        ledger.begin("patients", name, "m", plan_digest="plan-1")
        ledger.begin("patients", name, "m", plan_digest="plan-1")
        ledger.commit("patients", name, "m", 2)
        ledger.settle("patients", name)

    one_run("first")
    early = _rows_fetched(ledger, lambda: one_run("early"))
    for number in range(40):
        one_run(f"run-{number}")
    assert len(ledger.entries("patients")) > 200
    assert early[1] > 5
    assert _rows_fetched(ledger, lambda: one_run("late")) == early
