"""Open columns end to end: what is common is released, what is rare is never seen, and the δ of it is charged."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from synth import steps
from synth.accounting import ATTO
from synth.cli.plans import plan_document, show_plan
from synth.errors import BudgetExceeded, PolicyError, SluiceError, StepFailed
from synth.measurements import Measurements
from synth.release.claim import claim_problems
from synth.release.verify import verify_release
from synth.run import plan_release
from tests.conftest import MIXTURE, Deployment, after_validation, people, run_all, starts
from tests.leaks.planted import contents, holding

DELTA, OTHER = 1e-5, "everything else"
COMMON = ("gouda", "brie", "cheddar")
RARE = tuple(f"qzx-rare-{number}" for number in range(40))
LONG = "qzx long " + "x" * 60
STRANGE = "qzx strange\x1b[31m"
PLANTED = (*RARE, "qzx long", "qzx strange")


def table() -> pd.DataFrame:
    """Three common values, forty that one person each has, and some that hundreds have but that may not be shown."""
    generator = np.random.default_rng(3)
    frame = people()
    likes = generator.choice([*COMMON, None], len(frame), p=[0.5, 0.25, 0.15, 0.1]).astype(object)
    likes[: len(RARE)] = RARE
    likes[100:300], likes[300:500] = LONG, STRANGE
    return frame.assign(likes=likes)


def opened(**column: Any) -> dict[str, Any]:
    """Changes of the contract that give it the open column."""
    document = Deployment(Path()).contract().document()["schema"]
    likes = {"type": "open_categorical", "max_categories": 20, "nullable": True, "other": OTHER, "max_length": 40}
    return {"schema": {**document, "likes": {**likes, **column}}}


@pytest.fixture
def shop(tmp_path: Path) -> Deployment:
    made = Deployment(tmp_path)
    made.write(table())
    made.register(selection_delta=1e-5)
    return made


def released(facts: dict[str, Any]) -> Path:
    return Path(facts["publish"]["uri"].removeprefix("file://"))


@pytest.mark.parametrize("changes", [{}, MIXTURE], ids=["independent", "mixture"])
def test_common_values_are_released_and_rare_ones_are_nowhere(
    shop: Deployment, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A value of one person passes with probability 1e-6; so this fails once in 20,000 runs."""
    run = shop.run(**opened(), **changes)
    said = io.StringIO()
    with caplog.at_level(logging.DEBUG), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        facts = run_all(run)
    frame = pd.read_parquet(released(facts) / "data")
    assert set(frame["likes"].dropna().unique()) == {*COMMON, OTHER}
    assert list(frame["likes"].cat.categories) == [*sorted(COMMON), OTHER]
    shares = frame["likes"].value_counts(normalize=True)
    assert shares["gouda"] > shares["brie"] > 0.1
    assert shares[OTHER] > 0.2
    assert 0 < frame["likes"].isna().mean() < 0.2
    seen = [("log", caplog.text.encode()), ("output", said.getvalue().encode()), ("facts", repr(facts).encode())]
    entries = [("ledger", repr(run.ledger.entries(run.policy_name)).encode())]
    source = [shop.folder / "people.csv"]
    files = [found for found in contents(shop.folder, but=source) if "/runs/" not in found[0]]
    assert len(files) > 8
    assert holding([*seen, *entries, *files], PLANTED) == []
    kept = [(p.name, p.read_bytes()) for p in run.workspace.root.rglob("*") if p.is_file()]
    assert holding(kept, PLANTED) == []


def test_the_planted_values_are_found_where_they_are() -> None:
    """The search of the test above sees what it looks for."""
    assert len(holding([("source", table().to_csv().encode())], PLANTED)) == len(PLANTED)


