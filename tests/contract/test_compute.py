"""Where train and generate run: what a contract may say about it, and what its author reads otherwise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from synth.contract import Compute, Contract, Pod, contract_from_document
from synth.errors import ContractError, NotSupportedYet
from tests.example_contract import contract, document

COMPUTE: dict[str, Any] = {
    "queue": "gpu",
    "pool": "gpu slots",
    "executor": "KubernetesExecutor",
    "pod": {
        "image": "registry.example.org:5000/team/sluice:1.0@sha256:" + "0" * 64,
        "cpu": "4",
        "memory": "16Gi",
        "ephemeral_storage": "20Gi",
        "gpus": 2,
        "gpu_resource": "amd.com/gpu",
        "node_selector": {"example.org/accelerator": "mi300", "zone": ""},
        "tolerations": [
            {"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "spot", "value": "yes", "effect": "NoExecute", "toleration_seconds": 60},
            {"operator": "Exists"},
        ],
        "service_account": "sluice-trainer",
        "priority_class": "batch.low",
        "labels": {"team": "privacy", "example.org/cost-centre": "4711"},
        "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "note": 'any text, "quoted"'},
    },
}


def report(compute: Any) -> str:
    with pytest.raises(ContractError) as caught:
        contract_from_document(document({"compute": compute}))
    return str(caught.value)


def test_without_a_word_about_it_they_run_where_everything_does() -> None:
    assert contract().compute == Compute(queue=None, pool=None, executor=None, pod=None)
    assert contract().document()["compute"] == {"queue": None, "pool": None, "executor": None, "pod": None}


def test_every_field_survives_the_document_and_its_defaults_are_written_out() -> None:
    whole = contract({"compute": COMPUTE})
    again = contract_from_document(json.loads(json.dumps(whole.document())))
    assert again == whole
    assert again.digest() == whole.digest() != contract().digest()
    written = whole.document()["compute"]
    assert written["pod"]["tolerations"][2] == {
        "key": None, "operator": "Exists", "value": None, "effect": None, "toleration_seconds": None,
    }  # fmt: skip
    del written["pod"]["tolerations"]
    assert written == {**COMPUTE, "pod": {k: v for k, v in COMPUTE["pod"].items() if k != "tolerations"}}
    assert contract({"compute.pod": {"gpus": 1}}).document()["compute"]["pod"]["gpu_resource"] == "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("field", "given", "accepted"),
    [
        ("queue", "", "one queue's name, without spaces or commas"),
        ("queue", "gpu,cpu", "one queue's name, without spaces or commas"),
        ("queue", "q" * 201, "at most 200 characters"),
        ("pool", "", "neither begins nor ends with a space"),
        ("pool", "gpu ", "neither begins nor ends with a space"),
        ("pool", "gpu\n", "neither begins nor ends with a space"),
        ("pool", 5, "quote it"),
        ("executor", "Celery Executor", "such as KubernetesExecutor"),
        ("executor", "LocalExecutor,KubernetesExecutor", "such as KubernetesExecutor"),
        ("executor", "team=CeleryExecutor", "such as KubernetesExecutor"),
        ("executor", "module.", "such as KubernetesExecutor"),
        ("pod.image", "Registry.example.org/Sluice", "an image such as registry.example.org/sluice:1.0"),
        ("pod.image", "sluice: 1", "an image such as registry.example.org/sluice:1.0"),
        ("pod.image", "sluice@sha256:abc", "its digest"),
        ("pod.image", "sluice\n", "an image such as"),
        ("pod.cpu", 0, "cores above 0"),
        ("pod.cpu", "0.0", "cores above 0"),
        ("pod.cpu", "0m", "cores above 0"),
        ("pod.cpu", -1, "cores above 0"),
        ("pod.cpu", 0.0001, "no finer than a thousandth"),
        ("pod.cpu", "four", "such as 4, 0.5 or 500m"),
        ("pod.cpu", True, "such as 4, 0.5 or 500m"),
        ("pod.cpu", "4Gi", "such as 4, 0.5 or 500m"),
        ("pod.memory", 16, "with its unit, such as 16Gi"),
        ("pod.memory", "16", "with its unit, such as 16Gi"),
        ("pod.memory", "16GB", "with its unit, such as 16Gi"),
        ("pod.memory", "16gi", "with its unit, such as 16Gi"),
        ("pod.memory", "400m", "with its unit, such as 16Gi"),
        ("pod.memory", "0.0Gi", "above 0"),
        ("pod.memory", "-1Gi", "above 0"),
        ("pod.ephemeral_storage", "lots", "with its unit, such as 16Gi"),
        ("pod.gpus", 0, "greater than or equal to 1"),
        ("pod.gpus", 0.5, "valid integer"),
        ("pod.gpus", 65, "less than or equal to 64"),
        ("pod.gpu_resource", "gpu", "such as nvidia.com/gpu"),
        ("pod.gpu_resource", "kubernetes.io/gpu", "such as nvidia.com/gpu"),
        ("pod.service_account", "Trainer", "lower-case letters, digits, - and ."),
        ("pod.service_account", "a" * 254, "at most 253 characters"),
        ("pod.priority_class", "high_priority", "lower-case letters, digits, - and ."),
        ("pod.tolerations.0.operator", "Matches", "'Exists' or 'Equal'"),
        ("pod.tolerations.0.effect", "Never", "'NoSchedule', 'PreferNoSchedule' or 'NoExecute'"),
        ("pod.node_selector.gpu", True, "quote it"),
        ("pod.node_selector.gpu", "-x", "beginning and ending with a letter or digit"),
        ("pod.labels.team", "p" * 64, "at most 63 characters"),
        ("pod.annotations.note", "n" * 4097, "at most 4096 characters"),
    ],
)
def test_a_fault_names_its_field_what_was_given_and_what_is_accepted(field: str, given: Any, accepted: str) -> None:
    compute: Any = given
    for key in reversed(field.split(".")):
        compute = [compute] if key == "0" else {key: compute}
    text = report(compute)
    assert text.startswith("contract: 1 fault\n")
    assert f"  - compute.{field}: " in text
    assert accepted in text
    assert f"(given: {given!r})" in text


@pytest.mark.parametrize(
    ("field", "key"),
    [("labels", "a b"), ("labels", "-a"), ("annotations", "Example.org/a"), ("node_selector", "a/b/c"), ("labels", "")],
)
def test_a_key_that_kubernetes_would_refuse_is_named(field: str, key: str) -> None:
    text = report({"pod": {field: {key: "x"}}})
    assert f"compute.pod.{field}" in text
    assert "a key such as team or example.org/team" in text
    assert f"(given: {key!r})" in text


@pytest.mark.parametrize(
    ("toleration", "accepted"),
    [
        ({}, "operator: Exists"),
        ({"value": "x"}, "operator: Exists"),
        ({"key": "a", "operator": "Exists", "value": "x"}, "operator: Equal"),
        ({"key": "a", "toleration_seconds": 5}, "effect: NoExecute"),
    ],
)
def test_a_toleration_that_kubernetes_would_refuse_says_what_is_accepted(
    toleration: dict[str, Any], accepted: str
) -> None:
    text = report({"pod": {"tolerations": [{"operator": "Exists"}, toleration]}})
    assert "compute.pod.tolerations.1: " in text
    assert accepted in text


def test_numbers_that_yaml_reads_are_cores() -> None:
    assert Pod(cpu=4).cpu == "4"  # type: ignore[arg-type]
    assert Pod(cpu=0.5).cpu == "0.5"  # type: ignore[arg-type]


def test_a_contract_has_no_place_for_secrets_and_says_where_they_belong() -> None:
    text = report({"pod": {"env": {"PASSWORD": "hunter2"}}})
    assert "compute.pod.env: unknown field; a contract is public" in text
    assert "pod template" in text
    assert "hunter2" not in text


def test_an_image_beside_the_pod_is_sent_into_it_and_a_device_is_later_work() -> None:
    assert "compute.image: unknown field; use compute.pod.image" in report({"image": "sluice:1.0"})
    with pytest.raises(NotSupportedYet, match=r"compute\.device: not supported yet"):
        contract({"compute.device": "cuda"})


def test_an_editor_is_told_the_same_forms_and_that_a_pod_holds_no_secrets() -> None:
    definitions = Contract.model_json_schema(by_alias=True)["$defs"]
    assert "no secrets: a contract is public" in definitions["Pod"]["description"]
    cpu, memory = (definitions["Pod"]["properties"][field]["anyOf"][0] for field in ("cpu", "memory"))
    assert (cpu["type"], memory["type"]) == (["string", "number"], "string")
    for schema in (cpu, memory):
        assert schema["pattern"].startswith("^(?:")
        assert schema["pattern"].endswith(")$")


def test_an_editor_that_checks_the_schema_takes_every_field() -> None:
    schema = Contract.model_json_schema(by_alias=True)
    Draft202012Validator.check_schema(schema)
    checked = Draft202012Validator(schema)
    assert not list(checked.iter_errors(document({"compute": COMPUTE})))
    for faulty in ({"cpu": "0"}, {"memory": "16"}, {"labels": {"a": "-"}}, {"env": {}}):
        assert list(checked.iter_errors(document({"compute": {"pod": faulty}}))), faulty
