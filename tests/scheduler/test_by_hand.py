"""What people do to runs by hand, on a real scheduler: mark, clear, delete, edit, run a task from a shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from synth.ledger import Entry
from synth.release.verify import verify_release
from tests.scheduler import by_hand, mortal
from tests.scheduler.conftest import Deployment
from tests.scheduler.rest import DagRun

ROOT = Path(__file__).resolve().parents[2]


def kinds(entries: list[Entry]) -> list[str]:
    return [entry.kind for entry in entries]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def published(deployment: Deployment) -> DagRun:
    """A run that is over, and whose one release is in the bucket."""
    run = deployment.runs["mortal_c"].seen_by(deployment.accounts["admin"])
    assert run.ended(within_s=400) == "success"
    return run


def undisturbed_attempts(deployment: Deployment, run: DagRun) -> dict[str, int]:
    """How often each task was tried, without those attempts in which it was killed."""
    contract = run.dag_id.removeprefix("share_")
    return {
        name: task["try_number"] - mortal.deaths(deployment.home, contract, name) for name, task in run.tasks().items()
    }


def announced(run: DagRun) -> int:
    """How often the run's release was announced to those who wait for it."""
    return int(run.account.get(f"/assets/events?source_dag_id={run.dag_id}")["total_entries"])


# Paused, and marked before anything ran


@pytest.fixture(scope="module")
def marked(deployment: Deployment) -> dict[str, DagRun]:
    """Each run over, some tasks of which were marked successful while its DAG was paused."""
    runs = {name: deployment.runs[name].seen_by(deployment.accounts["admin"]) for name in by_hand.MARKED}
    for name, run in runs.items():
        assert run.state() == "queued"
        assert set(run.states().values()) <= {None}
        assert deployment.entries(run) == []
        assert not deployment.workspace(run).exists()
        for task in by_hand.MARKED[name]:
            run.mark_successful(task)
        run.account.pause(run.dag_id, False)
    for run in runs.values():
        run.ended(within_s=300)
    return runs


def test_a_paused_dag_s_run_waits_and_has_charged_and_read_nothing(marked: dict[str, DagRun]) -> None:
    """The fixture looked before it went on."""
    assert all(run.tasks()["preflight"]["state"] == "success" for run in marked.values())


def test_allocate_marked_successful_reserves_nothing_and_so_nothing_is_read(
    deployment: Deployment, marked: dict[str, DagRun]
) -> None:
    run = marked["marked_allocate"]
    states = run.states()
    assert (states["allocate"], states["validate"], states["settle"]) == ("success", "failed", "success")
    assert "NotReserved" in run.log("validate")
    assert deployment.entries(run) == []
    assert not deployment.released(run)
    assert not list((deployment.workspace(run) / "private").iterdir())


def test_train_marked_successful_leaves_generate_without_a_model_and_its_budget_is_given_back(
    deployment: Deployment, marked: dict[str, DagRun]
) -> None:
    run = marked["marked_train"]
    states = run.states()
    assert (states["train"], states["generate"], states["publish"]) == ("success", "failed", "upstream_failed")
    assert "is not in the run's workspace" in run.log("generate")
    assert deployment.starts(run) == deployment.committed(run) == ["validation"]
    assert deployment.freed(run) == [name for name in deployment.planned(run) if name != "validation"]
    assert not deployment.released(run)


def test_check_marked_successful_is_no_passed_gate_and_publish_marked_successful_publishes_nothing(
    deployment: Deployment, marked: dict[str, DagRun]
) -> None:
    """Airflow shows the run as a success, because its last task is one. Ledger and bucket say what is true."""
    run = marked["marked_check"]
    states = run.states()
    assert (states["check"], states["approve"], states["publish"]) == ("success", "failed", "success")
    assert "has not passed the quality gate" in run.log("approve")
    assert run.state() == "success"
    assert not {"gate", "decision", "publishing", "published"} & set(kinds(deployment.entries(run)))
    assert {"marginals", "pairs"} <= set(deployment.starts(run))
    assert deployment.freed(run)
    assert not deployment.released(run)
    assert announced(run) == 0


# Before training, at a pool without a slot


@pytest.fixture(scope="module")
def held(deployment: Deployment) -> dict[str, DagRun]:
    """Each run over: marked as a whole, or gone on with after its contract was edited."""
    admin = deployment.accounts["admin"]
    runs = {name: deployment.runs[name].seen_by(admin) for name in ("held_success", "held_failed", "edited")}
    for run in runs.values():
        run.reaches("validate", "success", within_s=300)
    runs["held_success"].mark_run("success")
    runs["held_failed"].mark_run("failed")
    contract = deployment.home / "contracts" / "edited.yaml"
    document = yaml.safe_load(contract.read_text())
    contract.write_text(yaml.safe_dump({**document, "privacy": {**document["privacy"], "max_attempts": 5}}))
    admin.resize_pool(by_hand.POOL, 1)
    for run in runs.values():
        run.ended(within_s=300)
    return runs


