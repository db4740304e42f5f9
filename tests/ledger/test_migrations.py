"""A ledger of an earlier revision is brought up with every entry and digest as it was, or stays as it is.

`revision_0001.json` holds the rows that the code of revision 0001 wrote: one run under one policy, and another policy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError

from synth.errors import LedgerError
from synth.ledger import Charge, Ledger, database
from synth.ledger.database import Database
from synth.ledger.entries import Entry
from synth.ledger.models import metadata
from tests.ledger.conftest import CAPACITY, DOCUMENT
from tests.ledger.postgres import OFFICER, RIGHTS, WORKER, LedgerDatabase

ROWS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "revision_0001.json").read_text())
POLICIES = ("patients", "staff")


@pytest.fixture
def url(backend: str, path: Path, request: pytest.FixtureRequest) -> str:
    """The owner's URL of a database of its own."""
    if backend == "sqlite":
        return f"sqlite:///{path}"
    made: LedgerDatabase = request.getfixturevalue("unmigrated")
    return made.owner


@pytest.fixture
def earlier(url: str) -> Database:
    """A ledger of revision 0001 with entries."""
    made = Database.connect(url)
    with made.writing("test") as connection:
        config = database._alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        names = ", ".join(ROWS[0])
        values = ", ".join(f":{name}" for name in ROWS[0])
        connection.execute(text(f"INSERT INTO entries ({names}) VALUES ({values})"), ROWS)
    return made


def written(policy: str) -> list[dict[str, Any]]:
    return [row for row in ROWS if row["policy"] == policy]


def columns(entries: list[Entry]) -> list[dict[str, Any]]:
    return [entry.columns() for entry in entries]


def state(connection: Connection) -> tuple[list[Any], list[Any], list[str]]:
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).all()
    entries = connection.execute(text("SELECT * FROM entries ORDER BY id")).all()
    tables = connection.dialect.get_table_names(connection)  # type: ignore[attr-defined]
    return list(revision), list(entries), sorted(tables)


def test_an_earlier_ledger_is_brought_up_with_every_entry_and_digest_as_it_was(earlier: Database, url: str) -> None:
    Ledger.migrate(url)
    with Ledger.open(url) as ledger:
        assert [record.name for record in ledger.policies()] == list(POLICIES)
        for policy in POLICIES:
            assert columns(ledger.entries(policy)) == written(policy)
            digests = {row["sequence"]: row["digest"] for row in written(policy)}
            assert ledger.verify(policy, anchors=digests).digest == written(policy)[-1]["digest"]
        assert ledger.balance("patients").spent == 200
        (run,) = ledger.runs("patients")
        assert (run.run, run.state) == ("run", "settled")


def test_an_earlier_ledger_goes_on_where_it_was(earlier: Database, url: str) -> None:
    Ledger.migrate(url)
    with Ledger.open(url) as ledger:
        assert ledger.register("patients", DOCUMENT, CAPACITY, "deputy").digest == ROWS[0]["digest"]
        entry = ledger.reserve(
            "patients",
            "next",
            plan_digest="plan-2",
            split_id="split-1",
            max_attempts=1,
            charges=[Charge("training", ("train",), 800)],
            details={},
        )
        assert entry.sequence == len(written("patients")) + 1
        assert entry.previous == written("patients")[-1]["digest"]
        assert ledger.balance("patients").left == 0
        ledger.verify("patients")


def test_the_tables_are_those_of_a_new_ledger_and_still_insert_only(earlier: Database, url: str) -> None:
    Ledger.migrate(url)
    with earlier.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    for name in ("policies", "entries"):
        for statement in (f"UPDATE {name} SET payload = '{{}}'", f"DELETE FROM {name}"):
            with pytest.raises(DBAPIError, match="ledger entries cannot be"), earlier.engine.begin() as connection:
                connection.execute(text(statement))


@pytest.mark.parametrize(
    "change",
    [
        "sequence = 99 WHERE policy = 'staff'",
        "kind = 'note' WHERE policy = 'staff'",
        "key = 'other' WHERE policy = 'staff'",
        "policy = 'orphan' WHERE sequence = 4",
        "kind = 'policy' WHERE sequence = 4",
    ],
)
def test_a_ledger_whose_registrations_were_changed_is_named_and_stays_as_it_is(
    earlier: Database, url: str, change: str
) -> None:
    with earlier.writing("test") as connection:
        connection.exec_driver_sql(
            "DROP TRIGGER entries_refuse_update" if earlier.is_sqlite else "ALTER TABLE entries DISABLE TRIGGER USER"
        )
        connection.exec_driver_sql(f"UPDATE entries SET {change}")
        before = state(connection)
    with pytest.raises(LedgerError, match=r"its registration is not the first entry .* restore the database"):
        Ledger.migrate(url)
    with earlier.reading() as connection:
        assert state(connection) == before


def test_a_migration_that_dies_half_way_leaves_the_ledger_as_it_was(earlier: Database, url: str) -> None:
    class Died(Exception):
        pass

    def die(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.lstrip().startswith("CREATE TRIGGER policies"):
            raise Died

    with earlier.reading() as connection:
        before = state(connection)
    event.listen(earlier.engine, "before_cursor_execute", die)
    with pytest.raises(Died):
        earlier.migrate()
    event.remove(earlier.engine, "before_cursor_execute", die)
    with earlier.reading() as connection:
        assert state(connection) == before
    Ledger.migrate(url)
    with Ledger.open(url) as ledger:
        assert columns(ledger.entries("patients")) == written("patients")


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_role_that_could_add_to_every_table_does_not_become_an_officer(
    backend: str, unmigrated: LedgerDatabase, request: pytest.FixtureRequest
) -> None:
    with unmigrated.as_owner() as connection:
        for statement in (
            f"GRANT USAGE ON SCHEMA public TO {WORKER}",
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT ON TABLES TO {WORKER}",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT INSERT ON TABLES TO PUBLIC",
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {WORKER}",
        ):
            connection.execute(statement)
    request.getfixturevalue("earlier")
    Ledger.migrate(unmigrated.owner)
    assert [right for right in unmigrated.rights(WORKER) if right[0] == "policies"] == []
    assert [right for right in unmigrated.rights("PUBLIC") if right[0] == "policies"] == []
    with Ledger.open(unmigrated.worker) as ledger, pytest.raises(LedgerError, match="--worker ROLE"):
        ledger.policies()
    with unmigrated.as_owner() as connection:
        connection.execute("REVOKE ALL ON entries, alembic_version FROM PUBLIC")
    Ledger.migrate(unmigrated.owner, officer=OFFICER, worker=WORKER)
    assert {role: unmigrated.rights(role) for role in RIGHTS} == RIGHTS
    with Ledger.open(unmigrated.worker) as ledger:
        assert ledger.verify("patients").sequence == len(written("patients"))
