"""A release on Celery, Redis, PostgreSQL and S3 (moto's server: an emulator) whose training worker is killed."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from synth.anchors import noted
from synth.ledger import Ledger
from synth.release.verify import verify_release
from tests.operators import planted
from tests.production import traces
from tests.production.conftest import BUCKET, CHAIN, REASON, Production
from tests.scheduler.rest import DagRun

pytestmark = [pytest.mark.airflow, pytest.mark.scheduler, pytest.mark.timeout(600)]


def test_training_waits_for_a_worker_of_its_queue_and_nothing_fails_or_is_charged_for_it(
    production: Production,
) -> None:
    states, done = production.waiting.states, ("preflight", "allocate", "validate")
    assert {states[task] for task in done} == {"success"}
    assert states["train"] == "queued"
    assert {state for task, state in states.items() if task not in (*done, "train")} == {None}
    assert production.waiting.messages == 1
    assert production.waiting.starts == ["validation"]


def test_a_worker_killed_in_training_is_charged_again_and_the_approved_rerun_is_in_the_bucket(
    production: Production,
) -> None:
    run = production.published
    assert run.tasks()["train"]["try_number"] == 2
    assert production.starts(run) == sorted([*production.planned(run), "label_model"])
    assert production.committed(run) == production.planned(run)
    assert run.xcom("publish")["epsilon"] > run.xcom("allocate")["epsilon"]
    (decision,) = production.facts(run, "decision")
    assert (decision["approved"], decision["by"], decision["reason"]) == (True, "olga", REASON)
    with Ledger.open(production.settings.ledger_url) as ledger:
        assert ledger.verify("people_policy") == ledger.entries("people_policy")[-1]

    uri = run.xcom("publish")["uri"]
    assert uri.startswith(f"s3://{BUCKET}/open/people/")
    reader = {"endpoint_url": production.services.s3.url, "key": "reader", "secret": "reader"}
    assert verify_release(uri, reader).problems == ()
    published = dict(traces.objects(production.services.s3.client(), BUCKET))
    statement = json.loads(published[f"{uri}/privacy_statement.json"])
    assert {m["name"]: m["attempts_charged"] for m in statement["mechanisms"]}["label_model"] == 2


def test_the_contract_s_queue_takes_training_and_drawing_and_no_other_step(production: Production) -> None:
    ran = {task: (found["queue"], found["hostname"]) for task, found in production.published.tasks().items()}
    on_gpu = {"train", "generate"}
    assert {ran.pop(task) for task in on_gpu} == {("gpu", "worker-gpu")}
    assert set(ran) == {"preflight", "allocate", "validate", "check", "approve", "publish", "settle"}
    assert set(ran.values()) == {("default", "worker")}


def test_the_message_of_the_killed_worker_comes_again_and_starts_nothing(production: Production) -> None:
    """Redis hands out again what was taken and not acknowledged."""
    run = production.published
    ((message,),) = production.select(
        "SELECT external_executor_id FROM task_instance_history WHERE task_id = 'train' AND try_number = 1"
    )
    deadline, broker = time.monotonic() + 150, production.services.broker
    while production.gpu.log.read_text().count(f"execute_workload[{message}] received") < 2 or broker.unacknowledged():
        assert time.monotonic() < deadline, "Redis does not hand out the killed worker's message again"
        time.sleep(0.5)
    ((status,),) = production.select("SELECT status FROM celery_taskmeta WHERE task_id = %s", message)
    assert status != "SUCCESS"
    assert run.state() == "success"
    assert run.tasks()["train"]["try_number"] == 2
    assert production.starts(run) == sorted([*production.planned(run), "label_model"])


def test_with_two_schedulers_each_run_was_started_once_charged_once_and_published_once(
    production: Production,
) -> None:
    """A person started the first; a release, with both schedulers looking, the second."""
    run = production.chain[CHAIN[0]]
    assert run.ended(within_s=300) == "success"
    assert {task["try_number"] for task in run.tasks().values()} == {1}
    for name in CHAIN:
        total = run.account.get(f"/dags/share_{name}/dagRuns")["total_entries"]
        assert total == 1, f"{name} was started {total} times"
        assert_charged_and_published_once(production, production.chain[name])


@pytest.mark.parametrize("name", CHAIN[1:])
def test_a_scheduler_killed_in_mid_run_costs_nothing_whether_another_goes_on_or_one_is_started_again(
    production: Production, name: str
) -> None:
    assert sorted(production.killed.values()) == sorted(production.schedulers)
    run = production.chain[name]
    assert run.ended(within_s=300) == "success"
    assert production.facts(run, "request") == [{"by": None, "how": "asset_triggered"}]
    assert production.killed[name] not in production.scheduled_by(run, "publish")
    assert_charged_and_published_once(production, run)


def assert_charged_and_published_once(production: Production, run: DagRun) -> None:
    assert run.ended(within_s=300) == "success"
    assert production.starts(run) == production.committed(run) == production.planned(run)
    kinds = Counter(entry.kind for entry in production.entries(run))
    once = ("reserve", "request", "gate", "decision", "publishing", "published", "settled")
    assert {kind: kinds[kind] for kind in once} == dict.fromkeys(once, 1)
    names = [name for name, _ in traces.objects(production.services.s3.client(), BUCKET)]
    folder = f"s3://{BUCKET}/open/{run.dag_id.removeprefix('share_')}/"
    versions = {name.removeprefix(folder).partition("/")[0] for name in names if name.startswith(folder)}
    assert versions == {run.xcom("publish")["version"]}
    reader = {"endpoint_url": production.services.s3.url, "key": "reader", "secret": "reader"}
    assert verify_release(run.xcom("publish")["uri"], reader).problems == ()


def test_workspaces_are_encrypted_and_the_ledger_s_heads_are_noted_outside_of_it(production: Production) -> None:
    for run in (production.published, *production.chain.values()):
        run.ended(within_s=300)
        assert run.xcom("preflight")["workspace"] == "encrypted"
    place = str(production.home / "anchors")
    with Ledger.open(production.settings.ledger_url) as ledger:
        for policy, runs in (("people_policy", 1), ("crowd_policy", len(CHAIN))):
            heads = noted(place, policy)
            assert len(heads) >= 2 * runs  # after each reservation, and at the end
            assert ledger.verify(policy, anchors=heads).sequence == max(heads)


def test_airflow_s_own_records_are_on_postgresql(production: Production) -> None:
    found = production.select("SELECT run_id, state, triggering_user_name FROM dag_run WHERE dag_id = 'share_people'")
    assert found == [(production.published.run_id, "success", "rita")]
    assert not [path for path in production.home.rglob("*") if path.suffix in (".db", ".sqlite")]


def test_nothing_planted_and_no_secret_is_left_in_databases_broker_bucket_or_files(production: Production) -> None:
    run = production.published
    stores = {name: dict(found) for name, found in _stores(production)}
    table = (production.home / "data" / "people.csv").read_bytes()
    for text in planted.PLANTED:
        assert text.encode() in table
    for text in (*planted.PLANTED, *production.services.secrets.values(), production.services.broker.password):
        for store in stores.values():
            assert [place for place, content in store.items() if text.encode() in content] == []
    # The search can find: in each store something that belongs there.
    for store, text in (
        ("airflow", REASON),
        ("ledger", REASON),
        ("broker", run.run_id),
        ("bucket", planted.CONTRACT["dataset"]["description"]),
        ("files", run.run_id),
    ):
        assert any(text.encode() in content for content in stores[store].values()), store
    assert any(place.endswith("attempt=2.log") for place in stores["files"])


def _stores(production: Production) -> Iterator[tuple[str, Iterator[tuple[str, bytes]]]]:
    server = production.services.postgresql
    yield "airflow", traces.cells(server, "airflow")
    yield "ledger", traces.cells(server, "ledger")
    yield "broker", iter([("broker", traces.unpacked(production.services.broker.everything()))])
    yield "bucket", traces.objects(production.services.s3.client(), BUCKET)
    yield "server", iter([(str(server.log), server.log.read_bytes())])
    data = str(production.home / "data")
    yield "files", ((path, content) for path, content in traces.files(production.home) if not path.startswith(data))
