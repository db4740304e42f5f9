"""Who may do what in the ledger's PostgreSQL database: plain grants on two tables, enforced by the server.

| duty    | who                                   | reads | adds rows to        |
|---------|---------------------------------------|-------|---------------------|
| owner   | migrates the tables, runs no workflow | all   | (owns the tables)   |
| officer | registers policies                    | all   | ``policies``        |
| worker  | runs workflows                        | all   | ``entries``         |

Nobody needs a right to change or delete a row, or any right on a sequence. A site names its roles as it likes. SQLite
has no roles: there whoever may write the file may do everything.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Connection, text

from synth.errors import LedgerError

_READ = ("policies", "entries", "alembic_version")
_ADD = {"officer": "policies", "worker": "entries"}

Right = tuple[str, str]


class Duty(StrEnum):
    """What a database role is for."""

    OWNER = "owner"
    OFFICER = "officer"
    WORKER = "worker"
    READER = "reader"

    @property
    def remedy(self) -> str:
        """What to do where a role lacks this duty's rights."""
        match self:
            case Duty.OWNER:
                return "this needs the role that owns the ledger's tables; set SLUICE_LEDGER_URL to its URL"
            case Duty.READER:
                return (
                    "this needs the worker's or the officer's role; set SLUICE_LEDGER_URL to the URL of one, or let "
                    "the owner of the tables run `sluice budget migrate --worker ROLE` (or `--officer ROLE`)"
                )
        return (
            f"this needs the {self}'s role; set SLUICE_LEDGER_URL to the {self}'s URL, or let the owner of the tables "
            f"run `sluice budget migrate --{self} ROLE`"
        )


def grant(connection: Connection, duty: Duty, role: str) -> None:
    """Give ``role`` the rights of its duty, take away all others, and ask the server what it then holds.

    To run as the tables' owner, in a transaction that an error rolls back.

    :raises LedgerError: there is no such role, or it still holds more or less than its duty takes.
    """
    if not connection.execute(text(_OWNS)).scalar():
        raise LedgerError(f"the role that the URL connects as cannot grant rights; {Duty.OWNER.remedy}")
    if connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).scalar() is None:
        raise LedgerError(f"the server has no role {role!r}; create it first: CREATE ROLE … LOGIN")
    quote = connection.dialect.identifier_preparer.quote_identifier
    database, schema = connection.execute(text("SELECT current_database(), current_schema()")).one()
    tables, to = ", ".join(_READ), quote(role)
    for statement in (
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {quote(schema)} REVOKE ALL ON TABLES FROM {to}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {quote(schema)} REVOKE ALL ON SEQUENCES FROM {to}",
        f"REVOKE ALL ON {tables} FROM {to}",
        f"REVOKE ALL ON SEQUENCE entries_id_seq FROM {to}",
        # Where the tables' owner cannot give these two away, the server only warns: `_holds` has the answer.
        f"GRANT CONNECT ON DATABASE {quote(database)} TO {to}",
        f"GRANT USAGE ON SCHEMA {quote(schema)} TO {to}",
        f"GRANT SELECT ON {tables} TO {to}",
        f"GRANT INSERT ON {_ADD[duty]} TO {to}",
    ):
        connection.exec_driver_sql(statement)
    wanted = {(table, "SELECT") for table in _READ}
    wanted |= {(_ADD[duty], "INSERT"), (f"database {database}", "CONNECT"), (f"schema {schema}", "USAGE")}
    _require(duty, role, wanted, _held(connection, role))


def _require(duty: Duty, role: str, wanted: set[Right], held: set[Right]) -> None:
    if missing := wanted - held:
        raise LedgerError(
            f"the {duty}'s role {role!r} lacks {_listed(missing)}, which the owner of the tables may not give; whoever "
            "owns that has to grant it. Until then no right is granted"
        )
    if excess := held - wanted:
        raise LedgerError(
            f"the {duty}'s role {role!r} would hold more than its duty takes: {_listed(excess)}. It has that through "
            "PUBLIC, through another role that it is a member of, or by being privileged itself; revoke it there. "
            "Until then no right is granted"
        )


def _held(connection: Connection, role: str) -> set[Right]:
    """Every right of the role on the ledger, those included that it inherits or could assume by SET ROLE."""
    rows = connection.execute(text(_RIGHTS), {"role": role, "tables": list(_READ)})
    return {(row.object, row.privilege) for row in rows}


def _listed(rights: set[Right]) -> str:
    objects = sorted({name for name, _ in rights})
    return "; ".join(f"{', '.join(sorted(right for at, right in rights if at == name))} on {name}" for name in objects)


# Without this the server would only warn that somebody else's grants change nothing.
_OWNS = "SELECT pg_has_role(relowner, 'MEMBER') FROM pg_class WHERE oid = 'entries'::regclass"
_RIGHTS = """
    WITH roles AS (SELECT oid, rolcreaterole FROM pg_roles WHERE pg_has_role(CAST(:role AS name), oid, 'MEMBER'))
    SELECT object, privilege FROM roles, unnest(CAST(:tables AS text[])) object,
        unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) privilege
    WHERE has_any_column_privilege(oid, object, privilege)
    UNION SELECT object, privilege FROM roles, unnest(CAST(:tables AS text[])) object,
        unnest(ARRAY['DELETE', 'TRUNCATE', 'TRIGGER']) privilege
    WHERE has_table_privilege(oid, object, privilege)
    UNION SELECT 'sequence entries_id_seq', privilege FROM roles, unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) privilege
    WHERE has_sequence_privilege(oid, 'entries_id_seq', privilege)
    UNION SELECT 'schema ' || current_schema(), privilege FROM roles, unnest(ARRAY['USAGE', 'CREATE']) privilege
    WHERE has_schema_privilege(oid, current_schema(), privilege)
    UNION SELECT 'database ' || current_database(), privilege FROM roles,
        unnest(ARRAY['CONNECT', 'CREATE', 'TEMPORARY']) privilege
    WHERE has_database_privilege(oid, current_database(), privilege)
    UNION SELECT 'the server', 'CREATEROLE' FROM roles WHERE rolcreaterole
"""
