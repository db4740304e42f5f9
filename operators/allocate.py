"""The setup task: freezes the plan and reserves its budget, before any task reads a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from operators.base import Facts, SluiceOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from synth.run import Run


class AllocateOperator(SluiceOperator):
    """Reserves the budget of the release in the ledger; a run has one reservation, however often this is called.

    It also enters who triggered the DAG run, because that person cannot approve the release. And it reads what earlier
    releases tell of the ledger, for which it opens the bucket as publishing does.
    """

    def open_run(self, context: Context) -> Run:
        """The run, with its requester."""
        run = super().open_run(context)
        run.requested_by = context["dag_run"].triggering_user_name
        run.started = context["dag_run"].run_type.value
        return run

    def step(self, run: Run) -> Facts:
        from operators.bucket import storage_options
        from synth import steps

        run.storage_options = storage_options(run.contract.publish.uri)
        return steps.allocate(run)
