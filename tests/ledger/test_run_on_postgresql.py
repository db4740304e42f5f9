"""A whole run whose ledger is on PostgreSQL: officer and worker each have the rights of their duty, and no others."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest

from synth.ledger import Ledger
from synth.release.verify import verify_release
from tests.conftest import Deployment, people, run_all, starts
from tests.ledger.postgres import PASSWORD, RIGHTS, WORKER, LedgerDatabase
from tests.test_leaks import all_bytes


def test_a_run_publishes_by_a_role_that_may_only_read_and_add_entries_and_leaves_no_credentials(
    tmp_path: Path, postgresql: LedgerDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    deployment = Deployment(tmp_path)
    deployment.write(people())
    deployment.settings = dataclasses.replace(deployment.settings, ledger_url=postgresql.officer)
    deployment.register()
    deployment.settings = dataclasses.replace(deployment.settings, ledger_url=postgresql.worker)

    run = deployment.run()
    facts = run_all(run)

    assert verify_release(facts["publish"]["uri"]).ok
    assert starts(run) == {mechanism.name: 1 for mechanism in run.plan.mechanisms}
    with Ledger.open(postgresql.worker) as ledger:
        last = ledger.verify("people_policy")
        (summary,) = ledger.runs("people_policy")
    assert summary.published is not None
    assert last.balance
    assert postgresql.rights(WORKER) == RIGHTS[WORKER]
    assert not (tmp_path / "ledger.db").exists()
    assert PASSWORD not in caplog.text
    assert [path for path, content in all_bytes(tmp_path) if PASSWORD.encode() in content] == []
