"""The teardown task, which always runs: no reservation and no private row outlives the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from operators.base import Facts, SluiceOperator

if TYPE_CHECKING:
    from synth.run import Run


class SettleOperator(SluiceOperator):
    """Gives back what never started and erases the private rows of the run; what started stays spent."""

    def step(self, run: Run) -> Facts:
        from synth import steps

        return steps.settle(run)
