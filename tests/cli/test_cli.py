"""The command line keeps its promises: exit codes, JSON for scripts, one report of faults, a run to the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from synth.anchors import note
from synth.cli import app
from synth.contract import contract_from_document
from synth.ledger import Charge, Entry, Ledger
from synth.run import Run
from synth.settings import Settings
from tests.conftest import contract_document, people, policy_document

Sluice = Callable[..., Result]


@pytest.fixture
def sluice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sluice:
    """Runs the command line in a fresh home that holds the made-up table, a contract and a policy."""
    monkeypatch.setenv("SLUICE_HOME", str(tmp_path / "home"))
    for name in ("SLUICE_LEDGER_URL", "SLUICE_WORKSPACES", "SLUICE_KEYS", "SLUICE_ANCHORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    people().to_csv(tmp_path / "people.csv", index=False)
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(contract_document(tmp_path), sort_keys=False))
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy_document(tmp_path)))

    def call(*arguments: Any) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


def test_every_fault_of_a_contract_is_in_one_report(sluice: Sluice, tmp_path: Path) -> None:
    document = contract_document(tmp_path, rows=0, surprise=1)
    document["privacy"]["epsilon"] = -1
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump(document))
    result = sluice("contract", "check", tmp_path / "broken.yaml")
    assert result.exit_code == 1
    for path in ("rows", "surprise", "privacy.epsilon"):
        assert path in result.stderr
    assert result.stdout == ""


def test_a_script_gets_the_faults_as_json(sluice: Sluice, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump(contract_document(tmp_path, rows=0)))
    result = sluice("contract", "check", tmp_path / "broken.yaml", "--json")
    assert result.exit_code == 1
    (fault,) = json.loads(result.stdout)["faults"]
    assert fault["path"] == "rows"
    assert fault["given"] == "0"


def test_the_json_schema_describes_the_contract(sluice: Sluice, tmp_path: Path) -> None:
    schema = json.loads(sluice("contract", "schema").stdout)
    assert {"dataset", "privacy", "schema", "task"} <= set(schema["required"])
    assert set(contract_document(tmp_path)) <= set(schema["properties"])


def test_a_plan_touches_no_data_and_says_what_is_left(sluice: Sluice, tmp_path: Path) -> None:
    (tmp_path / "people.csv").unlink()
    unregistered = json.loads(sluice("plan", tmp_path / "contract.yaml", "--json").stdout)
    assert unregistered["policy"] is None
    assert "register" in unregistered["note"]
    assert sluice("budget", "register", tmp_path / "policy.yaml", "--by", "officer").exit_code == 0
    plan = json.loads(sluice("plan", tmp_path / "contract.yaml", "--json").stdout)
    assert 3.8 < plan["epsilon"] <= 4.0
    assert plan["epsilon_holdout"] <= plan["epsilon"] <= plan["epsilon_renyi"]
    assert plan["policy"]["used_share"] == 0
    assert plan["policy"]["releases_left_at_this_rate"] >= 1
    shown = sluice("plan", tmp_path / "contract.yaml").stdout
    for mechanism in plan["mechanisms"]:
        assert mechanism["name"] in shown


def test_the_plan_of_a_small_table_says_how_many_people_it_would_take(sluice: Sluice, tmp_path: Path) -> None:
    contract = yaml.safe_load((tmp_path / "contract.yaml").read_text())
    contract["privacy"] |= {"approximate_units": 500, "epsilon": 0.5}
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump({**contract, "method": {"options": {}}}))
    assert "units, or at ε=" in json.loads(sluice("plan", tmp_path / "contract.yaml", "--json").stdout)["advice"]
    assert "what to expect" in sluice("plan", tmp_path / "contract.yaml").stdout


def test_a_run_ends_in_a_release_that_verifies_and_shows_in_the_budget(sluice: Sluice, tmp_path: Path) -> None:
    assert sluice("budget", "register", tmp_path / "policy.yaml").exit_code == 0
    result = sluice("run", tmp_path / "contract.yaml", "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    uri = facts["publish"]["uri"]
    verified = json.loads(sluice("verify", uri, "--json").stdout)
    assert verified["ok"]
    assert verified["problems"] == []
    (policy,) = json.loads(sluice("budget", "show", "--json").stdout)
    assert policy["releases"] == 1
    assert policy["spent_share"] > 0
    assert policy["reserved_share"] == 0
    (entry,) = json.loads(sluice("budget", "history", "people_policy", "--json").stdout)
    assert entry["state"] == "published"
    assert entry["release"]["uri"] == uri
    assert "published" in sluice("budget", "history", "people_policy").stdout
    assert sluice("budget", "verify", "people_policy").exit_code == 0
    part = next((Path(uri.removeprefix("file://")) / "data").iterdir())
    part.write_bytes(part.read_bytes()[:-1] + b"\0")
    assert sluice("verify", uri).exit_code == 1


def test_a_head_noted_elsewhere_shows_that_a_ledger_was_cut_short(sluice: Sluice, tmp_path: Path) -> None:
    assert sluice("budget", "register", tmp_path / "policy.yaml", "--by", "officer").exit_code == 0
    head = sluice("budget", "verify", "people_policy").stdout.split()[-1]
    assert head.startswith("1:")
    assert sluice("budget", "verify", "people_policy", "--anchor", head).exit_code == 0
    for noted, said in (("2", "not the one that was noted elsewhere"), ("1", "two digests were noted for entry 1")):
        cut = sluice("budget", "verify", "people_policy", "--anchor", head, "--anchor", f"{noted}:{'0' * 64}")
        assert cut.exit_code == 1
        assert said in " ".join(cut.stderr.split())
    assert sluice("budget", "verify", "people_policy", "--anchor", "head").exit_code == 2


def test_a_policy_that_succeeds_another_is_registered_from_its_document(sluice: Sluice, tmp_path: Path) -> None:
    later = policy_document(tmp_path, succeeds="people_policy") | {"name": "later_policy"}
    (tmp_path / "later.yaml").write_text(yaml.safe_dump(later))
    missing = sluice("budget", "register", tmp_path / "later.yaml")
    assert missing.exit_code == 1
    assert "succeeds: policy 'people_policy' is not registered" in " ".join(missing.stderr.split())
    assert sluice("budget", "register", tmp_path / "policy.yaml").exit_code == 0
    registered = sluice("budget", "register", tmp_path / "later.yaml")
    assert registered.exit_code == 0
    assert "takes over all that people_policy has spent" in registered.stdout
    rows = json.loads(sluice("budget", "show", "--json").stdout)
    assert {row["policy"]: row["succeeded_by"] for row in rows} == {
        "later_policy": None,
        "people_policy": "later_policy",
    }
    shown = sluice("budget", "show").stdout  # a narrow terminal folds the name
    assert "now" in shown
    assert "later_policy" in shown
    assert sluice("budget", "verify", "people_policy").exit_code == 0
    assert sluice("budget", "verify", "later_policy").exit_code == 0


def _windowed(folder: Path, **window: str) -> None:
    """A policy and a contract with a budget for each quarter, and more than one record a person."""
    rule = {"column": "visited_on", "every": "quarter"}
    document = contract_document(folder)
    document["privacy"] |= {"window": rule | window, "max_records": 3, "null_ids": "row"}
    (folder / "contract.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    policy = policy_document(folder, window=rule, null_ids="row", horizon=2)
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))


def test_where_a_policy_has_windows_its_total_is_called_that_of_one(sluice: Sluice, tmp_path: Path) -> None:
    _windowed(tmp_path, release="2026-Q3")
    registered = " ".join(sluice("budget", "register", tmp_path / "policy.yaml").stdout.split())
    assert "in each quarter, at most" in registered
    assert "the quarter of the date in its column 'visited_on'" in registered
    assert "2 releases in each quarter, and no more, are admitted" in registered
    checked = " ".join(sluice("contract", "check", tmp_path / "contract.yaml").stdout.split())
    unit = contract_document(tmp_path)["privacy"]["unit"]["column"]
    assert f"-DP for each person: one value of '{unit}', at most 3 rows of each; rows without one are a unit" in checked
    assert "the rows of one quarter by column 'visited_on': 2026-Q3" in checked
    plan = sluice("plan", tmp_path / "contract.yaml").stdout
    assert "in each quarter" in plan
    assert "2 of 2 releases left" in plan
    for text in (registered, checked, plan):
        assert "over all releases" not in text


def test_a_horizon_that_is_used_up_still_has_a_plan_and_none_left(sluice: Sluice, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy_document(tmp_path, horizon=1)))
    assert "1 release over all releases" in sluice("budget", "register", tmp_path / "policy.yaml").stdout
    assert "0, 1 of 1 left" in sluice("budget", "show").stdout
    with Ledger.open(Settings.from_environment().ledger_url) as ledger:
        charges = [Charge("m", ("train",), 1)]
        arguments: dict[str, Any] = {"plan_digest": "plan", "split_id": "split", "max_attempts": 1, "details": {}}
        ledger.reserve("people_policy", "only", charges=charges, horizon=1, **arguments)
    planned = sluice("plan", tmp_path / "contract.yaml")
    assert planned.exit_code == 0, planned.stderr
    assert "0 of 1 releases left" in planned.stdout
    assert "label_model" in planned.stdout
    assert "0, 0 of 1 left" in sluice("budget", "show").stdout


@pytest.fixture
def restored(sluice: Sluice, tmp_path: Path) -> Entry:
    """A ledger put back to what it was before its last entry, which is returned."""
    assert sluice("budget", "register", tmp_path / "policy.yaml", "--by", "officer").exit_code == 0
    file = tmp_path / "home" / "ledger.db"
    backup = file.read_bytes()
    with Ledger.open(f"sqlite:///{file}") as ledger:
        entry = ledger.record("people_policy", "run", "note", {})
    file.write_bytes(backup)
    return entry


def test_a_restored_ledger_is_found_by_the_heads_in_the_anchors_folder(
    sluice: Sluice, tmp_path: Path, restored: Entry
) -> None:
    assert sluice("budget", "verify", "people_policy").exit_code == 0
    note(str(tmp_path / "home" / "anchors"), "people_policy", restored)
    found = sluice("budget", "verify", "people_policy")
    assert found.exit_code == 1
    assert "intact from entry 2 on" in found.stderr


def test_a_restored_ledger_is_found_by_the_statement_of_a_release(
    sluice: Sluice, tmp_path: Path, restored: Entry
) -> None:
    def publish(name: str, **head: Any) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "privacy_statement.json").write_text(json.dumps(head))
        return tmp_path / name

    head = {"policy": "people_policy", "sequence": restored.sequence, "digest": restored.digest}
    before = sluice("budget", "verify", "people_policy").stdout.split()[-1].partition(":")[2]
    for name, statement, exit_code, said in (
        ("before", {"ledger": head | {"sequence": 1, "digest": before}}, 0, ""),
        ("after", {"ledger": head}, 1, "intact from entry 2 on"),
        ("other", {"ledger": head | {"policy": "other"}}, 1, "was charged to policy 'other'"),
        ("without", {}, 1, "does not tell the head"),
    ):
        result = sluice("budget", "verify", "people_policy", "--release", publish(name, **statement))
        assert (result.exit_code, said in " ".join(result.stderr.split())) == (exit_code, True), name
    missing = sluice("budget", "verify", "people_policy", "--release", tmp_path / "missing")
    assert missing.exit_code == 75
    assert "cannot be read" in missing.stderr


def test_without_a_policy_a_run_is_refused_and_says_what_to_do(sluice: Sluice, tmp_path: Path) -> None:
    result = sluice("run", tmp_path / "contract.yaml")
    assert result.exit_code == 1
    assert "sluice budget register" in result.stderr
    assert "Traceback" not in result.output


def test_a_person_decides_between_two_calls_of_run(sluice: Sluice, tmp_path: Path) -> None:
    policy = policy_document(tmp_path, approval={"mode": "human", "approvers": ["ada"]})
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    contract = contract_document(tmp_path, approval={"mode": "human"})
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))
    assert sluice("budget", "register", tmp_path / "policy.yaml").exit_code == 0
    waiting = sluice("run", tmp_path / "contract.yaml", "--run-id", "first")
    assert waiting.exit_code == 3
    assert "ada" in waiting.stderr
    assert not (tmp_path / "bucket").exists()
    decided = sluice("decide", tmp_path / "contract.yaml", "first", "approve", "--by", "ada", "--reason", "checked")
    assert decided.exit_code == 0, decided.stderr
    done = sluice("run", tmp_path / "contract.yaml", "--run-id", "first", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["approve"]["approved_by"] == "ada"


def test_a_ledger_that_cannot_be_reached_is_worth_another_try(
    sluice: Sluice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_LEDGER_URL", "postgresql+psycopg://nobody:secret-word@127.0.0.1:9/none")
    result = sluice("run", tmp_path / "contract.yaml")
    assert result.exit_code == 75
    assert "--run-id" in result.stderr
    assert "sluice settle" in result.stderr
    assert "secret-word" not in result.output


def test_who_breaks_a_run_off_is_told_how_to_go_on_and_how_to_give_up(sluice: Sluice, tmp_path: Path) -> None:
    slow = {"name": "dpdsyn", "options": {"structure": "independent", "batch_size": 64, "steps": 100_000}}
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(contract_document(tmp_path, method=slow), sort_keys=False))
    assert sluice("budget", "register", tmp_path / "policy.yaml").exit_code == 0
    command = [sys.executable, "-m", "synth.cli", "run", str(tmp_path / "contract.yaml"), "--run-id", "long"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            with Ledger.open(Settings.from_environment().ledger_url) as ledger:
                _wait(lambda: ("people_policy", "label_model") in _started(ledger))
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in told
    assert f"sluice settle {tmp_path / 'contract.yaml'} long" in told
    snapshots = list((tmp_path / "home").rglob("snapshot.parquet"))
    assert len(snapshots) == 1
    settled = sluice("settle", tmp_path / "contract.yaml", "long")
    assert settled.exit_code == 0, settled.stderr
    assert not snapshots[0].exists()


def _started(ledger: Ledger) -> list[tuple[str, str]]:
    return [
        (policy.name, entry.payload["mechanism"])
        for policy in ledger.policies()
        for entry in ledger.entries(policy.name)
        if entry.kind == "start"
    ]


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_new_workspace_key_is_all_that_is_printed_and_encrypts_a_run(
    sluice: Sluice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, other = (sluice("keys", "new-workspace").stdout.strip() for _ in range(2))
    assert key != other
    monkeypatch.setenv("SLUICE_WORKSPACE_KEY", f"{key},{other}")
    assert len(Settings.from_environment().workspace_keys) == 2
    assert sluice("budget", "register", tmp_path / "policy.yaml", "--by", "officer").exit_code == 0
    document = contract_document(tmp_path, quality={"max_pair_distance": 0.0001})
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(document))
    assert sluice("run", tmp_path / "contract.yaml", "--run-id", "one").exit_code == 1
    folder = Settings.from_environment().run_folder("people", "one")
    assert (folder / "dp" / "validation.npz").read_bytes().startswith(b"SLUICE2\n")


def test_a_key_that_is_none_is_refused_by_the_name_of_its_variable(
    sluice: Sluice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_WORKSPACE_KEY", "qzxsecret")
    result = sluice("sweep")
    assert result.exit_code == 1
    assert "SLUICE_WORKSPACE_KEY" in result.stderr
    assert "qzxsecret" not in result.output


def test_a_sweep_counts_and_with_dry_run_does_nothing(
    sluice: Sluice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sluice("budget", "register", tmp_path / "policy.yaml", "--by", "officer").exit_code == 0
    (tmp_path / "people.csv").write_text("nothing")
    assert sluice("run", tmp_path / "contract.yaml", "--run-id", "one").exit_code == 1
    settings = Settings.from_environment()
    run = Run(contract_from_document(contract_document(tmp_path)), "one", settings)
    run.workspace.write("private/rows", b"x")
    monkeypatch.setenv("SLUICE_RETENTION_HOURS", "0.0000001")
    for arguments, left in ((["--dry-run"], True), ([], False)):
        swept = sluice("sweep", "--json", *arguments)
        assert swept.exit_code == 0
        assert json.loads(swept.stdout)["settled"] == 1
        assert run.workspace.exists("private/rows") is left
    assert "settled: 0" in sluice("sweep").stdout


def test_an_unsafe_run_says_not_private_and_publishes_nothing(sluice: Sluice, tmp_path: Path) -> None:
    sluice("budget", "register", tmp_path / "policy.yaml", "--by", "officer")
    contract = tmp_path / "contract.yaml"
    result = sluice("run", contract, "--run-id", "seedy", "--unsafe-seed", "7")
    assert result.exit_code == 0, result.stderr
    assert "NOT PRIVATE" in result.stdout
    assert not (tmp_path / "bucket").exists()
    without = sluice("run", contract, "--run-id", "seedy")
    assert without.exit_code == 1
    assert "--unsafe-seed" in without.stderr
    assert not (tmp_path / "bucket").exists()
    decided = sluice("decide", contract, "seedy", "approve", "--by", "ada", "--reason", "good")
    assert decided.exit_code == 1
    assert "--unsafe-seed" in decided.stderr
    (row,) = json.loads(sluice("budget", "history", "people_policy", "--json").stdout)
    assert row["not_private"] is True
    assert "NOT PRIVATE" in sluice("budget", "history", "people_policy").stdout


def test_the_help_of_the_unsafe_seed_says_not_private(sluice: Sluice) -> None:
    text = " ".join(sluice("run", "--help").stdout.split())
    assert "NOT PRIVATE" in text.split("--unsafe-seed")[1]
