"""What a scheduler does to runs: kills, clears, refused triggers. And what all of it shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from synth.release.verify import verify_release
from tests.operators.planted import PLANTED
from tests.scheduler.conftest import Deployment
from tests.scheduler.rest import Account, DagRun, Refused
from tests.scheduler.self_starting import RUNS, SECRET


def test_a_looser_parameter_and_a_backfill_are_refused_at_the_door(deployment: Deployment) -> None:
    rita, admin = deployment.accounts["rita"], deployment.accounts["admin"]
    for conf in ({"epsilon": 3.01}, {"rows": 901}):
        with pytest.raises(Refused, match=r"400: .*maximum"):
            rita.trigger("share_asked", conf)
    days = {"from_date": "2026-02-01T00:00:00Z", "to_date": "2026-02-03T00:00:00Z"}
    with pytest.raises(Refused, match="400"):
        admin.call("POST", "/api/v2/backfills", {"dag_id": "share_asked", **days, "run_backwards": False})


def test_a_worker_killed_in_training_is_charged_again_and_the_rerun_publishes(deployment: Deployment) -> None:
    run = deployment.runs["killed"]
    assert run.ended(within_s=300) == "success"
    assert run.tasks()["train"]["try_number"] == 2
    twice = sorted([*deployment.planned(run), "label_model"])
    assert deployment.starts(run) == twice
    planned, published = run.xcom("allocate")["epsilon"], run.xcom("publish")["epsilon"]
    assert published > planned
    (folder,) = deployment.released(run)
    assert verify_release(str(folder)).problems == ()
    statement = json.loads((folder / "privacy_statement.json").read_text())
    assert {m["name"]: m["attempts_charged"] for m in statement["mechanisms"]}["label_model"] == 2


def test_a_cleared_train_task_returns_the_committed_model_and_starts_nothing(deployment: Deployment) -> None:
    run = deployment.runs["killed"].seen_by(deployment.accounts["admin"])
    assert run.ended() == "success"
    before, facts = deployment.entries(run), run.xcom("train")
    run.clear("train")
    run.tried("train", 3)  # a committed model is found faster than a poll would see the task running
    assert run.ended() == "success"
    assert run.xcom("train") == facts
    assert deployment.entries(run) == before


def test_nothing_that_was_planted_in_the_private_tables_is_shown_or_left_anywhere(deployment: Deployment) -> None:
    """What the API answers about every run, to the account with the most rights, and every file but the tables."""
    admin = deployment.accounts["admin"]
    runs = [*deployment.runs.values(), *(run for dag, count in RUNS.items() for run in admin.started(dag, count))]
    for run in runs:
        run.ended(within_s=300)
    answers = dict(_answers(admin, runs))
    assert len(answers) > 100
    files = {
        str(path): path.read_bytes()
        for path in deployment.home.rglob("*")
        if path.is_file() and (deployment.home / "data") not in path.parents
    }
    assert any(Path(name).name == "attempt=1.log" for name in files)
    private = (deployment.home / "data" / "human.csv").read_text()
    assert all(text in private for text in PLANTED)
    for text in (*PLANTED, SECRET):
        assert not [path for path, answer in answers.items() if text in answer]
        assert not [name for name, content in files.items() if text.encode() in content]
    # The search can find: what a person wrote as a reason is in both.
    assert any("quality is fine" in answer for answer in answers.values())
    assert any(b"quality is fine" in content for content in files.values())


def _answers(account: Account, runs: list[DagRun]) -> Iterator[tuple[str, str]]:
    """Every page that the web interface could be made of."""
    paths = ["/assets", "/assets/events", "/eventLogs?limit=1000", "/importErrors", "/dags", "/dagWarnings", "/jobs"]
    for run in runs:
        paths += [run.path, f"/dags/{run.dag_id}/details", f"/dagSources/{run.dag_id}", f"{run.path}/taskInstances"]
        for name, task in run.seen_by(account).tasks().items():
            of_task = f"{run.path}/taskInstances/{name}"
            paths += [of_task, f"{of_task}/tries", f"{of_task}/xcomEntries"]  # rendered fields are part of a task
            # A task that is cleared before it ran leaves a number out.
            attempts = {attempt["try_number"] for attempt in account.get(f"{of_task}/tries")["task_instances"]}
            paths += [f"{of_task}/logs/{attempt}" for attempt in sorted(attempts - {0})]
            entries = account.get(f"{of_task}/xcomEntries")["xcom_entries"]
            paths += [f"{of_task}/xcomEntries/{entry['key']}" for entry in entries]
            paths += [f"{of_task}/-1/hitlDetails"] * (task["operator"] == "HumanApproveOperator")
    for path in paths:
        yield path, json.dumps(account.get(path))
