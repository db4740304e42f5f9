"""The schema of the ledger, as Alembic revisions; `synth.ledger.database` applies them."""
