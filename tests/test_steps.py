"""The whole way, as promises: what is charged, what is published, what never leaves."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synth import steps
from synth.approval import decide
from synth.errors import (
    AttemptsExhausted,
    AwaitingApproval,
    BudgetExceeded,
    ContractError,
    NotApproved,
    NotReserved,
    PlanChanged,
    PolicyError,
    QualityRejected,
    ReservationReleased,
    SluiceError,
    StepFailed,
    TamperedArtifact,
    ValidationFailed,
)
from synth.release.verify import verify_release
from synth.run import Run
from tests.conftest import Deployment, people

PLANTED = ("leopold.bloom@eccles.example", "PLANTED-CATEGORY", "77777.77", "424242424242")


def run_all(run: Run) -> dict[str, Any]:
    """All steps in order, then settle."""
    facts = {step.__name__: step(run) for step in steps.STEPS}
    facts["settle"] = steps.settle(run)
    return facts


def starts(run: Run) -> dict[str, int]:
    """How often each mechanism was started."""
    return run.ledger.attempts(run.policy_name, run.name)


def planted(table: pd.DataFrame) -> pd.DataFrame:
    """The table with values that must never be seen again: in every column, domain or not."""
    nasty = table.astype(object)
    nasty.loc[3, ["age", "region"]] = PLANTED[0], PLANTED[1]
    nasty.loc[4, "income"] = PLANTED[0]
    nasty.loc[5, "income"] = float(PLANTED[2])
    nasty.loc[6, "person"] = PLANTED[3]
    nasty.loc[7, ["age", "income", "member"]] = "inf", "-Infinity", "NaN"
    nasty.loc[8, "buys"] = PLANTED[1]
    return nasty


def all_bytes(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def test_a_run_publishes_a_release_whose_claim_recomputes(deployment: Deployment) -> None:
    run = deployment.run()
    facts = run_all(run)
    verification = verify_release(facts["publish"]["uri"])
    assert verification.ok, verification.problems
    released = pd.read_parquet(Path(facts["publish"]["uri"].removeprefix("file://")) / "data")
    assert len(released) == 1200
    assert list(released.columns) == ["age", "income", "region", "member", "buys"]
    assert facts["publish"]["epsilon"] <= 4.0
    assert starts(run) == {mechanism.name: 1 for mechanism in run.plan.mechanisms}
    assert facts["settle"]["never_started"] == []


def test_every_step_again_changes_nothing(deployment: Deployment) -> None:
    first = run_all(deployment.run())
    entries = deployment.run().ledger.entries("people_policy")
    again = run_all(deployment.run())
    assert again == first
    assert deployment.run().ledger.entries("people_policy") == entries


def test_no_row_is_read_before_the_budget_is_reserved(deployment: Deployment) -> None:
    run = deployment.run()
    steps.preflight(run)
    for step in (steps.validate, steps.train, steps.check):
        with pytest.raises((NotReserved, TamperedArtifact)):
            step(run)
    assert not run.workspace.exists("private/snapshot.parquet")


def test_private_rows_are_gone_once_the_run_is_settled(deployment: Deployment) -> None:
    run = deployment.run()
    run_all(run)
    assert list((run.workspace.root / "private").iterdir()) == []


def test_an_attempt_that_died_stays_spent_and_the_retry_is_charged_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = deployment.run()
    for step in (steps.preflight, steps.allocate, steps.validate):
        step(run)
    write = type(run.workspace).write_arrays

    def dies(self: Any, name: str, arrays: Any) -> None:
        if name == "dp/label_model.npz":
            raise MemoryError
        write(self, name, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(type(run.workspace), "write_arrays", dies)
        with pytest.raises(StepFailed) as failure:
            steps.train(run)
    assert failure.value.retry
    retried = deployment.run()
    for step in steps.STEPS[3:]:
        facts = step(retried)
    assert starts(retried) == {**{m.name: 1 for m in run.plan.mechanisms}, "label_model": 2}
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
    for step in (steps.preflight, steps.allocate, steps.validate):
        step(run)
    monkeypatch.setattr("synth.methods.tabular.dpdsyn.noisy_marginals", lambda *arguments: 1 / 0)
    for _ in range(2):
        with pytest.raises(StepFailed):
            steps.train(run)
    with pytest.raises(AttemptsExhausted):
        steps.train(run)
    assert starts(run)["marginals"] == 2


def test_a_retry_never_takes_a_release_past_the_policys_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = Deployment(tmp_path)
    deployment.write(people())
    deployment.register(max_release_epsilon=4.0)
    run = deployment.run()
    for step in (steps.preflight, steps.allocate, steps.validate):
        step(run)
    with monkeypatch.context() as patch:
        patch.setattr("synth.methods.tabular.dpdsyn.noisy_marginals", lambda *arguments: 1 / 0)
        with pytest.raises(StepFailed):
            steps.train(run)
    with pytest.raises(BudgetExceeded, match="max_release_epsilon"):
        steps.train(run)
    assert starts(run)["marginals"] == 1


def test_what_never_started_comes_back_and_cannot_start_any_more(deployment: Deployment) -> None:
    run = deployment.run()
    for step in (steps.preflight, steps.allocate, steps.validate):
        step(run)
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


def test_expectations_that_cannot_be_evaluated_are_found_before_any_look(deployment: Deployment) -> None:
    faulty = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "region", "min_value": 3}}
    run = deployment.run(expectations=[faulty])
    with pytest.raises(ContractError, match=r"expectations\.0"):
        steps.preflight(run)
    assert run.ledger.entries("people_policy", run.name) == []


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_planted_values_are_never_seen_again(
    deployment: Deployment, kind: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """In the ledger, the release, what the steps return, what is printed or logged; the snapshot is erased."""
    caplog.set_level(logging.DEBUG)
    table = planted(people())
    deployment.write(table)
    changes: dict[str, Any] = {}
    if kind == "parquet":
        table.astype(str).to_parquet(deployment.folder / "people.parquet")
        deployment.folder.joinpath("people.csv").unlink()
        deployment.folder.joinpath("ledger.db").unlink()
        deployment.register(name="parquet_policy", sources=[str(deployment.folder / "people.parquet")])
        changes = {"source": {"uri": str(deployment.folder / "people.parquet")}}
    run = deployment.run(**changes)
    facts = run_all(run)
    source = deployment.folder / f"people.{kind}"
    seen = [(path, content) for path, content in all_bytes(deployment.folder) if path != source]
    assert any(path.name == "ledger.db" for path, _ in seen)
    output = "".join(capfd.readouterr()) + caplog.text + json.dumps(facts, default=str)
    for value in PLANTED:
        assert value not in output
        holders = [str(path.relative_to(deployment.folder)) for path, content in seen if value.encode() in content]
        assert holders == []
    released = pd.read_parquet(Path(facts["publish"]["uri"].removeprefix("file://")) / "data")
    assert not released.astype(str).isin(PLANTED).any().any()


def test_neighbouring_inputs_give_the_same_states(deployment: Deployment) -> None:
    """One person more, with the worst row imaginable, moves no step's outcome; nor does its time explode."""
    ordinary = people()
    worst = pd.DataFrame(
        [
            {
                "person": PLANTED[3],
                "age": PLANTED[0],
                "income": "9" * 100_000 + "x",
                "region": "\x00'\x1f",
                "member": "nan",
                "buys": "\ufffd",
            }
        ]
    )
    states = []
    for run_id, table in (("without", ordinary), ("with", pd.concat([ordinary.astype(object), worst]))):
        deployment.write(table)
        facts = run_all(deployment.run(run_id))
        states.append({name: sorted(values) for name, values in facts.items()})
    assert states[0] == states[1]


