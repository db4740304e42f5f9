"""What only a server can show: a schema that is behind, its locks, a server that goes away. Roles: `test_roles`."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from sqlalchemy import text
from typer.testing import CliRunner

from synth.cli import app
from synth.errors import BudgetExceeded, LedgerError, LedgerUnavailable
from synth.ledger import Charge, Ledger, database
from synth.ledger.database import Database
from tests.ledger.conftest import CAPACITY, CHARGES, Reserve, reserve_in
from tests.ledger.postgres import PASSWORD, WORKER, LedgerDatabase, Server, free_port, tells_no_credentials
from tests.ledger.test_races import at_once


@pytest.fixture
def backend() -> str:
    return "postgresql"


@pytest.fixture
def stoppable(server: Server, postgresql: LedgerDatabase) -> Iterator[LedgerDatabase]:
    """A database whose server the test may stop; it runs again afterwards."""
    yield postgresql
    server.stop()
    server.start()


# Schema


def test_a_schema_that_is_behind_is_named_with_the_command_that_brings_it_up(unmigrated: LedgerDatabase) -> None:
    with pytest.raises(LedgerError, match="run `sluice budget migrate` with the role that owns them") as refused:
        Ledger.open(unmigrated.worker)
    assert refused.value.retry is False
    assert tells_no_credentials(refused.value)
    with unmigrated.as_owner() as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_migrating_takes_the_owner(unmigrated: LedgerDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate(url: str) -> int:
        monkeypatch.setenv("SLUICE_LEDGER_URL", url)
        return CliRunner().invoke(app, ["budget", "migrate"]).exit_code

    with pytest.raises(LedgerError, match="needs the role that owns the ledger's tables") as refused:
        Ledger.migrate(unmigrated.worker)
    assert tells_no_credentials(refused.value)
    assert migrate(unmigrated.worker) == 1
    assert migrate(unmigrated.owner) == 0
    assert migrate(unmigrated.owner) == 0
    with Ledger.open(unmigrated.owner) as ledger:
        assert ledger.policies() == []


def test_a_schema_of_a_newer_version_is_left_alone(unmigrated: LedgerDatabase) -> None:
    unmigrated.migrate()
    with unmigrated.as_owner() as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for call in (Ledger.open, Ledger.migrate):
        with pytest.raises(LedgerError, match="newer version of Sluice"):
            call(unmigrated.owner)


def test_whoever_waits_while_another_migrates_finds_it_done(unmigrated: LedgerDatabase) -> None:
    def waiting() -> bool:
        with unmigrated.as_owner() as connection:
            return connection.execute("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").rowcount > 0

    with ThreadPoolExecutor() as pool:
        with Database.connect(unmigrated.owner).writing(database.MIGRATION_LOCK) as connection:
            second = pool.submit(Ledger.migrate, unmigrated.owner)
            while not waiting():
                assert not second.done()
                time.sleep(0.01)
            config = database._alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        second.result(timeout=10)
    with Ledger.open(unmigrated.owner) as ledger:
        assert ledger.policies() == []


# Locks


def test_a_stricter_default_of_the_server_does_not_let_a_race_overspend_or_fail(ledger: Ledger, url: str) -> None:
    strict = f"{url}?options=-cdefault_transaction_isolation%3Dserializable"

    def reserve(number: int) -> str:
        with Ledger.open(strict) as own:
            try:
                reserve_in(own, f"run-{number}", charges=[Charge("m", ("train",), 300)])
            except BudgetExceeded:
                return "refused"
            return "reserved"

    assert Counter(at_once(8, reserve)) == {"reserved": 3, "refused": 5}
    ledger.verify("patients")


def test_policies_do_not_wait_for_each_other(
    ledger: Ledger, officer: Ledger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    officer.register("staff", {"sources": ["s3://hospital/staff"]}, CAPACITY, "officer")
    with Database.connect(url).writing("policy staff"):
        monkeypatch.setattr("synth.ledger.database.LOCK_TIMEOUT_S", 0.05)
        with pytest.raises(LedgerUnavailable, match="55P03"):
            ledger.record("staff", "run", "note", {})
        ledger.record("patients", "run", "note", {})


def test_any_text_comes_back_as_it_was_recorded(ledger: Ledger) -> None:
    payload = {"text": "żółć 数据 \U0001f9ea \x00 \\u0000 'quoted' %s :name", "": None}
    ledger.record("patients", "rún 数据", "note", payload)
    entry = ledger.find("patients", "rún 数据", "note")
    assert entry is not None
    assert entry.payload == payload
    assert ledger.verify("patients") == entry


# A server that is not there


def test_a_refused_connection_is_an_error_to_retry_that_tells_no_credentials() -> None:
    with pytest.raises(LedgerUnavailable, match=r"127\.0\.0\.1/budget") as refused:
        Ledger.open(f"postgresql://{WORKER}:{PASSWORD}@127.0.0.1:{free_port()}/budget")
    assert refused.value.retry is True
    assert tells_no_credentials(refused.value)


def test_a_wrong_password_is_refused_without_repeating_it(server: Server) -> None:
    with pytest.raises(LedgerUnavailable) as refused:
        Ledger.open(server.url("migrated", WORKER, password="hunter2"))
    assert not any(word in str(refused.value) for word in ("hunter2", WORKER))


def test_a_server_stopped_in_mid_run_is_an_error_to_retry_and_what_was_recorded_is_there_again(
    ledger: Ledger, reserve: Reserve, stoppable: LedgerDatabase
) -> None:
    reserve("run")
    before = ledger.entries("patients")
    stoppable.server.stop()
    for call in (
        lambda: ledger.begin("patients", "run", "training", plan_digest="plan-1"),
        lambda: ledger.record("patients", "run", "note", {}),
        lambda: ledger.settle("patients", "run"),
        lambda: ledger.balance("patients"),
    ):
        with pytest.raises(LedgerUnavailable, match=r"127\.0\.0\.1/migrated") as refused:
            call()
        assert refused.value.retry is True
        assert tells_no_credentials(refused.value)
    stoppable.server.start()
    assert ledger.entries("patients") == before
    assert ledger.begin("patients", "run", "training", plan_digest="plan-1") == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["shut down", "crashed"])
def test_a_server_stopped_in_mid_transaction_is_an_error_to_retry(
    ledger: Ledger, stoppable: LedgerDatabase, how: signal.Signals
) -> None:
    def transaction() -> None:
        with ledger._database.writing("policy patients") as connection:
            connection.execute(text("SELECT 1"))
            stoppable.server.stop(how)
            connection.execute(text("SELECT 1"))

    with pytest.raises(LedgerUnavailable, match="not confirmed: try again") as refused:
        transaction()
    assert tells_no_credentials(refused.value)


def test_writers_that_try_again_lose_nothing_and_record_nothing_twice_while_the_server_crashes(
    ledger: Ledger, reserve: Reserve, stoppable: LedgerDatabase
) -> None:
    reserve("run", charges=CHARGES, max_attempts=1)
    crashes, notes, writers = 2, 30, 4
    stop = threading.Event()
    refused: list[LedgerUnavailable] = []

    def insist(key: str) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                ledger.record("patients", "run", "note", {"key": key}, suffix=key)
                return
            except LedgerUnavailable as error:
                refused.append(error)
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def work(number: int) -> list[str]:
        if number == writers:
            for _ in range(crashes):
                time.sleep(0.3)
                stoppable.server.stop(signal.SIGQUIT)
                stoppable.server.start()
            stop.set()
            return []
        written = []
        while len(written) < notes or not stop.is_set():
            written.append(f"{number}-{len(written)}")
            insist(written[-1])
        return written

    confirmed = [key for written in at_once(writers + 1, work) for key in written]
    assert refused
    assert all(tells_no_credentials(error) for error in refused)
    recorded = [entry.payload["key"] for entry in ledger.entries("patients", "run") if entry.kind == "note"]
    assert sorted(recorded) == sorted(confirmed)
    ledger.verify("patients")
