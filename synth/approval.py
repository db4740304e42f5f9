"""Decisions about a release: by a named person, or by conditions that the contract states.

A decision is about exactly one artifact, the one that passed the gate, and it is an entry of the ledger. Where none can
be found, or it names something else, nothing is published. Four eyes: whoever started the run cannot approve it.

Who asks again withdraws what was decided, approval and refusal alike: from then on only a further decision counts. The
ledger keeps all of them, and the next question names them.

Names are what the caller says they are. Airflow names the accounts it authenticated; who decides by command line has
access to the ledger and the workspace, and is trusted to give their own name. A run that a schedule, a data event or
another DAG started has no requester, and four eyes cannot be told apart: its question says so.
"""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

from synth.errors import AwaitingApproval, LedgerError, NotApproved
from synth.release.request import ApprovalRequest
from synth.run import Run
from synth.unsafe import refuse_not_private

NOBODY = "nobody"


def record_request(run: Run) -> None:
    """Enter who started the run and how, once."""
    if run.ledger.find(run.policy_name, run.name, "request") is None:
        fact = {"by": run.requested_by, "how": run.started}
        run.ledger.record(run.policy_name, run.name, "request", fact)


def ask(run: Run, link: str | None = None) -> ApprovalRequest:
    """What the approvers are asked about this run; what was decided before is withdrawn.

    :param link: where the report is found in a browser.
    :raises NotApproved: if the run has not passed its gate.
    """
    _ = run.plan  # refuses a contract that is not the one that was reserved
    passed_gate(run)
    if decision_of(run) is not None:
        run.ledger.record(run.policy_name, run.name, "reopened", {}, suffix=str(_times_reopened(run) + 1))
    return approval_request(run, link)


def decide(run: Run, *, approved: bool, by: str, reason: str) -> None:
    """Record a person's decision about the artifact that passed the gate.

    The same person's same decision again changes nothing.

    :raises NotApproved: if ``by`` is not one of the policy's approvers or wants to approve what they requested, no
        reason is given, it is decided otherwise, or the run is not private.
    """
    if not reason.strip():
        raise NotApproved("a decision needs a reason")
    refuse_not_private(run)
    _refuse_unless_entitled(run, approved, by)
    decided = decision_of(run)
    if decided is None:
        _record_decision(run, approved=approved, mode="human", by=by, reason=reason)
    elif (decided["approved"], decided["by"]) != (approved, by):
        word = "approved" if decided["approved"] else "refused"
        raise NotApproved(
            f"run {run.name!r} was {word} by {decided['by']} already; clear its approval to have it asked again, or "
            "start a new run"
        )


def lapse(run: Run) -> bool:
    """Record that nobody answered in time, which is a refusal, unless somebody has decided by another way meanwhile.

    :returns: whether the run is approved all the same.
    """
    decided = decision_of(run)
    if decided is None:
        _record_decision(run, approved=False, mode="timeout", by=NOBODY, reason="no answer in time")
    return bool(decided and decided["approved"])


def decide_by_conditions(run: Run) -> None:
    """Record an approval by the conditions of contract and policy.

    :raises NotApproved: where they do not hold.
    """
    reason = _automatic_conditions(run)
    _record_decision(run, approved=True, mode="automatic", by=f"policy {run.policy_name}", reason=reason)


def approval_of(run: Run) -> dict[str, Any]:
    """The recorded approval of the artifact that passed the gate, judged again by everything it was judged by.

    :raises AwaitingApproval: while there is no decision.
    :raises NotApproved: after a refusal, and where contract and policy ask for another approval than the recorded one.
    """
    judged, decision = passed_gate(run), decision_of(run)
    if decision is None:
        raise AwaitingApproval(
            f"run {run.name!r} has no approval in the ledger; it waits for one of "
            f"{', '.join(run.registered.policy.approval.approvers) or 'nobody'}: "
            f"`sluice decide FILE {run.run_id} approve|reject --by NAME --reason TEXT`"
        )
    if not decision["approved"]:
        raise NotApproved(
            f"run {run.name!r} was refused by {decision['by']}: {decision['reason']}; nothing is published. Clear its "
            "approval to have it asked again, or start a new run"
        )
    if decision["artifact"] != judged["artifact"]:
        raise NotApproved(f"run {run.name!r}: the artifact that was approved is not the one that passed the gate")
    if decision["mode"] == "human":
        _refuse_unless_entitled(run, True, decision["by"])
    elif "human" in (run.contract.approval.mode, run.registered.policy.approval.mode):
        raise NotApproved(f"run {run.name!r} needs a person's approval, and has one by conditions only")
    return decision


