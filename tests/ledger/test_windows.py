"""A policy may give a fresh total in each window: what happens in one is nothing to the others."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synth.errors import BudgetExceeded, LedgerError, PlanChanged, SluiceError, TamperedArtifact
from synth.ledger import Balance, Charge, Ledger
from synth.ledger.history import verify_chain
from tests.ledger.conftest import CAPACITY, CHARGES, Reserve, only_sqlite
from tests.ledger.test_verification import relinked

Q3, Q4 = "2026-Q3", "2026-Q4"


def test_each_window_has_the_whole_total(ledger: Ledger, reserve: Reserve) -> None:
    everything = [Charge("m", ("train",), CAPACITY)]
    for window in ("", Q3, Q4):
        reserve(f"run {window}", window=window, charges=everything)
        with pytest.raises(BudgetExceeded):
            reserve(f"again {window}", window=window, charges=[Charge("m", ("train",), 1)])
    assert ledger.windows("patients") == ["", Q3, Q4]
    ledger.verify("patients")


def test_a_window_is_accounted_like_a_policy_of_its_own(ledger: Ledger, reserve: Reserve) -> None:
    reserve("one", window=Q3)
    reserve("two", window=Q4, split_id="split-2")
    ledger.begin("patients", "one", "training", plan_digest="plan-1")
    assert ledger.balance("patients", Q3) == Balance(
        CAPACITY, spent=200, reserved=50, left=750, by_split={"split-1": {"train": 250, "holdout": 150}}, window=Q3
    )
    assert ledger.balance("patients", Q4).by_split == {"split-2": {"train": 250, "holdout": 150}}
    assert ledger.balance("patients").total == 0
    assert {run.run: (run.window, run.split_id) for run in ledger.runs("patients")} == {
        "one": (Q3, "split-1"),
        "two": (Q4, "split-2"),
    }


def test_an_entry_without_a_window_is_what_it_was_before_there_were_windows(reserve: Reserve) -> None:
    entry = reserve("run")
    assert "window" not in entry.payload
    assert entry.balance == {"split-1": {"train": 250, "holdout": 150}}


def test_a_refusal_names_the_window_and_counts_nothing_of_another(ledger: Ledger, reserve: Reserve) -> None:
    reserve("one", window=Q3)
    reserve("two", window=Q4, charges=[Charge("m", ("train",), 600)])
    with pytest.raises(BudgetExceeded, match=r"'patients', window '2026-Q3', does not admit .* left 75\.00 %"):
        reserve("three", window=Q3, charges=[Charge("m", ("train",), 751)])


def test_a_further_attempt_is_charged_in_the_window_of_its_run(ledger: Ledger, reserve: Reserve) -> None:
    reserve("run", window=Q3)
    reserve("rest", window=Q3, charges=[Charge("m", ("train",), 600)])
    ledger.begin("patients", "run", "training", plan_digest="plan-1")
    with pytest.raises(BudgetExceeded, match="window '2026-Q3'"):
        ledger.begin("patients", "run", "training", plan_digest="plan-1")
    ledger.settle("patients", "run")
    assert (ledger.balance("patients", Q3).total, ledger.balance("patients").total) == (800, 0)


def test_a_run_stays_in_its_window(reserve: Reserve) -> None:
    first = reserve("run", window=Q3)
    assert reserve("run", window=Q3) == first
    for other in (Q4, ""):
        with pytest.raises(PlanChanged, match="window differs"):
            reserve("run", window=other)


@only_sqlite
@pytest.mark.parametrize("window", ["a/b", "a:b", " ", "-q", "q" * 41, "q\n", None, 3])
def test_a_window_that_could_be_taken_for_another_is_refused(ledger: Ledger, reserve: Reserve, window: Any) -> None:
    with pytest.raises(LedgerError, match="window"):
        reserve("run", window=window)
    with pytest.raises(LedgerError, match="window"):
        ledger.balance("patients", window)


@only_sqlite
def test_a_split_cannot_pass_for_one_in_a_window(reserve: Reserve) -> None:
    with pytest.raises(LedgerError, match="without '/'"):
        reserve("run", split_id=f"{Q3}/split-1")


@pytest.mark.parametrize("said", [Q4, "", None], ids=["another", "empty", "none"])
def test_a_reservation_held_under_another_window_than_it_says_is_found(
    ledger: Ledger, reserve: Reserve, said: str | None
) -> None:
    reserve("run", window=Q3)
    first, reserved = ledger.entries("patients")
    verify_chain("patients", relinked([first, reserved]), {})
    payload = {**reserved.payload, "window": said}
    if said is None:
        del payload["window"]
    forged = replace(reserved, payload_text=json.dumps(payload, sort_keys=True, separators=(",", ":")))
    with pytest.raises(TamperedArtifact, match="entry 2 on: its balance does not follow"):
        verify_chain("patients", relinked([first, forged]), {})


RUNS = st.sampled_from(["one", "two", "three"])
STEPS = st.one_of(
    st.tuples(st.just("reserve"), RUNS, st.integers(100, 600)),
    st.tuples(st.just("begin"), RUNS, st.sampled_from([charge.mechanism for charge in CHARGES])),
    st.tuples(st.just("settle"), RUNS, st.none()),
)


@given(there=st.lists(STEPS, max_size=12), here=st.lists(STEPS, max_size=12), order=st.randoms(use_true_random=False))
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@only_sqlite
def test_a_window_goes_as_it_would_alone_whatever_happens_in_another(
    ledger: Ledger, officer: Ledger, here: list[Any], there: list[Any], order: Any
) -> None:
    alone, both = (f"policy-{next(_numbers)}" for _ in range(2))
    for name in (alone, both):
        officer.register(name, {"sources": [f"s3://{name}"]}, CAPACITY, "officer")

    def do(policy: str, window: str, step: Any) -> Any:
        kind, run, what = step
        try:
            if kind == "reserve":
                charges = [*CHARGES[1:], Charge("validation", ("train", "holdout"), what)]
                arguments: dict[str, Any] = {"plan_digest": "plan", "max_attempts": 2, "details": {}}
                ledger.reserve(policy, window + run, split_id="s", charges=charges, window=window, **arguments)
                return "reserved"
            if kind == "begin":
                return ledger.begin(policy, window + run, what, plan_digest="plan")
            return ledger.settle(policy, window + run)
        except SluiceError as error:
            return type(error)

    expected = [do(alone, "", step) for step in here]
    turns = [True] * len(here) + [False] * len(there)
    order.shuffle(turns)
    rest, other = iter(here), iter(there)
    seen = []
    for mine in turns:
        if mine:
            seen.append(do(both, Q3, next(rest)))
        else:
            do(both, Q4, next(other))
    assert seen == expected
    assert replace(ledger.balance(both, Q3), window="") == ledger.balance(alone)
    ledger.verify(both)


_numbers = count()
