"""A ledger with one registered policy of 1000 nano-nats, on SQLite and on PostgreSQL.

A test that asks for `url` or `ledger` runs once on each. On PostgreSQL each duty has a role of its own, with the rights
that `Ledger.migrate` grants: `url` and `ledger` are the worker's, `officer_url` and `officer` the officer's. So every
such test shows at the same time that these rights are enough. `owner_url` is that of the tables' owner, `superuser_url`
that of someone who can do what they like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from synth.ledger import Charge, Entry, Ledger
from tests.ledger import postgres
from tests.ledger.postgres import LedgerDatabase, Server

CAPACITY = 1000
DOCUMENT = {"sources": ["s3://hospital/admissions.parquet"], "unit": {"column": "patient"}, "epsilon": 3.0}
CHARGES = (
    Charge("validation", ("train", "holdout"), 50),
    Charge("training", ("train",), 200),
    Charge("gate", ("holdout",), 100),
)

Reserve = Callable[..., Entry]


def reserve_in(ledger: Ledger, run: str, **changes: Any) -> Entry:
    """Reserve `CHARGES` (250 in train, 150 in holdout), with some arguments changed."""
    arguments: dict[str, Any] = {
        "plan_digest": "plan-1",
        "split_id": "split-1",
        "max_attempts": 3,
        "charges": CHARGES,
        "details": {"epsilon": 1.0},
    }
    return ledger.reserve("patients", run, **(arguments | changes))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A running PostgreSQL server."""
    programs = postgres.binaries()
    if programs is None:
        pytest.skip(
            "PostgreSQL is not installed, so the ledger is NOT tested on it: initdb, postgres and psql are together "
            "neither in PATH nor in /usr/lib/postgresql/*/bin; install them, on Debian and Ubuntu with "
            "`apt-get install postgresql`"
        )
    with postgres.running(programs) as started:
        yield started


@pytest.fixture(scope="session")
def migrated(server: Server) -> LedgerDatabase:
    """One database with tables for all tests, since making one takes longer than most of them."""
    made = LedgerDatabase.create(server, "migrated")
    made.migrate()
    return made


@pytest.fixture
def postgresql(migrated: LedgerDatabase) -> LedgerDatabase:
    """A database with tables and without entries; its schema has to stay as it is."""
    migrated.empty()
    return migrated


_names = (f"ledger_{number}" for number in count())


@pytest.fixture
def unmigrated(server: Server) -> Iterator[LedgerDatabase]:
    """A database without tables, for this test alone."""
    made = LedgerDatabase.create(server, next(_names))
    yield made
    made.drop()


# For what is specific to SQLite, or refused before a database is asked.
only_sqlite = pytest.mark.parametrize("backend", ["sqlite"])


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is on SQLite."""
    return tmp_path / "budget" / "ledger.db"


@pytest.fixture
def url(backend: str, path: Path, request: pytest.FixtureRequest) -> str:
    """The ledger's URL for those who run workflows."""
    if backend == "sqlite":
        return f"sqlite:///{path}"
    database: LedgerDatabase = request.getfixturevalue("postgresql")
    return database.worker


@pytest.fixture
def officer_url(backend: str, url: str, request: pytest.FixtureRequest) -> str:
    """The ledger's URL for the privacy officer."""
    if backend == "sqlite":
        return url
    database: LedgerDatabase = request.getfixturevalue("postgresql")
    return database.officer


@pytest.fixture
def owner_url(backend: str, url: str, request: pytest.FixtureRequest) -> str:
    """The URL of the tables' owner."""
    if backend == "sqlite":
        return url
    database: LedgerDatabase = request.getfixturevalue("postgresql")
    return database.owner


@pytest.fixture
def superuser_url(backend: str, url: str, request: pytest.FixtureRequest) -> str:
    """The URL of someone who can do with the database what they like."""
    if backend == "sqlite":
        return url
    database: LedgerDatabase = request.getfixturevalue("postgresql")
    return database.server.url(database.name, postgres.SUPERUSER)


@pytest.fixture
def officer(officer_url: str) -> Iterator[Ledger]:
    """The ledger as the officer has it, with the policy `patients`."""
    with Ledger.open(officer_url) as officer:
        officer.register("patients", DOCUMENT, CAPACITY, "officer@hospital.example")
        yield officer


@pytest.fixture
def ledger(url: str, officer: Ledger) -> Iterator[Ledger]:
    """The ledger as a workflow has it, with the policy `patients`."""
    with Ledger.open(url) as ledger:
        yield ledger


@pytest.fixture
def reserve(ledger: Ledger) -> Reserve:
    return lambda run, **changes: reserve_in(ledger, run, **changes)
