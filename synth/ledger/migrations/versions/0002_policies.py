"""Give registrations a table of their own, ``policies``, so that the right to register is a grant of its own.

A registration was the first row of its chain in ``entries``. It moves as it is: what its digest covers stays, and so
does every entry after it. From here on ``entries`` takes rows of registered policies only.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from synth.errors import LedgerError
from synth.ledger.migrations.insert_only import sqlite_triggers

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MISPLACED = """
    SELECT policy FROM entries WHERE (kind = 'policy') <> (sequence = 1) OR (key = 'policy') <> (sequence = 1)
        OR policy NOT IN (SELECT policy FROM entries WHERE key = 'policy')
    ORDER BY policy LIMIT 1
"""
MOVE = (
    "INSERT INTO policies (policy, payload, at, digest) SELECT policy, payload, at, digest FROM entries "
    "WHERE key = 'policy'",
    "DELETE FROM entries WHERE key = 'policy'",
)
# A default privilege, meant for the one table there was, would make officers of the roles that run workflows.
REVOKE_DEFAULTS = """
    DO $$ DECLARE grantee regrole; BEGIN
        FOR grantee IN SELECT DISTINCT acl.grantee FROM pg_class, aclexplode(relacl) acl
            WHERE pg_class.oid = 'policies'::regclass AND acl.grantee NOT IN (0, relowner)
        LOOP EXECUTE 'REVOKE ALL ON policies FROM ' || grantee; END LOOP;
        REVOKE ALL ON policies FROM PUBLIC;
    END $$
"""
POSTGRESQL_TRIGGER = """
    CREATE TRIGGER policies_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON policies
    FOR EACH STATEMENT EXECUTE FUNCTION entries_refuse_change()
"""


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    _refuse_what_cannot_move()
    op.create_table(
        "policies",
        sa.Column("policy", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("payload", "at", "digest")),
    )
    op.execute("DROP TRIGGER entries_refuse_delete" if sqlite else "ALTER TABLE entries DISABLE TRIGGER USER")
    for statement in MOVE:
        op.execute(statement)
    # SQLite builds the table anew for this, and its triggers go with the old one.
    with op.batch_alter_table("entries") as entries:
        entries.create_foreign_key("entries_policy_registered", "policies", ["policy"], ["policy"])
        entries.create_check_constraint(
            "entries_after_registration", "sequence > 1 AND kind <> 'policy' AND key <> 'policy'"
        )
    if sqlite:
        triggers = sqlite_triggers("entries", (("id",), ("policy", "sequence"), ("policy", "key")))
        for statement in (*triggers, *sqlite_triggers("policies", (("policy",),))):
            op.execute(statement)
    else:
        for statement in ("ALTER TABLE entries ENABLE TRIGGER USER", POSTGRESQL_TRIGGER, REVOKE_DEFAULTS):
            op.execute(statement)


def _refuse_what_cannot_move() -> None:
    policy = op.get_bind().execute(sa.text(MISPLACED)).scalar()
    if policy is not None:
        raise LedgerError(
            f"policy {policy!r}: its registration is not the first entry of its chain, so the ledger was changed after "
            "it was written and stays as it is; find the entry with `sluice budget verify` of the version that wrote "
            "it, and restore the database from a trusted copy"
        )
