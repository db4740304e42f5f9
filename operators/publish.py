"""The last task: publishes exactly the artifact that passed the gate and was approved, and tells those who wait.

The ledger's decision counts, not the state of the task before it: a task that was marked successful by hand approves
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from operators.base import Facts, SluiceOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from synth.run import Run


class PublishOperator(SluiceOperator):
    """Publishes the release and updates its asset; publishing twice changes nothing.

    The asset's event carries the version, its URI, ε, δ and the number of rows, so that a consumer's DAG can be
    scheduled on it.

    :param asset: what stands for the dataset's releases.
    """

    def __init__(self, *, asset: Asset, **kwargs: Any) -> None:
        super().__init__(outlets=[asset], **kwargs)
        self.asset = asset

    def step(self, run: Run) -> Facts:
        from operators.bucket import storage_options
        from synth import steps

        run.storage_options = storage_options(run.contract.publish.uri)
        return steps.publish(run)

    def execute(self, context: Context) -> Facts:
        """Publish, then attach the release's public facts to the asset's event."""
        facts = super().execute(context)
        context["outlet_events"][self.asset].extra = {
            name: facts[name] for name in ("version", "uri", "epsilon", "delta", "rows")
        }
        return facts
