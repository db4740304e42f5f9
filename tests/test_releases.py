"""Releases of one policy, one after the other: the horizon, windows, contracts that share people, checkpoints."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from synth import accounting, dpsgd, steps
from synth.cli.plans import plan_document
from synth.contract import last_window_before, window_of_text
from synth.contract.windows import window_of
from synth.errors import AttemptsExhausted, BudgetExceeded, LedgerError, PolicyError, StepFailed
from synth.records import HOLDOUT, TRAIN
from synth.release.verify import verify_release
from tests.conftest import Deployment, people, run_all, starts

PACED = {"horizon": 12, "epsilon": 6.0, "max_release_epsilon": 5.0}


@pytest.fixture
def unregistered(tmp_path: Path) -> Deployment:
    made = Deployment(tmp_path)
    made.write(people())
    return made


def stated(facts: dict[str, Any]) -> Any:
    """The privacy statement of a run's release."""
    return json.loads((Path(facts["publish"]["uri"].removeprefix("file://")) / "privacy_statement.json").read_text())


# Horizon


def test_a_horizon_of_twelve_admits_twelve_releases_and_refuses_the_thirteenth(unregistered: Deployment) -> None:
    """By budget and by count: the twelve leave less than another release costs."""
    unregistered.register(**PACED)
    planned = []
    for number in range(12):
        planned.append(steps.allocate(unregistered.run(f"month {number}"))["epsilon"])
    assert max(planned) - min(planned) <= 0.02 * max(planned)
    with pytest.raises(BudgetExceeded, match="12 releases"):
        steps.allocate(unregistered.run("month 12"))
    run = unregistered.run("any")
    balance = run.ledger.balance(run.policy_name)
    assert 0 <= balance.left < balance.total / 12


def test_the_plan_shows_how_many_releases_remain_at_this_rate(unregistered: Deployment, monkeypatch: Any) -> None:
    monkeypatch.setenv("SLUICE_HOME", str(unregistered.folder))
    monkeypatch.setenv("SLUICE_KEYS", str(unregistered.folder / "keys"))
    unregistered.register(**PACED)
    for number in range(3):
        shown = plan_document(unregistered.contract())
        assert shown["policy"]["releases_left_at_this_rate"] == 12 - number
        assert max(shown["policy"]["cost_share"].values()) == pytest.approx(1 / 12, rel=0.01)
        steps.allocate(unregistered.run(f"month {number}"))
        assert shown["epsilon"] == pytest.approx(unregistered.run(f"month {number}").plan.epsilon, rel=0.01)


def test_a_contract_that_asks_for_less_than_the_pace_gets_what_it_asks_for(unregistered: Deployment) -> None:
    unregistered.register(**{**PACED, "horizon": 2, "epsilon": 40.0, "max_release_epsilon": 40.0})
    asked = unregistered.contract().privacy.epsilon
    assert steps.allocate(unregistered.run())["epsilon"] == pytest.approx(asked, rel=5e-3)


def test_a_paced_release_is_true_and_says_what_it_cost(unregistered: Deployment) -> None:
    unregistered.register(**PACED)
    run = unregistered.run()
    facts = run_all(run)
    statement = stated(facts)
    assert statement["claim"]["epsilon_planned"] < unregistered.contract().privacy.epsilon / 2
    assert verify_release(facts["publish"]["uri"]).problems == ()
    events = run.plan.events(TRAIN)
    assert sum(run.registered.filter.cost(e) for e in events) <= run.registered.filter.capacity // 12
    assert accounting.epsilon(run.plan.events(HOLDOUT), run.plan.delta) <= run.plan.epsilon


# Windows


def test_windows_have_names_that_follow_from_the_day_alone() -> None:
    assert [window_of(date(2026, m, 1), "quarter") for m in (1, 3, 4, 12)] == [
        "2026-Q1",
        "2026-Q1",
        "2026-Q2",
        "2026-Q4",
    ]
    assert [last_window_before(date(2026, 1, 1), every) for every in ("month", "quarter", "year")] == [
        "2025-12",
        "2025-Q4",
        "2025",
    ]
    assert window_of_text("2026-07-01T10:00", "month") == "2026-07"
    assert [window_of_text(text, "year") for text in (None, "", "07/01/2026", "2026-02-30", "2026-07-011")] == [
        None
    ] * 5


