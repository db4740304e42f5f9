"""What the ledger's server keeps: its tables, its log, and every byte of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MIXTURE, run_all
from tests.faults.conftest import OnPostgreSQL, on_postgresql, postgresql_server  # noqa: F401 - fixtures
from tests.leaks.planted import contents, dumped, holding, plant


def test_nothing_that_was_planted_reaches_the_ledger_s_server(
    on_postgresql: OnPostgreSQL,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLUICE_TEST_FOLDER", str(tmp_path))
    plant(on_postgresql)
    on_postgresql.database.as_superuser("ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
    run = on_postgresql.run(**MIXTURE)
    run_all(run)
    with on_postgresql.database.server.psycopg(on_postgresql.database.name) as connection:
        rows = list(dumped(connection))
        connection.execute("CHECKPOINT")
    server = on_postgresql.database.server
    assert "INSERT INTO entries" in server.log.read_text(errors="replace")
    files = list(contents(server.folder))
    assert holding([*rows, *files]) == []
    # The search can find: the run's own name is in both.
    assert holding(rows, (run.name,))
    assert holding(files, (run.name,))
