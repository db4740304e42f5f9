"""What a contract becomes in Airflow, before anything runs."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from operators.dag import build_dag
from operators.folder import dags_from
from synth.errors import ContractError
from tests.operators.planted import contract

ROOT = Path(__file__).resolve().parents[2]
STEPS = ["preflight", "allocate", "validate", "train", "generate", "check", "approve", "publish", "settle"]


def built(**changes: Any) -> DAG:
    return build_dag(contract(Path("/nowhere"), "people", "people.csv", **changes))


def test_reading_the_dag_files_imports_nothing_heavy() -> None:
    heavy = (
        "torch pandas numpy pyarrow great_expectations opacus dp_accounting sklearn scipy opendp matplotlib "
        "synth.ledger synth.run synth.steps synth.workspace synth.housekeeping synth.sealing"
    )
    files = "dags.share, dags.consume_rand_hie, dags.housekeeping"
    code = f"import sys, {files}; print([m for m in {heavy.split()!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_shipped_contracts_load_and_survive_serialisation() -> None:
    code = (
        "from airflow.dag_processing.dagbag import DagBag\n"
        "from airflow.serialization.serialized_objects import DagSerialization as S\n"
        "bag = DagBag('dags')\n"
        "print(bag.import_errors, {i: len(S.from_dict(S.to_dict(d)).task_dict) for i, d in sorted(bag.dags.items())})"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "{} {'consume_rand_hie': 2, 'share_rand_hie': 9, 'sluice_housekeeping': 1}"


def test_the_steps_run_in_order_between_setup_and_teardown() -> None:
    dag = built()
    dag.validate()
    assert [task.task_id for task in dag.topological_sort()] == STEPS
    for before, after in itertools.pairwise(STEPS):
        assert after in dag.get_task(before).downstream_task_ids
    settle = dag.get_task("settle")
    assert dag.get_task("allocate").is_setup
    assert dag.get_task("preflight").is_setup
    assert settle.is_teardown
    assert not settle.on_failure_fail_dagrun, "a teardown that decides the run's state would hide a failed training"


def test_a_dag_that_spends_is_never_run_twice_at_a_time_nor_caught_up_nor_filled_back() -> None:
    for schedule, starts in ((None, set()), ("@weekly", {"scheduled"}), ({"asset": "visits"}, {"asset_triggered"})):
        dag = built(schedule=schedule)
        assert (dag.max_active_runs, dag.catchup) == (1, False)
        assert {kind.value for kind in dag.allowed_run_types or ()} == {"manual", "operator_triggered"} | starts


def first_time(schedule_of: datetime) -> datetime:
    """When a new DAG runs first whose schedule is the weekday and time of this moment."""
    schedule = f"{schedule_of.minute} {schedule_of.hour} * * {schedule_of.isoweekday() % 7}"
    dag = DagSerialization.from_dict(DagSerialization.to_dict(built(schedule=schedule)))
    info = dag.next_dagrun_info(last_automated_run_info=None)
    assert info is not None
    return info.run_after


@pytest.mark.parametrize("ago", [timedelta(minutes=6), timedelta(hours=2), timedelta(days=3)])
def test_a_schedule_starts_with_its_next_time_and_not_with_one_that_was_missed(ago: timedelta) -> None:
    assert first_time(datetime.now(UTC) - ago) > datetime.now(UTC) + timedelta(days=3)


def test_a_first_time_is_not_lost_to_a_file_that_is_read_before_the_scheduler_acts_on_it() -> None:
    """Airflow works out the next time whenever it reads the file."""
    moment = datetime.now(UTC) - timedelta(minutes=2)
    assert first_time(moment) == moment.replace(second=0, microsecond=0)


def test_a_data_event_starts_a_run_whichever_uri_the_producer_gives_the_asset() -> None:
    dag = built(schedule={"asset": "visits"}, approval={"mode": "human", "timeout_hours": 1000})
    dag.validate()
    stored = DagSerialization.to_dict(dag)["dag"]["timetable"]
    assert "visits" in json.dumps(stored)
    assert "uri" not in json.dumps(stored)
    assert "all updates during a run, which includes its wait for approval, start one run after it" in (
        dag.doc_md or ""
    )


def test_releases_that_would_start_each_other_are_a_fault_of_the_contract_that_closes_the_loop(tmp_path: Path) -> None:
    starts = {"a": "release_c", "b": "release_a", "c": "release_b", "d": "release_c"}
    for name, asset in starts.items():
        document = contract(tmp_path, f"set_{name}", "people.csv", schedule={"asset": asset.replace("_", "_set_")})
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))
    dags = dags_from([tmp_path])
    assert [dag_id.rpartition("_")[0] for dag_id in dags] == ["share_set", "share_set", "broken_c", "share_set"]
    report = list(dags.values())[2].doc_md or ""
    assert "release_set_c → release_set_a → release_set_b → release_set_c" in report


def test_a_schedule_that_airflow_does_not_know_is_a_fault_of_the_contract() -> None:
    with pytest.raises(ContractError, match="every blue moon"):
        built(schedule="every blue moon")


def test_failures_are_retried_except_in_approve() -> None:
    assert {task.task_id: task.retries for task in built().tasks} == {s: 0 if s == "approve" else 2 for s in STEPS}


def test_training_and_generation_run_where_the_contract_says() -> None:
    dag = built(compute={"queue": "gpu", "pool": "gpu_pool"})
    placed = {task.task_id for task in dag.tasks if (task.queue, task.pool) == ("gpu", "gpu_pool")}
    assert placed == {"train", "generate"}


def test_the_owner_reads_the_terms_in_the_dag_s_documentation() -> None:
    text = built().doc_md or ""
    for promised in ("`person`", "ε = 3, δ = 1e-06", "add or remove one unit", "automatic", "stays spent", *STEPS):
        assert promised in text


def test_the_documentation_says_whose_rows_are_read_and_how_many_of_each() -> None:
    text = built().doc_md or ""
    for promised in ("| rows kept of one unit | 1 |", "| rows without a unit | left out |", "| window | none: "):
        assert promised in text
    window = {"column": "seen", "every": "quarter"}
    text = built(privacy={"max_records": 5, "null_ids": "row", "window": window}).doc_md or ""
    for promised in (
        "| rows kept of one unit | 5 |",
        "| rows without a unit | each is a unit of its own |",
        "| window | each quarter, by the date in `seen`, has a budget of its own; a release reads the rows of one, by "
        "default the last one that is over |",
        "and name another window",
    ):
        assert promised in text
    assert "by default `2026-Q3`" in (built(privacy={"window": {**window, "release": "2026-Q3"}}).doc_md or "")
    assert "| rows without a unit | none: each row is a unit |" in (built(privacy={"unit": "row"}).doc_md or "")


def test_what_airflow_stores_of_a_dag_has_nothing_but_the_form_and_the_documentation() -> None:
    stored = json.dumps(DagSerialization.to_dict(built()))
    assert "null_values" not in stored
    assert all(not task.template_fields for task in built().tasks)


def test_a_broken_contract_shows_its_report_and_hides_no_other(tmp_path: Path) -> None:
    good, other = contract(tmp_path, "good", "people.csv"), contract(tmp_path, "good", "people.csv")
    bad = contract(tmp_path, "bad", "people.csv", privacy={"delta": 0.5}, approval={"mode": "whoever"})
    for name, document in {"a_good": good, "b_bad": bad, "c_same_name": other}.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))
    (tmp_path / "d_no_yaml.yaml").write_text("{")
    (tmp_path / "e_no_date.yaml").write_text("when: 2024-02-30")
    dags = dags_from([tmp_path])
    assert [dag_id.rsplit("_", 1)[0] for dag_id in dags] == [
        "share", "broken_b_bad", "broken_c_same_name", "broken_d_no_yaml", "broken_e_no_date",
    ]  # fmt: skip
    bad_dag = list(dags.values())[1]
    assert "broken contract" in bad_dag.tags
    for fault in ("privacy", "delta", "approval.mode", "whoever"):
        assert fault in (bad_dag.doc_md or "")
    with pytest.raises(AirflowFailException, match=r"approval\.mode"):
        bad_dag.get_task("report").execute({})
    DagSerialization.to_dict(bad_dag)


@pytest.mark.parametrize(
    ("schedule", "hours", "apart"),
    [("@daily", 24, 24), ("0 9,17 * * 1-5", 12, 8), ("*/30 * * * *", 0.5, 0.5), ("0 0 13 * 5", 72, 24)],
)
def test_a_question_that_outlasts_the_schedule_s_interval_is_a_fault_of_the_contract(
    schedule: str, hours: float, apart: float
) -> None:
    human = {"mode": "human", "timeout_hours": hours}
    with pytest.raises(ContractError, match=rf"timeout_hours.*as little as {apart:g} hours"):
        built(schedule=schedule, approval=human)
    built(schedule=schedule, approval={**human, "timeout_hours": apart - 0.25})
    built(schedule=schedule)
    built(approval=human)


def test_an_owner_s_text_is_no_template_of_the_question() -> None:
    document = contract(Path("/nowhere"), "people", "people.csv", approval={"mode": "human"})
    document["dataset"]["title"] = "{{ 6 * 7 }} people"
    task = build_dag(document).get_task("approve")
    rendered = {name: getattr(task, name) for name in task.template_fields}
    assert rendered == {"subject": "Release people?", "body": None}
