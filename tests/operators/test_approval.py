"""A person's approval: asked in Airflow, judged by the policy, kept in the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from operators.approve import HumanApproveOperator
from operators.base import open_run
from operators.dag import build_dag
from synth.approval import ask
from synth.ledger import Ledger
from synth.settings import Settings
from tests.operators.conftest import World

pytestmark = pytest.mark.slow
BY_EVE, REFUSED, APPROVED = range(3)


def decision(world: World, nth: int) -> dict[str, Any] | None:
    with Ledger.open(Settings.from_environment().ledger_url) as ledger:
        found = ledger.find("human_policy", f"asked/{world.run_ids('share_asked')[nth]}", "decision")
    return found.payload if found else None


@pytest.fixture
def approve(in_world: World) -> HumanApproveOperator:
    """The task whose DAG run is over, failed, and without a decision: eve answered it."""
    dag = build_dag(yaml.safe_load((in_world.home / "contracts" / "asked.yaml").read_text()))
    task = dag.get_task("approve")
    assert isinstance(task, HumanApproveOperator)
    return task


class TaskInstance:
    """Takes the note that Airflow's skipping leaves for cleared tasks."""

    map_index = -1

    def xcom_push(self, key: str, value: Any) -> None:
        assert value == {"skipped": ["publish"]}


def context(world: World, task: HumanApproveOperator, nth: int = BY_EVE) -> Any:
    run_id = world.run_ids("share_asked")[nth]
    return {"run_id": run_id, "params": {"reason": None}, "task": task, "ti": TaskInstance()}


def answer(option: str, name: str | None, reason: str | None = "because") -> dict[str, Any]:
    return {
        "chosen_options": [option],
        "params_input": {"reason": reason},
        "responded_at": datetime.now(UTC),
        "responded_by_user": name and {"id": name, "name": name},
    }


def test_an_approver_s_yes_publishes_exactly_what_was_shown(in_world: World) -> None:
    assert set(in_world.tasks("share_asked", APPROVED).values()) == {"success"}
    assert in_world.state("share_asked", APPROVED) == "success"
    kept, facts = decision(in_world, APPROVED), in_world.xcoms("share_asked", APPROVED)
    assert kept is not None
    assert (kept["approved"], kept["by"], kept["reason"]) == (True, "olga", "quality is fine")
    assert kept["artifact"] == facts["check"]["artifact"] == facts["publish"]["artifact"]


def test_an_approver_s_no_is_kept_and_publishes_nothing(in_world: World) -> None:
    tasks = in_world.tasks("share_asked", REFUSED)
    assert (tasks["approve"], tasks["publish"], tasks["settle"]) == ("success", "skipped", "success")
    kept = decision(in_world, REFUSED)
    assert kept is not None
    assert (kept["approved"], kept["by"], kept["reason"]) == (False, "olga", "not this year")


def test_whom_airflow_lets_answer_but_the_policy_does_not_name_decides_nothing(in_world: World) -> None:
    tasks = in_world.tasks("share_asked", BY_EVE)
    assert (tasks["approve"], tasks["publish"], tasks["settle"]) == ("failed", "upstream_failed", "success")
    assert in_world.tries("share_asked", BY_EVE)["approve"] == 1
    assert decision(in_world, BY_EVE) is None


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (answer("Approve", None), "does not say who gave it"),
        (answer("Approve", "olga", None), "needs a reason"),
        (answer("Reject", "eve"), "not an approver"),
    ],
)
def test_an_answer_without_a_name_a_reason_or_the_right_is_no_decision(
    in_world: World, approve: HumanApproveOperator, given: dict[str, Any], problem: str
) -> None:
    with pytest.raises(AirflowFailException, match=problem):
        approve.execute_complete(context(in_world, approve), given)
    assert decision(in_world, BY_EVE) is None


def test_no_answer_in_time_publishes_nothing_and_is_kept_as_a_refusal_by_nobody(
    in_world: World, approve: HumanApproveOperator
) -> None:
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        approve.execute_complete(context(in_world, approve), answer("Reject", None, None))
    assert list(skipped.value.tasks) == ["publish"]
    kept = decision(in_world, BY_EVE)
    assert kept is not None
    assert (kept["approved"], kept["mode"], kept["by"]) == (False, "timeout", "nobody")
    with open_run(approve.document, in_world.run_ids("share_asked")[BY_EVE], {}) as run:
        assert "refused by nobody" in ask(run).markdown()  # and the run is as the other tests want it, undecided
