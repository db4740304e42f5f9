"""The whole way, as promises: what is published, what is refused, who decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from synth import steps
from synth.approval import decide
from synth.errors import (
    AwaitingApproval,
    ContractError,
    NotApproved,
    PlanChanged,
    QualityRejected,
    SluiceError,
    StepFailed,
    TamperedArtifact,
    ValidationFailed,
)
from synth.ledger.chain import Chain
from synth.ledger.database import Database
from synth.release.verify import verify_release
from tests.conftest import AIM, INDEPENDENT_COLUMNS, MIXTURE, MST, Deployment, needs_mbi, people, run_all, starts

_METHODS = pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="dpdsyn independent"),
        pytest.param(MIXTURE, id="dpdsyn mixture"),
        pytest.param(INDEPENDENT_COLUMNS, id="independent"),
        pytest.param(MST, id="mst", marks=needs_mbi),
        pytest.param(AIM, id="aim", marks=needs_mbi),
        pytest.param({"method": {"name": "auto"}}, id="auto"),
    ],
)


@_METHODS
def test_a_run_publishes_a_release_whose_claim_recomputes(deployment: Deployment, changes: dict[str, Any]) -> None:
    run = deployment.run(**changes)
    facts = run_all(run)
    verification = verify_release(facts["publish"]["uri"])
    assert verification.ok, verification.problems
    published = run.ledger.find("people_policy", run.name, "published").payload
    assert published["manifest"] == verification.facts["manifest_digest"]
    released = pd.read_parquet(Path(facts["publish"]["uri"].removeprefix("file://")) / "data")
    assert len(released) == 1200
    assert list(released.columns) == ["age", "income", "region", "member", "buys"]
    assert facts["publish"]["epsilon"] <= 4.0
    assert starts(run) == {mechanism.name: 1 for mechanism in run.plan.mechanisms}
    assert facts["settle"]["never_started"] == []


@_METHODS
def test_every_step_again_changes_nothing(deployment: Deployment, changes: dict[str, Any]) -> None:
    first = run_all(deployment.run(**changes))
    entries = deployment.run().ledger.entries("people_policy")
    again = run_all(deployment.run(**changes))
    assert again == first
    assert deployment.run().ledger.entries("people_policy") == entries


def test_a_forged_balance_with_a_sound_chain_is_found_before_anything_more_is_reserved(deployment: Deployment) -> None:
    """What a program with the worker's database role could add by itself."""
    run_all(deployment.run())
    with Database.connect(deployment.settings.ledger_url).writing("a forger") as connection:
        Chain(connection, "people_policy").append("note", "forged:note", "forged", {}, balance={})
    second = deployment.run("two")
    steps.preflight(second)
    with pytest.raises(TamperedArtifact, match="balance"):
        steps.allocate(second)
    assert second.ledger.find("people_policy", second.name, "reserve") is None


def test_a_contract_that_changes_during_a_run_is_refused(deployment: Deployment) -> None:
    run = deployment.run()
    for step in (steps.preflight, steps.allocate):
        step(run)
    with pytest.raises(PlanChanged):
        steps.validate(deployment.run(rows=1300))


def test_a_failed_gate_rejects_says_why_and_publishes_nothing(deployment: Deployment) -> None:
    run = deployment.run(quality={"max_pair_distance": 0.0001})
    with pytest.raises(QualityRejected, match=r"at most 0\.0001"):
        run_all(run)
    for step in (steps.approve, steps.publish):
        with pytest.raises(NotApproved):
            step(run)
    assert not (deployment.folder / "bucket").exists()


def test_a_check_that_is_late_and_dies_does_not_take_apart_what_passed_the_gate(deployment: Deployment) -> None:
    run, facts = deployment.run(), steps.release_facts
    for step in steps.STEPS[:5]:
        step(run)
    with pytest.MonkeyPatch.context() as patch:

        def late(*arguments: Any) -> Any:
            patch.undo()
            steps.check(deployment.run())
            patch.setattr(steps, "build_bundle", lambda *arguments: 1 / 0)
            return facts(*arguments)

        patch.setattr(steps, "release_facts", late)
        with pytest.raises(StepFailed):
            steps.check(run)
    for step in steps.STEPS[6:]:
        step(deployment.run())
    (release,) = (deployment.folder / "bucket" / "people").iterdir()
    assert verify_release(str(release)).ok


def test_a_violated_expectation_stops_the_run_before_training(deployment: Deployment) -> None:
    deployment.write(people().assign(age=lambda table: table["age"] + 1000))
    run = deployment.run()
    with pytest.raises(ValidationFailed, match="expect_column_values_to_be_between on age"):
        run_all(run)
    assert starts(run)["label_model"] == 0