def windowed(unregistered: Deployment, every: str = "quarter") -> Any:
    table = people()
    table["seen"] = np.where(np.arange(len(table)) % 2 == 0, "2026-02-01", "2026-05-01")
    unregistered.write(table)
    unregistered.register(window={"column": "seen", "every": every}, epsilon=4.5, max_release_epsilon=4.0)

    def contract(release: str) -> dict[str, Any]:
        privacy = unregistered.contract().privacy.model_dump(mode="json")
        return {"privacy": {**privacy, "window": {"column": "seen", "every": every, "release": release}}}

    return contract


def test_each_window_has_a_total_of_its_own_and_the_statement_says_so(unregistered: Deployment) -> None:
    contract = windowed(unregistered)
    first = unregistered.run("first", **contract("2026-Q1"))
    facts = run_all(first)
    with pytest.raises(BudgetExceeded, match="window '2026-Q1'"):
        steps.allocate(unregistered.run("again", **contract("2026-Q1")))
    second = unregistered.run("second", **contract("2026-Q2"))
    run_all(second)
    ledger, policy = second.ledger, second.policy_name
    assert ledger.balance(policy, "2026-Q1").total == ledger.balance(policy, "2026-Q2").total > 0
    assert sorted(ledger.windows(policy)) == ["2026-Q1", "2026-Q2"]
    statement = stated(facts)
    unit = statement["claim"]["unit"]
    assert unit["window"] == "2026-Q1"
    assert "a person present in k windows has k times the loss" in unit["text"]
    assert "in the window 2026-Q1" in statement["claim"]["text"]
    assert statement["cumulative"]["epsilon_all_releases"] == pytest.approx(
        accounting.epsilon(first.plan.events(TRAIN), statement["cumulative"]["policy_delta"]), rel=1e-6
    )
    half = len(people()) / 2
    assert abs(statement["units_estimate"]["value"] - half) < half / 2


def test_by_default_the_window_that_was_over_last_is_released_and_frozen_in_the_plan(unregistered: Deployment) -> None:
    from datetime import UTC, datetime

    contract = windowed(unregistered, "year")
    changes = contract("2026")
    changes["privacy"]["window"]["release"] = None
    run = unregistered.run("one", **changes)
    steps.allocate(run)
    assert run.plan.window == str(datetime.now(UTC).year - 1)
    assert run.plan.document()["window"] == run.plan.window


def test_windows_are_the_policy_s_to_grant(unregistered: Deployment) -> None:
    unregistered.register()
    privacy = unregistered.contract().privacy.model_dump(mode="json")
    fresh = {**privacy, "window": {"column": "seen", "every": "month"}}
    with pytest.raises(PolicyError, match=r"privacy\.window is every month by column 'seen', the policy's is none"):
        steps.preflight(unregistered.run("one", privacy=fresh))


# Contracts that share people


def test_no_renaming_copying_or_changing_of_a_contract_resets_what_was_spent(deployment: Deployment) -> None:
    run_all(deployment.run("one"))
    before = deployment.run("one")
    spent = before.ledger.balance(before.policy_name).total
    dataset = deployment.contract().dataset.model_dump(mode="json")
    for number, changes in enumerate(
        (
            {"dataset": {**dataset, "name": "renamed"}},
            {"rows": 50},
            {"dataset": {**dataset, "name": "copied", "owner": "somebody else"}, "rows": 60},
        )
    ):
        steps.allocate(deployment.run(f"later {number}", **changes))
        after = before.ledger.balance(before.policy_name)
        assert after.total > spent
        assert list(after.by_split) == list(before.ledger.balance(before.policy_name).by_split)
        spent = after.total
    assert len(before.ledger.balance(before.policy_name).by_split) == 1, "one split: branch adds to branch"


def test_a_source_that_grows_is_one_policy(deployment: Deployment) -> None:
    table = people()
    totals = []
    for month in range(3):
        deployment.write(pd.concat([table] + [table.tail(20).assign(age=40 + n) for n in range(month)]))
        run_all(deployment.run(f"month {month}"))
        run = deployment.run("any")
        totals.append(run.ledger.balance(run.policy_name).total)
    assert totals[0] * 3 == pytest.approx(totals[2], rel=1e-9)
    assert len(run.ledger.balance(run.policy_name).by_split) == 1


def test_rows_without_ids_as_units_are_another_split(unregistered: Deployment) -> None:
    unregistered.register(null_ids="row")
    privacy = unregistered.contract().privacy.model_dump(mode="json")
    steps.allocate(unregistered.run("one"))
    run = unregistered.run("two", privacy={**privacy, "null_ids": "row"})
    steps.allocate(run)
    assert len(run.ledger.balance(run.policy_name).by_split) == 2


