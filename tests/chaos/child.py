"""A forked process that works, stops, dies."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

TIMEOUT_S = 60
_FAILED = 70


class Child:
    """Runs ``work`` in a fork of this process, printing to a file.

    ``work`` is handed the number of an open file: lines that it writes there can be waited for.
    """

    def __init__(self, work: Callable[[int], None], output: Path) -> None:
        self._lines, writing = os.pipe()
        self._read = b""
        self.killed = False
        self._output = output
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._lines)
                descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                os.dup2(descriptor, sys.stdout.fileno())
                os.dup2(descriptor, sys.stderr.fileno())
                work(writing)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(_FAILED)
        os.close(writing)

    def said(self, line: str) -> bool:
        """Wait for a line; False if the process ended without it."""
        deadline = time.monotonic() + TIMEOUT_S
        while f"{line}\n".encode() not in self._read:
            ready, _, _ = select.select([self._lines], [], [], max(0, deadline - time.monotonic()))
            more = os.read(self._lines, 1 << 16) if ready else b""
            if not more:
                return False
            self._read += more
        return True

    def stopped(self) -> bool:
        """Wait until the process has stopped or ended; whether it stopped."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid:
                if os.WIFSTOPPED(status):
                    return True
                self._ended(status)
                return False
            time.sleep(0.002)
        raise TimeoutError(f"a child neither ends nor stops: {self._output.read_text(errors='replace')[-2000:]}")

    def ended(self) -> bool:
        """Wait for the end of the process; whether it was killed."""
        if self.stopped():
            raise RuntimeError("a child stopped that should not")
        return self.killed

    def kill(self) -> None:
        """Kill it where it is, stopped or not."""
        os.kill(self.pid, signal.SIGKILL)

    def go_on(self) -> None:
        """Let a stopped process continue."""
        os.kill(self.pid, signal.SIGCONT)

    def _ended(self, status: int) -> None:
        os.close(self._lines)
        code = os.waitstatus_to_exitcode(status)
        self.killed = code == -signal.SIGKILL
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"a child ended with {code}: {self._output.read_text(errors='replace')[-4000:]}")


def answer(question: Callable[[], Any], output: Path) -> Any:
    """What ``question`` gives in a fork of this process, as plain values."""
    place = output.with_suffix(".answer")
    place.unlink(missing_ok=True)
    Child(lambda _: _write(place, question()), output).ended()
    return json.loads(place.read_text(encoding="utf-8"))


def _write(place: Path, value: Any) -> None:
    place.write_text(json.dumps(value), encoding="utf-8")
