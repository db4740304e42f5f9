"""Where a deployment keeps its things, read from the environment in one place.

``SLUICE_HOME`` (default ``~/.sluice``) holds what is not said otherwise; ``SLUICE_LEDGER_URL`` is the budget ledger's
database (default: SQLite in the home); ``SLUICE_WORKSPACES`` the private folders of runs; ``SLUICE_KEYS`` the split
keys of policies. Workspaces and keys belong on access-restricted storage that the workers share. ``SLUICE_REPORTS``
takes the quality reports that approvers read: nothing in there is private, so Airflow's API server may see it.
``SLUICE_ANCHORS`` is the folder, or the fsspec URI of a bucket's prefix, where heads of the ledger are noted: best
where nobody who can restore or rewrite the ledger can delete.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Places of one deployment."""

    ledger_url: str
    workspaces: Path
    keys: Path
    reports: Path | None = None
    anchors: str | None = None

    @classmethod
    def from_environment(cls) -> Settings:
        """The deployment that the environment describes."""
        home = Path(os.environ.get("SLUICE_HOME", Path.home() / ".sluice")).expanduser().resolve()
        return cls(
            ledger_url=os.environ.get("SLUICE_LEDGER_URL", f"sqlite:///{home / 'ledger.db'}"),
            workspaces=Path(os.environ.get("SLUICE_WORKSPACES", home / "runs")),
            keys=Path(os.environ.get("SLUICE_KEYS", home / "keys")),
            reports=Path(os.environ.get("SLUICE_REPORTS", home / "reports")),
            anchors=os.environ.get("SLUICE_ANCHORS", str(home / "anchors")),
        )

    def run_folder(self, dataset: str, run_id: str) -> Path:
        """Where the workspace of a run is."""
        return self.workspaces / dataset / _name(dataset, run_id)

    def report_of(self, dataset: str, run_id: str) -> Path | None:
        """Where the quality report of a run is shown to approvers; None where no place is set."""
        return self.reports / dataset / f"{_name(dataset, run_id)}.html" if self.reports else None


def _name(dataset: str, run_id: str) -> str:
    """Whatever a run id holds, it names one file and none above it."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", run_id).strip("-")[:60]
    return f"{readable}-{hashlib.sha256(f'{dataset}/{run_id}'.encode()).hexdigest()[:12]}"
