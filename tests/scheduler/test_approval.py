"""A person's approval on a real scheduler, through the API as the browser uses it."""

from __future__ import annotations

import pytest

from synth.release.verify import verify_release
from tests.scheduler.conftest import Deployment
from tests.scheduler.rest import Refused


def test_only_another_approver_s_yes_publishes_and_a_release_that_was_let_out_verifies(deployment: Deployment) -> None:
    """Of one run: its requester approves; somebody marks the task successful; it is cleared; an approver approves."""
    run, olga, admin = deployment.runs["asked"], deployment.accounts["olga"], deployment.accounts["admin"]

    run.asks(within_s=300)
    assert "rita started this run and cannot approve it" in run.question()["body"]
    run.answer("Approve", "mine")
    assert run.ended() == "failed"
    assert (run.states()["approve"], run.states()["publish"]) == ("failed", "upstream_failed")
    assert "cannot approve it as well" in run.log("approve")

    by_admin = run.seen_by(admin)
    by_admin.mark_successful("approve")
    by_admin.clear("publish")
    by_admin.reaches("publish", "failed")
    assert "no approval in the ledger" in by_admin.log("publish", by_admin.tasks()["publish"]["try_number"])
    assert not deployment.released(run)
    assert deployment.facts(run, "decision") == []

    by_admin.clear("approve", "publish")
    by_olga = run.seen_by(olga)
    by_olga.asks()
    by_olga.answer("Approve", "quality is fine")
    with pytest.raises(Refused, match="409"):
        by_olga.answer("Reject", "changed my mind")
    assert by_olga.ended() == "success"

    (decision,), (request,) = deployment.facts(run, "decision"), deployment.facts(run, "request")
    assert request == {"by": "rita", "how": "manual"}
    assert (decision["approved"], decision["by"], decision["reason"]) == (True, "olga", "quality is fine")
    (folder,) = deployment.released(run)
    assert verify_release(str(folder)).problems == ()
    assert run.xcom("publish")["artifact"] == decision["artifact"]
    assert deployment.starts(run) == deployment.planned(run)


def test_a_refusal_publishes_nothing_and_what_started_stays_spent(deployment: Deployment) -> None:
    run = deployment.runs["refused"].seen_by(deployment.accounts["olga"])
    run.asks(within_s=300)
    run.answer("Reject", "not this year")
    assert run.ended() == "success"
    states = run.states()
    assert (states["approve"], states["publish"], states["settle"]) == ("success", "skipped", "success")
    (decision,) = deployment.facts(run, "decision")
    assert (decision["approved"], decision["by"], decision["reason"]) == (False, "olga", "not this year")
    assert not deployment.released(run)
    assert deployment.starts(run) == deployment.planned(run)
    assert run.xcom("settle") == {"never_started": []}


def test_a_cleared_approval_asks_again_and_only_the_new_answer_counts(deployment: Deployment) -> None:
    """Of a run that is over: refused, approved when asked again, and refused when asked once more."""
    run = deployment.runs["refused"].seen_by(deployment.accounts["admin"])
    by_olga = run.seen_by(deployment.accounts["olga"])
    assert run.ended() == "success"

    run.clear("approve", "publish")
    run.asks()
    assert "refused by olga" in run.log("approve", run.tasks()["approve"]["try_number"])
    assert run.states()["publish"] is None
    by_olga.answer("Approve", "next year has come")
    assert run.ended() == "success"
    (folder,) = deployment.released(run)
    assert verify_release(str(folder)).problems == ()

    run.clear("approve", "publish")
    run.asks()
    assert "in the bucket already" in run.log("approve", run.tasks()["approve"]["try_number"])
    by_olga.answer("Reject", "a complaint")
    assert run.ended() == "success"
    assert run.states()["publish"] == "skipped"
    assert [(d["approved"], d["reason"]) for d in deployment.facts(run, "decision")] == [
        (False, "not this year"),
        (True, "next year has come"),
        (False, "a complaint"),
    ]
    assert deployment.released(run) == [folder]
    assert verify_release(str(folder)).problems == ()
    assert deployment.starts(run) == deployment.planned(run)


def test_no_answer_in_time_is_a_refusal_by_nobody(deployment: Deployment) -> None:
    run = deployment.runs["hurried"]
    assert run.ended(within_s=300) == "success"
    states = run.states()
    assert (states["approve"], states["publish"], states["settle"]) == ("success", "skipped", "success")
    (decision,) = deployment.facts(run, "decision")
    assert (decision["approved"], decision["mode"], decision["by"]) == (False, "timeout", "nobody")
    assert not deployment.released(run)
