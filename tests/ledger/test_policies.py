from __future__ import annotations

from typing import Any

import pytest

from synth.errors import LedgerError, PolicyError
from synth.ledger import Ledger
from tests.ledger.conftest import CAPACITY, DOCUMENT, only_sqlite


def test_registering_the_same_policy_again_returns_the_first_registration(ledger: Ledger, officer: Ledger) -> None:
    again = officer.register("patients", DOCUMENT, CAPACITY, "deputy@hospital.example")
    assert again.sequence == 1
    assert len(ledger.entries("patients")) == 1
    record = ledger.policy("patients")
    assert record.registered_by == "officer@hospital.example"
    assert (record.name, record.document, record.capacity) == ("patients", DOCUMENT, CAPACITY)
    assert record.registered_at == again.at
    assert again.at.endswith("+00:00")
    assert len(again.at) == len("2026-01-01T00:00:00.000000+00:00")


def test_a_changed_policy_is_refused_with_the_names_of_the_changed_fields(ledger: Ledger, officer: Ledger) -> None:
    changed = DOCUMENT | {"unit": {"column": "visit"}, "approvers": ["x"]}
    with pytest.raises(PolicyError, match=r"registered: capacity, approvers, unit\.column\.") as refused:
        officer.register("patients", changed, CAPACITY + 1, "officer@hospital.example")
    assert "visit" not in str(refused.value)
    assert ledger.policy("patients").capacity == CAPACITY


def test_a_source_keeps_its_policy_so_a_new_name_does_not_reset_its_spending(ledger: Ledger, officer: Ledger) -> None:
    with pytest.raises(PolicyError, match="belongs to policy 'patients'"):
        officer.register("renamed", DOCUMENT, 10 * CAPACITY, "officer@hospital.example")
    assert [record.name for record in ledger.policies()] == ["patients"]


def test_a_policy_is_found_by_its_source(ledger: Ledger, officer: Ledger) -> None:
    officer.register("staff", {"sources": ["s3://hospital/a", "s3://hospital/b"]}, 5, "officer")
    assert ledger.policy_for_source("s3://hospital/b").name == "staff"
    assert [record.name for record in ledger.policies()] == ["patients", "staff"]
    with pytest.raises(PolicyError, match="sluice budget register"):
        ledger.policy_for_source("s3://hospital/c")


@only_sqlite
@pytest.mark.parametrize(
    "change",
    [
        {"name": "two words"},
        {"name": "a:b"},
        {"capacity": 0},
        {"capacity": 1.5},
        {"capacity": True},
        {"document": {}},
        {"document": {"sources": []}},
        {"document": {"sources": "s3://hospital/a"}},
        {"document": {"sources": ["s3://hospital/a", "s3://hospital/a"]}},
        {"by": ""},
    ],
)
def test_a_malformed_policy_is_refused(officer: Ledger, change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {
        "name": "staff",
        "document": {"sources": ["s3://hospital/a"]},
        "capacity": 5,
        "by": "officer",
    }
    with pytest.raises(PolicyError):
        officer.register(**(arguments | change))
    assert len(officer.policies()) == 1


def test_a_document_that_is_not_json_is_refused(officer: Ledger) -> None:
    with pytest.raises(LedgerError, match="JSON"):
        officer.register("staff", {"sources": ["s3://hospital/a"], "epsilon": float("nan")}, 5, "officer")


def test_nothing_can_be_done_under_a_policy_that_is_not_registered(ledger: Ledger) -> None:
    with pytest.raises(PolicyError, match="'nobody' is not registered"):
        ledger.record("nobody", "run", "note", {})
    for call in (ledger.balance, ledger.policy, ledger.runs, ledger.entries, ledger.verify):
        with pytest.raises(PolicyError, match="'nobody' is not registered"):
            call("nobody")
