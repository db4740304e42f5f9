"""An Airflow of one's own on loopback: ``airflow standalone`` with named accounts, started, waited for, and ended.

Its accounts are those of Airflow's simple auth manager, which keeps passwords in a readable file: for trying out and
for tests, never for private data of others.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

_START_S, _STOP_S = 180, 30
# Tasks are forks of the scheduler, or of a Celery worker: what it has imported, no task has to, and importing takes
# seconds of each.
LOCAL_SETTINGS = """
import sys

if {"scheduler", "worker"} & set(sys.argv):
    from synth import approval, steps
"""


@dataclass(frozen=True)
class Standalone:
    """Scheduler, DAG processor, API server and local executor on one port of loopback.

    :ivar home: Airflow's home; ``standalone.log`` in it is what all of them print.
    :ivar accounts: role (viewer, user, op, admin) by account name.
    """

    home: Path
    port: int
    accounts: Mapping[str, str]

    @property
    def url(self) -> str:
        """The web interface and the API."""
        return f"http://localhost:{self.port}"

    @property
    def log(self) -> Path:
        """What the processes print."""
        return self.home / "standalone.log"

    @property
    def environment(self) -> dict[str, str]:
        """Airflow's settings for it."""
        return {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            # Its default names port 8080, whatever the port is, and then every task fails before it can log why.
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{n}:{r}" for n, r in self.accounts.items()),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._passwords_file),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        }

    def passwords(self) -> dict[str, str]:
        """Each account's password; drawn on first use, readable by the owner only."""
        kept: dict[str, str] = {}
        with contextlib.suppress(FileNotFoundError):
            kept = json.loads(self._passwords_file.read_text())
        passwords = {name: kept.get(name) or secrets.token_urlsafe(9) for name in self.accounts}
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._passwords_file.touch(mode=0o600)
        self._passwords_file.write_text(json.dumps(passwords) + "\n")
        return passwords

    @contextlib.contextmanager
    def running(self, settings: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """The processes, from healthy to ended, in a session of their own.

        :param settings: of Airflow and Sluice, beside this process's environment.
        :raises RuntimeError: if they end or are not healthy in time; the log says why.
        """
        self.passwords()
        (self.home / "config").mkdir(exist_ok=True)
        (self.home / "config" / "airflow_local_settings.py").write_text(LOCAL_SETTINGS)
        environment = {**os.environ, **self.environment, **(settings or {})}
        # `airflow standalone` looks for `airflow` on the path; this interpreter's is meant.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "standalone"],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_healthy(process)
            yield process
        finally:
            _end(process)

    def healthy(self) -> bool:
        """Whether the API server, the scheduler and the DAG processor say that they are well."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310
                health = json.load(answer)
        except (urllib.error.URLError, OSError, ValueError):
            return False
        return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))

    @property
    def _passwords_file(self) -> Path:
        return self.home / "passwords.json"

    def _wait_until_healthy(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and process.poll() is None:
            if self.healthy():
                return
            time.sleep(0.5)
        what = "ended" if process.poll() is not None else f"is not healthy after {_START_S} s"
        raise RuntimeError(f"Airflow {what}; its log: {self.log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask every process of the session that it leads to end, and end those that have not after a while."""
    for number, patience_s in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, _STOP_S)):
        for pid in session_of(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while session_of(process.pid) and time.monotonic() < deadline:
            process.poll()
            time.sleep(0.2)
    process.wait()


def session_of(leader: int) -> list[int]:
    """The processes that have not ended; a task may have left the leader's process group, but not its session."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found
