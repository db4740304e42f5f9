"""The Airflow connection that ``publish.uri`` names, against moto's server: an emulator, see :mod:`tests.bucket`."""

from __future__ import annotations

import json
import logging

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowException

from operators.allocate import AllocateOperator
from operators.base import with_public_errors
from operators.bucket import storage_options
from operators.publish import PublishOperator
from synth.errors import AnchorsUnavailable
from synth.release.verify import verify_release
from synth.steps import STEPS
from tests.bucket import Server, variables
from tests.conftest import Deployment, people

pytest.importorskip(
    "airflow.providers.amazon.aws.fs.s3",
    reason="publishing with an Airflow connection is NOT tested: install apache-airflow-providers-amazon[s3fs]",
)
SECRET = "qzxsecretaccesskey"


@pytest.fixture
def only_the_connection(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The environment leads nowhere; the connection ``office`` leads to the server."""
    for name, value in variables("http://127.0.0.1:9", "nobody", "nothing").items():
        monkeypatch.setenv(name, value)
    connection = {
        "conn_type": "aws",
        "login": "publisher",
        "password": SECRET,
        "extra": {"endpoint_url": server.url, "region_name": "us-east-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_OFFICE", json.dumps(connection))
    monkeypatch.setattr("airflow.sdk.io.store._STORE_CACHE", {})
    return server


@pytest.mark.slow
def test_the_connection_of_the_contract_publishes_and_is_shown_nowhere(
    deployment: Deployment, only_the_connection: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    deployment.register()
    deployment.write(people())
    with deployment.run(publish={"uri": "s3://office@releases/open"}) as run:
        document, refuse = run.contract.document(), lambda request: "AccessDenied"
        allocate = AllocateOperator(task_id="allocate", document=document)
        preflight, _, *middle, _ = STEPS
        preflight(run)
        only_the_connection.refuse = refuse
        with pytest.raises(AnchorsUnavailable, match="earlier releases cannot be read"):
            allocate.step(run)
        only_the_connection.refuse = lambda request: None
        allocate.step(run)
        for step in middle:
            step(run)
        operator = PublishOperator(task_id="publish", document=document, asset=Asset("people"))
        facts = with_public_errors(lambda: operator.step(run))
        assert facts["uri"] == f"s3://releases/open/people/{facts['version']}"
        assert verify_release(facts["uri"], run.storage_options).ok
        assert SECRET not in repr(run) + repr(facts) + caplog.text
        assert run.storage_options
    written = [path for path in deployment.folder.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in path.read_bytes() for path in written)


def test_a_connection_that_is_missing_does_not_publish_with_other_credentials(server: Server) -> None:
    """The environment would lead to the bucket."""
    with pytest.raises(AirflowException, match="names the Airflow connection 'missing', which cannot be used"):
        with_public_errors(lambda: storage_options("s3://missing@releases/open"))


def test_what_is_wrong_with_a_connection_is_not_quoted(
    only_the_connection: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OFFICE", f'{{"conn_type": "aws", "extra": {SECRET}')
    with pytest.raises(AirflowException, match="connection 'office', which cannot be used") as failed:
        with_public_errors(lambda: storage_options("s3://office@releases/open"))
    assert SECRET not in str(failed.value)
    assert failed.value.__context__ is None


@pytest.mark.parametrize("uri", ["s3://releases/open", "${SLUICE_TEST_FOLDER}/bucket"])
def test_a_place_without_a_connection_needs_none(uri: str) -> None:
    assert storage_options(uri) == {}
