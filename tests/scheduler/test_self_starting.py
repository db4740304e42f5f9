"""Runs that nobody triggers, on a real scheduler: after a data event, after a release, at a time."""

from __future__ import annotations

from typing import Any

from synth.release.verify import verify_release
from tests.bucket import Server
from tests.scheduler.conftest import Deployment
from tests.scheduler.rest import DagRun
from tests.scheduler.self_starting import RUNS, SECRET

ANNOUNCED = ("version", "uri", "epsilon", "delta", "rows")


def ended_runs(deployment: Deployment, dag_id: str) -> list[DagRun]:
    """The runs that the DAG was to have, each over and successful."""
    runs = deployment.accounts["admin"].started(dag_id, RUNS[dag_id])
    assert [run.ended(within_s=300) for run in runs] == ["success"] * len(runs)
    return runs


def event_of(deployment: Deployment, run: DagRun) -> dict[str, Any]:
    """What the run's release told those who wait for it."""
    found = deployment.accounts["admin"].get(f"/assets/events?source_dag_id={run.dag_id}")["asset_events"]
    (event,) = [event for event in found if event["source_run_id"] == run.run_id]
    return event["extra"]


def test_an_update_of_the_data_starts_a_run_and_updates_during_the_run_start_one_more(deployment: Deployment) -> None:
    runs = ended_runs(deployment, "share_fed")
    for run in runs:
        about = run.account.get(run.path)
        assert (about["run_type"], about["triggering_user_name"]) == ("asset_triggered", None)
        assert deployment.facts(run, "request") == [{"by": None, "how": "asset_triggered"}]
        assert deployment.starts(run) == deployment.planned(run)
    folders = deployment.released(runs[0])
    assert [folder.name for folder in folders] == sorted(run.xcom("publish")["version"] for run in runs)
    assert [problem for folder in folders for problem in verify_release(str(folder)).problems] == []
    assert runs[0].account.get("/dags/share_fed/dagRuns")["total_entries"] == len(runs)
    assert runs[0].account.get("/dags/share_fed/assets/queuedEvents")["total_entries"] == 0


def test_a_release_announces_its_public_facts_and_starts_its_consumer(deployment: Deployment) -> None:
    shared, consumed = ended_runs(deployment, "share_fed"), ended_runs(deployment, "consume_fed")
    for run, consumer in zip(shared, consumed, strict=True):
        event, published = event_of(deployment, run), run.xcom("publish")
        assert event == {name: published[name] for name in ANNOUNCED}
        assert consumer.xcom("verify") == event
        summary = consumer.xcom("summarise")
        assert (summary["version"], summary["rows"]) == (event["version"], event["rows"])
        assert set(summary["member_by_region"]) <= {"north", "south", "west"}
        assert event["version"] in consumer.log("summarise")
    (asset,) = deployment.accounts["admin"].get("/assets?name_pattern=release_fed")["assets"]
    assert [dag["dag_id"] for dag in asset["scheduled_dags"]] == ["consume_fed"]
    assert [(task["dag_id"], task["task_id"]) for task in asset["producing_tasks"]] == [("share_fed", "publish")]


def test_a_time_starts_a_run_and_the_event_tells_nothing_of_how_the_bucket_was_opened(
    deployment: Deployment, one_server: Server
) -> None:
    (run,) = ended_runs(deployment, "share_timed")
    about = run.account.get(run.path)
    assert (about["run_type"], about["triggering_user_name"]) == ("scheduled", None)
    assert deployment.facts(run, "request") == [{"by": None, "how": "scheduled"}]
    event = event_of(deployment, run)
    assert set(event) == set(ANNOUNCED)
    assert event["uri"] == f"s3://releases/open/timed/{event['version']}"
    reader = {"key": "reader", "secret": "reader", "endpoint_url": one_server.url}
    assert verify_release(event["uri"], reader).problems == ()
    assert SECRET not in run.log("publish")
