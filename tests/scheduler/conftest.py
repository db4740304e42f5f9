"""One deployment as users have it: Airflow's scheduler, DAG processor, API server and workers, on loopback."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from synth.ledger import Ledger
from synth.settings import Settings
from tests.operators import planted
from tests.scheduler import by_hand, mortal, self_starting
from tests.scheduler.records import Records
from tests.scheduler.rest import Account, DagRun

collect_ignore_glob = [] if find_spec("airflow") else ["test_*.py"]

_ROOT = Path(__file__).resolve().parents[2]
_ACCOUNTS = {"admin": "admin", "rita": "user", "olga": "user"}
_CONTRACTS: dict[str, dict[str, Any]] = {
    "asked": {"approval": {"mode": "human"}},
    "refused": {"approval": {"mode": "human"}},
    "hurried": {"approval": {"mode": "human", "timeout_hours": 15 / 3600}},
    "killed": {"approval": {"mode": "automatic"}, "method": planted.SLOW},
}
_MORTAL: dict[str, dict[str, Any]] = {
    name: {"approval": {"mode": "automatic"}} | ({"method": planted.SLOW} if name == "mortal_often" else {})
    for name in mortal.CONTRACTS
}
_ALL = _CONTRACTS | {"fed": self_starting.FED} | _MORTAL | by_hand.CONTRACTS
_TABLES = ("human", "killed", "mortal", "by_hand")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.scheduler)
            item.add_marker(pytest.mark.timeout(900))


@dataclass(frozen=True)
class Deployment(Records):
    """A running Airflow, its folder, and who is logged in."""

    home: Path
    settings: Settings
    accounts: dict[str, Account]
    runs: dict[str, DagRun]
    environment: dict[str, str]

    def released(self, run: DagRun) -> list[Path]:
        """The release folders of the run's dataset."""
        return sorted((self.home / "bucket" / run.dag_id.removeprefix("share_")).glob("*"))


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory, one_server: Any) -> Iterator[Deployment]:
    """Airflow, healthy, with a run of each contract triggered, and the worker of one killed in its training.

    What starts by itself has started, too, see :mod:`tests.scheduler.self_starting`.

    The runs go side by side, because on few cores they take long one after another.
    """
    from dags.standalone import Standalone
    from tests.bucket import releases_bucket

    home = tmp_path_factory.mktemp("scheduler")
    standalone = Standalone(home / "airflow", _free_port(), _ACCOUNTS)
    _make_world(home)
    environment = {
        "SLUICE_HOME": str(home / "sluice"),
        "SLUICE_CONTRACTS": str(home / "contracts"),
        "PYTHONPATH": str(_ROOT),
        "OMP_NUM_THREADS": "1",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        # Notice within seconds that a worker is gone.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
        **self_starting.connection(one_server),
    }
    sluice = home / "sluice"
    settings = Settings(f"sqlite:///{sluice / 'ledger.db'}", sluice / "runs", sluice / "keys")
    _register(home, settings)
    with releases_bucket(one_server), standalone.running(environment):
        passwords = standalone.passwords()
        accounts = {name: Account.log_in(standalone.url, name, passwords[name]) for name in _ACCOUNTS}
        expected = {*(f"share_{name}" for name in _ALL), *self_starting.RUNS, self_starting.FEED}
        accounts["admin"].wait_for_dags(*(expected - {"share_timed"}))
        _write_contract(home, "timed", self_starting.timed())
        accounts["admin"].trigger(self_starting.FEED)
        runs = {name: accounts["rita"].trigger(f"share_{name}") for name in _CONTRACTS}
        deployment = Deployment(home, settings, accounts, runs, {**standalone.environment, **environment})
        _kill_worker_in_training(deployment, runs["killed"])
        self_starting.update_data_twice(accounts["admin"])
        accounts["admin"].wait_for_dags(*expected)
        runs |= {name: accounts["rita"].trigger(f"share_{name}") for name in _MORTAL}
        runs |= by_hand.start(accounts["admin"])
        yield deployment


def _make_world(home: Path) -> None:
    for folder in ("data", "contracts", "bucket", "dags", "sluice"):
        (home / folder).mkdir()
    shipped = (_ROOT / "dags" / "share.py").read_text()
    (home / "dags" / "share.py").write_text(shipped + planted.SHORT_DELAYS + mortal.IN_DAG_FILE)
    for table in _TABLES:
        planted.write_table(home / "data" / f"{table}.csv")
    self_starting.write_dags(home / "dags")
    for name, changes in _ALL.items():
        _write_contract(home, name, changes)


def _write_contract(home: Path, name: str, changes: dict[str, Any]) -> None:
    (home / "contracts" / f"{name}.yaml").write_text(yaml.safe_dump(_document(home, name, changes)))


def _document(home: Path, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """A contract on the table, and so under the policy, of its kind."""
    if name in _MORTAL or name in by_hand.CONTRACTS:
        table = "mortal" if name in _MORTAL else "by_hand"
    else:
        table = "human" if changes["approval"]["mode"] == "human" else "killed"
    return planted.contract(home, name, f"{table}.csv", **changes)


def _register(home: Path, settings: Settings) -> None:
    from synth.contract import Policy
    from synth.officer import register

    human = {"mode": "human", "approvers": ["olga", "rita"]}
    with Ledger.open(settings.ledger_url) as ledger:
        for name in _TABLES:
            changes = {"approval": human} if name == "human" else {"epsilon": 50.0}
            document = {**planted.POLICY, "name": f"{name}_policy", "sources": [str(home / "data" / f"{name}.csv")]}
            register(ledger, settings, Policy.model_validate(document | changes), by="officer")


def _kill_worker_in_training(deployment: Deployment, run: DagRun) -> None:
    """Once the label model has started, its task's process and the worker above it."""
    deployment.wait_for_start(run, "label_model")
    task = psutil.Process(run.tasks()["train"]["pid"])
    worker = task.parent()
    assert worker is not None
    for process in (worker, task):
        os.kill(process.pid, signal.SIGKILL)
    assert "label_model" not in deployment.committed(run)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
