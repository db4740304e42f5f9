"""The first task: everything that can be refused before budget is reserved or a row is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from operators.base import Facts, SluiceOperator

if TYPE_CHECKING:
    from synth.run import Run


class PreflightOperator(SluiceOperator):
    """Checks contract, policy, source columns and expectations; spends nothing."""

    def step(self, run: Run) -> Facts:
        from synth import steps

        return steps.preflight(run)
