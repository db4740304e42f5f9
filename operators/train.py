"""Fitting the synthesizer, where the contract's ``compute`` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from operators.base import Facts, SluiceOperator

if TYPE_CHECKING:
    from synth.run import Run


class TrainOperator(SluiceOperator):
    """Fits the synthesizer through charged mechanisms; cleared after success, it returns the committed model."""

    def step(self, run: Run) -> Facts:
        from synth import steps

        return steps.train(run)
