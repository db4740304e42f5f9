"""Where a deployment keeps its things, read from the environment in one place.

``SLUICE_HOME`` (default ``~/.sluice``) holds what is not said otherwise; ``SLUICE_LEDGER_URL`` is the budget ledger's
database (default: SQLite in the home); ``SLUICE_WORKSPACES`` the private folders of runs; ``SLUICE_KEYS`` the split
keys of policies. Workspaces and keys belong on access-restricted storage that the workers share. ``SLUICE_REPORTS``
takes the quality reports that approvers read: nothing in there is private, so Airflow's API server may see it.
``SLUICE_ANCHORS`` is the folder, or the fsspec URI of a bucket's prefix, where heads of the ledger are noted: best
where nobody who can restore or rewrite the ledger can delete.

``SLUICE_WORKSPACE_KEY`` holds the keys under which workspaces are encrypted: the first encrypts, all may decrypt.
``SLUICE_RETENTION_HOURS`` is how long a run that was broken off may keep private rows, ``SLUICE_WORKSPACE_DAYS`` how
long the folder of a settled run is kept; both count from the run's beginning.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from synth.errors import SettingsError

_KEY_BYTES = 32


@dataclass(frozen=True)
class Settings:
    """Places of one deployment, and how long what is in them is kept.

    :ivar workspace_keys: of 32 bytes each; the first encrypts new workspaces, any may open an old one.
    :ivar retention_hours: for private rows of runs that never settled.
    :ivar workspace_days: for whole workspaces of settled runs.
    """

    ledger_url: str
    workspaces: Path
    keys: Path
    reports: Path | None = None
    workspace_keys: tuple[bytes, ...] = field(default=(), repr=False)
    retention_hours: float = 168
    workspace_days: float = 30
    anchors: str | None = None

    @classmethod
    def from_environment(cls) -> Settings:
        """The deployment that the environment describes.

        :raises SettingsError: naming the variable that is not acceptable.
        """
        home = Path(os.environ.get("SLUICE_HOME", Path.home() / ".sluice")).expanduser().resolve()
        return cls(
            ledger_url=os.environ.get("SLUICE_LEDGER_URL", f"sqlite:///{home / 'ledger.db'}"),
            workspaces=Path(os.environ.get("SLUICE_WORKSPACES", home / "runs")),
            keys=Path(os.environ.get("SLUICE_KEYS", home / "keys")),
            reports=Path(os.environ.get("SLUICE_REPORTS", home / "reports")),
            workspace_keys=workspace_keys(os.environ.get("SLUICE_WORKSPACE_KEY", ""), "SLUICE_WORKSPACE_KEY"),
            retention_hours=_positive("SLUICE_RETENTION_HOURS", cls.retention_hours),
            workspace_days=_positive("SLUICE_WORKSPACE_DAYS", cls.workspace_days),
            anchors=os.environ.get("SLUICE_ANCHORS") or str(home / "anchors"),
        )

    def run_folder(self, dataset: str, run_id: str) -> Path:
        """Where the workspace of a run is."""
        return self.workspaces / dataset / _name(dataset, run_id)

    def report_of(self, dataset: str, run_id: str) -> Path | None:
        """Where the quality report of a run is shown to approvers; None where no place is set."""
        return self.reports / dataset / f"{_name(dataset, run_id)}.html" if self.reports else None


def workspace_keys(text: str, where: str) -> tuple[bytes, ...]:
    """The workspace keys in a text: comma separated, base64url of 32 bytes each; none in an empty one.

    :param where: what the text was read from, for the error, which never quotes it.
    :raises SettingsError: if one is no key.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    keys = tuple(key for part in parts if (key := _decoded(part)) is not None)
    if len(keys) < len(parts):
        raise SettingsError(
            f"{where}: not every one of its {len(parts)} comma-separated parts is a workspace key, 32 bytes in "
            "base64url; `sluice keys new-workspace` prints one"
        )
    return keys


def new_workspace_key() -> str:
    """A fresh workspace key, as :func:`workspace_keys` reads it."""
    return base64.urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def _decoded(part: str) -> bytes | None:
    try:
        key = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == _KEY_BYTES else None


def _positive(name: str, default: float) -> float:
    """A number of hours or days in the environment."""
    given = os.environ.get(name)
    try:
        value = default if given is None else float(given)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise SettingsError(f"{name}={given!r} is not accepted: a number above 0")
    return value


def _name(dataset: str, run_id: str) -> str:
    """Whatever a run id holds, it names one file and none above it."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", run_id).strip("-")[:60]
    return f"{readable}-{hashlib.sha256(f'{dataset}/{run_id}'.encode()).hexdigest()[:12]}"
