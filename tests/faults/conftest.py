"""A deployment on PostgreSQL whose server the test may stop, and a disk that it may fill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from synth.settings import Settings
from tests.conftest import Deployment
from tests.faults.disk import SmallDisk
from tests.faults.promises import table
from tests.ledger import postgres
from tests.ledger.postgres import LedgerDatabase, Server


class OnPostgreSQL(Deployment):
    """A deployment whose ledger is in a database, reached with the worker's role."""

    def __init__(self, folder: Path, database: LedgerDatabase) -> None:
        super().__init__(folder)
        self.database = database
        self.reaching(database.worker)

    def reaching(self, url: str) -> None:
        """From here on the ledger is reached by another URL."""
        self.settings = Settings(url, self.folder / "runs", self.folder / "keys", self.folder / "reports")

    def stop(self) -> None:
        self.database.server.stop()

    def start(self) -> None:
        self.database.server.start()


@pytest.fixture(scope="package")
def postgresql_server() -> Iterator[Server]:
    """A PostgreSQL server for these tests alone, because they stop it."""
    programs = postgres.binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed, so faults of its server are NOT tested; install it")
    with postgres.running(programs) as started:
        LedgerDatabase.create(started, "ledger").migrate()
        yield started


@pytest.fixture
def on_postgresql(postgresql_server: Server, tmp_path: Path) -> Iterator[OnPostgreSQL]:
    """An empty ledger with the policy registered, and the table; at the end the server runs."""
    database = LedgerDatabase(postgresql_server, "ledger")
    database.empty()
    made = OnPostgreSQL(tmp_path, database)
    made.write(table())
    made.reaching(database.officer)
    made.register()
    made.reaching(database.worker)
    yield made
    postgresql_server.stop()
    postgresql_server.start()


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Deployment:
    """A deployment with a registered policy and the table."""
    made = Deployment(tmp_path)
    made.settings = Settings(made.settings.ledger_url, tmp_path / "runs", tmp_path / "keys", tmp_path / "reports")
    made.write(table())
    made.register()
    return made


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of some megabytes, mounted nowhere yet."""
    made = SmallDisk(tmp_path)
    yield made
    made.remove()
