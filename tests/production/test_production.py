"""A release on Celery, Redis, PostgreSQL and S3 (moto's server: an emulator) whose training worker is killed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from synth.ledger import Ledger
from synth.release.verify import verify_release
from tests.operators import planted
from tests.production import traces
from tests.production.conftest import BUCKET, REASON, Production

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


def test_airflow_s_own_records_are_on_postgresql(production: Production) -> None:
    found = production.select("SELECT run_id, state, triggering_user_name FROM dag_run")
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
