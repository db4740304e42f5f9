"""The task that erases what nobody comes back for: see :mod:`synth.housekeeping`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException

from operators.base import SluiceOperator, with_public_errors

if TYPE_CHECKING:
    from airflow.sdk import Context


class SweepOperator(BaseOperator):
    """Settles runs that were broken off long ago, erases their private rows and removes old workspaces.

    It fails if a run could not be swept, after it has swept the others, and names it.
    """

    ui_color = SluiceOperator.ui_color

    def execute(self, context: Context) -> dict[str, int]:
        """Sweep; returns how much of what was done."""
        from synth.housekeeping import sweep
        from synth.settings import Settings

        done = with_public_errors(lambda: sweep(Settings.from_environment()))
        self.log.info("%s: %s", self.task_id, done.counts())
        if done.failures:
            raise AirflowException(f"could not be swept: {'; '.join(done.failures)}; all others were")
        return done.counts()
