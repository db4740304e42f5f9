"""Wall seconds of each step, bare and through Airflow, on the demonstration's table and on Adult.

Rows of {data, step, bare_s, airflow_s}. Bare is one fresh process that calls the steps in order; its first step pays
the imports. Through Airflow is ``airflow dags test``: every task with its own start, as the task instance's own clock
has it. ``total`` through Airflow is the whole command, Airflow's start included.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from synth.contract import load_contract
from tests.benchmarks.common import DataSet, data_sets, deployment, report


def bare(data: DataSet) -> dict[str, float]:
    """Seconds of each step in the calling process."""
    from synth import steps
    from synth.run import Run

    seconds: dict[str, float] = {}
    with Run(load_contract(data.contract), "bench") as run:
        for step in (*steps.STEPS, steps.settle):
            started = time.perf_counter()
            step(run)
            seconds[step.__name__] = time.perf_counter() - started
    return seconds


def through_airflow(data: DataSet, folder: Path) -> dict[str, float]:
    """Seconds of each task, from Airflow's database."""
    dag = f"share_{load_contract(data.contract).dataset.name}"
    _airflow(folder, "db", "migrate")
    started = time.perf_counter()
    _airflow(folder, "dags", "test", dag)
    total = time.perf_counter() - started
    query = "SELECT task_id, (julianday(end_date) - julianday(start_date)) * 86400 FROM task_instance WHERE dag_id = ?"
    with sqlite3.connect(folder / "airflow" / "airflow.db") as database:
        return {**dict(database.execute(query, (dag,)).fetchall()), "total": total}


def _airflow(folder: Path, *arguments: str) -> None:
    log = folder / "airflow.log"
    with log.open("ab") as file:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments], stdout=file, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        raise SystemExit(f"airflow {' '.join(arguments)} failed:\n{log.read_text()[-4000:]}")


def main() -> None:
    """Run everything, print, write."""
    rows: list[dict[str, Any]] = []
    for data in data_sets():
        with deployment(data), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            alone = fresh.submit(bare, data).result()
        with deployment(data) as folder:
            scheduled = through_airflow(data, folder)
        alone["total"] = sum(alone.values())
        rows += [
            {"data": data.name, "step": step, "bare_s": alone[step], "airflow_s": scheduled[step]} for step in alone
        ]
    report("pipeline", "Wall seconds of each step", rows)


if __name__ == "__main__":
    main()