def test_the_release_says_what_was_selected_and_its_claim_recomputes(shop: Deployment) -> None:
    facts = run_all(shop.run(**opened()))
    verification = verify_release(facts["publish"]["uri"])
    assert verification.ok, verification.problems
    statement = json.loads((released(facts) / "privacy_statement.json").read_text(encoding="utf-8"))
    assert statement["claim"]["selection_delta"] == pytest.approx(DELTA / 10)
    assert statement["cumulative"]["policy_selection_delta"] == 1e-5
    assert statement["cumulative"]["selection_delta_spent"] == pytest.approx(DELTA / 10)
    (mechanism,) = [m for m in statement["mechanisms"] if m["name"] == "categories"]
    assert mechanism["branches"] == ["train"]
    assert set(mechanism["noise"]["thresholds"]) == {"likes"}
    measured = Measurements.read(released(facts) / "measurements.parquet")
    assert measured.share({"likes": "gouda"}, 0.999999).low > 0.25
    assert measured.share({"likes": OTHER}, 0.999999).low > 0.2
    (column,) = [c for c in statement["columns"] if c["name"] == "likes"]
    assert column["categories"] == [*sorted(COMMON), OTHER]
    assert column["other"] == OTHER
    for page in ("README.md", "privacy_statement.md"):
        assert f"all else is {OTHER}" in (released(facts) / page).read_text(encoding="utf-8")


def test_a_statement_that_hides_what_selection_adds_to_delta_is_found(shop: Deployment) -> None:
    facts = run_all(shop.run(**opened()))
    path = released(facts) / "privacy_statement.json"

    def forged(change: Callable[[dict[str, Any]], object]) -> list[str]:
        document = json.loads(path.read_text(encoding="utf-8"))
        change(document)
        return list(claim_problems(document))

    assert forged(lambda s: None) == []
    assert forged(lambda s: s["claim"].pop("selection_delta"))
    assert forged(lambda s: s["claim"].update(selection_delta=1e-7))
    assert forged(lambda s: s["cumulative"].pop("policy_selection_delta"))
    assert forged(lambda s: s["cumulative"].update(selection_delta_spent=1e-7))
    (event,) = [i for i, m in enumerate(json.loads(path.read_text())["mechanisms"]) if m["name"] == "categories"]
    with pytest.raises(ValueError, match="probability"):
        forged(lambda s: s["mechanisms"][event]["event"].update(thresholds=[2]))
    assert any("epsilon" in p for p in forged(lambda s: s["mechanisms"][event]["event"].update(sigma=2.0)))


def test_an_open_column_can_be_validated_before_anything_is_selected(shop: Deployment) -> None:
    expectation = {
        "type": "expect_column_value_lengths_to_be_between",
        "kwargs": {"column": "likes", "max_value": 30},
        "tolerance": 0.5,
    }
    run = shop.run(**opened(), expectations=[expectation])
    after_validation(run)
    assert run.schema.awaits_selection
    assert starts(run)["categories"] == 0


def test_a_column_without_any_common_value_is_all_others(shop: Deployment) -> None:
    frame = table()
    frame["likes"] = [f"qzx-own-{number}" for number in range(len(frame))]
    shop.write(frame)
    facts = run_all(shop.run(**opened(nullable=False), **MIXTURE))
    assert set(pd.read_parquet(released(facts) / "data")["likes"].unique()) == {OTHER}
    assert verify_release(facts["publish"]["uri"]).ok


