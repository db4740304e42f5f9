"""The machine's clock jumps, forwards and back, between the steps of a run.

The clock is replaced inside this process, in every module that asks for the time; no library that would fake it for a
process from outside is needed. What Airflow itself does with the time is not part of this.
"""

from __future__ import annotations

import datetime as time
import sys
from collections.abc import Callable

import pytest

from synth import approval, steps
from synth.errors import NotApproved
from synth.release.verify import verify_release
from tests.conftest import Deployment
from tests.faults.promises import complete, refused, released, table, up_to

DAY = time.timedelta(days=1)
Clock = Callable[[time.timedelta], None]


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets the clock to the real time plus so much."""
    offset = time.timedelta()

    class Jumping(time.datetime):
        @classmethod
        def now(cls, tz: time.tzinfo | None = None) -> time.datetime:  # type: ignore[override]
            return time.datetime.now(tz) + offset

    for name, module in list(sys.modules.items()):
        if name.startswith("synth.") and getattr(module, "datetime", None) is time.datetime:
            monkeypatch.setattr(module, "datetime", Jumping)

    def to(delta: time.timedelta) -> None:
        nonlocal offset
        offset = delta

    return to


@pytest.mark.parametrize("first", [DAY, -DAY], ids=["forwards", "backwards"])
def test_a_clock_that_jumps_between_steps_changes_no_charge_and_no_order(
    on_sqlite: Deployment, jump: Clock, first: time.timedelta
) -> None:
    run = on_sqlite.run()
    for number, step in enumerate((*steps.STEPS, steps.settle)):
        jump(first * (-1) ** number * (number + 1))
        step(run)
    jump(time.timedelta())
    complete(on_sqlite)
    entries = run.ledger.entries(run.policy_name)
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    times = [entry.at for entry in entries]
    assert times != sorted(times), "the clock has not jumped"


def test_a_version_keeps_the_day_on_which_it_was_first_named(on_sqlite: Deployment, jump: Clock) -> None:
    """A retry on another day, before or after, publishes no second version."""
    run = on_sqlite.run()
    up_to(run, steps.publish)
    named = run.workspace.read_json("public/release.json")
    for delta in (-DAY, DAY, -2 * DAY):
        jump(delta)
        facts = complete(on_sqlite)
        assert facts["publish"]["version"] == named["version"]
    assert len(released(on_sqlite)) == 1


@pytest.mark.parametrize("delta", [DAY, -DAY], ids=["forwards", "backwards"])
def test_a_person_s_decision_counts_whatever_the_clock_says(
    on_sqlite: Deployment, jump: Clock, delta: time.timedelta
) -> None:
    """An approval that seems older than the question is one; time alone neither grants nor withdraws it."""
    deployment = Deployment(on_sqlite.folder / "asked")
    deployment.folder.mkdir()
    deployment.write(table())
    deployment.settings = on_sqlite.settings
    human = {"approval": {"mode": "human"}}
    deployment.register(
        name="asked_policy",
        sources=[str(deployment.folder / "people.csv")],
        approval={"mode": "human", "approvers": ["ada"]},
    )
    source = {"source": {"uri": str(deployment.folder / "people.csv")}}
    run = deployment.run(**human, **source)
    up_to(run, steps.approve)
    jump(delta)
    assert not approval.lapse(run)
    with refused(NotApproved, retry=False):
        steps.publish(run)
    assert released(on_sqlite) == []
    approval.ask(run)
    jump(-delta)
    approval.decide(run, approved=True, by="ada", reason="checked")
    jump(delta)
    for step in (steps.approve, steps.publish, steps.settle):
        facts = step(deployment.run(**human, **source))
        if step is steps.publish:
            assert verify_release(facts["uri"]).ok
    run.ledger.verify("asked_policy")
