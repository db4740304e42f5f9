"""The pod that KubernetesExecutor makes of a contract: built as the executor builds it and held against the models of
the Kubernetes API. None is sent to a cluster here.
"""

from __future__ import annotations

import json
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import dill
import pytest
import sqlalchemy
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.sqlalchemy import ExecutorConfigType

from operators.dag import build_dag
from operators.pod import pod_override
from synth.contract import Pod
from synth.errors import ContractError
from tests.contract.test_compute import COMPUTE
from tests.operators.planted import contract

pod_generator = pytest.importorskip(
    "airflow.providers.cncf.kubernetes.pod_generator",
    reason="pods are NOT tested: install apache-airflow-providers-cncf-kubernetes (the extra kubernetes)",
)
executor_types = pytest.importorskip("airflow.providers.cncf.kubernetes.executors.kubernetes_executor_types")
client = pytest.importorskip("kubernetes.client")
quantity = pytest.importorskip("kubernetes.utils.quantity")
PodGenerator = pod_generator.PodGenerator
TEMPLATES = sorted((Path(pod_generator.__file__).parent / "pod_template_file_examples").glob("*.yaml"))


def stored_override(pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> client.V1Pod:
    """The override of ``train`` as the scheduler finds it: from the DAG as Airflow keeps it, a JSON text."""
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor,KubernetesExecutor")
    compute = {"executor": "KubernetesExecutor", "pod": pod}
    dag = build_dag(contract(Path("/nowhere"), "people", "people.csv", compute=compute))
    stored = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    override = PodGenerator.from_obj(stored.get_task("train").executor_config)
    assert isinstance(override, client.V1Pod)
    return override


def executors_pod(override: client.V1Pod | None, template: Path = TEMPLATES[0]) -> dict[str, Any]:
    """What KubernetesExecutor would send for a task, see ``AirflowKubernetesScheduler._build_pod_request``."""
    pod = PodGenerator.construct_pod(
        namespace="airflow",
        scheduler_job_id="7",
        pod_id="share-people-train-1",
        dag_id="share_people",
        task_id="train",
        kube_image="airflow:default",
        try_number=1,
        map_index=3,
        date=None,
        run_id="manual__2027-01-01",
        args=["python", "-m", "airflow.sdk.execution_time.execute_workload"],
        pod_override_object=override,
        base_worker_pod=PodGenerator.deserialize_model_file(str(template)),
    )
    sent: dict[str, Any] = client.ApiClient().sanitize_for_serialization(pod)
    return sent


def api_faults(value: Any, kind: str, path: str = "pod") -> list[str]:
    """Where a JSON value is not of a type of the Kubernetes API; unlike the client's reader, nothing is passed over."""
    container = re.fullmatch(r"(list|dict)[\[(](?:str, ?)?(.*)[\])]", kind)
    if container:
        expected, inner = {"list": list, "dict": dict}[container[1]], container[2]
        parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        found = [fault for key, part in parts for fault in api_faults(part, inner, f"{path}.{key}")]
    elif kind.startswith("V1"):
        model, expected = getattr(client, kind), dict
        inners = {wire: model.openapi_types[name] for name, wire in model.attribute_map.items()}
        known, given = inners.keys(), value if isinstance(value, dict) else {}
        found = [f"{path}.{key}: unknown" for key in given.keys() - known]
        found += [
            fault for key in given.keys() & known for fault in api_faults(given[key], inners[key], f"{path}.{key}")
        ]
    else:
        expected, found = {"str": str, "int": int, "bool": bool, "object": type(value)}[kind], []
    return found if type(value) is expected else [f"{path}: {value!r} is not {kind}"]


def test_the_check_against_the_api_finds_a_wrong_type_and_an_unknown_field() -> None:
    wrong = {
        "metadata": {"labels": {"a": 1}},
        "spec": {"containers": [{"name": "base", "gpus": 1}], "volumes": 1},
    }
    assert sorted(api_faults(wrong, "V1Pod")) == [
        "pod.metadata.labels.a: 1 is not str",
        "pod.spec.containers.0.gpus: unknown",
        "pod.spec.volumes: 1 is not list[V1Volume]",
    ]


def test_the_override_comes_out_of_airflows_storage_as_it_went_in(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pod_override(Pod.model_validate(COMPUTE["pod"]))
    assert api_faults(client.ApiClient().sanitize_for_serialization(made), "V1Pod") == []
    assert stored_override(COMPUTE["pod"], monkeypatch) == made


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_the_executors_pod_is_a_pod_of_the_kubernetes_api(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = executors_pod(stored_override(COMPUTE["pod"], monkeypatch), template)
    assert api_faults(sent, "V1Pod") == []
    read = PodGenerator.deserialize_model_dict(json.loads(json.dumps(sent)))
    assert read.local_vars_configuration.client_side_validation, "a missing required field would pass unseen"
    assert client.ApiClient().sanitize_for_serialization(read) == sent


def test_the_pod_has_what_the_contract_declares(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = executors_pod(stored_override(COMPUTE["pod"], monkeypatch))
    spec, [base] = sent["spec"], sent["spec"]["containers"]
    amounts = {"cpu": "4", "memory": "16Gi", "ephemeral-storage": "20Gi", "amd.com/gpu": "2"}
    assert base["name"] == "base"
    assert base["image"] == COMPUTE["pod"]["image"]
    assert base["resources"] == {"requests": amounts, "limits": amounts}
    assert spec["nodeSelector"] == COMPUTE["pod"]["node_selector"]
    assert spec["tolerations"] == [
        {"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60},
        {"operator": "Exists"},
    ]
    assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("sluice-trainer", "batch.low")
    assert sent["metadata"]["labels"].items() >= COMPUTE["pod"]["labels"].items()
    assert sent["metadata"]["annotations"].items() >= COMPUTE["pod"]["annotations"].items()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_what_the_contract_leaves_out_is_the_templates_and_the_executors(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = executors_pod(None, template)
    assert executors_pod(stored_override({}, monkeypatch), template) == plain
    placed = executors_pod(stored_override({"gpus": 1, "labels": {"team": "privacy"}}, monkeypatch), template)
    gpu = {"nvidia.com/gpu": "1"}
    assert placed["spec"]["containers"][0].pop("resources") == {"requests": gpu, "limits": gpu}
    plain["spec"]["containers"][0].pop("resources", None)
    assert placed["metadata"]["labels"].pop("team") == "privacy"
    assert placed == plain
    assert {"args", "env", "volumeMounts"} <= plain["spec"]["containers"][0].keys()


def test_declared_resources_replace_all_of_the_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(
        "{metadata: {name: placeholder}, "
        "spec: {containers: [{name: base, resources: {limits: {memory: 2Gi}}}], nodeSelector: {disk: ssd}}}"
    )
    spec = executors_pod(stored_override({"cpu": 2}, monkeypatch), template)["spec"]
    assert spec["containers"][0]["resources"] == {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}
    assert spec["nodeSelector"] == {"disk": "ssd"}


def test_a_contract_cannot_take_a_key_that_the_executor_finds_its_pods_by() -> None:
    """An override takes precedence: the executor would lose the pod, or find that of another task."""
    metadata = executors_pod(None)["metadata"]
    own = {*metadata["labels"], *metadata["annotations"]}
    own |= {executor_types.POD_EXECUTOR_DONE_KEY, executor_types.POD_REVOKED_KEY}
    own |= {executor_types.TASK_INSTANCE_ID_ANNOTATION, executor_types.TASK_INSTANCE_ID_LABEL}
    assert {"airflow-worker", "dag_id", "kubernetes_executor"} <= own
    for key in sorted(own):
        for field in ("labels", "annotations"):
            with pytest.raises(ValueError, match=f"finds its pods by {key}; accepted: other keys"):
                Pod.model_validate({field: {key: "x"}})


def test_the_override_comes_out_of_the_database_of_task_instances_as_it_went_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    override = stored_override(COMPUTE["pod"], monkeypatch)
    table = sqlalchemy.Table("t", sqlalchemy.MetaData(), sqlalchemy.Column("c", ExecutorConfigType(pickler=dill)))
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert().values(c={"pod_override": override}))
        kept = connection.execute(sqlalchemy.select(table.c.c)).scalar_one()
    assert PodGenerator.from_obj(kept) == override


@pytest.mark.parametrize(
    ("field", "text", "amount"),
    [
        ("cpu", "4", "4"),
        ("cpu", "0.5", "0.5"),
        ("cpu", "500m", "0.5"),
        ("memory", "16Gi", 16 * 2**30),
        ("memory", "1.5Ti", 3 * 2**39),
        ("memory", "500M", 500 * 10**6),
        ("ephemeral_storage", "20k", 20_000),
        ("ephemeral_storage", "8Ki", 8192),
    ],
)
def test_an_accepted_quantity_is_read_by_kubernetes_as_it_is_meant(field: str, text: str, amount: int | str) -> None:
    [base] = pod_override(Pod.model_validate({field: text})).spec.containers
    [limit] = base.resources.limits.values()
    assert quantity.parse_quantity(limit) == Decimal(amount)


def test_without_the_kubernetes_client_the_contract_s_author_reads_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    with pytest.raises(ContractError, match=r"compute\.pod: .*apache-airflow-providers-cncf-kubernetes"):
        pod_override(Pod())
