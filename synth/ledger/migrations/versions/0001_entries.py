"""Create ``entries`` and the triggers that keep it insert-only.

There is no downgrade: it would delete the record of what was spent.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from synth.ledger.migrations.insert_only import sqlite_triggers

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SQLITE_TRIGGERS = sqlite_triggers("entries", (("id",), ("policy", "sequence"), ("policy", "key")))
POSTGRESQL_TRIGGERS = (
    """CREATE FUNCTION entries_refuse_change() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN RAISE EXCEPTION 'ledger entries cannot be changed or deleted'; END $$""",
    """CREATE TRIGGER entries_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
       FOR EACH STATEMENT EXECUTE FUNCTION entries_refuse_change()""",
)


def upgrade() -> None:
    op.create_table(
        "entries",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.Identity(always=True),
            primary_key=True,
        ),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("kind", "key", "run", "payload", "balance", "at", "previous", "digest")
        ),
        sa.UniqueConstraint("policy", "sequence", name="entries_policy_sequence"),
        sa.UniqueConstraint("policy", "key", name="entries_policy_key"),
    )
    op.create_index("entries_policy_run", "entries", ["policy", "run"])
    dialect = op.get_bind().dialect.name
    for statement in SQLITE_TRIGGERS if dialect == "sqlite" else POSTGRESQL_TRIGGERS:
        op.execute(statement)
