"""One deployment as users have it: Airflow's scheduler, DAG processor, API server and workers, on loopback."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from synth.ledger import Entry, Ledger
from synth.settings import Settings
from tests.operators import planted
from tests.scheduler.rest import Account, DagRun

collect_ignore_glob = [] if find_spec("airflow") else ["test_*.py"]

_ROOT = Path(__file__).resolve().parents[2]
_ACCOUNTS = {"admin": "admin", "rita": "user", "olga": "user"}
# Long enough in training to be killed there, and still a matter of seconds.
_SLOW = {"options": {"batch_size": 128, "steps": 4000}}
_CONTRACTS: dict[str, dict[str, Any]] = {
    "asked": {"approval": {"mode": "human"}},
    "refused": {"approval": {"mode": "human"}},
    "hurried": {"approval": {"mode": "human", "timeout_hours": 15 / 3600}},
    "killed": {"approval": {"mode": "automatic"}, "method": _SLOW},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.scheduler)
            item.add_marker(pytest.mark.timeout(600))


@dataclass(frozen=True)
class Deployment:
    """A running Airflow, its folder, and who is logged in."""

    home: Path
    settings: Settings
    accounts: dict[str, Account]
    runs: dict[str, DagRun]

    def entries(self, run: DagRun) -> list[Entry]:
        """What the ledger has of a DAG run."""
        name = f"{run.dag_id.removeprefix('share_')}/{run.run_id}"
        with Ledger.open(self.settings.ledger_url) as ledger:
            return [e for policy in ledger.policies() for e in ledger.entries(policy.name, name)]

    def facts(self, run: DagRun, kind: str) -> list[dict[str, Any]]:
        """The payloads of one kind."""
        return [entry.payload for entry in self.entries(run) if entry.kind == kind]

    def starts(self, run: DagRun) -> list[str]:
        """The mechanisms that were started, attempt by attempt."""
        return sorted(payload["mechanism"] for payload in self.facts(run, "start"))

    def planned(self, run: DagRun) -> list[str]:
        """The mechanisms that were reserved."""
        return sorted(charge["mechanism"] for charge in self.facts(run, "reserve")[0]["charges"])

    def released(self, run: DagRun) -> list[Path]:
        """The release folders of the run's dataset."""
        return sorted((self.home / "bucket" / run.dag_id.removeprefix("share_")).glob("*"))


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Airflow, healthy, with a run of each contract triggered, and the worker of one killed in its training.

    The runs go side by side, because on few cores they take long one after another.
    """
    from dags.standalone import Standalone

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
    }
    sluice = home / "sluice"
    settings = Settings(f"sqlite:///{sluice / 'ledger.db'}", sluice / "runs", sluice / "keys")
    _register(home, settings)
    with standalone.running(environment):
        passwords = standalone.passwords()
        accounts = {name: Account.log_in(standalone.url, name, passwords[name]) for name in _ACCOUNTS}
        _wait_for_dags(accounts["admin"])
        runs = {name: accounts["rita"].trigger(f"share_{name}") for name in _CONTRACTS}
        deployment = Deployment(home, settings, accounts, runs)
        _kill_worker_in_training(deployment, runs["killed"])
        yield deployment


def _make_world(home: Path) -> None:
    for folder in ("data", "contracts", "bucket", "dags", "sluice"):
        (home / folder).mkdir()
    shipped = (_ROOT / "dags" / "share.py").read_text()
    (home / "dags" / "share.py").write_text(shipped + planted.SHORT_DELAYS)
    for table in ("human.csv", "killed.csv"):
        planted.write_table(home / "data" / table)
    for name, changes in _CONTRACTS.items():
        table = "killed.csv" if name == "killed" else "human.csv"
        document = planted.contract(home, name, table, **changes)
        (home / "contracts" / f"{name}.yaml").write_text(yaml.safe_dump(document))


def _register(home: Path, settings: Settings) -> None:
    from synth.contract import Policy
    from synth.officer import register

    human = {"mode": "human", "approvers": ["olga", "rita"]}
    with Ledger.open(settings.ledger_url) as ledger:
        for name, changes in {"human": {"approval": human}, "killed": {}}.items():
            document = {**planted.POLICY, "name": f"{name}_policy", "sources": [str(home / "data" / f"{name}.csv")]}
            register(ledger, settings, Policy.model_validate(document | changes), by="officer")


def _wait_for_dags(account: Account) -> None:
    deadline = time.monotonic() + 120
    expected = {f"share_{name}" for name in _CONTRACTS}
    while {dag["dag_id"] for dag in account.get("/dags")["dags"]} != expected:
        assert time.monotonic() < deadline, account.get("/importErrors")
        time.sleep(1)


def _kill_worker_in_training(deployment: Deployment, run: DagRun) -> None:
    """Once the label model has started, its task's process and the worker above it."""
    deadline = time.monotonic() + 300
    while "label_model" not in deployment.starts(run):
        assert time.monotonic() < deadline, run.states()
        time.sleep(0.2)
    task = psutil.Process(run.tasks()["train"]["pid"])
    worker = task.parent()
    assert worker is not None
    for process in (worker, task):
        os.kill(process.pid, signal.SIGKILL)
    assert "label_model" not in [payload["mechanism"] for payload in deployment.facts(run, "commit")]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