def test_a_person_decides_and_only_about_this_artifact(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    deployment.write(people())
    deployment.register(approval={"mode": "human", "approvers": ["ada"]})
    run = deployment.run(approval={"mode": "human"})
    with pytest.raises(AwaitingApproval, match="ada"):
        run_all(run)
    with pytest.raises(NotApproved, match="no approval"):
        steps.publish(run)
    with pytest.raises(NotApproved, match="not an approver"):
        decide(run, approved=True, by="mallory", reason="because")
    with pytest.raises(NotApproved, match="reason"):
        decide(run, approved=True, by="ada", reason=" ")
    decide(run, approved=True, by="ada", reason="checked")
    (run.workspace.root / "bundle" / "README.md").write_text("something else", encoding="utf-8")
    with pytest.raises(NotApproved, match="not the artifact"):
        steps.publish(run)
    assert not (tmp_path / "bucket").exists()


def test_a_refusal_is_final(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    deployment.write(people())
    deployment.register(approval={"mode": "human", "approvers": ["ada"]})
    run = deployment.run(approval={"mode": "human"})
    with pytest.raises(AwaitingApproval):
        run_all(run)
    decide(run, approved=False, by="ada", reason="not now")
    for step in (steps.approve, steps.publish):
        with pytest.raises(NotApproved):
            step(run)
    with pytest.raises(SluiceError):
        decide(run, approved=True, by="ada", reason="after all")


def test_expectations_that_cannot_be_evaluated_are_found_before_any_look(deployment: Deployment) -> None:
    faulty = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "region", "min_value": 3}}
    run = deployment.run(expectations=[faulty])
    with pytest.raises(ContractError, match=r"expectations\.0"):
        steps.preflight(run)
    assert run.ledger.entries("people_policy", run.name) == []


@pytest.mark.parametrize("changed", [{"publish": {"uri": "/elsewhere"}}, {"approval": {"mode": "automatic"}}])
def test_a_contract_that_changes_while_a_person_decides_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    deployment = Deployment(tmp_path)
    deployment.write(people())
    deployment.register(approval={"mode": "automatic", "approvers": ["ada"]})
    run = deployment.run(approval={"mode": "human"})
    for step in steps.STEPS[:6]:
        step(run)
    edited = deployment.run(**{"approval": {"mode": "human"}, **changed})
    for step in (steps.approve, steps.publish):
        with pytest.raises(PlanChanged):
            step(edited)
    assert not (tmp_path / "bucket").exists()


@pytest.mark.parametrize("changes", [{}, MIXTURE], ids=["independent", "mixture"])
def test_several_classes_and_rows_without_unit_ids(tmp_path: Path, changes: dict[str, Any]) -> None:
    deployment = Deployment(tmp_path)
    table = people().drop(columns="person")
    table["buys"] = np.select([table["age"] < 40, table["age"] < 65], ["young", "middle"], "old")
    deployment.write(table)
    deployment.register(unit="row")
    columns = deployment.contract().document()["schema"]
    columns["buys"] = {"type": "categorical", "categories": ["young", "middle", "old"]}
    run = deployment.run(
        privacy={"unit": "row", "epsilon": 4.0, "delta": 1e-5, "approximate_units": 1500},
        schema=columns,
        task={"target": "buys", "kind": "multiclass"},
        **changes,
    )
    facts = run_all(run)
    assert facts["check"]["quality"]["accuracy_gradient_boosting"] > 0.6
    assert verify_release(facts["publish"]["uri"]).ok


NUMBER = {"target": "income", "kind": "regression"}
SEVERAL = {"targets": [{"target": "buys", "kind": "binary", "share": 0.6}, {**NUMBER, "share": 0.4}]}
TASKS = [
    (MIXTURE, NUMBER, {"max_error_gradient_boosting": 0.5}),
    (MIXTURE, SEVERAL, {"min_accuracy_gradient_boosting": 0.4, "max_error_linear_regression": 0.5}),
    (MIXTURE, {"kind": "none"}, {"max_pair_distance": 0.9}),
    ({}, {"kind": "none"}, {}),
]
MEASURED = [
    {f"mae_{model}" for model in ("gradient_boosting", "linear_regression", "label_model")},
    {f"accuracy_{model}_buys" for model in ("gradient_boosting", "logistic_regression", "label_model")}
    | {f"mae_{model}_income" for model in ("gradient_boosting", "linear_regression", "label_model")},
    set(),
    set(),
]


@pytest.mark.parametrize(
    ("changes", "task", "quality", "measured"),
    [(*asked, measured) for asked, measured in zip(TASKS, MEASURED, strict=True)],
    ids=["a number", "several targets", "no target", "no target, independent"],
)
def test_a_task_of_each_kind_is_released_with_its_own_measurements_and_words(
    deployment: Deployment, changes: dict[str, Any], task: dict[str, Any], quality: dict[str, Any], measured: set[str]
) -> None:
    run = deployment.run(**changes, task=task, quality=quality)
    facts = run_all(run)
    assert set(facts["check"]["quality"]) == measured | {"pair_distance"}
    uri = facts["publish"]["uri"]
    assert verify_release(uri).ok, verify_release(uri).problems
    folder = Path(uri.removeprefix("file://"))
    released = pd.read_parquet(folder / "data")
    assert len(released) == 1200
    if measured:  # buyers earn more, which no income is null of
        assert released["income"].notna().all()
        earned = released.groupby("buys", observed=True)["income"].mean()
        assert earned["yes"] > 1.1 * earned["no"]
    words = (folder / "README.md").read_text(encoding="utf-8") + (folder / "privacy_statement.md").read_text("utf-8")
    assert ("label model" in words.split("## Mechanisms")[0]) == bool(measured)
    assert ("tabular-regression" in words) == any("mae" in name for name in measured)
    assert starts(run) == {mechanism.name: 1 for mechanism in run.plan.mechanisms}
