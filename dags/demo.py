"""The whole workflow once, on a small public table, through Airflow: ``make demo``.

Everything is kept under ``build/demo``: an Airflow home, a ledger, private workspaces, a bucket. Run it again and the
same policy pays for a second release.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from dags import playground

_DEMO = playground.ROOT / "build" / "demo"
_LOG = _DEMO / "run.log"
_AIRFLOW_DB = _DEMO / "airflow" / "airflow.db"
_DAG_ID = "share_rand_hie"
_STEPS = ["preflight", "allocate", "validate", "train", "generate", "check", "approve", "publish", "settle"]
_SYMBOLS = {"success": "[green]✓[/]", "failed": "[red]✗[/]", "running": "[yellow]…[/]", "skipped": "[dim]-[/]"}

_console = Console(highlight=False)


def main() -> int:
    """Set up what is missing, run the DAG, show what came out; 1 if the run failed."""
    started = time.monotonic()
    _console.print(f"[bold]Sluice[/] shares a private table through Airflow. Everything stays in {_shown(_DEMO)}.\n")
    playground.enter(_DEMO)
    _LOG.write_text("")
    _register_policy()
    if not _migrated():
        _console.print("preparing Airflow's own database, once")
        if _airflow("db", "migrate").wait():
            return _failed()
    run_id, succeeded = _run_dag()
    if run_id is None or not succeeded:
        return _failed()
    _console.print()
    _show_release(run_id)
    _console.print(f"\n[dim]{time.monotonic() - started:.0f} s, log: {_shown(_LOG)}[/]")
    return 0


def _register_policy() -> None:
    policy = playground.register_policy()
    _console.print(
        f"policy [bold]{policy.name}[/]: all releases together may cost ε={policy.epsilon:g}, "
        f"δ={policy.delta:g}; one release ε={policy.max_release_epsilon:g}",
        soft_wrap=True,
    )


def _airflow(*arguments: str) -> subprocess.Popen[bytes]:
    with _LOG.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - this interpreter, and arguments from this file
            [sys.executable, "-m", "airflow", *arguments], cwd=playground.ROOT, stdout=log, stderr=subprocess.STDOUT
        )


def _run_dag() -> tuple[str | None, bool]:
    """The run's id, if it came to be, and whether it succeeded; meanwhile the states of its tasks."""
    before = _newest_run()
    process = _airflow("dags", "test", _DAG_ID)
    run_id: str | None = None
    with Live(_states(None), console=_console, refresh_per_second=4) as live:
        while True:
            ended = process.poll() is not None
            newest = _newest_run()
            run_id = newest if newest != before else None
            live.update(_states(run_id))
            if ended:
                return run_id, process.returncode == 0
            time.sleep(0.5)


def _migrated() -> bool:
    return bool(_query("SELECT 1 FROM sqlite_master WHERE name = 'task_instance'"))


def _newest_run() -> str | None:
    rows = _query("SELECT run_id FROM dag_run WHERE dag_id = ? ORDER BY id DESC LIMIT 1", _DAG_ID)
    return rows[0][0] if rows else None


def _states(run_id: str | None) -> Table:
    found = {
        task: (state, seconds)
        for task, state, seconds in _query(
            "SELECT task_id, state, (julianday(COALESCE(end_date, 'now')) - julianday(start_date)) * 86400 "
            "FROM task_instance WHERE dag_id = ? AND run_id = ?",
            _DAG_ID,
            run_id,
        )
    }
    table = Table(box=None, show_header=False, padding=(0, 1), title=f"\nDAG {_DAG_ID}", title_justify="left")
    for step in _STEPS:
        state, seconds = found.get(step, (None, None))
        elapsed = f"{max(0.0, seconds):.1f} s" if seconds is not None else ""
        table.add_row(_SYMBOLS.get(state or "", "[dim]·[/]"), step, f"[dim]{elapsed}[/]")
    return table


def _query(statement: str, *values: Any) -> list[Any]:
    """Rows of Airflow's database; none while it is being made or written."""
    if not _AIRFLOW_DB.exists():
        return []
    try:
        connection = sqlite3.connect(f"file:{_AIRFLOW_DB}?mode=ro", uri=True, timeout=5)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()
    except sqlite3.OperationalError:
        return []


def _show_release(run_id: str) -> None:
    from synth.contract import load_contract
    from synth.run import Run

    with Run(load_contract(playground.CONTRACT), run_id) as run:
        published = run.ledger.find(run.policy_name, run.name, "published")
        assert published is not None, "the DAG run succeeded, so publish recorded its fact"
        balance = run.ledger.balance(run.policy_name)
        delta = run.contract.privacy.delta
    uri = str(published.payload["uri"])
    folder = Path(uri.removeprefix("file://"))
    report = json.loads((folder / "quality_report.json").read_text())
    _console.print(f"[bold]release[/]  {_shown(folder)}", soft_wrap=True)
    _console.print(f"[bold]cost[/]     ε={published.payload['epsilon']:.3f} at δ={delta:g}, as published")
    _console.print(
        f"[bold]budget[/]   {balance.spent / balance.capacity:.1%} of the policy spent by all releases so far, "
        f"{balance.left / balance.capacity:.1%} left"
    )
    _console.print("[bold]quality[/]  on the holdout, under differential privacy, with 95 % intervals")
    for m in report["quality"]["measurements"]:
        interval = f"[dim]({m['low']:.3f} to {m['high']:.3f})[/]"
        _console.print(f"           {m['value']:.3f} {interval} {m['title']}", soft_wrap=True)
    _console.print(f"[bold]report[/]   {_shown(folder / 'quality_report.html')}\n")
    _console.print("[bold]next[/]     source build/demo/env.sh, then")
    for command, purpose in (
        (f"sluice verify {uri}", "check the release"),
        ("sluice budget show", "what the policy has left"),
        ("make demo", "a second release, from the same budget"),
        ("$EDITOR dags/contracts/rand_hie.yaml", "change the contract"),
        ("make up", "the same in Airflow's web interface"),
    ):
        _console.print(f"           {command}  [dim]# {purpose}[/]", soft_wrap=True)


def _failed() -> int:
    tail = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in _LOG.read_text(errors="replace").splitlines()[-40:]]
    _console.print("\n".join(tail), markup=False)
    _console.print(f"\n[red]The run failed.[/] The whole log: {_shown(_LOG)}")
    return 1


def _shown(path: Path) -> str:
    """Relative to where the user stands, if that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


if __name__ == "__main__":
    sys.exit(main())
