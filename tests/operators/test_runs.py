"""Real DAG runs: what they publish, what they leave behind, and what they never show."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException
from airflow.utils.types import DagRunType

from operators.dag import build_dag
from operators.publish import PublishOperator
from operators.train import TrainOperator
from synth.contract import contract_from_document
from synth.ledger import Entry, Ledger
from synth.settings import Settings, workspace_keys
from tests.operators.conftest import World
from tests.operators.drive import NOBODY_LISTENS, RUNS
from tests.operators.planted import PLANTED, WORKSPACE_KEY

pytestmark = pytest.mark.slow
STEPS = ("preflight", "allocate", "validate", "train", "generate", "check", "approve", "publish", "settle")
PUBLIC_FACTS = {
    "preflight": {"policy", "dataset", "workspace"},
    "allocate": {"epsilon", "delta", "share_of_policy_budget"},
    "validate": {"expectations", "judged"},
    "train": {"method", "mechanisms"},
    "generate": {"rows"},
    "check": {"artifact", "quality", "epsilon"},
    "approve": {"approved_by", "artifact"},
    "publish": {"uri", "version", "artifact", "epsilon", "rows", "delta"},
    "settle": {"never_started"},
}
TRIGGER = {"rows": 700, "epsilon": 2.5}


def document(world: World, name: str) -> dict[str, Any]:
    return contract_from_document(yaml.safe_load((world.home / "contracts" / f"{name}.yaml").read_text())).document()


def entries(policy: str, run: str) -> list[Entry]:
    with Ledger.open(Settings.from_environment().ledger_url) as ledger:
        return ledger.entries(policy, run)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Always:
    """Answers whatever it is asked for with one value."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __getitem__(self, key: Any) -> Any:
        return self._value


def test_a_run_publishes_a_release_of_the_rows_that_its_trigger_asked(world: World) -> None:
    assert world.state("share_people") == "success"
    assert set(world.tasks("share_people").values()) == {"success"}
    folder = Path(world.xcoms("share_people")["publish"]["uri"].removeprefix("file://"))
    assert (folder / "manifest.json").exists()
    released = pd.concat([pd.read_parquet(part) for part in (folder / "data").glob("*.parquet")])
    assert len(released) == TRIGGER["rows"]
    assert set(released["region"].dropna()) <= {"north", "south", "west"}
    assert released["amount"].dropna().between(0, 100).all()


def test_tasks_tell_each_other_public_facts_only(world: World) -> None:
    facts = world.xcoms("share_people")
    assert {task: set(values) for task, values in facts.items()} == PUBLIC_FACTS
    assert facts["allocate"]["epsilon"] <= TRIGGER["epsilon"]
    assert facts["preflight"]["workspace"] == "encrypted"


def test_the_asset_s_event_tells_consumers_what_was_published(world: World) -> None:
    extra = json.loads(world.rows("SELECT extra FROM asset_event ORDER BY id")[0][0])
    published = world.xcoms("share_people")["publish"]
    assert extra == {name: published[name] for name in ("version", "uri", "epsilon", "delta", "rows")}


def test_nothing_that_was_planted_in_the_private_tables_is_anywhere_else(world: World) -> None:
    """The private tables aside: databases, logs, ledger, keys, workspaces of settled runs, releases."""
    secrets = [text.encode() for text in (*PLANTED, "qzxpassword", WORKSPACE_KEY.rstrip("="))]
    secrets += workspace_keys(WORKSPACE_KEY, "the test")
    searched = [
        path
        for path in world.home.rglob("*")
        if path.is_file() and (world.home / "data") not in path.parents and path.suffix != ".py"
    ]
    names = {path.name for path in searched}
    assert {"airflow.db", "ledger.db", "run-0.log", "quality_report.html", "manifest.json"} <= names
    found = {(str(path), text) for path in searched for text in secrets if text in path.read_bytes()}
    assert not found
    # The search can find: the same texts are in the tables.
    table = (world.home / "data" / "people.csv").read_bytes()
    assert all(text.encode() in table for text in PLANTED)


