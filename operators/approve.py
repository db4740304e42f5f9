"""Approval of exactly the artifact that passed the gate: by stated conditions, or by a person.

A person answers in Airflow's own form, and may be anybody whom Airflow lets answer. So the answer is judged again:
against the approvers of the officer's policy, and against who triggered the run, who cannot approve it. Then it is
copied into the ledger, with the digest of what was approved: Airflow's own row is erased when the task is cleared, and
is no record. No answer in time is a refusal.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowFailException

from operators.base import Facts, SluiceOperator, open_run, with_public_errors
from operators.parameters import offered
from operators.plugin import report_link

if TYPE_CHECKING:
    from airflow.sdk import Context

    from synth.run import Run

REASON = "reason"


class ApproveOperator(SluiceOperator):
    """Approves where the conditions of contract and policy hold."""

    def step(self, run: Run) -> Facts:
        from synth import steps

        return steps.approve(run)


class HumanApproveOperator(ApprovalOperator):
    """Asks a person; cleared, it asks again, and what was decided before no longer counts.

    After a refusal, and where nobody answers in time, nothing downstream runs except the teardown. An answer that is
    no decision (by somebody who may not decide, or without a reason) fails the task.

    :param document: the share contract as plain values.
    """

    ui_color = SluiceOperator.ui_color

    def __init__(self, *, document: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(
            subject=f"Release {document['dataset']['name']}?",
            defaults=self.REJECT,
            response_timeout=timedelta(hours=document["approval"]["timeout_hours"]),
            ignore_downstream_trigger_rules=True,
            **kwargs,
        )
        self.document = document
        # A parameter without a valid default fails the task before anybody is asked. An empty text is valid, and the
        # form then asks for one before it takes an answer; whether one was given is checked again with the answer.
        reason = Param(
            "", description="Goes into the ledger, with your name.", source="task", type="string", title="Reason"
        )
        self.params = ParamsDict({REASON: reason})

    def execute(self, context: Context) -> Facts:
        """Ask, and wait without holding a worker."""
        # Not a template: what an owner wrote into the contract is shown, never rendered.
        self.body = with_public_errors(lambda: self._question(context))
        # Airflow keeps the text of the first question for as long as the run lives; this one is in the log.
        self.log.info("asking:\n%s", self.body)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Facts:
        """Judge the answer, record it, and go on only with an approval that the ledger has.

        :raises AirflowFailException: if who answered may not decide, or gave no reason.
        """
        if "error" in event:
            self.process_trigger_event_error(event)
        given = {name: value or "" for name, value in (event["params_input"] or {}).items()}
        event, person = {**event, "params_input": given}, event["responded_by_user"]
        self.validate_chosen_options(event["chosen_options"])
        self.validate_params_input(given)
        approved = event["chosen_options"] == [self.APPROVE]
        if person is not None:
            with_public_errors(lambda: self._record(context, approved, str(person["name"]), given.get(REASON, "")))
        elif approved:
            raise AirflowFailException("NotApproved: the answer does not say who gave it; nothing is published")
        elif with_public_errors(lambda: self._lapse(context)):
            self.log.info("nobody answered here; the ledger has an approval")
            return with_public_errors(lambda: self._approved(context))
        else:
            self.log.info("nobody answered in time; nothing is published")
        # After a refusal this skips what is downstream, and does not return.
        super().execute_complete(context, event)
        return with_public_errors(lambda: self._approved(context))

    def _record(self, context: Context, approved: bool, name: str, reason: str) -> None:
        from synth.approval import decide

        with self._run(context) as run:
            decide(run, approved=approved, by=name, reason=reason)

    def _lapse(self, context: Context) -> bool:
        from synth.approval import lapse

        with self._run(context) as run:
            return lapse(run)

    def _question(self, context: Context) -> str:
        from synth.approval import ask

        with self._run(context) as run:
            return ask(run, report_link(context["dag"].dag_id, context["run_id"])).markdown()

    def _approved(self, context: Context) -> Facts:
        from synth import steps

        with self._run(context) as run:
            return steps.approve(run)

    def _run(self, context: Context) -> Run:
        of_the_form = {name: context["params"][name] for name in offered(self.document) if name in context["params"]}
        return open_run(self.document, context["run_id"], of_the_form)
