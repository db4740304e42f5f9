"""How fast the budget ledger is, whether it is right under load, and whether its age slows it down.

*Load*: rows of {backend, clients, per_second, overspent, lost}. Clients are processes; each of them finishes one run
after the other until the budget is used up, so all of them race for the last of it. A run reserves three mechanisms,
then begins and commits each: seven writing transactions, each on disk before it is confirmed (SQLite with synchronous =
EXTRA, PostgreSQL with fsync = on, as the ledger and the server have it). ``per_second`` counts runs. ``overspent`` is
how many nano-nats the ledger holds above the capacity, ``lost`` how many reservations, starts and commits that a client
was told of are not in the ledger. Both have to be 0, else the command fails.

*History*: rows of {backend, entries, run_ms, ratio, pace_ms, verify_s, verify_cpu_s}. The ledger has that many entries
of earlier runs, twelve each. ``run_ms`` is the median of one run as above by one client, ``ratio`` compares it with the
ledger without a history, ``pace_ms`` is one count of the admitted releases, which a horizon asks for, and ``verify_s``
one verification of the whole chain, which each release asks for twice; ``verify_cpu_s`` are the seconds of that in
which this process was computing. The sizes are measured in turn, since the machine may have other work.
"""

from __future__ import annotations

import queue
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import insert

from synth.errors import BudgetExceeded, LedgerUnavailable
from synth.ledger import Charge, Entry, Ledger
from synth.ledger import entries as keys
from synth.ledger.balance import plus
from synth.ledger.database import Database
from synth.ledger.entries import canonical_json
from synth.ledger.models import entries as table
from tests.benchmarks.common import console, report
from tests.ledger import postgres

POLICY = "patients"
DOCUMENT = {"sources": ["s3://hospital/admissions.parquet"]}
CHARGES = (
    Charge("validation", ("train", "holdout"), 2),
    Charge("training", ("train",), 6),
    Charge("gate", ("holdout",), 3),
)
COST = 8
CLIENTS = (1, 8, 32)
RUNS = 160
SIZES = (0, 1_000, 10_000, 100_000)
TURNS = 30
START_S = 120
# About as long as the plan of a small table.
DETAILS = {"dataset": "admissions", "plan": {"mechanisms": ["." * 300] * 6}}

Fact = tuple[str, str, int]


class Backend:
    """Makes ledgers; ``owner`` and ``worker`` are the URLs of the one that was made last."""

    name: str
    owner: str
    worker: str

    def fresh(self, capacity: int) -> None:
        """An empty ledger with one policy."""
        raise NotImplementedError


class OnSqlite(Backend):
    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._folder, self._made = folder, 0

    def fresh(self, capacity: int) -> None:
        self._made += 1
        self.owner = self.worker = f"sqlite:///{self._folder / str(self._made)}.db"
        with Ledger.open(self.owner) as ledger:
            ledger.register(POLICY, DOCUMENT, capacity, "benchmark")


class OnPostgresql(Backend):
    name = "postgresql"

    def __init__(self, server: postgres.Server) -> None:
        self._server, self._made = server, 0

    def fresh(self, capacity: int) -> None:
        self._made += 1
        made = postgres.LedgerDatabase.create(self._server, f"bench_{self._made}")
        made.migrate()
        self.owner, self.worker = made.owner, made.worker
        with Ledger.open(made.officer) as officer:
            officer.register(POLICY, DOCUMENT, capacity, "benchmark")


@contextmanager
def backends() -> Iterator[list[Backend]]:
    """SQLite, and PostgreSQL where it is installed; says loudly if not."""
    with TemporaryDirectory(prefix="sluice-bench-") as folder:
        programs = postgres.binaries()
        if programs is None:
            console.print("[bold yellow]SKIPPED: postgresql[/] - its programs are not installed")
            yield [OnSqlite(Path(folder))]
            return
        with postgres.running(programs, waits_for_disk=True) as server:
            yield [OnSqlite(Path(folder)), OnPostgresql(server)]


def insist(call: Callable[[], Any]) -> Any:
    """What a workflow does where the ledger is busy for longer than it waits: try again."""
    while True:
        try:
            return call()
        except LedgerUnavailable:
            continue


def one_run(ledger: Ledger, run: str) -> list[Fact]:
    """Reserve, then begin and commit each mechanism; returns what the ledger confirmed."""
    arguments: dict[str, Any] = {"plan_digest": "plan", "split_id": "split", "max_attempts": 100}
    insist(lambda: ledger.reserve(POLICY, run, charges=CHARGES, details=DETAILS, **arguments))
    confirmed = [("reserve", run, 0)]
    for charge in CHARGES:
        attempt = insist(partial(ledger.begin, POLICY, run, charge.mechanism, plan_digest="plan"))
        insist(partial(ledger.commit, POLICY, run, charge.mechanism, attempt))
        confirmed += [(kind, f"{run}:{charge.mechanism}", attempt) for kind in ("start", "commit")]
    return confirmed


def client(url: str, number: int, ready: Any, told: Any) -> None:
    """Runs until the budget refuses one; runs in a process of its own."""
    confirmed: list[Fact] = []
    with Ledger.open(url) as ledger:
        ready.wait()
        try:
            while True:
                confirmed += one_run(ledger, f"{number}-{len(confirmed)}")
        except BudgetExceeded:
            told.put(confirmed)


