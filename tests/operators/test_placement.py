"""Where train and generate run, as Airflow lists and runs their DAG."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.executors import executor_loader
from airflow.executors.executor_loader import ExecutorLoader
from airflow.sdk import DAG
from airflow.sdk.definitions.context import _AIRFLOW_PARSING_CONTEXT_DAG_ID, _AIRFLOW_PARSING_CONTEXT_TASK_ID
from airflow.serialization.serialized_objects import DagSerialization

from operators.dag import build_dag
from operators.placement import placement
from synth.contract import Compute
from synth.errors import ContractError
from tests.operators.planted import contract

pytest.importorskip(
    "kubernetes.client", reason="executors and pods are NOT tested: install the extra kubernetes, which is not here"
)
ROOT = Path(__file__).resolve().parents[2]
EXECUTOR = "AIRFLOW__CORE__EXECUTOR"
PLACED = {"queue": "gpu", "pool": "gpu_pool", "executor": "KubernetesExecutor", "pod": {"gpus": 1}}


def configure(executors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Airflow with these executors, which it otherwise reads once and keeps."""
    monkeypatch.setenv(EXECUTOR, executors)
    for kept in ("_alias_to_executors_per_team", "_module_to_executors_per_team", "_classname_to_executors_per_team"):
        monkeypatch.setattr(executor_loader, kept, defaultdict(dict))
    monkeypatch.setattr(executor_loader, "_team_name_to_executors", defaultdict(list))
    monkeypatch.setattr(executor_loader, "_executor_names", [])


def built(compute: dict[str, Any]) -> DAG:
    return build_dag(contract(Path("/nowhere"), "people", "people.csv", compute=compute))


def placed(task: Any) -> tuple[Any, ...]:
    return task.queue, task.pool, task.executor, bool(task.executor_config)


def test_queue_pool_executor_and_pod_reach_train_and_generate_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR, "CeleryExecutor,KubernetesExecutor")
    dag = built(PLACED)
    for kept in (dag, DagSerialization.from_dict(DagSerialization.to_dict(dag))):
        found = {task.task_id: placed(task) for task in kept.tasks}
        default = ("default", "default_pool", None, False)
        assert {task for task, where in found.items() if where != default} == {"train", "generate"}
        assert found["train"] == found["generate"] == ("gpu", "gpu_pool", "KubernetesExecutor", True)


def test_by_default_every_task_runs_where_airflow_puts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR, "LocalExecutor")
    assert placement(Compute()) == {}
    assert {placed(task) for task in built({}).tasks} == {("default", "default_pool", None, False)}


def listed() -> dict[str, Any]:
    """Where ``train`` goes in each DAG that Airflow finds in the shipped DAG file, or what is shown instead."""
    bag = DagBag(ROOT / "dags" / "share.py", safe_mode=False)
    assert bag.import_errors == {}
    return {
        dag_id: placed(dag.get_task("train")) if "train" in dag.task_dict else dag.doc_md
        for dag_id, dag in bag.dags.items()
    }


@pytest.fixture
def contracts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two contracts, of which one is to be placed."""
    monkeypatch.setenv("SLUICE_CONTRACTS", str(tmp_path))
    for name, compute in (("placed", PLACED), ("plain", {"queue": "gpu"})):
        document = contract(tmp_path, name, "people.csv", compute=compute)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))


@pytest.mark.usefixtures("contracts")
def test_a_contract_that_names_an_unknown_executor_shows_why_and_hides_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Airflow itself would report the file as broken, and hide every DAG that is in it."""
    configure("LocalExecutor,CeleryExecutor", monkeypatch)
    dags = listed()
    assert dags["share_plain"] == ("gpu", "default_pool", None, False)
    assert "share_placed" not in dags
    [shown] = [shown for dag_id, shown in dags.items() if dag_id.startswith("broken_placed_")]
    for part in ("compute.executor='KubernetesExecutor'", "accepted: LocalExecutor, CeleryExecutor", EXECUTOR):
        assert part in shown


