"""In whatever order things happen, the balance in the last entry is what a second, naive bookkeeping says."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from synth.errors import AttemptsExhausted, BudgetExceeded, NotReserved, ReservationReleased
from synth.ledger import Charge, Ledger

CAPACITY = 60
MAX_ATTEMPTS = 2
RUNS = st.sampled_from(["one", "two", "three", "four"])
MECHANISMS = st.sampled_from(["a", "b", "c"])
BRANCHES = st.sampled_from([("train",), ("holdout",), ("train", "holdout")])
COSTS = st.integers(1, 12)
WINDOWS = ("", "2026-Q3", "2026-Q4")


@dataclass
class NaiveRun:
    split: str
    window: str
    charges: dict[str, Charge]
    started: dict[str, int] = field(default_factory=dict)
    freed: set[str] = field(default_factory=set)


class Spending(RuleBasedStateMachine):
    """One ledger for all examples, a policy for each."""

    def __init__(self, url: str, officer: Ledger, number: int) -> None:
        super().__init__()
        self.policy = f"policy-{number}"
        self.ledger = Ledger.open(url)
        officer.register(self.policy, {"sources": [f"s3://{number}"]}, CAPACITY, "officer")
        self.runs: dict[str, NaiveRun] = {}

    def total(self, window: str, started_only: bool = False, extra: NaiveRun | None = None) -> int:
        units: dict[tuple[str, str], int] = {}
        for run in [*self.runs.values(), *([extra] if extra else [])]:
            if run.window != window:
                continue
            for name, charge in run.charges.items():
                times = run.started.get(name, 0)
                if not times and not started_only and name not in run.freed:
                    times = 1
                for branch in charge.branches:
                    units[run.split, branch] = units.get((run.split, branch), 0) + times * charge.cost
        splits = {split for split, _branch in units}
        return sum(max(units.get((split, branch), 0) for branch in ("train", "holdout")) for split in splits)

    @rule(
        name=RUNS,
        split=st.sampled_from(["s", "t"]),
        window=st.sampled_from(WINDOWS),
        shapes=st.dictionaries(MECHANISMS, st.tuples(BRANCHES, COSTS), min_size=1),
    )
    def reserve(self, name: str, split: str, window: str, shapes: dict[str, tuple[tuple[str, ...], int]]) -> None:
        if name in self.runs:
            return
        run = NaiveRun(split, window, {m: Charge(m, branches, cost) for m, (branches, cost) in shapes.items()})
        fits = self.total(window, extra=run) <= CAPACITY
        try:
            self.ledger.reserve(
                self.policy,
                name,
                plan_digest="plan",
                split_id=split,
                max_attempts=MAX_ATTEMPTS,
                charges=list(run.charges.values()),
                details={},
                window=window,
            )
        except BudgetExceeded:
            assert not fits
        else:
            assert fits
            self.runs[name] = run

    @rule(name=RUNS, mechanism=MECHANISMS)
    def begin(self, name: str, mechanism: str) -> None:
        run = self.runs.get(name)
        if run is not None and mechanism not in run.charges:
            return
        try:
            attempt = self.ledger.begin(self.policy, name, mechanism, plan_digest="plan")
        except NotReserved:
            assert run is None
        except ReservationReleased:
            assert run is not None
            assert mechanism in run.freed
        except AttemptsExhausted:
            assert run is not None
            assert run.started[mechanism] == MAX_ATTEMPTS
        except BudgetExceeded:
            assert run is not None
            run.started[mechanism] += 1
            assert self.total(run.window) > CAPACITY
            run.started[mechanism] -= 1
        else:
            assert run is not None
            assert mechanism not in run.freed
            run.started[mechanism] = run.started.get(mechanism, 0) + 1
            assert attempt == run.started[mechanism]

    @rule(name=RUNS)
    def settle(self, name: str) -> None:
        freed = self.ledger.settle(self.policy, name)
        if name in self.runs:
            run = self.runs[name]
            run.freed = set(run.charges) - set(run.started)
            assert set(freed) == run.freed
        else:
            assert freed == []

    @rule(name=RUNS, mechanism=MECHANISMS)
    def commit(self, name: str, mechanism: str) -> None:
        run = self.runs.get(name)
        try:
            self.ledger.commit(self.policy, name, mechanism, 1)
        except NotReserved:
            assert run is None or mechanism not in run.started
        else:
            assert run is not None
            assert run.started[mechanism] >= 1

    @invariant()
    def the_carried_balance_equals_recomputation(self) -> None:
        last = self.ledger.verify(self.policy)
        assert self.ledger.windows(self.policy) == sorted({run.window for run in self.runs.values()})
        for window in WINDOWS:
            prefix = f"{window}/" if window else ""
            held = {split: last.balance.get(f"{prefix}{split}", {"": 0}) for split in ("s", "t")}
            carried = sum(max(branches.values()) for branches in held.values())
            balance = self.ledger.balance(self.policy, window)
            assert carried == balance.total == self.total(window) <= CAPACITY
            assert balance.spent == self.total(window, started_only=True)
            assert balance.left == CAPACITY - carried

    def teardown(self) -> None:
        self.ledger.close()


def test_the_carried_balance_is_what_a_naive_bookkeeping_says(url: str, officer: Ledger, backend: str) -> None:
    numbers = count()
    run_state_machine_as_test(
        lambda: Spending(url, officer, next(numbers)),
        settings=settings(
            # A session of PostgreSQL costs a process.
            max_examples={"sqlite": 25, "postgresql": 6}[backend],
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        ),
    )