def under_load(backend: Backend, clients: int) -> dict[str, Any]:
    """A row: so many clients use up a budget."""
    backend.fresh(RUNS * COST)
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.benchmarks.common", "tests.ledger.postgres"])
    ready, told = context.Barrier(clients + 1, timeout=START_S), context.Queue()
    processes = [
        context.Process(target=client, args=(backend.worker, number, ready, told)) for number in range(clients)
    ]
    for process in processes:
        process.start()
    ready.wait()
    started = time.perf_counter()
    confirmed = {fact for _ in processes for fact in _answer(told, processes)}
    seconds = time.perf_counter() - started
    for process in processes:
        process.join()
    with Ledger.open(backend.worker) as ledger:
        ledger.verify(POLICY)
        balance, recorded = ledger.balance(POLICY), set(map(fact, ledger.entries(POLICY)[1:]))
    runs = sum(kind == "reserve" for kind, _, _ in confirmed)
    return {
        "backend": backend.name,
        "clients": clients,
        "per_second": runs / seconds,
        "overspent": max(0, balance.total - balance.capacity, runs * COST - balance.capacity),
        "lost": len(confirmed - recorded),
    }


def _answer(told: Any, processes: list[Any]) -> list[Fact]:
    while True:
        try:
            answer: list[Fact] = told.get(timeout=5)
        except queue.Empty:
            if any(process.exitcode for process in processes):
                sys.exit("a client failed, see above")
        else:
            return answer


def fact(entry: Entry) -> Fact:
    """An entry, as a client is told of it."""
    if entry.kind == "reserve":
        return "reserve", entry.run, 0
    return entry.kind, f"{entry.run}:{entry.payload['mechanism']}", entry.payload["attempt"]


def with_history(backend: Backend, size: int) -> Ledger:
    """A ledger in which runs have left ``size`` entries, written as the ledger would write them."""
    backend.fresh(10**12)
    ledger = Ledger.open(backend.worker)
    database = Database.connect(backend.owner)
    last, held = ledger.entries(POLICY)[-1], {}
    with database.writing("benchmark") as connection:
        rows: list[dict[str, Any]] = []
        for number in range(size):
            run, step = f"earlier-{number // 12}", number % 12
            kind, key, payload = _entry(run, step)
            if kind == "reserve":
                held = plus(held, "split", CHARGES)
            last = replace(
                last,
                sequence=last.sequence + 1,
                kind=kind,
                key=key,
                run=run,
                payload_text=canonical_json(payload),
                balance_text=canonical_json(held),
                previous=last.digest,
            ).sealed()
            rows.append(last.columns())
            if len(rows) == 5_000 or number == size - 1:
                connection.execute(insert(table), rows)
                rows = []
    if not database.is_sqlite:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")  # a server does so by itself, minutes later
    database.close()
    return ledger


def _entry(run: str, step: int) -> tuple[str, str, dict[str, Any]]:
    """One of the twelve entries of a published run."""
    charges = [charge.as_json() for charge in CHARGES]
    reservation = {"plan_digest": "plan", "split_id": "split", "max_attempts": 3, "charges": charges}
    if step == 0:
        return "reserve", keys.reserve_key(run), reservation | {"details": DETAILS}
    if step > 6:
        kind = ("request", "gate", "decision", "published", "settled")[step - 7]
        return kind, keys.fact_key(run, kind), {"text": "." * 200}
    mechanism = CHARGES[(step - 1) // 2].mechanism
    payload = {"mechanism": mechanism, "attempt": 1}
    if step % 2:
        return "start", keys.begin_key(run, mechanism, 1), payload | {"plan_digest": "plan"}
    return "commit", keys.commit_key(run, mechanism, 1), payload


def by_age(backend: Backend) -> list[dict[str, Any]]:
    """The rows of one backend, sizes measured in turn."""
    ledgers = {size: with_history(backend, size) for size in SIZES}
    runs: dict[int, list[float]] = {size: [] for size in SIZES}
    counts: dict[int, list[float]] = {size: [] for size in SIZES}
    for turn in range(TURNS):
        for size, ledger in list(ledgers.items())[:: 1 if turn % 2 else -1]:
            runs[size].append(_seconds(partial(one_run, ledger, f"run-{turn}")))
            counts[size].append(_seconds(partial(ledger.pace, POLICY, 10**6)))
    rows = []
    for size, ledger in ledgers.items():
        rows.append(
            {
                "backend": backend.name,
                "entries": size,
                "run_ms": 1000 * statistics.median(runs[size]),
                "ratio": statistics.median(runs[size]) / statistics.median(runs[0]),
                "pace_ms": 1000 * statistics.median(counts[size]),
                "verify_s": min(_seconds(partial(ledger.verify, POLICY)) for _ in range(3)),
                "verify_cpu_s": min(_seconds(partial(ledger.verify, POLICY), time.process_time) for _ in range(3)),
            }
        )
        ledger.close()
    return rows


def _seconds(call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    call()
    return clock() - started


if __name__ == "__main__":
    with backends() as found:
        load = [under_load(backend, clients) for backend in found for clients in CLIENTS]
        report("ledger", f"{RUNS} runs of 7 transactions, by clients at once", load)
        report("ledger_history", "One run, after so many entries", [row for each in found for row in by_age(each)])
    if any(row["overspent"] or row["lost"] for row in load):
        sys.exit("the ledger was overspent or lost what it had confirmed")