@pytest.mark.usefixtures("contracts")
def test_airflow_lists_a_contract_with_an_executor_and_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    configure("CeleryExecutor,KubernetesExecutor", monkeypatch)
    assert listed()["share_placed"] == ("gpu", "gpu_pool", "KubernetesExecutor", True)


@pytest.mark.usefixtures("contracts")
@pytest.mark.parametrize("task", ["preflight", "train"])
def test_a_worker_finds_its_task_whatever_it_has_installed_or_configured_itself(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's own templates of pods set LocalExecutor; the task was placed before the pod was there."""
    configure("LocalExecutor", monkeypatch)
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    monkeypatch.setenv(_AIRFLOW_PARSING_CONTEXT_DAG_ID, "share_placed")
    monkeypatch.setenv(_AIRFLOW_PARSING_CONTEXT_TASK_ID, task)
    assert listed()["share_placed"] == ("gpu", "gpu_pool", None, False)


def test_the_kubernetes_client_is_imported_for_a_contract_with_a_pod_only() -> None:
    code = (
        "import sys\n"
        "from operators.placement import placement\n"
        "from synth.contract import Compute\n"
        "for compute in ({'executor': 'KubernetesExecutor', 'queue': 'gpu'}, {'pod': {}}):\n"
        "    placement(Compute(**compute))\n"
        "    print('kubernetes' in sys.modules)"
    )
    environment = os.environ | {EXECUTOR: "KubernetesExecutor"}
    asked = [sys.executable, "-c", code]
    done = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("executors", ["LocalExecutor", "CeleryExecutor,KubernetesExecutor", "mine:LocalExecutor"])
def test_a_pod_that_the_executor_would_ignore_is_refused(executors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR, executors)
    with pytest.raises(ContractError, match=r"compute\.pod: (Local|Celery)Executor makes no pods and would ignore it"):
        built({"pod": {"gpus": 1}})


@pytest.mark.parametrize(
    ("executors", "executor"),
    [
        ("KubernetesExecutor", None),
        ("LocalExecutor,KubernetesExecutor", "KubernetesExecutor"),
        ("LocalExecutor, cluster:KubernetesExecutor", "cluster"),
        ("LocalExecutor,cluster:our.own.PodExecutor", "our.own.PodExecutor"),
        ("our.own.PodExecutor", None),
    ],
)
def test_a_pod_goes_with_an_executor_that_may_make_it(
    executors: str, executor: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EXECUTOR, executors)
    train = built({"executor": executor, "pod": {}}).get_task("train")
    assert train.executor == executor
    assert "pod_override" in (train.executor_config or {})


@pytest.mark.parametrize("multi_team", ["True", "False"])
@pytest.mark.parametrize(
    "executors",
    [
        "LocalExecutor",
        "CeleryExecutor,KubernetesExecutor",
        " CeleryExecutor , cluster:KubernetesExecutor ",
        "LocalExecutor,our.own.PodExecutor",
        "mine:our.own.PodExecutor,LocalExecutor",
        "=LocalExecutor,cluster:our.own.PodExecutor",
        "LocalExecutor;research=CeleryExecutor,research_cluster:our.own.PodExecutor",
    ],
)
def test_no_executor_is_accepted_that_airflow_would_refuse(
    executors: str, multi_team: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(executors, monkeypatch)
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", multi_team)
    with pytest.raises(ContractError) as refused:
        placement(Compute(executor="nonsense"))
    accepted = str(refused.value).partition("accepted: ")[2].partition(" (")[0].split(", ")
    for name in accepted:
        assert placement(Compute(executor=name)) == {"executor": name}
        ExecutorLoader.lookup_executor_name_by_str(name, validate_teams=False)
    assert not {"", "nonsense", "research_cluster"} & set(accepted)
