"""What `sluice budget migrate` grants to a role, takes back from it, and refuses; and the deployment that calls it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql
from typer.testing import CliRunner

from synth.cli import app
from synth.errors import LedgerError
from synth.ledger import Ledger
from tests.ledger.conftest import CAPACITY, DOCUMENT, reserve_in
from tests.ledger.postgres import OFFICER, OWNER, PASSWORD, RIGHTS, WORKER, LedgerDatabase, Server

DOCKER = Path(__file__).parents[2] / "docker"

_names = (f"tests_role_{number}" for number in count())


@pytest.fixture
def new_role(server: Server) -> Callable[..., str]:
    """Makes a role of the server, which may log in."""

    def make(attributes: str = "", name: str | None = None) -> str:
        name = name or next(_names)
        with server.psycopg("postgres") as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} " + attributes).format(
                    sql.Identifier(name), sql.Literal(PASSWORD)
                )
            )
        return name

    return make


def test_granting_again_changes_nothing_and_takes_back_what_is_too_much(
    unmigrated: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    unmigrated.migrate()
    with unmigrated.as_owner() as connection:
        for statement in (
            f"GRANT ALL ON policies, entries, alembic_version TO {WORKER}",
            f"GRANT UPDATE (payload) ON entries TO {OFFICER}",
            f"GRANT ALL ON SEQUENCE entries_id_seq TO {WORKER}",
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {WORKER}",
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO {WORKER}",
        ):
            connection.execute(statement)
    monkeypatch.setenv("SLUICE_LEDGER_URL", unmigrated.owner)
    for _ in range(2):
        granted = CliRunner().invoke(app, ["budget", "migrate", "--officer", OFFICER, "--worker", WORKER])
        assert granted.exit_code == 0, granted.stderr
        assert f"{OFFICER} may read and register policies, no more" in granted.stdout
        assert {role: unmigrated.rights(role) for role in RIGHTS} == RIGHTS
    with unmigrated.as_owner() as connection:
        sequence = connection.execute("SELECT has_sequence_privilege(%s, 'entries_id_seq', 'UPDATE')", (WORKER,))
        assert sequence.fetchone() == (False,)
        connection.execute("CREATE TABLE later (id int)")
        assert [right for right in unmigrated.rights(WORKER) if right[0] == "later"] == []


def test_a_site_names_its_roles_as_it_likes(unmigrated: LedgerDatabase, new_role: Callable[..., str]) -> None:
    officer, worker = new_role(name='Büro "A" 100%s :x\''), new_role(name="select")
    Ledger.migrate(unmigrated.owner, officer=officer, worker=worker)
    assert unmigrated.rights(officer) == RIGHTS[OFFICER]
    with Ledger.open(unmigrated.server.url(unmigrated.name, worker)) as ledger:
        assert ledger.policies() == []


def test_a_duty_can_change_hands(unmigrated: LedgerDatabase) -> None:
    unmigrated.migrate()
    Ledger.migrate(unmigrated.owner, worker=OFFICER)
    assert unmigrated.rights(OFFICER) == RIGHTS[WORKER]
    assert unmigrated.rights(WORKER) == RIGHTS[WORKER]


@pytest.mark.parametrize(
    ("attributes", "statements", "excess"),
    [
        ("", ["GRANT INSERT ON policies TO PUBLIC"], "INSERT on policies"),
        ("", ["GRANT UPDATE (payload) ON entries TO PUBLIC"], "UPDATE on entries"),
        ("", ["GRANT UPDATE ON SEQUENCE entries_id_seq TO PUBLIC"], "UPDATE on sequence entries_id_seq"),
        ("", ["GRANT CREATE ON SCHEMA public TO PUBLIC"], "CREATE on schema public"),
        ("IN ROLE {officer}", [], "INSERT on policies"),
        ("NOINHERIT IN ROLE {officer}", [], "INSERT on policies"),
        ("", ["GRANT TEMPORARY ON DATABASE {name} TO PUBLIC"], "TEMPORARY on database"),
        ("NOINHERIT IN ROLE {owner}", [], "CREATE, TEMPORARY on database"),
        ("IN ROLE pg_write_all_data", [], "DELETE, INSERT, UPDATE on alembic_version"),
        ("CREATEROLE", [], "CREATEROLE on the server"),
        ("SUPERUSER", [], "TRUNCATE"),
    ],
)
def test_a_role_that_would_hold_more_than_its_duty_takes_is_refused_and_granted_nothing(
    unmigrated: LedgerDatabase, new_role: Callable[..., str], attributes: str, statements: list[str], excess: str
) -> None:
    unmigrated.migrate()
    unmigrated.as_superuser(*(statement.format(name=unmigrated.name) for statement in statements))
    role = new_role(attributes.format(officer=OFFICER, owner=OWNER))
    with pytest.raises(LedgerError, match=excess):
        Ledger.migrate(unmigrated.owner, worker=role)
    assert unmigrated.rights(role) == []


def test_what_the_owner_may_not_give_is_named(unmigrated: LedgerDatabase, new_role: Callable[..., str]) -> None:
    role = new_role()
    unmigrated.as_superuser(
        "ALTER SCHEMA public OWNER TO superuser", f"GRANT USAGE, CREATE ON SCHEMA public TO {OWNER}"
    )
    with pytest.raises(LedgerError, match="lacks USAGE on schema public, which the owner of the tables may not give"):
        Ledger.migrate(unmigrated.owner, worker=role)
    unmigrated.as_superuser(f"GRANT USAGE ON SCHEMA public TO {role}")
    Ledger.migrate(unmigrated.owner, worker=role)
    assert unmigrated.rights(role) == RIGHTS[WORKER]


def test_a_role_that_does_not_exist_or_has_both_duties_is_refused(unmigrated: LedgerDatabase) -> None:
    for role in ("nobody_there", "PUBLIC"):
        with pytest.raises(LedgerError, match=f"has no role '{role}'"):
            Ledger.migrate(unmigrated.owner, worker=role)
    with pytest.raises(LedgerError, match="need a role each"):
        Ledger.migrate(unmigrated.owner, officer=WORKER, worker=WORKER)


def test_sqlite_has_no_roles(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="SQLite has no roles"):
        Ledger.migrate(f"sqlite:///{tmp_path}/ledger.db", worker="worker")


# The deployment's own script and command


def test_the_roles_of_the_deployment_register_and_work_and_can_do_no_more(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = {
        "airflow": "for'airflow",
        "ledger_owner": "own er",
        "ledger_officer": "off%icer",
        "ledger_writer": "wr",
    }
    environment = {
        "PATH": f"{server.programs}:{os.environ['PATH']}",
        "POSTGRES_USER": "superuser",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGPASSWORD": PASSWORD,
        "AIRFLOW_DB_PASSWORD": passwords["airflow"],
        **{f"{role.upper()}_PASSWORD": passwords[role] for role in passwords if role != "airflow"},
    }
    subprocess.run(
        ["bash", DOCKER / "postgres" / "create-ledger.sh"],
        env=environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )

    def url(role: str, database: str = "ledger") -> str:
        password = passwords[role].replace("%", "%25").replace(" ", "%20")
        return server.url(database, role, password=password)

    for role in ("ledger_officer", "ledger_writer"):
        with pytest.raises(LedgerError, match="sluice budget migrate"):
            Ledger.open(url(role))
    init: Any = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["ledger-init"]
    assert "//ledger_owner:" in init["environment"]["SLUICE_LEDGER_URL"]
    monkeypatch.setenv("SLUICE_LEDGER_URL", url("ledger_owner"))
    sluice, *arguments = init["command"]
    assert sluice == "sluice"
    migrated = CliRunner().invoke(app, arguments)
    assert migrated.exit_code == 0, migrated.stderr

    with Ledger.open(url("ledger_officer")) as officer, Ledger.open(url("ledger_writer")) as ledger:
        with pytest.raises(LedgerError, match="officer's role"):
            ledger.register("patients", DOCUMENT, CAPACITY, "worker")
        officer.register("patients", DOCUMENT, CAPACITY, "officer")
        with pytest.raises(LedgerError, match="worker's role"):
            reserve_in(officer, "run")
        reserve_in(ledger, "run")
        assert ledger.verify("patients").sequence == 2
    deployed = LedgerDatabase(server, "ledger")
    with server.psycopg("ledger") as connection:
        connection.execute(f"GRANT ledger_owner TO {OWNER}")
    assert deployed.rights("ledger_officer") == RIGHTS[OFFICER]
    assert deployed.rights("ledger_writer") == RIGHTS[WORKER]
    for role in ("ledger_officer", "ledger_writer"):
        with psycopg.connect(url(role), autocommit=True) as connection:
            for statement in ("CREATE TABLE t (id int)", "CREATE TEMPORARY TABLE t (id int)", "DELETE FROM entries"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)
    for role, database in (("airflow", "ledger"), ("ledger_writer", "airflow"), ("ledger_officer", "airflow")):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(url(role, database))
