"""DAGs that nobody triggers: a contract on a data event, the consumer of its releases, a contract on a cron time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.scheduler.rest import Account

if TYPE_CHECKING:
    from tests.bucket import Server

DATA, FEED, SECRET = "table_fed", "feed", "qzxsecretaccesskey"
# The runs that come of three updates of the data, and the first that a time starts.
RUNS = {"share_fed": 2, "consume_fed": 2, "share_timed": 1}

_SHIPPED = Path(__file__).resolve().parents[2] / "dags" / "consume_rand_hie.py"
_FEED = f"""
from airflow.sdk import Asset, dag, task


@dag(schedule=None)
def {FEED}():
    @task(outlets=[Asset(name="{DATA}", uri="s3://warehouse/fed.csv")])
    def load():
        pass

    load()


{FEED}()
"""


FED: dict[str, Any] = {"approval": {"mode": "automatic"}, "schedule": {"asset": DATA}}


def timed() -> dict[str, Any]:
    """What a contract changes to start once during the tests; by then Airflow has had minutes to find it."""
    at = datetime.now(UTC) + timedelta(seconds=240)
    return {
        "approval": {"mode": "automatic"},
        "schedule": f"{at.minute} {at.hour} * * *",
        "publish": {"uri": "s3://office@releases/open"},
    }


def write_dags(folder: Path) -> None:
    """The data's producer, and the shipped consumer with the names of the test's dataset."""
    consumer = _SHIPPED.read_text()
    for shipped, here in {"rand_hie": "fed", '"coins"': '"region"', '"binexp"': '"member"'}.items():
        assert shipped in consumer
        consumer = consumer.replace(shipped, here)
    (folder / "consume_fed.py").write_text(consumer)
    (folder / f"{FEED}.py").write_text(_FEED)


def connection(server: Server) -> dict[str, str]:
    """The environment of workers that have the Airflow connection ``office``, which leads to the server."""
    office = {
        "conn_type": "aws",
        "login": "publisher",
        "password": SECRET,
        "extra": {"endpoint_url": server.url, "region_name": "us-east-1"},
    }
    return {"AIRFLOW_CONN_OFFICE": json.dumps(office)}


def update_data_twice(account: Account) -> None:
    """While the run that the producer's update started is still under way."""
    (run,) = account.started("share_fed")
    (data,) = account.get(f"/assets?name_pattern={DATA}")["assets"]
    for _ in range(2):
        account.call("POST", "/api/v2/assets/events", {"asset_id": data["id"]})
    assert run.state() in ("queued", "running")
