"""The setup task: freezes the plan and reserves its budget, before any task reads a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from operators.base import Facts, SluiceOperator

if TYPE_CHECKING:
    from synth.run import Run


class AllocateOperator(SluiceOperator):
    """Reserves the budget of the release in the ledger; a run has one reservation, however often this is called."""

    def step(self, run: Run) -> Facts:
        from synth import steps

        return steps.allocate(run)