@pytest.mark.parametrize(("without", "extra"), [(0, 1), (1, 1)], ids=["nobody and somebody", "one and two"])
def test_hardly_anybody_gives_the_same_states(tmp_path: Path, without: int, extra: int) -> None:
    """Empty branches, too, are measured rather than betrayed by a failure."""
    deployment = Deployment(tmp_path)
    outcomes = []
    for rows in (without, without + extra):
        deployment.write(people(2000).iloc[:rows])
        deployment.register()
        run = deployment.run(f"{rows}", expectations=[], quality={})
        outcomes.append(sorted(run_all(run)))
        assert starts(run) == {mechanism.name: 1 for mechanism in run.plan.mechanisms}
    assert outcomes[0] == outcomes[1]


def test_one_category_more_in_a_parquet_dictionary_changes_nothing_for_others(tmp_path: Path) -> None:
    """Chunks with dictionaries of their own overflow their index type when they are joined at 128 values."""
    outcomes = []
    for number, last in enumerate(("c5", "NEW")):
        deployment = Deployment(tmp_path)
        table = people(1500).assign(region=[f"c{i % 127}" for i in range(1500)])
        table.loc[1499, "region"] = last
        columns = {name: pa.array(table[name]) for name in table}
        halves = [pa.array(table["region"][:1000]), pa.array(table["region"][1000:])]
        columns["region"] = pa.chunked_array([half.dictionary_encode().cast(_INT8) for half in halves], _INT8)
        with pq.ParquetWriter(tmp_path / f"people{number}.parquet", pa.table(columns).schema) as writer:
            for start in (0, 1000):
                writer.write_table(pa.table(columns).slice(start, 1000 if start == 0 else 500))
        source = str(tmp_path / f"people{number}.parquet")
        deployment.register(name=f"policy{number}", sources=[source])
        run = deployment.run(f"{number}", source={"uri": source}, expectations=[], quality={})
        outcomes.append(sorted(run_all(run)))
    assert outcomes[0] == outcomes[1]


