"""Who may let a release out, what they are shown, and what publish makes of a decision that does not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synth import steps
from synth.approval import approval_of, approval_request, ask, decide, lapse, passed_gate
from synth.errors import AwaitingApproval, NotApproved, StepFailed
from synth.release.verify import verify_release
from synth.run import Run
from tests.conftest import Deployment, people

HUMAN = {"mode": "human"}


@pytest.fixture
def asking(tmp_path: Path) -> Deployment:
    """A deployment whose policy asks for one of two people."""
    made = Deployment(tmp_path)
    made.write(people())
    made.register(approval={"mode": "human", "approvers": ["ada", "olga"]})
    return made


def waiting(asking: Deployment, run_id: str = "one", requester: str | None = "ada", **changes: Any) -> Run:
    """A run that has passed its gate and waits for a decision."""
    run: Run = asking.run(run_id, approval=HUMAN, **changes)
    run.requested_by = requester
    for step in (steps.preflight, steps.allocate, steps.validate, steps.train, steps.generate, steps.check):
        step(run)
    with pytest.raises(AwaitingApproval):
        steps.approve(run)
    return run


def forged(run: Run, **changes: Any) -> None:
    """A decision that somebody with access to the ledger wrote past :func:`decide`."""
    payload = {
        "approved": True,
        "artifact": passed_gate(run)["artifact"],
        "mode": "human",
        "by": "olga",
        "reason": "because",
        "at": "2027-01-01T00:00:00+00:00",
    }
    run.ledger.record(run.policy_name, run.name, "decision", payload | changes)


def test_who_started_a_run_cannot_approve_it_and_another_approver_can(asking: Deployment) -> None:
    run = waiting(asking)
    for name in ("ada", "Ada"):
        with pytest.raises(NotApproved, match=r"cannot approve it as well|not an approver"):
            decide(run, approved=True, by=name, reason="mine")
    with pytest.raises(NotApproved, match="reason"):
        decide(run, approved=False, by="olga", reason="")
    with pytest.raises(NotApproved, match="no approval"):
        steps.publish(run)
    decide(run, approved=True, by="olga", reason="checked")
    recorded = approval_of(run)
    assert (recorded["by"], recorded["mode"], recorded["reason"]) == ("olga", "human", "checked")
    assert steps.publish(run)["artifact"] == recorded["artifact"]


def test_two_codings_of_one_name_are_one_person(tmp_path: Path) -> None:
    composed, decomposed = "Jos\u00e9", "Jose\u0301"
    made = Deployment(tmp_path)
    made.write(people())
    made.register(approval={"mode": "human", "approvers": [decomposed, "olga"]})
    run = waiting(made, requester=composed)
    with pytest.raises(NotApproved, match="cannot approve it as well"):
        decide(run, approved=True, by=decomposed, reason="mine")


def test_who_started_a_run_can_refuse_it(asking: Deployment) -> None:
    run = waiting(asking)
    decide(run, approved=False, by="ada", reason="started by mistake")
    with pytest.raises(NotApproved, match="refused by ada"):
        steps.publish(run)


def test_a_scheduled_run_has_no_requester_and_every_approver_can_decide(asking: Deployment) -> None:
    run = waiting(asking, requester=None)
    assert "Nobody is known to have started this run (shell), so each of them can approve it" in ask(run).markdown()
    decide(run, approved=True, by="ada", reason="checked")
    assert steps.approve(run)["approved_by"] == "ada"


def test_no_answer_in_time_is_a_refusal_in_the_ledger_that_only_asking_again_undoes(asking: Deployment) -> None:
    run = waiting(asking)
    assert not lapse(run)
    with pytest.raises(NotApproved, match="refused by nobody: no answer in time"):
        steps.publish(run)
    with pytest.raises(NotApproved, match="clear its approval"):
        decide(run, approved=True, by="olga", reason="too late")
    assert "refused by nobody" in ask(run).markdown()
    decide(run, approved=True, by="olga", reason="in time")
    steps.publish(run)


def test_who_decided_by_another_way_before_the_time_was_over_has_decided(asking: Deployment) -> None:
    run = waiting(asking)
    decide(run, approved=True, by="olga", reason="by command line")
    assert lapse(run)
    assert approval_of(run)["by"] == "olga"


def test_asking_again_withdraws_an_approval_and_only_a_further_one_publishes(asking: Deployment) -> None:
    run = waiting(asking)
    assert "withdrawn" not in ask(run).markdown()
    decide(run, approved=True, by="olga", reason="too *early*")
    text = ask(run).markdown()
    assert r"withdrawn by asking again: approved by olga on" in text
    assert r"too \*early\*" in text
    for step in (steps.approve, steps.publish):
        with pytest.raises(AwaitingApproval):
            step(run)
    assert not (asking.folder / "bucket").exists()
    decide(run, approved=True, by="olga", reason="now")
    assert approval_of(run)["reason"] == "now"
    steps.publish(run)
    kinds = [e.kind for e in run.ledger.entries(run.policy_name, run.name) if e.kind in ("decision", "reopened")]
    assert kinds == ["decision", "reopened", "decision"]


def test_asking_again_withdraws_a_refusal_which_the_next_approver_is_shown(asking: Deployment) -> None:
    run = waiting(asking)
    decide(run, approved=False, by="ada", reason="not before May")
    text = ask(run).markdown()
    assert "refused by ada" in text
    assert "not before May" in text
    decide(run, approved=True, by="olga", reason="it is June")
    assert steps.publish(run)["artifact"] == passed_gate(run)["artifact"]


def test_asking_again_takes_nothing_back_that_is_published_and_says_so(asking: Deployment) -> None:
    run = waiting(asking)
    assert "in the bucket already" not in ask(run).markdown()
    decide(run, approved=True, by="olga", reason="checked")
    first = steps.publish(run)
    manifest = (Path(first["uri"].removeprefix("file://")) / "manifest.json").read_text()
    assert "in the bucket already" in ask(run).markdown()
    decide(run, approved=True, by="olga", reason="checked again")
    assert steps.publish(run) == first
    assert (Path(first["uri"].removeprefix("file://")) / "manifest.json").read_text() == manifest
    ask(run)
    decide(run, approved=False, by="olga", reason="a complaint")
    with pytest.raises(NotApproved, match="a complaint"):
        steps.publish(run)


def test_publishing_that_died_before_the_ledger_knew_is_told_to_who_is_asked_again_and_goes_on(
    asking: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = waiting(asking, requester=None)
    decide(run, approved=True, by="olga", reason="checked")

    def dies(_manifest: object) -> str:
        raise OSError("the worker is gone")

    with monkeypatch.context() as patch:
        patch.setattr(steps, "manifest_digest", dies)
        with pytest.raises(StepFailed):
            steps.publish(run)
    (manifest,) = (asking.folder / "bucket").glob("*/*/manifest.json")
    before = manifest.read_text()
    assert "may be in the bucket already" in ask(run).markdown()
    with pytest.raises(AwaitingApproval):
        steps.publish(run)
    decide(run, approved=True, by="ada", reason="checked as well")
    assert steps.publish(run)["uri"] == f"file://{manifest.parent}"
    assert manifest.read_text() == before
    assert verify_release(str(manifest.parent)).ok


def test_an_approval_that_is_withdrawn_while_publishing_starts_lets_nothing_out(
    asking: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = waiting(asking)
    decide(run, approved=True, by="olga", reason="checked")
    record = run.ledger.record

    def withdrawn_just_before(policy: str, name: str, kind: str, payload: Any, **more: Any) -> Any:
        if kind == "publishing":
            ask(run)
        return record(policy, name, kind, payload, **more)

    monkeypatch.setattr(run.ledger, "record", withdrawn_just_before)
    with pytest.raises(AwaitingApproval):
        steps.publish(run)
    assert not (asking.folder / "bucket").exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"by": "ada"}, "cannot approve it as well"),
        ({"by": "mallory"}, "not an approver"),
        ({"mode": "automatic", "by": "policy people_policy"}, "needs a person's approval"),
        ({"artifact": "0" * 64}, "not the one that passed the gate"),
        ({"approved": False}, "refused by olga"),
    ],
)
def test_publish_judges_the_recorded_decision_again(asking: Deployment, changes: dict[str, Any], problem: str) -> None:
    run = waiting(asking)
    forged(run, **changes)
    for step in (steps.approve, steps.publish):
        with pytest.raises(NotApproved, match=problem):
            step(run)
    assert not (asking.folder / "bucket").exists()


def test_the_question_names_the_window_and_how_many_records_of_one_unit_are_used(tmp_path: Path) -> None:
    made = Deployment(tmp_path)
    made.write(people().assign(seen="2026-05-01"))
    made.register(window={"column": "seen", "every": "quarter"}, approval={"mode": "human", "approvers": ["olga"]})
    privacy = made.contract().privacy.model_dump(mode="json")
    window = {"column": "seen", "every": "quarter", "release": "2026-Q2"}
    text = approval_request(waiting(made, privacy={**privacy, "max_records": 2, "window": window})).markdown()
    assert "- Window: **2026-Q2**. Only its rows are in this release" in text
    assert "- Records of one unit: **2** at most. Of a unit" in text


def test_the_question_shows_terms_quality_changes_and_where_the_report_is(asking: Deployment) -> None:
    run = waiting(asking)
    first = approval_request(run).markdown()
    assert "the first release of this dataset" in first
    decide(run, approved=True, by="olga", reason="checked")
    version = steps.publish(run)["version"]

    title = "{{ 6 * 7 }} people | <b>"
    dataset = {**run.contract.document()["dataset"], "title": title}
    second = waiting(asking, "two", dataset=dataset, rows=900)
    request = approval_request(second)
    text = request.markdown().replace("\u00a0", " ")
    gate = passed_gate(second)
    assert r"{{ 6 \* 7 }} people \| \<b\>" in text
    assert "Records of one unit: **1** at most" in text
    assert "Window" not in text
    assert "changes the probability of any outcome" in text
    assert Path(request.report).is_file()
    assert request.report in text
    assert gate["artifact"] in text
    assert f"/people/{gate['version']}`" in text
    assert f"version `{version}`" in text
    assert "| rows | 1,200 | 900 |" in text
    for measurement in gate["measurements"]:
        assert f"{measurement['value']:.3f} | {measurement['low']:.3f} to {measurement['high']:.3f}" in text
    assert "ada started this run and cannot approve it" in text