def approval_request(run: Run, link: str | None = None) -> ApprovalRequest:
    """What the approvers are asked about this run."""
    dataset = run.contract.dataset.name
    history = run.ledger.entries(run.policy_name)
    published = [e for e in history if e.kind == "published" and e.run.startswith(f"{dataset}/") and e.run != run.name]
    gates = {e.run: e.payload for e in history if e.kind == "gate"}
    mine = [e for e in history if e.run == run.name]
    requested = _request(run)
    bundle = run.workspace.folder("bundle")
    return ApprovalRequest(
        contract=run.contract,
        policy=run.policy_name,
        approvers=run.registered.policy.approval.approvers,
        gate=passed_gate(run),
        statement=json.loads((bundle / "privacy_statement.json").read_text(encoding="utf-8")),
        report=str(bundle / "quality_report.html"),
        link=link,
        requester=requested["by"],
        started=requested["how"],
        decisions=[e.payload for e in mine if e.kind == "decision"],
        is_published=any(e.kind == "published" for e in mine),
        may_be_published=any(e.kind == "publishing" for e in mine),
        previous=gates[published[-1].run] if published else None,
        previous_at=published[-1].at[:10] if published else "",
    )


def passed_gate(run: Run) -> dict[str, Any]:
    """What the gate recorded.

    :raises NotApproved: if it was not passed, or the run is not private.
    """
    refuse_not_private(run)
    recorded = run.ledger.find(run.policy_name, run.name, "gate")
    if recorded is None or not recorded.payload["passed"]:
        raise NotApproved(f"run {run.name!r} has not passed the quality gate; nothing can be approved or published")
    return recorded.payload


def decision_of(run: Run) -> dict[str, Any] | None:
    """The decision that counts, None while there is none."""
    recorded = run.ledger.find(run.policy_name, run.name, "decision", suffix=_question(run))
    return recorded.payload if recorded else None


def _question(run: Run) -> str:
    """What tells apart the decisions of a run that was asked about more than once."""
    return str(_times_reopened(run) or "")


def _times_reopened(run: Run) -> int:
    return sum(entry.kind == "reopened" for entry in run.ledger.entries(run.policy_name, run.name))


def _refuse_unless_entitled(run: Run, approved: bool, by: str) -> None:
    approvers = run.registered.policy.approval.approvers
    if by not in approvers:
        raise NotApproved(
            f"{by!r} is not an approver of policy {run.policy_name!r}: {', '.join(approvers) or 'nobody'}"
        )
    if approved and _same_person(by, _request(run)["by"] or ""):
        raise NotApproved(
            f"{by!r} started run {run.name!r} and cannot approve it as well: another approver of policy "
            f"{run.policy_name!r} has to"
        )


def _same_person(one: str, other: str) -> bool:
    """Whether two account names could be one: upper and lower case, and different codings of a letter, are no two."""
    return unicodedata.normalize("NFKC", one).casefold() == unicodedata.normalize("NFKC", other).casefold()


def _request(run: Run) -> dict[str, Any]:
    recorded = run.ledger.find(run.policy_name, run.name, "request")
    if recorded is None:
        raise NotApproved(f"run {run.name!r}: the ledger does not say who started it; start a new run")
    return recorded.payload


def _record_decision(run: Run, *, approved: bool, mode: str, by: str, reason: str) -> None:
    payload = {
        "approved": approved,
        "artifact": passed_gate(run)["artifact"],
        "mode": mode,
        "by": by,
        "reason": reason,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        run.ledger.record(run.policy_name, run.name, "decision", payload, suffix=_question(run))
    except LedgerError:
        # Somebody decided in this very moment; the same decision by the same person is no other.
        decided = decision_of(run)
        if decided is None or any(decided[name] != payload[name] for name in ("approved", "mode", "by")):
            raise


def _automatic_conditions(run: Run) -> str:
    """The conditions of an automatic approval, if they hold."""
    charged, policy = passed_gate(run)["epsilon"], run.registered.policy
    limit = min(run.contract.approval.max_epsilon or policy.max_release_epsilon, policy.max_release_epsilon)
    if policy.approval.mode != "automatic":
        raise NotApproved(f"policy {policy.name!r} asks for a person's approval")
    if charged > limit:
        raise NotApproved(f"automatic approval ends at ε={limit:g}; this release was charged ε={charged:.4g}")
    return f"the quality gate passed and ε={charged:.4g} is within {limit:g}"
