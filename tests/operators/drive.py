"""Runs the DAGs of a test world as ``airflow dags test`` does: ``python -m tests.operators.drive HOME``.

In a process of its own, because Airflow keeps its settings for the life of a process. What the n-th run writes goes to
``run-N.log``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Drive:
    """One DAG run: its trigger's configuration, its settings, and who answers ``approve`` with what."""

    dag_id: str
    conf: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    answer: tuple[str, str, str] | None = None


NOBODY_LISTENS = {"SLUICE_LEDGER_URL": "postgresql+psycopg://sluice:qzxpassword@127.0.0.1:9/ledger"}
RUNS = (
    Drive("share_people", {"rows": 700, "epsilon": 2.5}),
    Drive("share_unreachable_quality"),
    Drive("share_violated"),
    Drive("leaky"),
    Drive("half_allocated"),
    Drive("share_garbage"),
    Drive("share_poor"),
    Drive("share_people", settings=NOBODY_LISTENS),
    Drive("share_people", {"delta": 1e-7}),
    Drive("share_asked", answer=("eve", "Approve", "I may not")),
    Drive("share_asked", answer=("olga", "Reject", "not this year")),
    Drive("share_asked", answer=("olga", "Approve", "quality is fine")),
)


def main(home: Path) -> None:
    """Register the policies, make Airflow's database, run the DAGs."""
    _register(home)
    from airflow.utils.db import initdb

    with _written_to(home / "migrate.log"):
        initdb()
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag()
    assert not bag.import_errors, bag.import_errors
    for number, drive in enumerate(RUNS):
        with _written_to(home / f"run-{number}.log"), _environment(drive.settings), _answering(drive):
            bag.dags[drive.dag_id].test(run_conf=drive.conf)


def _register(home: Path) -> None:
    from synth.contract import load_policy
    from synth.ledger import Ledger
    from synth.officer import register
    from synth.settings import Settings

    settings = Settings.from_environment()
    (home / "sluice").mkdir()
    with Ledger.open(settings.ledger_url) as ledger:
        for path in sorted((home / "policies").glob("*.yaml")):
            register(ledger, settings, load_policy(path), by="officer")


@contextlib.contextmanager
def _answering(drive: Drive) -> Iterator[None]:
    """Meanwhile, a person answers through the REST API, as the web interface does."""
    if drive.answer is None:
        yield
        return
    ended = threading.Event()
    person = threading.Thread(target=_answer, args=(drive.dag_id, *drive.answer, ended))
    person.start()
    try:
        yield
    finally:
        ended.set()
        person.join()


def _answer(dag_id: str, user: str, option: str, reason: str, ended: threading.Event) -> None:
    from airflow.api_fastapi.app import create_app, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    client = TestClient(create_app("core"))
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=user, role="admin"))
    client.headers["Authorization"] = f"Bearer {token}"
    body = {"chosen_options": [option], "params_input": {"reason": reason}}
    waiting = f"/api/v2/dags/{dag_id}/dagRuns/~/taskInstances?task_id=approve&state=awaiting_input"
    while not ended.wait(0.5):
        for task in client.get(waiting).raise_for_status().json()["task_instances"]:
            run = f"/api/v2/dags/{dag_id}/dagRuns/{task['dag_run_id']}"
            client.patch(f"{run}/taskInstances/approve/-1/hitlDetails", json=body).raise_for_status()
            return


@contextlib.contextmanager
def _written_to(path: Path) -> Iterator[None]:
    """Both streams of the process, whoever holds them, into a file."""
    kept = os.dup(1), os.dup(2)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for stream in (1, 2):
            os.dup2(target, stream)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
        os.close(target)


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


if __name__ == "__main__":
    main(Path(sys.argv[1]))
