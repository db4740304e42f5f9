"""What the ledger has of DAG runs, whichever way Airflow runs them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from synth.ledger import Entry, Ledger
from synth.settings import Settings
from tests.scheduler.rest import DagRun


class Records:
    """The ledger's entries of a deployment's runs."""

    settings: Settings

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

    def committed(self, run: DagRun) -> list[str]:
        """The mechanisms whose output is kept."""
        return sorted(payload["mechanism"] for payload in self.facts(run, "commit"))

    def freed(self, run: DagRun) -> list[str]:
        """The mechanisms that were given back, because they never started."""
        return sorted(payload["mechanism"] for payload in self.facts(run, "free"))

    def workspace(self, run: DagRun) -> Path:
        """The run's private folder."""
        return self.settings.run_folder(run.dag_id.removeprefix("share_"), run.run_id)

    @staticmethod
    def stated_attempts(release: Path) -> dict[str, int]:
        """How often each mechanism was charged, as a release's statement says."""
        statement = json.loads((release / "privacy_statement.json").read_text())
        return {mechanism["name"]: mechanism["attempts_charged"] for mechanism in statement["mechanisms"]}

    def wait_for_start(self, run: DagRun, mechanism: str, within_s: float = 300) -> None:
        """Wait until a mechanism has started."""
        deadline = time.monotonic() + within_s
        while mechanism not in self.starts(run):
            assert time.monotonic() < deadline, run.states()
            assert run.state() != "failed", run.states()
            time.sleep(0.2)
