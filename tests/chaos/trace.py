"""Notes that outlive a killed process: whole lines, appended to a file outside of what is under test."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Trace:
    """A file of JSON lines that several processes append to."""

    path: Path

    def note(self, what: str, **facts: Any) -> None:
        """Append one line; it is there whole or not at all."""
        line = json.dumps({"what": what, "pid": os.getpid(), **facts}) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time; the death of the holder lets the next one in."""
        descriptor = os.open(self.path.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def notes(self, what: str) -> list[dict[str, Any]]:
        """Every line of one kind, in the order in which they were written."""
        if not self.path.exists():
            return []
        lines = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())
        return [line for line in lines if line["what"] == what]
