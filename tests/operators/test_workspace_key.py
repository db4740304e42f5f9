"""The keys of encrypted workspaces in an Airflow connection: read when a task runs, shown nowhere."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from operators.allocate import AllocateOperator
from operators.base import SluiceOperator
from operators.dag import build_dag
from operators.preflight import PreflightOperator
from operators.settle import SettleOperator
from operators.train import TrainOperator
from operators.validate import ValidateOperator
from operators.workspace_key import with_workspace_keys
from synth.sealing import Sealed
from synth.settings import Settings, new_workspace_key, workspace_keys
from synth.workspace import Workspace
from tests.conftest import Deployment, contract_document

CONNECTION = "AIRFLOW_CONN_SLUICE_WORKSPACE"
CONTEXT: Any = {
    "run_id": "manual__1",
    "params": {},
    "dag_run": SimpleNamespace(triggering_user_name="olga", run_type=SimpleNamespace(value="manual")),
}


def connection(password: str) -> str:
    return json.dumps({"conn_type": "generic", "password": password})


@pytest.fixture
def deployed(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """The environment of this process leads to the deployment."""
    monkeypatch.setenv("SLUICE_HOME", str(deployment.folder))
    monkeypatch.setenv("SLUICE_LEDGER_URL", deployment.settings.ledger_url)
    for name in ("SLUICE_WORKSPACES", "SLUICE_KEYS", "SLUICE_REPORTS", "SLUICE_WORKSPACE_KEY", CONNECTION):
        monkeypatch.delenv(name, raising=False)
    return deployment


def execute(kind: type[SluiceOperator], deployment: Deployment) -> dict[str, Any]:
    name = kind.__name__.removesuffix("Operator").lower()
    return kind(task_id=name, document=contract_document(deployment.folder)).execute(CONTEXT)


def occurrences(folder: Path, forms: list[bytes]) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(form in path.read_bytes() for form in forms)]


def test_the_key_of_the_connection_encrypts_and_is_in_no_file_log_fact_or_error(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    text, old = new_workspace_key(), new_workspace_key()
    monkeypatch.setenv(CONNECTION, connection(f"{text},{old}"))
    shown = [execute(kind, deployed) for kind in (PreflightOperator, AllocateOperator, ValidateOperator)]
    assert shown[0]["workspace"] == "encrypted"

    folder = deployed.settings.run_folder("people", "manual__1")
    (key,) = workspace_keys(text, "")
    assert Workspace(folder, "people/manual__1", (key,)).read_frame("private/snapshot.parquet").shape[0] > 0
    monkeypatch.setenv(CONNECTION, connection(old))
    with pytest.raises(AirflowFailException, match=r"WorkspaceLocked: .*none of the 1 configured") as refused:
        execute(TrainOperator, deployed)
    shown += [execute(SettleOperator, deployed), {"error": str(refused.value)}]

    dag = build_dag(contract_document(deployed.folder))
    shown += [DagSerialization.to_dict(dag), {task.task_id: vars(task) for task in dag.tasks}]
    output = repr(shown) + caplog.text
    assert caplog.text
    for one in (text, old):
        (raw,) = workspace_keys(one, "")
        assert one.rstrip("=") not in output
        assert raw.hex() not in output
        forms = [one.rstrip("=").encode(), raw, raw.hex().encode()]
        assert occurrences(deployed.folder, forms) == []
        assert occurrences(Path(os.environ["AIRFLOW_HOME"]), forms) == []


def test_the_connection_comes_before_the_environment_and_the_environment_before_none(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_workspace_keys(Settings.from_environment()).workspace_keys == ()
    of_environment, of_connection = new_workspace_key(), new_workspace_key()
    monkeypatch.setenv("SLUICE_WORKSPACE_KEY", of_environment)
    assert with_workspace_keys(Settings.from_environment()).workspace_keys == workspace_keys(of_environment, "")
    monkeypatch.setenv(CONNECTION, connection(of_connection))
    assert with_workspace_keys(Settings.from_environment()).workspace_keys == workspace_keys(of_connection, "")


def test_without_a_key_the_workspace_says_that_only_access_is_restricted(deployed: Deployment) -> None:
    assert execute(PreflightOperator, deployed)["workspace"] == "access-restricted"


@pytest.mark.parametrize("password", ["qzxsecretkey", f"{new_workspace_key()},qzxsecretkey"], ids=["one", "second"])
def test_a_password_that_is_no_key_is_refused_without_quoting_it(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv(CONNECTION, connection(password))
    with pytest.raises(AirflowFailException, match=r"connection 'sluice_workspace'.*sluice keys new-workspace") as no:
        execute(PreflightOperator, deployed)
    assert not any(part in str(no.value) for part in password.split(","))


def test_a_connection_without_a_password_is_a_mistake_and_not_a_wish_for_no_encryption(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONNECTION, json.dumps({"conn_type": "generic"}))
    with pytest.raises(AirflowFailException, match="has no password"):
        execute(PreflightOperator, deployed)


def test_a_connection_that_the_deployment_names_has_to_be_there(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_WORKSPACE_CONNECTION", "vaulted")
    with pytest.raises(AirflowException, match=r"'vaulted' .* does not exist or is out of reach") as away:
        execute(PreflightOperator, deployed)
    assert not isinstance(away.value, AirflowFailException), "it is tried again"
    assert not deployed.settings.workspaces.exists()
    monkeypatch.setenv("AIRFLOW_CONN_VAULTED", connection(new_workspace_key()))
    assert execute(PreflightOperator, deployed)["workspace"] == "encrypted"


def test_a_connection_that_cannot_be_read_is_not_taken_for_one_that_is_absent(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(name: str) -> None:
        raise PermissionError("qzxsecretkey")

    monkeypatch.setattr("airflow.sdk.Connection.get", denied)
    with pytest.raises(AirflowException, match=r"cannot be read \(PermissionError\)") as refused:
        execute(PreflightOperator, deployed)
    assert "qzxsecretkey" not in str(refused.value)


def test_building_a_dag_reads_no_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("airflow.sdk.Connection.get", lambda name: pytest.fail("read while parsing"))
    build_dag(contract_document(tmp_path))


def test_the_cipher_is_the_one_of_the_library(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operators begin, `sluice run` with the same key goes on with."""
    text = new_workspace_key()
    monkeypatch.setenv(CONNECTION, connection(text))
    execute(PreflightOperator, deployed)
    monkeypatch.delenv(CONNECTION)
    monkeypatch.setenv("SLUICE_WORKSPACE_KEY", text)
    run = deployed.run("manual__1")
    run.settings = Settings.from_environment()
    assert isinstance(run.workspace._protection, Sealed)
