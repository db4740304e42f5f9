"""Further rows of a published release: what they say of themselves, and when there are none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from synth import steps
from synth.cli.app import app
from synth.errors import AwaitingApproval, NotApproved, PlanChanged, SamplingRefused
from synth.further_rows import published_model, write_further_rows
from tests.conftest import MIXTURE, Deployment, people, run_all
from tests.constraints.households import all_kept, households, sections

AGE = "age >= 40"


def about(path: Path) -> dict[str, Any]:
    document = json.loads(pq.read_schema(path).metadata[b"sluice"])
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    made = Deployment(tmp_path_factory.mktemp("published"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLUICE_TEST_FOLDER", str(made.folder))
        made.write(households(1500))
        made.register()
        run_all(made.run(**sections(**MIXTURE)))
    return made


@pytest.fixture
def there(published: Deployment, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    monkeypatch.setenv("SLUICE_TEST_FOLDER", str(published.folder))
    return published


def test_further_rows_meet_the_condition_keep_the_constraints_and_state_the_claim(
    there: Deployment, tmp_path: Path
) -> None:
    run = there.run(**sections(**MIXTURE))
    spent, entries = run.ledger.balance("people_policy").total, run.ledger.entries("people_policy")
    out = tmp_path / "more.parquet"
    told = write_further_rows(run, out, rows=1500, where=["region = north", "joined <= 2005"], balance="buys", seed=4)
    frame = pd.read_parquet(out)
    assert len(frame) == 1500
    assert set(frame["region"]) == {"north"}
    assert frame["joined"].max() <= 2005
    assert frame["buys"].value_counts().to_dict() == {"no": 750, "yes": 750}
    assert all_kept(frame)
    assert about(out) == json.loads(json.dumps(told))
    fact = run.ledger.find("people_policy", run.name, "published").payload
    assert (told["version"], told["epsilon"], told["manifest"]) == (fact["version"], fact["epsilon"], fact["manifest"])
    assert told["delta"] == run.plan.delta
    assert "changed on purpose (region = north; joined <= 2005; equal shares of buys)" in told["notice"]
    assert "post-processing and costs no privacy" in told["notice"]
    assert all(0 < share < 1 for share in told["shares_in_the_model"].values())
    assert run.ledger.balance("people_policy").total == spent
    assert run.ledger.entries("people_policy") == entries
    again = tmp_path / "again.parquet"
    write_further_rows(run, again, rows=1500, where=["region = north", "joined <= 2005"], balance="buys", seed=4)
    assert again.read_bytes() == out.read_bytes()


def test_further_rows_without_a_condition_are_the_models(there: Deployment, tmp_path: Path) -> None:
    told = write_further_rows(there.run(**sections(**MIXTURE)), tmp_path / "more.parquet", rows=50)
    assert "changed on purpose" not in told["notice"]
    assert len(pd.read_parquet(tmp_path / "more.parquet")) == 50


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"where": ["region = west"]}, "no category"),
        ({"where": ["region = north", "land = coast"]}, "wider condition|too few"),
        ({"balance": "net"}, "holds numbers"),
        ({"out": "rows.csv"}, "ends in .parquet"),
        ({"out": "nowhere/rows.parquet"}, "no such folder"),
        ({"out": "x" * 240 + ".parquet"}, "cannot be written"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_leaves_no_file(
    there: Deployment, tmp_path: Path, asked: dict[str, Any], problem: str
) -> None:
    out = tmp_path / asked.pop("out", "rows.parquet")
    with pytest.raises(SamplingRefused, match=problem):
        write_further_rows(there.run(**sections(**MIXTURE)), out, rows=20, **asked)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_overwritten(there: Deployment, tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("mine")
    with pytest.raises(SamplingRefused, match="there already"):
        write_further_rows(there.run(**sections(**MIXTURE)), tmp_path / "rows.parquet", rows=20)
    assert (tmp_path / "rows.parquet").read_text() == "mine"


def test_another_contract_than_the_one_that_ran_is_refused(there: Deployment, tmp_path: Path) -> None:
    with pytest.raises(PlanChanged):
        write_further_rows(there.run(**sections(**MIXTURE, rows=77)), tmp_path / "rows.parquet", rows=20)


def test_the_command_line_draws_and_says_what_it_drew(
    there: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    from tests.conftest import contract_document

    monkeypatch.setenv("SLUICE_LEDGER_URL", there.settings.ledger_url)
    monkeypatch.setenv("SLUICE_WORKSPACES", str(there.settings.workspaces))
    monkeypatch.setenv("SLUICE_KEYS", str(there.settings.keys))
    file = tmp_path / "contract.yaml"
    file.write_text(yaml.safe_dump(contract_document(there.folder, **sections(**MIXTURE)), sort_keys=False))
    out = tmp_path / "rows.parquet"
    options = ["--rows", "60", "--where", "status = active", "--balance", "buys", "--out", str(out), "--seed", "1"]
    result = CliRunner().invoke(app, ["sample", str(file), "--run-id", "one", *options])
    assert result.exit_code == 0, result.output
    assert "costs no privacy" in " ".join(result.output.split())
    assert pd.read_parquet(out)["buys"].value_counts().to_dict() == {"no": 30, "yes": 30}
    refused = CliRunner().invoke(app, ["sample", str(file), "--run-id", "two", *options])
    assert refused.exit_code == 1
    assert "has published no release" in " ".join(refused.output.split())


def test_nothing_is_drawn_before_the_release_is_published(tmp_path: Path) -> None:
    made = Deployment(tmp_path)
    made.write(people())
    made.register(approval={"mode": "human", "approvers": ["ada"]})
    run = made.run(approval={"mode": "human"})
    with pytest.raises(AwaitingApproval):
        run_all(run)
    with pytest.raises(NotApproved, match="has published no release"):
        write_further_rows(run, tmp_path / "rows.parquet", rows=20, where=[AGE])
    assert not (tmp_path / "rows.parquet").exists()


def test_nothing_is_drawn_of_a_run_with_an_unsafe_seed(tmp_path: Path) -> None:
    made = Deployment(tmp_path)
    made.write(people())
    made.register()
    run = made.run()
    run.unsafe_seed = 1
    for step in steps.BEFORE_APPROVAL:
        step(run)
    with pytest.raises(NotApproved, match="has published no release"):
        published_model(run)


def test_a_workspace_that_was_removed_is_said_to_be_gone_and_not_made_again(there: Deployment, tmp_path: Path) -> None:
    root = there.settings.run_folder("people", "one")
    aside = tmp_path / "aside"
    shutil.move(root, aside)
    try:
        with pytest.raises(SamplingRefused, match="its model is gone"):
            write_further_rows(there.run(**sections(**MIXTURE)), tmp_path / "rows.parquet", rows=20)
        assert not root.exists()
    finally:
        shutil.move(aside, root)