def test_a_retry_finds_the_committed_selection(shop: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shop.run(**opened())
    after_validation(run)
    with monkeypatch.context() as patch:
        patch.setattr("synth.methods.tabular.dpdsyn.noisy_marginals", lambda *arguments: 1 / 0)
        with pytest.raises(StepFailed):
            steps.train(run)
    selected = run.committed("categories")
    retried = shop.run(**opened())
    steps.train(retried)
    assert starts(retried)["categories"] == 1
    assert all(np.array_equal(selected[name], retried.committed("categories")[name]) for name in selected)


def test_a_selection_that_died_is_charged_again_in_epsilon_and_in_delta(
    shop: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shop.run(**opened())
    after_validation(run)
    reserved = run.ledger.balance(run.policy_name).delta_held
    with monkeypatch.context() as patch:
        patch.setattr("synth.steps.select", lambda *arguments: 1 / 0)
        with pytest.raises(StepFailed):
            steps.train(run)
    retried = shop.run(**opened())
    for step in steps.STEPS[3:]:
        facts = step(retried)
    assert starts(retried)["categories"] == 2
    assert retried.ledger.balance(run.policy_name).delta_held == 2 * reserved
    assert reserved == pytest.approx(DELTA / 10 * ATTO)
    statement = json.loads((released({"publish": facts}) / "privacy_statement.json").read_text(encoding="utf-8"))
    assert statement["claim"]["selection_delta"] == pytest.approx(2 * DELTA / 10)
    assert facts["epsilon"] > run.plan.epsilon
    assert verify_release(facts["uri"]).ok


def test_a_policy_that_sets_nothing_aside_refuses_open_columns_and_names_the_field(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    deployment.write(table())
    deployment.register()
    with pytest.raises(PolicyError, match=r"schema\.likes.*selection_delta"):
        steps.preflight(deployment.run(**opened()))


def test_releases_end_where_what_was_set_aside_ends(tmp_path: Path) -> None:
    """There is ε left for many more."""
    deployment = Deployment(tmp_path)
    deployment.write(table())
    deployment.register(selection_delta=2.5e-6, epsilon=50.0)
    for number in range(2):
        steps.allocate(deployment.run(f"run {number}", **opened()))
    with pytest.raises(BudgetExceeded, match=r"selection_delta sets aside 2\.5e-06"):
        steps.allocate(deployment.run("run 2", **opened()))
    closed = deployment.run("run 3")
    steps.allocate(closed)
    balance = closed.ledger.balance(closed.policy_name)
    assert balance.total < balance.capacity / 2


def test_under_a_horizon_each_release_gets_an_even_part(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    deployment.write(table())
    deployment.register(selection_delta=1e-6, horizon=4)
    for number in range(4):
        steps.allocate(deployment.run(f"run {number}", **opened()))
    balance = deployment.run().ledger.balance("people_policy")
    assert 0.999 < balance.delta_held / balance.delta_capacity <= 1


def test_the_plan_shows_what_selection_takes_of_delta(
    shop: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLUICE_LEDGER_URL", shop.settings.ledger_url)
    document = plan_document(shop.contract(**opened()))
    show_plan(document)
    shown = capsys.readouterr().out
    assert document["selection_delta"] == pytest.approx(DELTA / 10)
    assert document["policy"]["releases_left_at_this_rate"] <= 10
    assert "selection of categories" in shown
    assert "set aside for selection" in shown


def test_what_selection_adds_to_delta_leaves_less_for_everything_else(shop: Deployment) -> None:
    plan = plan_release(shop.contract(**opened(selection_delta=2.5e-6)), 0.2)
    assert plan.epsilon <= 4.0
    assert plan.epsilon_all_attempts < 10
    assert plan.selection_delta == pytest.approx(2.5e-6)
    assert sum(m.share for m in plan.mechanisms if "train" in m.branches) == pytest.approx(1)


def test_the_holdout_gets_none_of_the_delta_that_selection_takes_in_training(shop: Deployment) -> None:
    from synth import accounting

    plan = plan_release(shop.contract(**opened(selection_delta=2.5e-6)), 0.2)
    train = [getattr(event, "noise", event) for event in plan.events("train")]
    assert accounting.dominated(plan.events("holdout"), train, 12.0)


@pytest.mark.parametrize(
    ("column", "named"),
    [
        ({"selection_delta": 6e-6}, "schema.likes.selection_delta"),
        ({"max_categories": 0}, "schema.likes.max_categories"),
        ({"other": " x"}, "schema.likes"),
        ({"categories": ["a"]}, "schema.likes.categories"),
    ],
)
def test_a_faulty_open_column_is_named(column: dict[str, Any], named: str) -> None:
    with pytest.raises(SluiceError, match=named):
        Deployment(Path()).contract(**opened(**column))


def test_the_target_cannot_be_open() -> None:
    with pytest.raises(SluiceError, match=r"task\.target.*open_categorical"):
        Deployment(Path()).contract(**opened(), task={"target": "likes", "kind": "multiclass"})


def test_rows_as_units_with_an_open_column(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    deployment.write(table().drop(columns="person"))
    deployment.register(unit="row", selection_delta=1e-5)
    privacy = {"unit": "row", "epsilon": 4.0, "delta": DELTA, "approximate_units": 1500}
    run = deployment.run(**opened(), privacy=privacy)
    facts = run_all(run)
    assert set(COMMON) <= set(pd.read_parquet(released(facts) / "data")["likes"].dropna().unique())
    assert verify_release(facts["publish"]["uri"]).ok
