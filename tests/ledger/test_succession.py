"""A policy that succeeds another starts with all that was charged before, and nothing is spent behind its back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert

from synth.errors import BudgetExceeded, LedgerError, PolicyError, TamperedArtifact
from synth.ledger import Charge, Entry, Ledger
from synth.ledger.entries import canonical_json
from synth.ledger.models import entries as table
from synth.ledger.models import policies
from tests.ledger.conftest import CAPACITY, CHARGES, DOCUMENT, Reserve, only_sqlite, reserve_in
from tests.ledger.test_races import at_once
from tests.ledger.test_verification import relinked, rewrite, tampering

LATER = DOCUMENT | {"epsilon": 3.0, "approvers": ["deputy"], "sources": [*DOCUMENT["sources"], "s3://hospital/new"]}

Succeed = Callable[..., Entry]


@pytest.fixture
def succeed(officer: Ledger) -> Succeed:
    """Registers a policy that succeeds ``patients``, with some arguments changed."""

    def register(name: str = "later", **changes: Any) -> Entry:
        arguments: dict[str, Any] = {"document": LATER, "capacity": CAPACITY, "by": "officer", "succeeds": "patients"}
        return officer.register(name, **(arguments | changes))

    return register


def finished(ledger: Ledger, run: str, policy: str = "patients", **changes: Any) -> None:
    """A run whose mechanisms all started, and which is settled."""
    arguments: dict[str, Any] = {"plan_digest": "plan-1", "split_id": "split-1", "max_attempts": 3, "details": {}}
    arguments |= {"charges": CHARGES} | changes
    ledger.reserve(policy, run, **arguments)
    for charge in arguments["charges"]:
        ledger.begin(policy, run, charge.mechanism, plan_digest="plan-1")
    ledger.record(policy, run, "settled", {})
    ledger.settle(policy, run)


def test_a_successor_starts_with_what_was_held_in_both_branches(ledger: Ledger, succeed: Succeed) -> None:
    finished(ledger, "one")
    finished(ledger, "two", split_id="split-2", charges=[Charge("m", ("holdout",), 100)])
    entry = succeed()
    assert entry.sequence == 1
    balance = ledger.balance("later")
    assert (balance.spent, balance.reserved, balance.left) == (350, 0, 650)
    assert balance.by_split == {"carried:patients": {"train": 350, "holdout": 350}}
    assert ledger.policy("later").succeeds == "patients"
    ledger.verify("later")


@pytest.mark.parametrize("branch", ["train", "holdout"])
def test_what_was_spent_before_leaves_as_much_less_in_either_branch(
    ledger: Ledger, succeed: Succeed, branch: str
) -> None:
    finished(ledger, "one")
    succeed()
    with pytest.raises(BudgetExceeded, match="policy 'later' does not admit"):
        finished(ledger, "two", "later", charges=[Charge("m", (branch,), 751)])
    finished(ledger, "two", "later", charges=[Charge("m", (branch,), 750)])
    assert ledger.balance("later").left == 0
    ledger.verify("later")


def test_the_predecessor_admits_nothing_more_and_names_the_successor(
    ledger: Ledger, reserve: Reserve, succeed: Succeed
) -> None:
    first = reserve("one")
    for mechanism in ("validation", "training"):
        ledger.begin("patients", "one", mechanism, plan_digest="plan-1")
    ledger.settle("patients", "one")
    succeed()
    before = ledger.balance("patients")
    with pytest.raises(PolicyError, match="policy 'later' succeeded it"):
        reserve("two")
    with pytest.raises(PolicyError, match=r"attempt 2 of mechanism 'training'.*policy 'later' succeeded it"):
        ledger.begin("patients", "one", "training", plan_digest="plan-1")
    assert reserve("one", details={}) == first
    assert ledger.balance("patients") == before
    ledger.commit("patients", "one", "training", 1)
    ledger.record("patients", "one", "note", {"text": "late"})
    assert ledger.settle("patients", "one") == ["gate"]
    ledger.verify("later")


def test_the_sources_go_over_to_the_successor(ledger: Ledger, succeed: Succeed, officer: Ledger) -> None:
    succeed()
    for source in LATER["sources"]:
        assert ledger.policy_for_source(source).name == "later"
        with pytest.raises(PolicyError, match="belongs to policy"):
            officer.register("third", {"sources": [source]}, CAPACITY, "officer")


@pytest.mark.parametrize("begun", [0, 1, 3], ids=["reserved", "started", "all started"])
def test_a_policy_with_an_unfinished_run_is_not_succeeded(
    ledger: Ledger, reserve: Reserve, succeed: Succeed, begun: int
) -> None:
    reserve("open")
    for charge in CHARGES[:begun]:
        ledger.begin("patients", "open", charge.mechanism, plan_digest="plan-1")
    with pytest.raises(PolicyError, match="1 of its runs are not settled: 'open'"):
        succeed()
    ledger.record("patients", "open", "settled", {})
    if begun < len(CHARGES):
        with pytest.raises(PolicyError, match="not settled"):
            succeed()
    ledger.settle("patients", "open")
    succeed()
    assert ledger.balance("later").spent == [0, 50, 0, 250][begun]


def test_registering_the_same_successor_again_returns_the_first_registration(
    ledger: Ledger, succeed: Succeed, officer: Ledger
) -> None:
    finished(ledger, "one")
    first = succeed()
    assert succeed() == first
    with pytest.raises(PolicyError, match="fields differ from what is registered: succeeds"):
        succeed(succeeds=None)
    with pytest.raises(PolicyError, match="fields differ from what is registered: succeeds"):
        officer.register("patients", DOCUMENT, CAPACITY, "officer", succeeds="later")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"capacity": CAPACITY + 1}, "capacity 1001 is not that of policy 'patients', 1000"),
        ({"capacity": CAPACITY - 1}, "epsilon, delta and Rényi order stay"),
        ({"document": LATER | {"sources": ["s3://hospital/new"]}}, "sources lacks 's3://hospital/admissions.parquet'"),
        ({"succeeds": "nobody"}, "'nobody' is not registered"),
        ({"name": "fresh", "succeeds": "fresh"}, "'fresh' is not registered"),
        ({"succeeds": "a:b"}, "policy name"),
    ],
)
def test_what_is_no_continuation_is_refused(
    ledger: Ledger, succeed: Succeed, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(PolicyError, match=named):
        succeed(**changes)
    assert [record.name for record in ledger.policies()] == ["patients"]


def test_a_policy_has_one_successor_which_may_have_one_in_turn(
    ledger: Ledger, succeed: Succeed, officer: Ledger
) -> None:
    finished(ledger, "one")
    succeed()
    with pytest.raises(PolicyError, match="was succeeded by policy 'later'"):
        succeed("rival")
    finished(ledger, "two", "later", charges=[Charge("m", ("train",), 100)])
    succeed("last", succeeds="later")
    assert ledger.lineage("last") == ["patients", "later", "last"]
    assert ledger.balance("last").by_split == {"carried:later": {"train": 350, "holdout": 350}}
    assert ledger.policy_for_source(DOCUMENT["sources"][0]).name == "last"
    ledger.verify("last")


def test_each_window_is_carried_for_itself(ledger: Ledger, succeed: Succeed) -> None:
    finished(ledger, "one", window="2026-Q3")
    finished(ledger, "two", window="2026-Q4", charges=[Charge("m", ("holdout",), 7)])
    succeed()
    assert ledger.windows("later") == ["2026-Q3", "2026-Q4"]
    assert [ledger.balance("later", window).spent for window in ("", "2026-Q3", "2026-Q4")] == [0, 250, 7]
    ledger.verify("later")


def test_releases_go_on_counting_where_the_predecessor_ended(ledger: Ledger, succeed: Succeed) -> None:
    for number in range(2):
        finished(ledger, f"run-{number}", horizon=4, charges=[Charge("m", ("train",), 100)])
    reserve_in(ledger, "freed", horizon=4)
    ledger.settle("patients", "freed")
    succeed()
    assert ledger.pace("later", 4) == 800 // 2
    finished(ledger, "three", "later", horizon=4, charges=[Charge("m", ("train",), 100)])
    succeed("last", succeeds="later")
    assert ledger.pace("last", 4) == 700
    finished(ledger, "four", "last", horizon=4, charges=[Charge("m", ("train",), 100)])
    with pytest.raises(BudgetExceeded, match="policy 'last' plans 4 releases and 4 were admitted"):
        ledger.pace("last", 4)
    assert ledger.pace("last", 6) == 600 // 2


def test_a_predecessor_that_was_changed_is_not_succeeded(ledger: Ledger, succeed: Succeed, superuser_url: str) -> None:
    finished(ledger, "one")
    with tampering(superuser_url) as connection:
        connection.exec_driver_sql("UPDATE entries SET balance = '{}' WHERE sequence = 4")
    with pytest.raises(TamperedArtifact, match="'patients': the ledger is not intact from entry 4 on"):
        succeed()


def test_a_carried_total_that_was_lowered_is_found(ledger: Ledger, succeed: Succeed, superuser_url: str) -> None:
    finished(ledger, "one")
    first = succeed()
    forged = json.loads(first.payload_text)
    forged["succeeds"]["carried"][""]["total"] = 1
    text = canonical_json(forged)
    balance = canonical_json({"carried:patients": {"train": 1, "holdout": 1}})
    cheaper = replace(first, payload_text=text, balance_text=balance).sealed()
    with tampering(superuser_url) as connection:
        connection.exec_driver_sql("DELETE FROM policies WHERE policy = 'later'")
        row = {name: value for name, value in cheaper.columns().items() if name in policies.columns}
        connection.execute(insert(policies).values(row))
    assert ledger.balance("later").spent == 1
    with pytest.raises(TamperedArtifact, match="what it took over is not what policy 'patients' holds"):
        ledger.verify("later")


def test_spending_under_a_succeeded_policy_past_the_lock_is_found(
    ledger: Ledger, succeed: Succeed, superuser_url: str
) -> None:
    finished(ledger, "one")
    reserve_in(ledger, "freed")
    ledger.settle("patients", "freed")
    succeed()
    history = ledger.entries("patients")
    again = replace(
        history[1],
        run="behind",
        key="behind:reserve",
        balance_text=canonical_json({"split-1": {"train": 500, "holdout": 300}}),
    )
    *_, forged = relinked([*history, again])
    with tampering(superuser_url) as connection:
        connection.execute(insert(table).values(forged.columns()))
    ledger.verify("patients")
    with pytest.raises(TamperedArtifact, match="what it took over is not what policy 'patients' holds"):
        ledger.verify("later")


def test_a_predecessor_rewritten_after_the_succession_is_found(
    ledger: Ledger, succeed: Succeed, superuser_url: str
) -> None:
    finished(ledger, "one")
    later = succeed()
    history = ledger.entries("patients")
    rewrite(superuser_url, [*history[:-1], replace(history[-1], at="2020-01-01T00:00:00.000000+00:00")])
    with tampering(superuser_url) as connection:
        row = {name: value for name, value in later.columns().items() if name in policies.columns}
        connection.execute(insert(policies).values(row))
    ledger.verify("patients")
    with pytest.raises(TamperedArtifact, match=r"'patients': .* is not the one that was noted elsewhere"):
        ledger.verify("later")


@only_sqlite
@pytest.mark.parametrize("carried", [None, [], {"": 5}, {"": {"total": "x"}}, {"a/b": {"total": 5}}, {"": {}}])
def test_a_registration_with_a_forged_succession_breaks_no_look_up(
    ledger: Ledger, superuser_url: str, carried: Any
) -> None:
    payload = {"document": LATER, "capacity": 5, "by": "x", "succeeds": {"policy": "other", "carried": carried}}
    forged = Entry.registration("forged", canonical_json(payload), "{}", "now").sealed()
    with tampering(superuser_url) as connection:
        row = {name: value for name, value in forged.columns().items() if name in policies.columns}
        connection.execute(insert(policies).values(row))
    with pytest.raises((TamperedArtifact, LedgerError)):
        ledger.verify("forged")
    reserve_in(ledger, "run")


@pytest.mark.parametrize("attempt", range(3))
def test_no_race_leaves_spending_behind(ledger: Ledger, url: str, officer_url: str, attempt: int) -> None:
    """Workers finish one run after the other while the officer insists: all they were told is in one of the two."""
    workers = 6

    def work(number: int) -> list[int]:
        if number == workers:
            deadline = time.monotonic() + 60
            with Ledger.open(officer_url) as own:
                while True:
                    try:
                        own.register("later", LATER, CAPACITY, "officer", succeeds="patients")
                        return []
                    except PolicyError as refused:
                        if "not settled" not in str(refused) or time.monotonic() > deadline:
                            raise
        admitted = []
        with Ledger.open(url) as own:
            for turn in range(8):
                run = f"run-{number}-{turn}"
                try:
                    reserve_in(own, run, charges=[Charge("m", ("train",), 1)])
                except PolicyError as refused:
                    if "succeeded it" not in str(refused):
                        raise
                    break
                own.begin("patients", run, "m", plan_digest="plan-1")
                own.record("patients", run, "settled", {})
                admitted.append(1)
        return admitted

    told = sum(cost for costs in at_once(workers + 1, work) for cost in costs)
    assert ledger.balance("patients").total == ledger.balance("later").spent == told
    assert ledger.policies()[0].name == "later"
    ledger.verify("later")


# On SQLite every writer waits for every other.
@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_registration_waits_for_whoever_spends_under_the_predecessor(
    ledger: Ledger, succeed: Succeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ledger._database.writing("policy patients"), monkeypatch.context() as patch:
        patch.setattr("synth.ledger.database.LOCK_TIMEOUT_S", 0.05)
        with pytest.raises(LedgerError, match="55P03"):
            succeed()
    succeed()
