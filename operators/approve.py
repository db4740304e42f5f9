"""Approval of exactly the artifact that passed the gate: by stated conditions, or by a person.

A person answers in Airflow's own form, and may be anybody whom Airflow lets answer. So the answer is judged again
against the approvers of the officer's policy and copied into the ledger, together with the digest of what was approved:
Airflow's own row is erased when the task is cleared, and is no record. No answer in time is a refusal.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowFailException

from operators.base import Facts, SluiceOperator, open_run, with_public_errors
from operators.parameters import EPSILON, ROWS

if TYPE_CHECKING:
    from airflow.sdk import Context

    from synth.run import Run

REASON = "reason"

# The contract's texts are read through `task`, not written into the template: what an owner wrote is never rendered.
_BODY = """\
**{{ task.document['dataset']['title'] }}** would be published at `{{ task.document['publish']['uri'] }}`.

{% set gate = ti.xcom_pull(task_ids=task.check_task_id) -%}
{% set privacy = task.document['privacy'] -%}
| Privacy | |
|---|---|
| unit | {{ 'a row' if privacy['unit'] == 'row' else 'a value of column ' ~ privacy['unit']['column'] }} |
| neighbouring relation | {{ privacy['neighbouring'] | replace('_', ' ') }} |
| ε of this release, retries included | {{ gate['epsilon'] | round(4) }} |
| δ | {{ privacy['delta'] }} |

| Quality, measured under differential privacy on the holdout | |
|---|---|
{% for name, value in gate['quality'].items() -%}
| {{ name }} | {{ value }} |
{% endfor %}
Approving lets out exactly the artifact `{{ gate['artifact'] }}`. Only the approvers whom the privacy officer's policy \
names can decide, by their account name in Airflow, and a decision needs a reason.
"""


class ApproveOperator(SluiceOperator):
    """Approves where the conditions of contract and policy hold."""

    def step(self, run: Run) -> Facts:
        from synth import steps

        return steps.approve(run)


class HumanApproveOperator(ApprovalOperator):
    """Asks a person, unless the ledger has a decision about this run already.

    After a refusal, and where nobody answers in time, nothing downstream runs except the teardown.

    :param document: the share contract as plain values.
    :param check_task_id: the task whose XCom holds the quality that the person sees.
    """

    ui_color = SluiceOperator.ui_color

    def __init__(self, *, document: dict[str, Any], check_task_id: str = "check", **kwargs: Any) -> None:
        super().__init__(
            subject="Release {{ task.document['dataset']['name'] }}?",
            body=_BODY,
            defaults=self.REJECT,
            response_timeout=timedelta(hours=document["approval"]["timeout_hours"]),
            ignore_downstream_trigger_rules=True,
            **kwargs,
        )
        self.document = document
        self.check_task_id = check_task_id
        # A parameter without a valid default fails the task before anybody is asked: that a reason was given
        # is checked when the answer is there.
        reason = Param(
            None,
            description="Goes into the ledger, with your name.",
            source="task",
            type=["null", "string"],
            minLength=3,
            title="Reason",
        )
        self.params = ParamsDict({REASON: reason})

    def execute(self, context: Context) -> Facts:
        """Follow the ledger's decision, or ask and wait without holding a worker."""
        from synth.errors import AwaitingApproval

        def decided() -> Facts | None:
            try:
                return self._approved(context)
            except AwaitingApproval:
                return None

        return with_public_errors(decided) or super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Facts:
        """Judge the answer, record it, and go on only with an approval that the ledger has.

        :raises AirflowFailException: if who answered may not decide, or gave no reason.
        """
        if "error" in event:
            self.process_trigger_event_error(event)
        given, person = event["params_input"] or {}, event["responded_by_user"]
        self.validate_chosen_options(event["chosen_options"])
        self.validate_params_input(given)
        approved = event["chosen_options"] == [self.APPROVE]
        if person is not None:
            reason = given.get(REASON) or ""
            with_public_errors(lambda: self._record(context, approved, str(person["name"]), reason))
        elif approved:
            raise AirflowFailException("NotApproved: the answer does not say who gave it; nothing is published")
        else:
            self.log.info("nobody answered in time; nothing is published")
        # After a refusal this skips what is downstream, and does not return.
        super().execute_complete(context, event)
        return with_public_errors(lambda: self._approved(context))

    def _record(self, context: Context, approved: bool, name: str, reason: str) -> None:
        from synth.approval import decide

        with self._run(context) as run:
            decide(run, approved=approved, by=name, reason=reason)

    def _approved(self, context: Context) -> Facts:
        from synth import steps

        with self._run(context) as run:
            return steps.approve(run)

    def _run(self, context: Context) -> Run:
        of_the_form = {name: context["params"][name] for name in (EPSILON, ROWS) if name in context["params"]}
        return open_run(self.document, context["run_id"], of_the_form)
