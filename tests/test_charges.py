"""What is charged, when, to whom: attempts that died, retries, settled runs, budgets that end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from synth import steps
from synth.errors import (
    AttemptsExhausted,
    BudgetExceeded,
    NotApproved,
    PolicyError,
    ReservationReleased,
    StepFailed,
    TamperedArtifact,
)
from synth.release.verify import verify_release
from tests.conftest import (
    AIM,
    MIXTURE,
    MST,
    Deployment,
    after_validation,
    needs_mbi,
    people,
    run_all,
    starts,
    train_that_dies,
)


@pytest.mark.parametrize(
    ("changes", "mechanism"),
    [
        ({}, "label_model"),
        (MIXTURE, "marginals"),
        (MIXTURE, "pairs"),
        (MIXTURE, "label_correction"),
        pytest.param(MST, "tree", marks=needs_mbi),
        pytest.param(MST, "tables", marks=needs_mbi),
        pytest.param(AIM, "aim", marks=needs_mbi),
    ],
)
def test_an_attempt_that_died_stays_spent_and_the_retry_is_charged_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], mechanism: str
) -> None:
    run = deployment.run(**changes)
    after_validation(run)
    write = type(run.workspace).write_arrays

    def dies(self: Any, name: str, arrays: Any) -> None:
        if name == f"dp/{mechanism}.npz":
            raise MemoryError
        write(self, name, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(type(run.workspace), "write_arrays", dies)
        with pytest.raises(StepFailed) as failure:
            steps.train(run)
    assert failure.value.retry
    retried = deployment.run(**changes)
    for step in steps.STEPS[3:]:
        facts = step(retried)
    assert starts(retried) == {**{m.name: 1 for m in run.plan.mechanisms}, mechanism: 2}
    assert facts["epsilon"] > run.plan.epsilon
    statement = json.loads(
        (Path(facts["uri"].removeprefix("file://")) / "privacy_statement.json").read_text(encoding="utf-8")
    )
    assert facts["epsilon"] == pytest.approx(retried.plan.charged_epsilon(starts(retried)))
    assert str(facts["epsilon"])[:8] in json.dumps(statement)
    assert verify_release(facts["uri"]).ok


def test_a_mechanism_dies_as_often_as_the_plan_allows_and_no_more(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = deployment.run()
    after_validation(run)
    for _ in range(2):
        train_that_dies(run, monkeypatch)
    with pytest.raises(AttemptsExhausted):
        steps.train(run)
    assert starts(run)["marginals"] == 2


def test_a_retry_never_takes_a_release_past_the_policys_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = Deployment(tmp_path)
    deployment.write(people())
    deployment.register(max_release_epsilon=4.0)
    run = deployment.run()
    after_validation(run)
    train_that_dies(run, monkeypatch)
    with pytest.raises(BudgetExceeded, match="max_release_epsilon"):
        steps.train(run)
    assert starts(run)["marginals"] == 1


def test_what_never_started_comes_back_and_cannot_start_any_more(deployment: Deployment) -> None:
    run = deployment.run()
    after_validation(run)
    before = run.ledger.balance(run.policy_name)
    freed = steps.settle(run)["never_started"]
    after = run.ledger.balance(run.policy_name)
    assert "label_model" in freed
    assert "validation" not in freed
    assert after.total < before.total
    assert after.reserved == 0
    assert after.spent > 0
    with pytest.raises((ReservationReleased, TamperedArtifact)):
        steps.train(deployment.run())


def test_a_contract_may_only_be_stricter_than_its_policy(deployment: Deployment) -> None:
    privacy = {"unit": "row", "epsilon": 9.0, "delta": 5e-4, "approximate_units": 1500}
    with pytest.raises(PolicyError) as refusal:
        steps.preflight(deployment.run(privacy=privacy))
    for point in ("unit", "max_release_epsilon", "delta"):
        assert point in str(refusal.value)


def test_renaming_the_dataset_does_not_reset_its_spending(deployment: Deployment) -> None:
    run_all(deployment.run())
    spent = deployment.run().ledger.balance("people_policy").spent
    dataset = {**deployment.contract().document()["dataset"], "name": "renamed"}
    run = deployment.run("two", dataset=dataset)
    steps.preflight(run)
    steps.allocate(run)
    assert run.ledger.balance(run.policy_name).total == pytest.approx(2 * spent, rel=0.01)


def test_an_unregistered_source_is_refused(deployment: Deployment) -> None:
    shutil.copy(deployment.folder / "people.csv", deployment.folder / "copy.csv")
    with pytest.raises(PolicyError, match="sluice budget register"):
        steps.preflight(deployment.run(source={"uri": str(deployment.folder / "copy.csv")}))


def test_without_the_registered_split_key_nothing_runs(deployment: Deployment) -> None:
    key = deployment.settings.keys / "people_policy.key"
    key.write_bytes(b"another key of thirty-two bytes!")
    with pytest.raises(PolicyError, match="split key"):
        steps.preflight(deployment.run())


def test_a_mechanism_that_died_before_settling_cannot_run_on_another_snapshot(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = deployment.run()
    after_validation(run)
    train_that_dies(run, monkeypatch)
    steps.settle(run)
    with pytest.raises(ReservationReleased):
        steps.train(deployment.run())
    assert starts(run)["marginals"] == 1
    assert run.ledger.runs("people_policy")[0].state == "settled"


def test_a_person_is_only_asked_where_the_policy_names_one(deployment: Deployment) -> None:
    with pytest.raises(PolicyError, match="names no approvers"):
        steps.preflight(deployment.run(approval={"mode": "human"}))


def test_a_budget_that_is_used_up_refuses_before_any_look(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    deployment.write(people())
    deployment.register(epsilon=5.0, max_release_epsilon=4.0, delta=1e-5)
    outcomes = []
    for number in range(8):
        run = deployment.run(f"run {number}")
        try:
            run_all(run)
        except BudgetExceeded:
            outcomes.append("refused")
            assert not run.workspace.exists("private/snapshot.parquet")
            break
        outcomes.append("released")
    assert outcomes[-1] == "refused"
    assert "released" in outcomes
    balance = deployment.run().ledger.balance("people_policy")
    assert balance.total <= balance.capacity


def test_an_attempt_charged_after_the_statement_keeps_the_release_in(deployment: Deployment) -> None:
    """A second worker that was late would make the published cost too small."""
    run = deployment.run()
    for step in steps.STEPS[:-1]:
        step(run)
    run.ledger.begin(run.policy_name, run.name, "gate_outcomes", plan_digest=run.plan.digest())
    with pytest.raises(NotApproved, match="understate"):
        steps.publish(run)
    assert not (deployment.folder / "bucket").exists()


def test_spending_on_two_sources_of_one_policy_adds_up(tmp_path: Path) -> None:
    """They may write ids differently, so a person could be in either branch of each."""
    deployment = Deployment(tmp_path)
    deployment.write(people())
    shutil.copy(tmp_path / "people.csv", tmp_path / "more.csv")
    deployment.register(sources=[str(tmp_path / "people.csv"), str(tmp_path / "more.csv")])
    totals = []
    for run_id, source in (("one", "people.csv"), ("two", "more.csv")):
        run = deployment.run(run_id, source={"uri": str(tmp_path / source)})
        steps.preflight(run)
        steps.allocate(run)
        totals.append(run.ledger.balance(run.policy_name).total)
    assert len(run.ledger.balance(run.policy_name).by_split) == 2
    assert totals[1] == 2 * totals[0]
