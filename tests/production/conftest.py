"""The deployment of ``docker/compose.yaml`` on loopback, with another store for releases, through one eventful run.

Airflow's metadata and the ledger are on PostgreSQL, Celery hands the tasks to two workers over Redis, and the release
goes to S3 (moto's server: an emulator, see :mod:`tests.bucket`) through an Airflow connection. Two schedulers run, from
the same definition. One run waits for the worker that trains, loses it in training, and gets it back. Beside it three
contracts start each other by their releases, under one policy: the first while both schedulers are there; the second
loses one of them in its training; the third the other, and one is started again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from itertools import pairwise
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
CHAIN = ("crowd_a", "crowd_b", "crowd_c")
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
    """The deployment and the run that rita triggered; its training worker was killed, and started again.

    :ivar schedulers: both, by name.
    :ivar chain: the runs of the contracts that start each other.
    :ivar killed: the scheduler that was killed in the training of each of the chain's runs.
    """

    services: Services
    settings: Settings
    gpu: Component
    schedulers: dict[str, Component]
    accounts: dict[str, Account]
    run: DagRun
    waiting: Waiting = field(init=False)
    chain: dict[str, DagRun] = field(default_factory=dict)
    killed: dict[str, str] = field(default_factory=dict)

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

    def working(self) -> set[str]:
        """The schedulers that have begun to work."""
        query = "SELECT hostname FROM job WHERE job_type = 'SchedulerJob' AND state = 'running'"
        return {name for (name,) in self.select(query)}

    def scheduled_by(self, run: DagRun, task: str = "") -> set[str]:
        """The schedulers that handed out a task of a run, by default any."""
        query = (
            "SELECT job.hostname FROM task_instance JOIN job ON job.id = queued_by_job_id "
            "WHERE run_id = %s AND task_instance.dag_id = %s AND task_id LIKE %s"
        )
        return {name for (name,) in self.select(query, run.run_id, run.dag_id, task or "%")}

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
        schedulers = {name: services.component("scheduler", name=name) for name in ("scheduler", "scheduler-2")}
        core = [*schedulers.values(), *(services.component(name) for name in ("api-server", "dag-processor"))]
        core.append(services.worker("worker"))
        for component in core:
            component.start()
        services.wait_until_healthy(core)
        accounts = {name: Account.log_in(services.airflow.url, name, passwords[name]) for name in _ACCOUNTS}
        _connect_bucket(services, accounts["admin"])
        accounts["admin"].wait_for_dags("share_people", *(f"share_{name}" for name in CHAIN))

        run, gpu = accounts["rita"].trigger("share_people"), services.worker("worker-gpu")
        made = Production(services, services.settings("worker"), gpu, schedulers, accounts, run)
        _wait(lambda: made.working() == set(schedulers), 60, "both schedulers")
        made.chain[CHAIN[0]] = accounts["rita"].trigger(f"share_{CHAIN[0]}")
        made.waiting = _seen_waiting(made)
        gpu.start()
        made.wait_for_start(run, "label_model")
        gpu.kill()
        assert "label_model" not in made.committed(run)
        gpu.start()
        _kill_schedulers(made)
        yield made


def _kill_schedulers(production: Production) -> None:
    """One in the training of the chain's second run; in that of the third the other, and the first is started again."""
    schedulers = production.schedulers
    for name in CHAIN[1:]:
        (run,) = production.accounts["admin"].started(f"share_{name}")
        production.chain[name] = run
        production.wait_for_start(run, "label_model")
        left = [scheduler for scheduler in schedulers if scheduler not in production.killed.values()]
        for scheduler in left:
            schedulers[scheduler].assert_running()
        queued = production.scheduled_by(run, "train")
        victim = next(scheduler for scheduler in left if scheduler in queued)
        schedulers[victim].kill()
        production.killed[name] = victim
        assert "label_model" not in production.committed(run)
    schedulers[production.killed[CHAIN[1]]].start()


def _wait(there: Callable[[], bool], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not there():
        assert time.monotonic() < deadline, f"{what}: not there after {within_s:g} s"
        time.sleep(0.5)


def _seen_waiting(production: Production) -> Waiting:
    """What is seen some rounds of the scheduler after the training was handed to a queue without a worker."""
    run = production.run
    run.reaches("train", "queued", "upstream_failed", within_s=180)
    time.sleep(5)
    return Waiting(run.states(), production.starts(run), production.services.broker.waiting("gpu"))


def _make_world(home: Path) -> None:
    for folder in ("data", "contracts", "dags", "workspaces", "keys", "anchors"):
        (home / folder).mkdir()
    (home / "dags" / "share.py").write_text(_SHARE.read_text() + planted.SHORT_DELAYS)
    for table in ("people", "crowd"):
        planted.write_table(home / "data" / f"{table}.csv")
    both = {"method": planted.SLOW, "publish": {"uri": f"s3://{_CONNECTION}@{BUCKET}/open"}}
    contracts: dict[str, dict[str, Any]] = {
        "people": {"approval": {"mode": "human"}, "compute": {"queue": "gpu", "pool": "gpu"}},
        CHAIN[0]: {},
        **{name: {"schedule": {"asset": f"release_{before}"}} for before, name in pairwise(CHAIN)},
    }
    for name, changes in contracts.items():
        table = "crowd" if name in CHAIN else name
        document = planted.contract(home, name, f"{table}.csv", **both, **changes)
        (home / "contracts" / f"{name}.yaml").write_text(yaml.safe_dump(document))


def _register(services: Services) -> None:
    """The owner makes the ledger's tables and the officer registers the policy, each with the role of its container."""
    from synth.contract import Policy
    from synth.officer import register

    approvals = {"people": {"mode": "human", "approvers": ["olga"]}, "crowd": {"mode": "automatic"}}
    Ledger.migrate(services.settings("ledger-init").ledger_url, officer="ledger_officer", worker="ledger_writer")
    settings = services.settings("officer")
    with Ledger.open(settings.ledger_url) as ledger:
        for name, approval in approvals.items():
            source = str(services.home / "data" / f"{name}.csv")
            changes = {"name": f"{name}_policy", "sources": [source], "approval": approval}
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
