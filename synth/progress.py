"""How long work reports how far it is: only public facts, such as steps done out of steps planned."""

from __future__ import annotations

import logging
import time
from typing import Protocol


class Progress(Protocol):
    """Receives ``done`` out of ``total`` units of ``task``."""

    def __call__(self, task: str, done: int, total: int) -> None: ...


def silent(task: str, done: int, total: int) -> None:
    """Reports nothing."""


class LogProgress:
    """A log line a few times a minute."""

    def __init__(self, interval_s: float = 15.0) -> None:
        self._interval_s = interval_s
        self._last = time.monotonic()
        self._logger = logging.getLogger("sluice.progress")

    def __call__(self, task: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self._last >= self._interval_s:
            self._last = now
            self._logger.info("%s: %d of %d", task, done, total)
