"""Workers that die at random moments, several at a time and under one policy: what is charged, and what is out."""

from __future__ import annotations

from synth.ledger import Ledger
from tests.scheduler import mortal
from tests.scheduler.conftest import Deployment


def test_whenever_a_worker_is_killed_the_run_is_published_once_or_refused_and_each_look_is_charged(
    deployment: Deployment,
) -> None:
    """How many trials died within their step depends on the machine: fewer than half would say little."""
    runs = {name: deployment.runs[name] for name in mortal.CONTRACTS}
    for run in runs.values():
        run.ended(within_s=400)
    outcomes = {name: mortal.judged(deployment, run) for name, run in runs.items()}
    deaths = sum(mortal.deaths(deployment.home, name) for name in runs)
    print(f"{deaths} deaths of {mortal.TRIALS}: {outcomes}")
    assert deaths >= mortal.TRIALS / 2
    assert {outcome for name, outcome in outcomes.items() if name != "mortal_often"} == {"published"}


def test_contracts_that_run_at_the_same_time_draw_on_one_policy_whose_history_is_whole(deployment: Deployment) -> None:
    names = set(mortal.CONTRACTS)
    for name in names:
        deployment.runs[name].ended(within_s=400)
    with Ledger.open(deployment.settings.ledger_url) as ledger:
        entries = ledger.entries("mortal_policy")
        assert ledger.verify("mortal_policy") == entries[-1]
        balance = ledger.balance("mortal_policy")
    reserved = [entry for entry in entries if entry.kind == "reserve"]
    assert sorted(entry.run.partition("/")[0] for entry in reserved) == sorted(names)
    assert 0 < balance.total <= balance.capacity
    assert balance.reserved == 0
    order = [entry.kind for entry in entries if entry.kind in ("reserve", "settled")]
    assert order.index("settled") > 1, "the runs went one after the other"
