from __future__ import annotations

import pytest

from synth.errors import LedgerError
from synth.ledger import Charge, Ledger
from tests.ledger.conftest import Reserve, only_sqlite

SMALL = (Charge("small", ("train",), 3),)
OTHER = (Charge("other", ("holdout",), 5),)


def test_a_fact_is_recorded_once(ledger: Ledger, reserve: Reserve) -> None:
    first = ledger.record("patients", "run", "gate", {"passed": True, "scores": (1, 2)})
    assert ledger.record("patients", "run", "gate", {"scores": [1, 2], "passed": True}) == first
    assert ledger.find("patients", "run", "gate") == first
    assert first.payload == {"passed": True, "scores": [1, 2]}


def test_a_recorded_fact_cannot_become_another(ledger: Ledger) -> None:
    ledger.record("patients", "run", "decision", {"approved": False})
    with pytest.raises(LedgerError, match="another content"):
        ledger.record("patients", "run", "decision", {"approved": True})
    second = ledger.record("patients", "run", "decision", {"approved": True}, suffix="2")
    assert second.key == "run:decision:2"
    found = ledger.find("patients", "run", "decision", suffix="2")
    assert found is not None
    assert found.payload == {"approved": True}


def test_facts_do_not_move_the_balance(ledger: Ledger, reserve: Reserve) -> None:
    reserve("run")
    before = ledger.balance("patients")
    entry = ledger.record("patients", "run", "published", {"version": "v1"})
    assert ledger.balance("patients") == before
    assert entry.balance == {"split-1": {"train": 250, "holdout": 150}}


@only_sqlite
@pytest.mark.parametrize("kind", ["reserve", "start", "free", "commit", "policy", "refund"])
def test_only_facts_can_be_recorded_by_hand(ledger: Ledger, kind: str) -> None:
    with pytest.raises(LedgerError, match="not a recorded fact"):
        ledger.record("patients", "run", kind, {})


@only_sqlite
@pytest.mark.parametrize("suffix", ["a:b", "decision", "reserve", "two words"])
def test_a_suffix_cannot_pass_for_another_key(ledger: Ledger, suffix: str) -> None:
    with pytest.raises(LedgerError, match="suffix"):
        ledger.record("patients", "run", "note", {}, suffix=suffix)


@only_sqlite
@pytest.mark.parametrize("run", ["", "a\nb", "x" * 251])
def test_a_run_without_a_usable_name_is_refused(ledger: Ledger, run: str) -> None:
    with pytest.raises(LedgerError, match="printable"):
        ledger.record("patients", run, "note", {})


def test_a_reservation_can_be_found_and_entries_listed_by_run(ledger: Ledger, reserve: Reserve) -> None:
    first, second = reserve("one"), reserve("two")
    assert ledger.find("patients", "one", "reserve") == first
    assert ledger.find("patients", "three", "reserve") is None
    assert ledger.entries("patients", "two") == [second]
    assert [entry.sequence for entry in ledger.entries("patients")] == [1, 2, 3]


def test_a_run_is_summarised_with_its_state_and_its_cost(ledger: Ledger, reserve: Reserve) -> None:
    for name in ("reserved", "started", "freed", "settled"):
        reserve(name, charges=[*SMALL, *OTHER])
    for name in ("started", "settled"):
        ledger.begin("patients", name, "small", plan_digest="plan-1")
    for name in ("freed", "settled"):
        ledger.settle("patients", name)
    reserve("published", charges=SMALL)
    ledger.begin("patients", "published", "small", plan_digest="plan-1")
    ledger.begin("patients", "published", "small", plan_digest="plan-1")
    ledger.record("patients", "published", "published", {"version": "v1"})
    summaries = ledger.runs("patients")
    assert [run.state for run in summaries] == [run.run for run in summaries]
    costs = {run.run: (run.cost_train, run.cost_holdout) for run in summaries}
    assert costs == {
        "reserved": (3, 5),
        "started": (3, 5),
        "freed": (0, 0),
        "settled": (3, 0),
        "published": (6, 0),
    }
    assert summaries[-1].published == {"version": "v1"}
    assert summaries[0].details == {"epsilon": 1.0}
