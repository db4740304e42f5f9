"""Decisions about a release: by a named person, or by conditions that the contract states.

A decision is about exactly one artifact, the one that passed the gate, and it is an entry of the ledger. Where none can
be found, or it names something else, nothing is published.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from synth.errors import NotApproved
from synth.run import Run


def decide(run: Run, *, approved: bool, by: str, reason: str) -> None:
    """Record a person's decision about the artifact that passed the gate.

    The same person's same decision again changes nothing.

    :raises NotApproved: if ``by`` is not one of the policy's approvers, no reason is given, or it is decided otherwise.
    """
    approvers = run.registered.policy.approval.approvers
    if by not in approvers:
        raise NotApproved(
            f"{by!r} is not an approver of policy {run.policy_name!r}: {', '.join(approvers) or 'nobody'}"
        )
    if not reason.strip():
        raise NotApproved("a decision needs a reason")
    decided = decision_of(run)
    if decided is None:
        record_decision(run, approved=approved, by=by, reason=reason)
    elif (decided["approved"], decided["by"]) != (approved, by):
        word = "approved" if decided["approved"] else "refused"
        raise NotApproved(f"run {run.name!r} was {word} by {decided['by']} already; start a new run")


def passed_gate(run: Run) -> dict[str, Any]:
    """What the gate recorded.

    :raises NotApproved: if it was not passed.
    """
    recorded = run.ledger.find(run.policy_name, run.name, "gate")
    if recorded is None or not recorded.payload["passed"]:
        raise NotApproved(f"run {run.name!r} has not passed the quality gate; nothing can be approved or published")
    return recorded.payload


def decision_of(run: Run) -> dict[str, Any] | None:
    """The recorded decision, None while there is none."""
    recorded = run.ledger.find(run.policy_name, run.name, "decision")
    return recorded.payload if recorded else None


def record_decision(run: Run, *, approved: bool, by: str, reason: str) -> dict[str, Any]:
    """Enter a decision about the artifact that passed the gate."""
    payload = {
        "approved": approved,
        "artifact": passed_gate(run)["artifact"],
        "mode": run.contract.approval.mode,
        "by": by,
        "reason": reason,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return run.ledger.record(run.policy_name, run.name, "decision", payload).payload


def automatic_conditions(run: Run) -> str:
    """The conditions of an automatic approval, if they hold."""
    charged, policy = passed_gate(run)["epsilon"], run.registered.policy
    limit = min(run.contract.approval.max_epsilon or policy.max_release_epsilon, policy.max_release_epsilon)
    if policy.approval.mode != "automatic":
        raise NotApproved(f"policy {policy.name!r} asks for a person's approval")
    if charged > limit:
        raise NotApproved(f"automatic approval ends at ε={limit:g}; this release was charged ε={charged:.4g}")
    return f"the quality gate passed and ε={charged:.4g} is within {limit:g}"
