"""How a test or a command starts the warm parent and has trials carried out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Harness:
    """A running parent.

    :ivar steps: names of the steps that a run has.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.steps: list[str] = self._heard()["steps"]

    def carry_out(self, trials: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The report of each trial, as they finish.

        :raises RuntimeError: if the harness itself failed in one.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(list(trials)) + "\n")
        self._process.stdin.flush()
        for _ in trials:
            report = self._heard()
            if "failed" in report:
                raise RuntimeError(f"trial {report['spec']} was not carried out: {report['failed']}")
            yield report

    def one(self, trial: dict[str, Any]) -> dict[str, Any]:
        """The report of a single trial."""
        (report,) = self.carry_out([trial])
        return report

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the harness ended with status {self._process.wait(30)}")
        heard: dict[str, Any] = json.loads(line)
        return heard


@contextmanager
def harness(postgresql: int | None = None, jobs: int | None = None) -> Iterator[Harness]:
    """Start a parent; it ends with the block.

    :param postgresql: the port of a server that has the roles of `tests.ledger.postgres`.
    """
    options = ["--postgresql", str(postgresql)] if postgresql is not None else []
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.server", *options, "--jobs", str(jobs or os.cpu_count() or 1)],
        cwd=_ROOT,
        env=os.environ | _ONE_THREAD,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Harness(process)
    finally:
        process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