@pytest.mark.parametrize("name", ["held_success", "held_failed"])
def test_a_run_that_is_marked_as_a_whole_publishes_nothing_and_is_settled(
    deployment: Deployment, held: dict[str, DagRun], name: str
) -> None:
    """Airflow calls both a success in the end: what it skips hides the mark, as soon as the teardown has run."""
    run = held[name]
    assert run.state() == "success"
    states = run.states()
    assert {states[task] for task in ("train", "generate", "check", "approve", "publish")} == {"skipped"}
    assert states["settle"] == "success"
    assert deployment.starts(run) == deployment.committed(run) == ["validation"]
    assert sorted(["validation", *deployment.freed(run)]) == deployment.planned(run)
    assert kinds(deployment.entries(run)).count("settled") == 1
    assert not list((deployment.workspace(run) / "private").iterdir())
    assert not deployment.released(run)
    assert announced(run) == 0


def test_a_contract_that_is_edited_while_its_run_goes_on_is_refused_and_its_budget_given_back(
    deployment: Deployment, held: dict[str, DagRun]
) -> None:
    run = held["edited"]
    states = run.states()
    assert (states["train"], states["publish"], states["settle"]) == ("failed", "upstream_failed", "success")
    assert "PlanChanged" in run.log("train")
    assert run.tasks()["train"]["try_number"] == 1
    assert deployment.starts(run) == ["validation"]
    assert sorted(["validation", *deployment.freed(run)]) == deployment.planned(run)
    assert not deployment.released(run)


# After the release


def test_tasks_run_from_a_shell_return_what_was_committed_and_a_backfill_is_refused_there_too(
    deployment: Deployment, published: DagRun
) -> None:
    before, released = deployment.entries(published), files(deployment.released(published)[0])
    days = ["--from-date", "2026-02-01", "--to-date", "2026-02-03"]
    commands = {
        "tasks test": ["tasks", "test", published.dag_id, "train", published.run_id],
        "backfill create": ["backfill", "create", "--dag-id", published.dag_id, *days],
        "dags backfill": ["dags", "backfill", published.dag_id, *days],
    }
    codes, texts = {}, {}
    for name, words in commands.items():
        done = airflow(deployment, *words)
        codes[name], texts[name] = done.returncode, done.stdout + done.stderr
    assert codes["tasks test"] == 0, texts["tasks test"][-3000:]
    assert codes["backfill create"] != 0
    assert "backfill" in texts["backfill create"]
    assert codes["dags backfill"] == 2, "Airflow 3 has no such command"
    assert deployment.entries(published) == before
    assert files(deployment.released(published)[0]) == released
    runs = published.account.get(f"/dags/{published.dag_id}/dagRuns")
    assert [run["dag_run_id"] for run in runs["dag_runs"]] == [published.run_id]


def test_a_cleared_run_does_every_step_again_charges_nothing_and_changes_nothing_but_is_announced_again(
    deployment: Deployment, published: DagRun
) -> None:
    (folder,) = deployment.released(published)
    before, released, facts = deployment.entries(published), files(folder), published.xcom("publish")
    # A death that the first time was spared for being quick may come now, and takes one more attempt.
    attempts = undisturbed_attempts(deployment, published)
    events = announced(published)
    published.clear()
    published.tried("settle", attempts["settle"] + 1, within_s=300)
    assert published.ended() == "success"
    assert undisturbed_attempts(deployment, published) == {name: tries + 1 for name, tries in attempts.items()}
    assert deployment.entries(published) == before
    assert deployment.released(published) == [folder]
    assert files(folder) == released
    assert published.xcom("publish") == facts
    assert announced(published) == events + 1


def test_a_run_that_is_deleted_and_triggered_again_under_its_id_is_the_same_run_to_the_ledger(
    deployment: Deployment, published: DagRun
) -> None:
    (folder,) = deployment.released(published)
    before, released = deployment.entries(published), files(folder)
    published.delete()
    again = deployment.accounts["olga"].trigger(published.dag_id, run_id=published.run_id)
    assert again.ended(within_s=300) == "success"
    assert again.tasks()["train"]["try_number"] == 1
    assert deployment.entries(again) == before
    assert deployment.facts(again, "request") == [{"by": "rita", "how": "manual"}]
    assert deployment.released(again) == [folder]
    assert files(folder) == released
    assert verify_release(str(folder)).problems == ()


def airflow(deployment: Deployment, *words: str) -> subprocess.CompletedProcess[str]:
    """One of Airflow's commands, as somebody with a shell on the scheduler's machine gives it."""
    environment: dict[str, Any] = {**os.environ, **deployment.environment}
    return subprocess.run(
        [sys.executable, "-m", "airflow", *words],
        env=environment,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=180,
    )