def test_nothing_that_was_planted_is_in_any_row_of_airflow_s_database(world: World) -> None:
    """Cell by cell, and unpacked where Airflow packs: what a search through the file's bytes would miss."""
    cells = {
        table: list(_cells(world, table))
        for (table,) in world.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    shown = {table: b"\n".join(found) for table, found in cells.items()}
    # Rendered fields, audit log, asset events, XCom, questions and their answers, DAGs with their documentation.
    for table in ("rendered_task_instance_fields", "log", "asset_event", "xcom", "hitl_detail", "serialized_dag"):
        assert shown[table], table
    for text in (*PLANTED, "qzxpassword"):
        assert not [table for table, found in shown.items() if text.encode() in found]
    # The search can find: what a person wrote, and what the owner wrote about the dataset, which is packed.
    assert b"quality is fine" in shown["hitl_detail"]
    assert b"Made for a test." in shown["serialized_dag"]


def _cells(world: World, table: str) -> Iterator[bytes]:
    for row in world.rows(f'SELECT * FROM "{table}"'):
        for cell in row:
            content = cell if isinstance(cell, bytes) else str(cell).encode()
            yield content
            if isinstance(cell, bytes):
                with suppress(zlib.error):
                    yield zlib.decompress(content)


def test_the_audit_log_and_the_dags_pages_tell_public_facts(world: World) -> None:
    """Who triggered what, and the documentation that the web interface shows with a DAG."""
    (documents,) = zip(*world.rows("SELECT data FROM serialized_dag WHERE dag_id LIKE 'share_%'"), strict=True)
    pages = [json.loads(text)["dag"].get("doc_md", "") for text in documents if text]
    assert any("Made for a test." in page for page in pages)
    extras = [str(extra) for (extra,) in world.rows("SELECT extra FROM log")]
    assert not [text for text in PLANTED for shown in (*pages, *extras) if text in shown]


def test_airflow_stores_no_rendered_field_of_a_step(world: World) -> None:
    stored = world.rows("SELECT rendered_fields FROM rendered_task_instance_fields WHERE task_id != 'approve'")
    assert {row[0] for row in stored} <= {"{}", None}


def test_a_release_below_its_quality_is_not_published_and_the_run_fails(world: World) -> None:
    tasks = world.tasks("share_unreachable_quality")
    assert (tasks["check"], tasks["publish"], tasks["settle"]) == ("failed", "upstream_failed", "success")
    assert world.state("share_unreachable_quality") == "failed"
    assert world.tries("share_unreachable_quality")["check"] == 1
    assert not (world.home / "bucket" / "unreachable_quality").exists()


def test_settle_gives_back_what_a_failed_run_never_started(world: World) -> None:
    tasks = world.tasks("share_violated")
    assert (tasks["validate"], tasks["train"], tasks["settle"]) == ("failed", "upstream_failed", "success")
    assert world.state("share_violated") == "failed"
    freed = world.xcoms("share_violated")["settle"]["never_started"]
    assert "validation" not in freed
    assert {"marginals", "pairs"} <= set(freed)


def test_settle_gives_back_what_was_reserved_before_allocate_failed(world: World) -> None:
    tasks = world.tasks("half_allocated")
    assert (tasks["preflight"], tasks["allocate"], tasks["settle"]) == ("success", "failed", "success")
    assert {"validation", "marginals", "pairs"} <= set(world.xcoms("half_allocated")["settle"]["never_started"])
    assert world.state("half_allocated") == "failed"


def test_an_unexpected_error_that_quotes_the_table_shows_its_type_and_nothing_else(world: World) -> None:
    log = world.log(next(n for n, run in enumerate(RUNS) if run.dag_id == "leaky"))
    assert "unexpected ValueError" in log
    assert not [text for text in PLANTED if text in log]


@pytest.mark.parametrize(
    ("dag_id", "nth", "task", "error", "tries"),
    [
        ("share_garbage", 0, "preflight", "SourceUnavailable", 3),
        ("share_people", 1, "preflight", "LedgerUnavailable", 3),
        ("share_poor", 0, "allocate", "BudgetExceeded", 1),
        ("share_people", 2, "preflight", "ContractError", 1),
        ("share_violated", 0, "validate", "ValidationFailed", 1),
    ],
)
def test_the_error_decides_whether_a_task_is_tried_again(
    world: World, dag_id: str, nth: int, task: str, error: str, tries: int
) -> None:
    assert world.tasks(dag_id, nth)[task] == "failed"
    assert world.tries(dag_id, nth)[task] == tries
    numbers = [number for number, run in enumerate(RUNS) if run.dag_id == dag_id]
    assert f"{error}: " in world.log(numbers[nth])
    if error == "LedgerUnavailable":
        assert RUNS[numbers[nth]].settings == NOBODY_LISTENS


def test_a_cleared_task_returns_what_was_committed_and_starts_nothing(in_world: World) -> None:
    run_id = in_world.run_ids("share_people")[0]
    before, released = entries("people_policy", f"people/{run_id}"), files(in_world.home / "bucket" / "people")
    started = [e.payload["mechanism"] for e in before if e.kind == "start"]
    mechanisms = in_world.xcoms("share_people")["train"]["mechanisms"]
    assert set(started) > set(mechanisms) >= {"marginals", "pairs"}
    dag = build_dag(document(in_world, "people"))
    for task in STEPS:
        event = SimpleNamespace(extra=None)
        another = SimpleNamespace(triggering_user_name="somebody else", run_type=DagRunType.SCHEDULED)
        context: Any = {"run_id": run_id, "params": TRIGGER, "dag_run": another, "outlet_events": Always(event)}
        assert dag.get_task(task).execute(context) == in_world.xcoms("share_people")[task]
    assert entries("people_policy", f"people/{run_id}") == before
    assert files(in_world.home / "bucket" / "people") == released


def test_a_cleared_task_refuses_another_contract_than_the_one_reserved(in_world: World) -> None:
    context: Any = {"run_id": in_world.run_ids("share_people")[0], "params": TRIGGER | {"epsilon": 2.0}}
    with pytest.raises(AirflowFailException, match="PlanChanged"):
        TrainOperator(task_id="train", document=document(in_world, "people")).execute(context)


def test_publish_refuses_a_run_whose_approval_was_only_marked_successful(in_world: World) -> None:
    task = PublishOperator(task_id="publish", document=document(in_world, "asked"), asset=asset())
    context: Any = {"run_id": in_world.run_ids("share_asked")[0], "params": {}}
    with pytest.raises(AirflowFailException, match="no approval in the ledger"):
        task.execute(context)


def asset() -> Any:
    from airflow.sdk import Asset

    return Asset("release_asked")
