"""Index the entries by kind and run, so that counting the releases that a policy admitted reads no row but theirs."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("entries_policy_kind_run", "entries", ["policy", "kind", "run"])
