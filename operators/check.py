"""The quality gate: every number it shows was measured under differential privacy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from operators.base import Facts, SluiceOperator

if TYPE_CHECKING:
    from synth.run import Run


class CheckOperator(SluiceOperator):
    """Measures quality on the holdout, judges it, and builds the release folder that may be approved."""

    def step(self, run: Run) -> Facts:
        from synth import steps

        return steps.check(run)
