"""The deployment of ``docker/compose.yaml`` on loopback, with another store for releases, through one eventful run.

Airflow's metadata and the ledger are on PostgreSQL, Celery hands the tasks to two workers over Redis, and the release
goes to S3 (moto's server: an emulator, see :mod:`tests.bucket`) through an Airflow connection. The run waits for the
worker that trains, loses it in training, and gets it back.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from synth.ledger import Ledger
from synth.settings import Settings
from tests.ledger import postgres
from tests.operators import planted
from tests.scheduler.records import Records
from tests.scheduler.rest import Account, DagRun

if TYPE_CHECKING:
    from tests.production.components import Component
    from tests.production.services import Services

_PACKAGES = ("airflow", "celery", "redis")
collect_ignore_glob = [] if all(map(find_spec, _PACKAGES)) else ["test_*.py"]

BUCKET = "production"
REASON = "the marginals are close enough"
_CONNECTION = "sluice_bucket"
_ACCOUNTS = {"admin": "admin", "rita": "user", "olga": "user"}
_SHARE = Path(__file__).resolve().parents[2] / "dags" / "share.py"


@dataclass(frozen=True)
class Waiting:
    """What was seen of the run while no worker served the queue of its training."""

    states: dict[str, str | None]
    starts: list[str]
    messages: int


@dataclass
class Production(Records):
    """The deployment and its one run, which rita triggered; its training worker was killed, and started again."""

    services: Services
    settings: Settings
    gpu: Component
    accounts: dict[str, Account]
    run: DagRun
    waiting: Waiting = field(init=False)

    @property
    def home(self) -> Path:
        return self.services.home

    @cached_property
    def published(self) -> DagRun:
        """The run, approved by olga and over."""
        run = self.run.seen_by(self.accounts["olga"])
        run.reaches("approve", "awaiting_input", "failed", "upstream_failed", within_s=300)
        assert run.states()["approve"] == "awaiting_input", run.states()
        run.asks()
        run.answer("Approve", REASON)
        assert run.ended() == "success", run.states()
        return run

    def select(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What Airflow's database answers."""
        with self.services.postgresql.psycopg("airflow") as connection:
            return connection.execute(query, values).fetchall()


@pytest.fixture(scope="package")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """The deployment, ended after this package's tests: two Airflows side by side are slow."""
    postgresql, redis = postgres.binaries(), shutil.which("redis-server")
    if postgresql is None or redis is None:
        missing = "PostgreSQL" if postgresql is None else "redis-server"
        pytest.skip(f"{missing} is not installed, so Sluice is NOT tested as it is deployed; install it")
    from tests.production.services import Services

    home = tmp_path_factory.mktemp("production")
    _make_world(home)
    with Services.running(home, _ACCOUNTS, postgresql, redis) as services:
        passwords = services.airflow.passwords()
        services.create_databases()
        initialising = services.component("airflow-init")
        initialising.start()
        _register(services)
        initialising.finish(within_s=120)
        core = [services.component(name) for name in ("api-server", "scheduler", "dag-processor")]
        core.append(services.worker("worker"))
        for component in core:
            component.start()
        services.wait_until_healthy(core)
        accounts = {name: Account.log_in(services.airflow.url, name, passwords[name]) for name in _ACCOUNTS}
        _connect_bucket(services, accounts["admin"])
        accounts["admin"].wait_for_dags("share_people")

        run, gpu = accounts["rita"].trigger("share_people"), services.worker("worker-gpu")
        made = Production(services, services.settings("worker"), gpu, accounts, run)
        made.waiting = _seen_waiting(made)
        gpu.start()
        made.wait_for_start(run, "label_model")
        gpu.kill()
        assert "label_model" not in made.committed(run)
        gpu.start()
        yield made


def _seen_waiting(production: Production) -> Waiting:
    """What is seen some rounds of the scheduler after the training was handed to a queue without a worker."""
    run = production.run
    run.reaches("train", "queued", "upstream_failed", within_s=180)
    time.sleep(5)
    return Waiting(run.states(), production.starts(run), production.services.broker.waiting("gpu"))


def _make_world(home: Path) -> None:
    for folder in ("data", "contracts", "dags", "workspaces", "keys"):
        (home / folder).mkdir()
    (home / "dags" / "share.py").write_text(_SHARE.read_text() + planted.SHORT_DELAYS)
    planted.write_table(home / "data" / "people.csv")
    changes = {
        "approval": {"mode": "human"},
        "compute": {"queue": "gpu", "pool": "gpu"},
        "method": planted.SLOW,
        "publish": {"uri": f"s3://{_CONNECTION}@{BUCKET}/open"},
    }
    document = planted.contract(home, "people", "people.csv", **changes)
    (home / "contracts" / "people.yaml").write_text(yaml.safe_dump(document))


def _register(services: Services) -> None:
    """The owner makes the ledger's tables and the officer registers the policy, each with the role of its container."""
    from synth.contract import Policy
    from synth.officer import register

    source = str(services.home / "data" / "people.csv")
    changes = {"sources": [source], "approval": {"mode": "human", "approvers": ["olga"]}}
    Ledger.migrate(services.settings("ledger-init").ledger_url, officer="ledger_officer", worker="ledger_writer")
    settings = services.settings("officer")
    with Ledger.open(settings.ledger_url) as ledger:
        register(ledger, settings, Policy.model_validate(planted.POLICY | changes), by="officer")


def _connect_bucket(services: Services, admin: Account) -> None:
    """An empty bucket, and the Airflow connection that leads to it."""
    services.s3.client().create_bucket(Bucket=BUCKET)
    body = {
        "connection_id": _CONNECTION,
        "conn_type": "aws",
        "login": "publisher",
        "password": services.secrets["S3_SECRET_KEY"],
        "extra": json.dumps({"endpoint_url": services.s3.url, "region_name": "us-east-1"}),
    }
    admin.call("POST", "/api/v2/connections", body)
