"""The daily DAG, and its task on a deployment's folders."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException

from dags.housekeeping import housekeeping
from operators.housekeeping import SweepOperator
from synth import steps
from tests.conftest import Deployment, after_validation
from tests.operators.test_workspace_key import deployed

__all__ = ["deployed"]


def test_it_runs_once_a_day_one_at_a_time_and_needs_no_contract() -> None:
    housekeeping.validate()
    assert [type(task) for task in housekeeping.tasks] == [SweepOperator]
    assert (housekeeping.max_active_runs, housekeeping.catchup) == (1, False)


def test_the_task_ends_runs_that_were_broken_off_and_returns_counts(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = after_validation(deployed.run())
    assert SweepOperator(task_id="sweep").execute({})["settled"] == 0
    monkeypatch.setenv("SLUICE_RETENTION_HOURS", "0.0000001")
    facts = SweepOperator(task_id="sweep").execute({})
    assert facts == {
        "settled": 1, "removed": 0, "temporaries": 0, "waiting": 0, "from_the_future": 0, "unidentified": 0,
        "failures": 0,
    }  # fmt: skip
    assert list((run.workspace.root / "private").iterdir()) == []
    assert run.ledger.find(run.policy_name, run.name, "settled") is not None


def test_a_run_that_cannot_be_swept_fails_the_task_after_the_others_were(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [after_validation(deployed.run(run_id)) for run_id in ("a", "b")]
    monkeypatch.setenv("SLUICE_RETENTION_HOURS", "0.0000001")
    real = steps.end_run

    def refuses_a(ledger: Any, policy: str, run: str) -> list[str]:
        if run == runs[0].name:
            raise RuntimeError("qzx private text")
        return real(ledger, policy, run)

    monkeypatch.setattr("synth.housekeeping.end_run", refuses_a)
    with pytest.raises(AirflowException, match=r"could not be swept: people/a-.*: RuntimeError") as failed:
        SweepOperator(task_id="sweep").execute({})
    assert "qzx" not in str(failed.value)
    kept = [list((run.workspace.root / "private").iterdir()) != [] for run in runs]
    assert kept == [True, False]
