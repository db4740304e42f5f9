"""Runs the revisions on the connection that `synth.ledger.database` opened, under its lock."""

from __future__ import annotations

from alembic import context

from synth.ledger.models import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
