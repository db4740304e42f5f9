from __future__ import annotations

import stat
import traceback
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from synth.errors import LedgerError, LedgerUnavailable
from synth.ledger import Ledger, database
from synth.ledger.database import Database
from synth.ledger.models import metadata
from tests.ledger.conftest import Reserve, only_sqlite


@only_sqlite
def test_a_new_ledger_is_private_to_its_owner(ledger: Ledger, path: Path) -> None:
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_ledger_survives_being_closed(ledger: Ledger, reserve: Reserve, url: str) -> None:
    entry = reserve("run")
    ledger.close()
    with Ledger.open(url) as again:
        assert again.entries("patients")[-1] == entry


def test_migrating_twice_changes_nothing(ledger: Ledger, url: str) -> None:
    Ledger.migrate(url)
    assert len(ledger.policies()) == 1


def test_the_migrations_build_the_tables_the_code_uses(ledger: Ledger) -> None:
    with ledger._database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@only_sqlite
def test_a_schema_of_a_newer_version_is_left_alone(ledger: Ledger, url: str) -> None:
    with Database.connect(url).writing("a newer version") as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerError, match="newer version of Sluice"):
        Ledger.open(url)


@pytest.mark.parametrize(
    "address",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:ledger.db?uri=true",
        "mysql://officer:hunter2@host/budget",
        "oracle9://officer:hunter2@host/budget",
        "hunter2",
        "postgresql://officer:hunter2@host:port/budget",
    ],
)
def test_a_url_that_cannot_hold_a_ledger_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(LedgerError, match="accepted: sqlite:////absolute") as refused:
        Ledger.open(address)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


def test_an_unreachable_server_is_an_error_to_retry_that_tells_no_credentials() -> None:
    secrets = ("hunter2", "dr_no", "internal")
    url = "postgresql://{1}:{0}@127.0.0.1:1/budget?application_name={2}".format(*secrets)
    with pytest.raises(LedgerUnavailable, match=r"127\.0\.0\.1/budget") as refused:
        Ledger.open(url)
    assert refused.value.retry is True
    assert not any(word in "".join(traceback.format_exception(refused.value)) for word in secrets)


@only_sqlite
def test_a_file_that_is_no_database_is_refused(path: Path, url: str) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but long enough to have a header of one hundred bytes" * 3)
    with pytest.raises(LedgerError, match="SQLITE_NOTADB"):
        Ledger.open(url)


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be opened for writing"):
        Ledger.open(f"sqlite:///{tmp_path}/file/ledger.db")


def test_waiting_too_long_for_the_lock_is_an_error_to_retry_without_the_statement(
    officer_url: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = {"sqlite": "SQLITE_BUSY", "postgresql": "55P03"}[backend]
    with Ledger.open(officer_url) as officer:
        with Database.connect(officer_url).writing(database.REGISTRATION_LOCK), monkeypatch.context() as patch:
            patch.setattr(database, "LOCK_TIMEOUT_S", 0.05)
            with Ledger.open(officer_url) as waiting, pytest.raises(LedgerUnavailable, match=code) as refused:
                waiting.register("patients", {"sources": ["s3://private/bucket"]}, 10, "officer")
        assert "private" not in str(refused.value)
        assert refused.value.retry is True
        officer.register("patients", {"sources": ["s3://private/bucket"]}, 10, "officer")
