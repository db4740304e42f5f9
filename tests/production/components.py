"""A component of Airflow as a container runs it: with a home of its own, sharing nothing with others but settings."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dags.standalone import LOCAL_SETTINGS, session_of
from tests.production import host

# What this process was started with is not for the components.
_PREFIXES = ("AIRFLOW", "SLUICE", "AWS_")


class Component:
    """A command and its children, in a session of their own.

    :ivar log: what they print.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._command = command
        self._home = folder / name
        (self._home / "config").mkdir(parents=True)
        (self._home / "config" / "airflow_local_settings.py").write_text(LOCAL_SETTINGS)
        self.log = self._home / "printed.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES)}
        own = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            "AIRFLOW_HOME": str(self._home),
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": host.CALLABLE,
            host.VARIABLE: name,
        }
        self._environment = {**inherited, **environment, **own}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End all of it without a word, as a machine that loses power does."""
        if self._process is not None:
            for pid in session_of(self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def finish(self, within_s: float) -> None:
        """Wait until it has done what it was started for."""
        assert self._process is not None
        assert self._process.wait(within_s) == 0, self._failure("failed")

    def assert_running(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, self._failure("ended")

    def _failure(self, what: str) -> str:
        return f"{self.name} {what}: {self.log.read_text(errors='replace')[-4000:]}"
