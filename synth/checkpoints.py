"""Checkpoints of a long mechanism: the state between two segments, kept in the workspace, counted in the ledger.

A segment is a fixed number of steps. Before one runs, it takes a *slot*, an entry of the ledger that can be taken once;
after it the state is kept, write-once. An attempt that died is resumed from the last state that was kept, with fresh
randomness: no noise, no mask and no generator's state is stored. What the lost segment had done stays counted, since
its slot is taken: the plan's event counts ``max_resumes`` segments more than the training needs, and beyond the last
slot nothing runs. That bounds the steps that look at private rows whatever dies and whoever else runs at the same time.

The states are post-processing of noisy gradients; nevertheless they stay inside the workspace.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from synth.errors import AttemptsExhausted, LedgerError, ReservationReleased
from synth.ledger import Ledger
from synth.workspace import Workspace


@dataclass(frozen=True)
class SegmentRule:
    """How a mechanism of a plan runs in segments.

    :ivar segments: how many the mechanism needs.
    :ivar resumes: how many more the plan's event counts.
    """

    segments: int
    resumes: int

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> SegmentRule | None:
        """From a mechanism's parameters; None where it runs in one piece."""
        if "segments" not in parameters:
            return None
        return cls(parameters["segments"], parameters["max_resumes"])

    @property
    def slots(self) -> int:
        """How many segments may ever start."""
        return self.segments + self.resumes


@dataclass(frozen=True)
class KeptSegments:
    """The checkpoints of one attempt of one mechanism of a run."""

    workspace: Workspace
    ledger: Ledger
    policy: str
    run: str
    mechanism: str
    attempt: int
    rule: SegmentRule

    def begin_segment(self) -> None:
        """Take the next free slot.

        :raises AttemptsExhausted: if every slot is taken.
        :raises ReservationReleased: if the run was settled.
        """
        if self.ledger.find(self.policy, self.run, "settled") is not None:
            raise ReservationReleased(
                f"run {self.run!r} was settled, so mechanism {self.mechanism!r} cannot go on; start a new run"
            )
        for slot in range(self._taken() + 1, self.rule.slots + 1):
            try:
                token = {"mechanism": self.mechanism, "attempt": self.attempt, "taken_by": secrets.token_hex(16)}
                self.ledger.record(self.policy, self.run, "segment", token, suffix=self._suffix(slot))
                return
            except LedgerError as error:
                if error.retry:
                    raise
                continue  # another worker took it in this moment
        raise AttemptsExhausted(
            f"run {self.run!r}: mechanism {self.mechanism!r} was resumed {self.rule.resumes} times in attempt "
            f"{self.attempt}, which is max_resumes; find out why its workers die, then start a new run"
        )

    def latest(self) -> dict[str, npt.NDArray[Any]] | None:
        """The state after the last segment that was finished."""
        for segment in range(self.rule.segments, 0, -1):
            if self.workspace.exists(self._name(segment)):
                return self.workspace.read_arrays(self._name(segment))
        return None

    def keep(self, segment: int, state: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Keep a state; where another worker was faster, its state is what counts."""
        self.workspace.write_arrays(self._name(segment), state)
        return self.workspace.read_arrays(self._name(segment))

    def resumable(self) -> bool:
        """Whether something was kept and a slot is left."""
        return self._taken() < self.rule.slots and self.latest() is not None

    def _taken(self) -> int:
        """How many slots are taken; they are taken in order."""
        taken = 0
        while taken < self.rule.slots and self._entry(taken + 1) is not None:
            taken += 1
        return taken

    def _entry(self, slot: int) -> Any:
        return self.ledger.find(self.policy, self.run, "segment", suffix=self._suffix(slot))

    def _suffix(self, slot: int) -> str:
        return f"{self.mechanism}.{self.attempt}.{slot}"

    def _name(self, segment: int) -> str:
        return f"dp/{self.mechanism}.{self.attempt}.{segment}.npz"