_INT8 = pa.dictionary(pa.int8(), pa.string())


def test_after_settling_the_source_is_not_read_again(deployment: Deployment) -> None:
    run = deployment.run()
    steps.preflight(run)
    steps.allocate(run)
    steps.settle(run)
    (deployment.folder / "people.csv").unlink()
    for step in (steps.validate, steps.train):
        with pytest.raises((ReservationReleased, TamperedArtifact)):
            step(deployment.run())
    assert list((run.workspace.root / "private").iterdir()) == []


def test_a_mechanism_that_died_before_settling_cannot_run_on_another_snapshot(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = deployment.run()
    for step in (steps.preflight, steps.allocate, steps.validate):
        step(run)
    with monkeypatch.context() as patch:
        patch.setattr("synth.methods.tabular.dpdsyn.noisy_marginals", lambda *arguments: 1 / 0)
        with pytest.raises(StepFailed):
            steps.train(run)
    steps.settle(run)
    with pytest.raises(ReservationReleased):
        steps.train(deployment.run())
    assert starts(run)["marginals"] == 1
    assert run.ledger.runs("people_policy")[0].state == "settled"


def test_rows_are_not_kept_while_a_person_decides(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    deployment.write(people())
    deployment.register(approval={"mode": "human", "approvers": ["ada"]})
    run = deployment.run(approval={"mode": "human"})
    for step in steps.STEPS[:6]:
        step(run)
    assert list((run.workspace.root / "private").iterdir()) == []


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


def test_a_person_is_only_asked_where_the_policy_names_one(deployment: Deployment) -> None:
    with pytest.raises(PolicyError, match="names no approvers"):
        steps.preflight(deployment.run(approval={"mode": "human"}))


def test_many_rows_of_one_person_count_once(deployment: Deployment) -> None:
    """A person who fills half of the table is one unit in every count."""
    flood = pd.concat([people(), pd.concat([people().iloc[[0]]] * 3000)])
    deployment.write(flood)
    run = deployment.run()
    run_all(run)
    units = run.workspace.read_arrays("dp/validation.npz")["counts"][0]
    sigma = run.plan.counts("validation").sigma
    assert abs(units - len(people())) < 6 * sigma


def test_several_classes_and_rows_without_unit_ids(tmp_path: Path) -> None:
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
    )
    facts = run_all(run)
    assert facts["check"]["quality"]["accuracy_gradient_boosting"] > 0.6
    assert verify_release(facts["publish"]["uri"]).ok


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
