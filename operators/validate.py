"""The one read of the source, and the verdict on the declared expectations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from operators.base import Facts, SluiceOperator

if TYPE_CHECKING:
    from synth.run import Run


class ValidateOperator(SluiceOperator):
    """Takes the private snapshot and judges the expectations by charged counts."""

    def step(self, run: Run) -> Facts:
        from synth import steps

        return steps.validate(run)