# Checkpoints

SEGMENTED = {"steps": 30, "batch_size": 64, "checkpoint_every": 10, "max_resumes": 2}


def segmented(deployment: Deployment, run_id: str = "one", **options: Any) -> Any:
    method = deployment.contract().method.model_dump(mode="json")
    method["options"] = {**method["options"], **SEGMENTED, **options}
    run = deployment.run(run_id, method=method)
    for step in (steps.preflight, steps.allocate, steps.validate):
        step(run)
    return run


class Dies:
    """Stops training after so many steps, as often as asked; counts the steps that looked at private rows."""

    def __init__(self, patch: pytest.MonkeyPatch, *after: int) -> None:
        self.taken, self.left, self.masks = 0, list(after), []
        step = dpsgd._Training.step

        def counted(training: Any, ownership: Any, units: Any, batch: Any) -> None:
            if self.left and self.left[0] == 0:
                self.left.pop(0)
                raise MemoryError
            self.taken += 1
            self.masks.append(tuple(units))
            step(training, ownership, units, batch)
            if self.left:
                self.left[0] -= 1

        patch.setattr(dpsgd._Training, "step", counted)


def test_the_plan_counts_lost_steps_from_the_start(deployment: Deployment) -> None:
    run = segmented(deployment)
    assert run.plan["label_model"].event.steps == 30 + 2 * 10
    with pytest.raises(Exception, match="multiple of checkpoint_every"):
        segmented(deployment, "two", checkpoint_every=7)


def test_a_training_that_dies_is_resumed_in_the_same_attempt_with_fresh_coins(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = segmented(deployment)
    dies = Dies(monkeypatch, 17)
    with pytest.raises(StepFailed) as caught:
        steps.train(run)
    assert caught.value.retry
    steps.train(deployment_again := Deployment(deployment.folder).run("one", method=run.contract.method.model_dump()))
    assert starts(deployment_again)["label_model"] == 1
    assert dies.taken == 17 + 20, "from step 10 on again: seven steps were lost"
    assert dies.masks[10:17] != dies.masks[17:24]
    for step in (steps.generate, steps.check, steps.approve, steps.publish):
        facts = step(deployment_again)
    assert verify_release(facts["uri"]).problems == ()
    assert facts["epsilon"] == pytest.approx(deployment_again.plan.epsilon)


def test_no_more_steps_look_than_the_plan_counts_whatever_dies(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = segmented(deployment)
    dies = Dies(monkeypatch, 19, 9, 9, 9, 9, 9)
    attempts = []
    for _ in range(5):
        with pytest.raises((StepFailed, AttemptsExhausted, LedgerError)):
            steps.train(run)
        attempts.append((starts(run)["label_model"], dies.taken))
    per_attempt = np.diff([0, *[max(taken for a, taken in attempts if a == n) for n in (1, 2)]])
    assert attempts[-1][0] == 2
    assert max(per_attempt) <= run.plan["label_model"].event.steps


def test_slots_that_are_not_counted_let_more_steps_look_than_were_charged(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken twin of the test above."""
    run = segmented(deployment)
    monkeypatch.setattr("synth.checkpoints.KeptSegments.begin_segment", lambda self: None)
    dies = Dies(monkeypatch, *([19] + [9] * 12))
    for _ in range(8):
        with pytest.raises(StepFailed):
            steps.train(run)
    assert starts(run)["label_model"] == 1
    assert dies.taken > run.plan["label_model"].event.steps


def test_a_checkpoint_holds_no_randomness(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    run = segmented(deployment)
    Dies(monkeypatch, 17)
    with pytest.raises(StepFailed):
        steps.train(run)
    kept = run.workspace.read_arrays("dp/label_model.1.1.npz")
    assert {name.split(".")[0] for name in kept} == {"done", "model", "average", "adam"}
    assert {name.rsplit(".", 1)[1] for name in kept if name.startswith("adam.")} == {"step", "exp_avg", "exp_avg_sq"}


def test_a_settled_run_takes_no_further_segment(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    run = segmented(deployment)
    dies = Dies(monkeypatch, 17)
    with pytest.raises(StepFailed):
        steps.train(run)
    steps.settle(run)
    with pytest.raises(LedgerError, match="settled"):
        steps.train(run)
    assert dies.taken == 17
