"""A policy that plans twelve releases admits twelve, and what is left is shared out among those still to come."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import event

from synth.errors import BudgetExceeded, LedgerError
from synth.ledger import Charge, Ledger
from synth.ledger.database import Database
from tests.ledger.conftest import CAPACITY, Reserve, only_sqlite, reserve_in
from tests.ledger.test_races import at_once

HORIZON = 12


def one(cost: int) -> list[Charge]:
    return [Charge("m", ("train",), cost)]


def test_the_planned_number_of_releases_is_admitted_and_not_one_more(ledger: Ledger, reserve: Reserve) -> None:
    for number in range(HORIZON):
        share = ledger.pace("patients", HORIZON)
        assert share >= CAPACITY // HORIZON
        reserve(f"run-{number}", charges=one(share), horizon=HORIZON)
    assert ledger.balance("patients").left == 0
    before = ledger.entries("patients")
    for refused in (
        lambda: reserve("thirteenth", charges=one(1), horizon=HORIZON),
        lambda: ledger.pace("patients", HORIZON),
    ):
        with pytest.raises(BudgetExceeded, match="policy 'patients' plans 12 releases and 12 were admitted"):
            refused()
    assert ledger.entries("patients") == before


def test_the_thirteenth_is_refused_even_where_the_budget_has_room(reserve: Reserve) -> None:
    for number in range(HORIZON):
        reserve(f"run-{number}", charges=one(1), horizon=HORIZON)
    with pytest.raises(BudgetExceeded, match="plans 12 releases"):
        reserve("thirteenth", charges=one(1), horizon=HORIZON)


def test_a_retry_and_a_cleared_task_are_no_further_release(ledger: Ledger, reserve: Reserve) -> None:
    first = reserve("only", horizon=1)
    assert reserve("only", horizon=1) == first
    ledger.begin("patients", "only", "training", plan_digest="plan-1")
    ledger.settle("patients", "only")
    assert reserve("only", horizon=1) == first


def test_a_further_attempt_makes_later_releases_smaller_and_pushes_none_out(ledger: Ledger, reserve: Reserve) -> None:
    costs = []
    for number in range(HORIZON):
        costs.append(ledger.pace("patients", HORIZON))
        reserve(f"run-{number}", charges=one(costs[-1]), horizon=HORIZON)
        for _attempt in range(2 if number in (0, 5) else 1):
            ledger.begin("patients", f"run-{number}", "m", plan_digest="plan-1")
        ledger.settle("patients", f"run-{number}")
    assert costs[:3] == [1000 // 12, (1000 - 2 * 83) // 11, (1000 - 2 * 83 - 75) // 10]
    assert all(cost >= 1 for cost in costs)
    assert 0 <= ledger.balance("patients").left < HORIZON
    ledger.verify("patients")


def test_a_run_that_got_everything_back_leaves_its_place_to_another(ledger: Ledger, reserve: Reserve) -> None:
    reserve("lost", horizon=1)
    with pytest.raises(BudgetExceeded):
        reserve("next", horizon=1)
    ledger.settle("patients", "lost")
    assert ledger.pace("patients", 1) == CAPACITY
    reserve("next", horizon=1)
    with pytest.raises(BudgetExceeded):
        reserve("third", horizon=1)


def test_a_run_that_got_back_all_but_one_mechanism_counts(ledger: Ledger, reserve: Reserve) -> None:
    reserve("run", horizon=1)
    ledger.begin("patients", "run", "validation", plan_digest="plan-1")
    assert ledger.settle("patients", "run") == ["training", "gate"]
    with pytest.raises(BudgetExceeded, match="plans 1 release and 1 was admitted"):
        ledger.pace("patients", 1)


def test_releases_count_under_whatever_horizon_they_were_admitted(ledger: Ledger, reserve: Reserve) -> None:
    reserve("without", charges=one(100))
    reserve("with", charges=one(100), horizon=5)
    assert ledger.pace("patients", 4) == 800 // 2


def test_each_window_has_its_own_releases(ledger: Ledger, officer: Ledger, reserve: Reserve) -> None:
    officer.register("staff", {"sources": ["s3://hospital/staff"]}, 7, "officer")
    # A plan may say what it likes about windows: what counts is the window that the charges are held under.
    talk = {"window": "2026-Q4", "plan": {"split_id": 'x","window":"2026-Q4"}', "window": "2026-Q4"}}
    for window in ("2026-Q3", "2026-q3", ""):
        for number in range(2):
            reserve(f"{window}-{number}", window=window, details=talk, charges=one(100), horizon=2)
        with pytest.raises(BudgetExceeded, match="plans 2 releases and 2 were admitted"):
            reserve(f"{window}-2", window=window, details=talk, charges=one(100), horizon=2)
    assert ledger.pace("patients", 2, "2026-Q4") == CAPACITY // 2
    assert ledger.pace("staff", 7) == 1
    with pytest.raises(BudgetExceeded, match="policy 'patients', window '2026-Q3', plans"):
        ledger.pace("patients", 2, "2026-Q3")


def test_a_long_window_after_a_long_split_is_read_whole(ledger: Ledger, reserve: Reserve) -> None:
    window = "w" * 40
    reserve("run", window=window, split_id="s" * 300)
    reserve("plain", split_id="s" * 300)
    assert ledger.pace("patients", 3, window) == 750 // 2
    assert ledger.pace("patients", 3) == 750 // 2


@only_sqlite
@pytest.mark.parametrize("horizon", [0, -1, True, 1.5, "12"])
def test_a_horizon_that_plans_no_release_is_refused(ledger: Ledger, reserve: Reserve, horizon: Any) -> None:
    with pytest.raises(LedgerError, match="horizon"):
        reserve("run", horizon=horizon)
    with pytest.raises(LedgerError, match="horizon"):
        ledger.pace("patients", horizon)


def test_threads_racing_for_the_last_places_get_as_many_as_there_are(ledger: Ledger, url: str) -> None:
    def race(number: int) -> str:
        with Ledger.open(url) as own:
            try:
                reserve_in(own, f"run-{number}", charges=one(1), horizon=5)
            except BudgetExceeded:
                return "refused"
            return "admitted"

    assert Counter(at_once(16, race)) == {"admitted": 5, "refused": 11}
    assert len(ledger.runs("patients")) == 5
    ledger.verify("patients")


def test_places_given_back_while_others_race_for_them_are_never_taken_twice(ledger: Ledger, url: str) -> None:
    """Half of the runs start, the other half is settled before; whatever the order, three of them stay admitted."""

    def race(number: int) -> None:
        with Ledger.open(url) as own:
            try:
                reserve_in(own, f"run-{number}", charges=one(1), horizon=3)
            except BudgetExceeded:
                return
            if number % 2:
                own.settle("patients", f"run-{number}")
            else:
                own.begin("patients", f"run-{number}", "m", plan_digest="plan-1")

    at_once(16, race)
    assert Counter(run.state for run in ledger.runs("patients"))["started"] <= 3
    for number in range(4):
        try:
            reserve_in(ledger, f"late-{number}", charges=one(1), horizon=3)
        except BudgetExceeded:
            break
    assert sum(run.state != "freed" for run in ledger.runs("patients")) == 3
    ledger.verify("patients")


@only_sqlite
def test_counting_releases_goes_by_the_index(ledger: Ledger, reserve: Reserve, url: str) -> None:
    reserve("run")
    statements: list[str] = []
    engine = ledger._database.engine

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    ledger.pace("patients", 2)
    (counting,) = (statement for statement in statements if "count" in statement)
    with Database.connect(url).reading() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {counting}", tuple("x" * counting.count("?"))).all()
    plan = " ".join(str(row) for row in rows)
    assert plan.count("entries_policy_kind_run (policy=? AND kind=?") == 3
