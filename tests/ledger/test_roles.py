"""Roles of PostgreSQL: the officer registers, the worker spends, and the server refuses each the other's part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import yaml
from click.testing import Result
from sqlalchemy import insert
from typer.testing import CliRunner

from synth.cli import app
from synth.errors import LedgerError, TamperedArtifact
from synth.ledger import Charge, Ledger
from synth.ledger.database import Database
from synth.ledger.models import entries as table
from tests.conftest import policy_document
from tests.ledger.conftest import CAPACITY, DOCUMENT, Reserve, reserve_in
from tests.ledger.postgres import OFFICER, OWNER, PASSWORD, RIGHTS, WORKER, LedgerDatabase, tells_no_credentials

# Values for the columns of `entries` in this order.
COLUMNS = "policy, sequence, kind, key, run, payload, balance, at, previous, digest"
REGISTER = "INSERT INTO policies (policy, payload, at, digest) VALUES ('mine', '{}', '', '')"
ADD = f"INSERT INTO entries ({COLUMNS}) VALUES ('patients', 99, 'note', 'run:note', 'run', '{{}}', '{{}}', '', '', '')"
# What nobody but the owner may do, and nobody at all without leaving traces in the schema.
FORBIDDEN = [
    "SET session_replication_role = replica",
    f"SET ROLE {OWNER}",
    "SELECT setval('entries_id_seq', 1)",
    "SELECT nextval('entries_id_seq')",
    "INSERT INTO alembic_version VALUES ('9999')",
    "UPDATE alembic_version SET version_num = '9999'",
    "DELETE FROM alembic_version",
    "CREATE TABLE another (id int)",
    "CREATE TEMPORARY TABLE entries (id int)",
    "CREATE SCHEMA another",
    "CREATE FUNCTION another() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION entries_refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RETURN NULL; END $$",
    "DROP FUNCTION entries_refuse_change CASCADE",
    "ALTER TABLE entries DROP CONSTRAINT entries_policy_registered",
    "ALTER TABLE entries DROP CONSTRAINT entries_after_registration",
    "ALTER TABLE entries ADD COLUMN note text",
    "SELECT * FROM entries FOR UPDATE",
    f"{ADD} ON CONFLICT (policy, key) DO UPDATE SET payload = '{{}}'",
    f"{REGISTER} ON CONFLICT (policy) DO UPDATE SET payload = '{{}}'",
    *(
        statement.format(table=table)
        for table in ("entries", "policies")
        for statement in (
            "UPDATE {table} SET payload = '{{}}'",
            "DELETE FROM {table}",
            "TRUNCATE {table} CASCADE",
            "DROP TABLE {table} CASCADE",
            "ALTER TABLE {table} DISABLE TRIGGER ALL",
            "ALTER TABLE {table} OWNER TO CURRENT_USER",
            "DROP TRIGGER {table}_refuse_change ON {table}",
            "CREATE TRIGGER another BEFORE INSERT ON {table} EXECUTE FUNCTION entries_refuse_change()",
        )
    ),
]


@pytest.fixture
def backend() -> str:
    return "postgresql"


# What a role needs


def test_to_read_and_to_add_entries_is_all_that_a_worker_needs(
    ledger: Ledger, reserve: Reserve, postgresql: LedgerDatabase
) -> None:
    reserve("run")
    attempt = ledger.begin("patients", "run", "training", plan_digest="plan-1")
    ledger.commit("patients", "run", "training", attempt)
    ledger.record("patients", "run", "gate", {"passed": True})
    ledger.record("patients", "run", "decision", {"approved": True, "by": "ada"})
    assert ledger.settle("patients", "run") == ["validation", "gate"]
    assert ledger.find("patients", "run", "gate") is not None
    assert ledger.committed("patients", "run", "training")
    assert ledger.attempts("patients", "run")["training"] == 1
    assert ledger.balance("patients").spent == 200
    assert [run.run for run in ledger.runs("patients")] == ["run"]
    assert ledger.policy_for_source(DOCUMENT["sources"][0]).name == "patients"
    assert ledger.verify("patients") == ledger.entries("patients")[-1]
    assert postgresql.rights(WORKER) == RIGHTS[WORKER]


def test_to_read_and_to_add_policies_is_all_that_an_officer_needs(
    officer: Ledger, ledger: Ledger, reserve: Reserve, postgresql: LedgerDatabase
) -> None:
    reserve("run")
    officer.register("staff", {"sources": ["s3://hospital/staff"]}, CAPACITY, "officer")
    assert [record.name for record in officer.policies()] == ["patients", "staff"]
    assert officer.balance("patients").reserved == 250
    assert [run.state for run in officer.runs("patients")] == ["reserved"]
    assert officer.verify("patients") == ledger.verify("patients")
    assert postgresql.rights(OFFICER) == RIGHTS[OFFICER]


def test_an_officer_lets_one_policy_succeed_another_and_a_worker_cannot(
    officer: Ledger, ledger: Ledger, reserve: Reserve, postgresql: LedgerDatabase
) -> None:
    reserve("run", charges=[Charge("m", ("train",), 250)])
    ledger.begin("patients", "run", "m", plan_digest="plan-1")
    ledger.record("patients", "run", "settled", {})
    with pytest.raises(LedgerError, match="needs the officer's role"):
        ledger.register("later", DOCUMENT, CAPACITY, "worker", succeeds="patients")
    assert [record.name for record in ledger.policies()] == ["patients"]
    officer.register("later", DOCUMENT, CAPACITY, "officer", succeeds="patients")
    assert ledger.balance("later").spent == officer.balance("later").spent == 250
    assert ledger.verify("later") == officer.verify("later")
    assert postgresql.rights(OFFICER) == RIGHTS[OFFICER]
    assert postgresql.rights(WORKER) == RIGHTS[WORKER]


# What a role cannot do


@pytest.mark.parametrize("statement", [*FORBIDDEN, REGISTER, f"SET ROLE {OFFICER}"])
def test_a_worker_cannot_register_or_change_what_is_recorded_or_how(
    ledger: Ledger, reserve: Reserve, postgresql: LedgerDatabase, statement: str
) -> None:
    reserve("run")
    before = ledger.entries("patients")
    with postgresql.as_worker() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)
    assert ledger.entries("patients") == before
    assert [record.name for record in ledger.policies()] == ["patients"]


@pytest.mark.parametrize("statement", [*FORBIDDEN, ADD, f"SET ROLE {WORKER}"])
def test_an_officer_cannot_spend_or_decide_or_change_what_is_recorded_or_how(
    ledger: Ledger, reserve: Reserve, postgresql: LedgerDatabase, statement: str
) -> None:
    reserve("run")
    before = ledger.entries("patients")
    with postgresql.as_officer() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)
    assert ledger.entries("patients") == before


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ("'mine', 1, 'policy', 'policy'", psycopg.errors.CheckViolation),
        ("'patients', 2, 'policy', 'policy'", psycopg.errors.CheckViolation),
        ("'patients', 2, 'policy', 'another'", psycopg.errors.CheckViolation),
        ("'patients', 2, 'note', 'policy'", psycopg.errors.CheckViolation),
        ("'patients', 1, 'note', 'note'", psycopg.errors.CheckViolation),
        ("'mine', 2, 'note', 'note'", psycopg.errors.ForeignKeyViolation),
    ],
)
def test_a_worker_cannot_pass_an_entry_off_as_a_policy_or_begin_a_chain(
    ledger: Ledger, postgresql: LedgerDatabase, values: str, refused: type[psycopg.Error]
) -> None:
    with postgresql.as_worker() as connection, pytest.raises(refused):
        connection.execute(f"INSERT INTO entries ({COLUMNS}) VALUES ({values}, '', '{{}}', '{{}}', '', '', '')")
    assert ledger.verify("patients").sequence == 1


def test_a_worker_cannot_hand_out_rights(ledger: Ledger, postgresql: LedgerDatabase) -> None:
    with postgresql.as_worker() as connection:
        # The server only warns where the role holds some right on the table.
        connection.execute(f"GRANT INSERT ON policies TO {WORKER}")
        connection.execute("GRANT ALL ON entries TO PUBLIC")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"GRANT {OFFICER} TO {WORKER}")
    assert postgresql.rights(WORKER) == RIGHTS[WORKER]
    assert postgresql.rights("PUBLIC") == []


def test_an_entry_that_a_worker_forged_to_lower_the_spending_is_found(
    ledger: Ledger, reserve: Reserve, url: str
) -> None:
    reserve("run")
    ledger.begin("patients", "run", "training", plan_digest="plan-1")
    last = ledger.record("patients", "run", "note", {})
    forged = replace(
        last, sequence=last.sequence + 1, key="run:note:2", balance_text="{}", previous=last.digest
    ).sealed()
    with Database.connect(url).writing("policy patients") as connection:
        connection.execute(insert(table).values(forged.columns()))
    with pytest.raises(TamperedArtifact, match="entry 5 on: its balance does not follow"):
        ledger.verify("patients")


# What the library says


def test_a_worker_that_registers_is_told_to_use_the_officers_role(ledger: Ledger) -> None:
    with pytest.raises(
        LedgerError, match="needs the officer's role; set SLUICE_LEDGER_URL to the officer's"
    ) as refused:
        ledger.register("staff", {"sources": ["s3://hospital/staff"]}, CAPACITY, "worker")
    assert refused.value.retry is False
    assert tells_no_credentials(refused.value)
    assert [record.name for record in ledger.policies()] == ["patients"]
    assert ledger.register("patients", DOCUMENT, CAPACITY, "worker") == ledger.entries("patients")[0]


def test_an_officer_that_spends_or_decides_is_told_to_use_the_workers_role(officer: Ledger, ledger: Ledger) -> None:
    reserve_in(ledger, "run")
    before = ledger.entries("patients")
    for call in (
        lambda: reserve_in(officer, "another"),
        lambda: officer.begin("patients", "run", "training", plan_digest="plan-1"),
        lambda: officer.record("patients", "run", "decision", {"approved": True}),
        lambda: officer.settle("patients", "run"),
    ):
        with pytest.raises(
            LedgerError, match="needs the worker's role; set SLUICE_LEDGER_URL to the worker's"
        ) as refused:
            call()
        assert refused.value.retry is False
        assert tells_no_credentials(refused.value)
    assert ledger.entries("patients") == before


def test_whoever_migrates_or_grants_without_owning_the_tables_is_told_who_may(unmigrated: LedgerDatabase) -> None:
    unmigrated.migrate()
    unmigrated.as_superuser(f"GRANT SELECT ON SEQUENCE entries_id_seq TO {WORKER}, {OFFICER}")
    for url in (unmigrated.worker, unmigrated.officer):
        Ledger.migrate(url)
        with pytest.raises(LedgerError, match="needs the role that owns the ledger's tables") as refused:
            Ledger.migrate(url, officer=WORKER)
        assert tells_no_credentials(refused.value)
    assert unmigrated.rights(WORKER) == RIGHTS[WORKER]


def test_a_role_without_rights_is_told_which_it_needs(unmigrated: LedgerDatabase) -> None:
    unmigrated.migrate()
    with Ledger.open(unmigrated.worker) as ledger, unmigrated.as_owner() as connection:
        connection.execute(f"REVOKE ALL ON policies, entries FROM {WORKER}")
        for call in (ledger.policies, lambda: ledger.balance("patients")):
            with pytest.raises(LedgerError, match=r"`sluice budget migrate --worker ROLE`") as refused:
                call()
            assert tells_no_credentials(refused.value)
        connection.execute("REVOKE USAGE ON SCHEMA public FROM " + WORKER)
        with pytest.raises(LedgerError, match="does not show this version's tables"):
            Ledger.open(unmigrated.worker)


def test_the_command_line_says_the_same(
    ledger: Ledger, postgresql: LedgerDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_HOME", str(tmp_path))
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy_document(tmp_path)))

    def register(url: str) -> Result:
        monkeypatch.setenv("SLUICE_LEDGER_URL", url)
        return CliRunner().invoke(app, ["budget", "register", str(tmp_path / "policy.yaml"), "--by", "ada"])

    refused = register(postgresql.worker)
    assert refused.exit_code == 1
    assert "needs the officer's role; set SLUICE_LEDGER_URL" in refused.stderr
    assert not any(word in refused.output for word in (PASSWORD, WORKER, "Traceback", "psycopg"))
    assert register(postgresql.officer).exit_code == 0
    monkeypatch.setenv("SLUICE_LEDGER_URL", postgresql.worker)
    for arguments in (("show", "people_policy"), ("history", "people_policy"), ("verify", "people_policy")):
        shown = CliRunner().invoke(app, ["budget", *arguments])
        assert shown.exit_code == 0, shown.stderr
        assert "people_policy" in shown.stdout
