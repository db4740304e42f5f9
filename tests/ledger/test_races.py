"""Many workers at once on one ledger: never overspent, and nothing lost that the budget had room for."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from synth.errors import AttemptsExhausted, BudgetExceeded, PolicyError, ReservationReleased
from synth.ledger import Charge, Ledger
from tests.ledger.conftest import CAPACITY, Reserve, only_sqlite, reserve_in

THREADS = 32
PROCESSES = 4


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """``work(0)``, ``work(1)``, … on a thread each, let go together; an unexpected error fails the test."""
    barrier = threading.Barrier(count)

    def held_back(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(held_back, range(count)))


def try_to_reserve(url: str, prefix: str, runs: int, cost: int) -> list[str]:
    """Reserve as many runs as the budget takes; runs in a process of its own too."""
    taken = []
    with Ledger.open(url) as ledger:
        for number in range(runs):
            run = f"{prefix}-{number}"
            try:
                reserve_in(ledger, run, charges=[Charge("m", ("train",), cost)])
            except BudgetExceeded:
                continue
            taken.append(run)
    return taken


def reserved(ledger: Ledger) -> set[str]:
    return {run.run for run in ledger.runs("patients")}


def test_thirty_two_threads_racing_for_the_last_of_a_budget_never_overspend(ledger: Ledger, url: str) -> None:
    taken = at_once(THREADS, lambda number: try_to_reserve(url, f"thread-{number}", runs=2, cost=90))
    winners = [run for runs in taken for run in runs]
    assert len(winners) == CAPACITY // 90
    assert reserved(ledger) == set(winners)
    assert ledger.balance("patients").left == CAPACITY % 90
    ledger.verify("patients")


def test_four_processes_racing_for_the_last_of_a_budget_never_overspend(ledger: Ledger, url: str) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(PROCESSES, context) as pool:
        jobs = [pool.submit(try_to_reserve, url, f"process-{number}", 6, 70) for number in range(PROCESSES)]
        winners = [run for job in jobs for run in job.result()]
    assert len(winners) == CAPACITY // 70
    assert reserved(ledger) == set(winners)
    assert ledger.balance("patients").left == CAPACITY % 70
    ledger.verify("patients")


def test_threads_that_reserve_the_same_run_reserve_it_once(ledger: Ledger, reserve: Reserve) -> None:
    entries = at_once(THREADS, lambda _number: reserve("run"))
    assert len(set(entries)) == 1
    assert ledger.balance("patients").total == 250


@only_sqlite
def test_threads_that_create_the_ledger_together_all_find_it(url: str) -> None:
    def create(_number: int) -> int:
        with Ledger.open(url) as ledger:
            return ledger.register("patients", {"sources": ["s3://hospital/a"]}, 10, "officer").sequence

    assert at_once(8, create) == [1] * 8


def test_threads_that_create_different_ledgers_do_not_disturb_each_other(tmp_path: Path) -> None:
    def create(number: int) -> int:
        with Ledger.open(f"sqlite:///{tmp_path}/{number}/ledger.db") as ledger:
            return ledger.register("patients", {"sources": ["s3://hospital/a"]}, 10, "officer").sequence

    assert at_once(8, create) == [1] * 8


def test_threads_that_register_policies_for_one_source_leave_it_with_one_policy(officer: Ledger) -> None:
    def register(number: int) -> str:
        try:
            officer.register(f"policy-{number}", {"sources": ["s3://hospital/new"]}, 10, "officer")
        except PolicyError:
            return "refused"
        return "registered"

    assert Counter(at_once(8, register)) == {"registered": 1, "refused": 7}


@pytest.mark.parametrize("attempt", range(3))
def test_a_mechanism_is_either_started_or_freed_and_never_both(ledger: Ledger, reserve: Reserve, attempt: int) -> None:
    reserve("run", charges=[Charge("m", ("train",), 100)])

    def worker(number: int) -> str:
        if number % 2:
            return "freed" if ledger.settle("patients", "run") else "settled"
        try:
            ledger.begin("patients", "run", "m", plan_digest="plan-1")
        except ReservationReleased:
            return "refused"
        except AttemptsExhausted:
            return "exhausted"
        return "started"

    outcomes = Counter(at_once(8, worker))
    kinds = Counter(entry.kind for entry in ledger.entries("patients", "run"))
    if kinds["free"]:
        assert outcomes == {"freed": 4, "refused": 4}
        assert (kinds["free"], kinds["start"]) == (1, 0)
        assert ledger.balance("patients").total == 0
    else:
        assert outcomes == {"settled": 4, "started": 3, "exhausted": 1}
        assert kinds["start"] == 3
        assert ledger.balance("patients").spent == 300
    ledger.verify("patients")
