"""Airflow as ``make up`` has it, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from dags import playground, up
from synth.settings import Settings
from tests.ledger.postgres import free_port
from tests.scheduler.records import Records
from tests.scheduler.rest import Account, Refused

DATASET = "rand_hie_reviewed"
DAG = f"share_{DATASET}"


@dataclass(frozen=True)
class Up(Records):
    """A running deployment.

    :ivar passwords: by account: ``admin`` and ``olga``.
    :ivar account: admin's, for what is checked beside the browser.
    """

    home: Path
    url: str
    settings: Settings
    passwords: Mapping[str, str]
    account: Account

    def released(self) -> list[Path]:
        """The release folders."""
        return sorted((self.home / "bucket" / DATASET).glob("*"))


@contextlib.contextmanager
def running(home: Path) -> Iterator[Up]:
    """The deployment, healthy and with its DAGs read; this process's environment is its own until it ends."""
    with patch.dict(os.environ):
        standalone = up.prepare(home, free_port())
        settings = Settings.from_environment()
        with standalone.running({"PYTHONPATH": str(playground.ROOT)}):
            passwords = standalone.passwords()
            account = Account.log_in(standalone.url, "admin", passwords["admin"])
            _wait_for_dag(account)
            yield Up(home, standalone.url, settings, passwords, account)


def _wait_for_dag(account: Account) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            account.get(f"/dags/{DAG}")
            return
        except Refused as refused:
            if refused.status != 404 or time.monotonic() > deadline:
                raise
            time.sleep(1)
