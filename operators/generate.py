"""Drawing the rows of the release from the finished model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from operators.base import Facts, SluiceOperator

if TYPE_CHECKING:
    from synth.run import Run


class GenerateOperator(SluiceOperator):
    """Draws the declared number of rows; post-processing, so it costs no privacy."""

    def step(self, run: Run) -> Facts:
        from synth import steps

        return steps.generate(run)
