"""An Airflow home of our own, set before anything imports Airflow, and one world of DAGs that were really run."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.operators import planted

collect_ignore_glob = [] if find_spec("airflow") else ["test_*.py"]

_HOME = Path(tempfile.mkdtemp(prefix="sluice-airflow-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ |= {
    "AIRFLOW_HOME": str(_HOME / "airflow"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
}

_ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.airflow)


@dataclass(frozen=True)
class World:
    """What a deployment holds after some DAG runs: see :mod:`tests.operators.drive`."""

    home: Path
    environment: dict[str, str]

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """Rows of Airflow's database."""
        connection = sqlite3.connect(self.home / "airflow" / "airflow.db")
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def run_ids(self, dag_id: str) -> list[str]:
        return [row[0] for row in self.rows("SELECT run_id FROM dag_run WHERE dag_id = ? ORDER BY id", dag_id)]

    def state(self, dag_id: str, nth: int = 0) -> str:
        return self.rows("SELECT state FROM dag_run WHERE dag_id = ? ORDER BY id", dag_id)[nth][0]

    def tasks(self, dag_id: str, nth: int = 0) -> dict[str, str]:
        return dict(self._task_instances("state", dag_id, nth))

    def tries(self, dag_id: str, nth: int = 0) -> dict[str, int]:
        return dict(self._task_instances("try_number", dag_id, nth))

    def xcoms(self, dag_id: str, nth: int = 0) -> dict[str, Any]:
        run_id = self.run_ids(dag_id)[nth]
        found = self.rows("SELECT task_id, key, value FROM xcom WHERE dag_id = ? AND run_id = ?", dag_id, run_id)
        return {task if key == "return_value" else f"{task}.{key}": json.loads(value) for task, key, value in found}

    def log(self, number: int) -> str:
        """What the ``number``-th DAG run wrote to its log, to stdout and to stderr."""
        return (self.home / f"run-{number}.log").read_text()

    def _task_instances(self, column: str, dag_id: str, nth: int) -> list[Any]:
        run_id = self.run_ids(dag_id)[nth]
        return self.rows(f"SELECT task_id, {column} FROM task_instance WHERE dag_id = ? AND run_id = ?", dag_id, run_id)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Contracts, policies and private tables with planted values; their DAGs run by Airflow, once for all tests."""
    home = tmp_path_factory.mktemp("world")
    environment = os.environ | {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "SLUICE_HOME": str(home / "sluice"),
        "SLUICE_CONTRACTS": str(home / "contracts"),
        "AIRFLOW_CONN_SLUICE_WORKSPACE": json.dumps({"conn_type": "generic", "password": planted.WORKSPACE_KEY}),
        "PYTHONPATH": str(_ROOT),
        # On tables this small, threads mostly wait for each other.
        "OMP_NUM_THREADS": "1",
    }
    planted.make_world(home)
    driven = subprocess.run(
        [sys.executable, "-m", "tests.operators.drive", str(home)],
        check=False,
        env=environment,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    (home / "drive.log").write_text(driven.stdout + driven.stderr)
    assert driven.returncode == 0, (driven.stdout + driven.stderr)[-6000:]
    return World(home, environment)


@pytest.fixture
def in_world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world, as the settings of this process."""
    for name, value in world.environment.items():
        if name.startswith(("SLUICE_", "AIRFLOW_CONN_")):
            monkeypatch.setenv(name, value)
    return world
