"""What an officer may change by a policy that succeeds another, and what earlier releases were promised against."""

from __future__ import annotations

from typing import Any

import pytest

from synth.contract import Policy
from synth.errors import PolicyError
from synth.ledger import Charge, Ledger
from synth.officer import RegisteredPolicy, policy_for, register
from tests.conftest import Deployment, policy_document


def succeed(
    deployment: Deployment, predecessor: str = "people_policy", name: str = "later_policy", **changes: Any
) -> RegisteredPolicy:
    document = {**policy_document(deployment.folder, **changes), "name": name, "succeeds": predecessor}
    policy = Policy.model_validate(document)
    with Ledger.open(deployment.settings.ledger_url) as ledger:
        return register(ledger, deployment.settings, policy, by="officer")


def spend(deployment: Deployment, cost: int) -> None:
    with Ledger.open(deployment.settings.ledger_url) as ledger:
        charges = [Charge("m", ("train",), cost)]
        arguments: dict[str, Any] = {"plan_digest": "plan", "split_id": "split", "max_attempts": 1, "details": {}}
        ledger.reserve("people_policy", "run", charges=charges, **arguments)
        ledger.begin("people_policy", "run", "m", plan_digest="plan")
        ledger.record("people_policy", "run", "settled", {})


def test_a_lost_key_ends_a_policy_and_its_successor_goes_on_with_what_is_left(deployment: Deployment) -> None:
    settings = deployment.settings
    spend(deployment, 10**6)
    (settings.keys / "people_policy.key").unlink()
    with Ledger.open(settings.ledger_url) as ledger:
        before = policy_for(ledger, deployment.contract())
        with pytest.raises(PolicyError, match="split key is not readable"):
            before.split_key(settings.keys)
        succeed(deployment)
        after = policy_for(ledger, deployment.contract())
        assert after.policy.name == "later_policy"
        assert len(after.split_key(settings.keys)) == 32
        assert after.key_fingerprint != before.key_fingerprint
        assert after.split_id(deployment.contract(), deployment.run().schema) != before.split_id(
            deployment.contract(), deployment.run().schema
        )
        assert after.filter == before.filter
        assert ledger.balance("later_policy").spent == 10**6
        ledger.verify("later_policy")


def test_registering_a_successor_again_changes_nothing(deployment: Deployment) -> None:
    registered = succeed(deployment)
    assert registered.policy.succeeds == "people_policy"
    assert succeed(deployment) == registered


@pytest.mark.parametrize(
    "change",
    [
        {"holdout_fraction": 0.3},
        {"max_release_epsilon": 2.0},
        {"approval": {"mode": "human", "approvers": ["somebody"]}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_earlier_releases_do_not_depend_on_may_change(deployment: Deployment, change: dict[str, Any]) -> None:
    succeed(deployment, **change)


def test_sources_may_be_added(deployment: Deployment) -> None:
    registered = succeed(deployment, sources=[str(deployment.folder / name) for name in ("people.csv", "more.csv")])
    assert len(registered.sources) == 2
    with pytest.raises(PolicyError, match="sources lacks"):
        succeed(deployment, "later_policy", "last_policy", sources=[str(deployment.folder / "more.csv")])


@pytest.mark.parametrize(("field", "value"), [("epsilon", 41.0), ("epsilon", 39.0), ("delta", 2e-4)])
def test_the_total_cannot_change(deployment: Deployment, field: str, value: float) -> None:
    with pytest.raises(PolicyError, match=f"with another {field}: earlier releases were promised"):
        succeed(deployment, **{field: value})


@pytest.mark.parametrize("unit", ["row", {"column": "household"}])
def test_the_unit_cannot_change(deployment: Deployment, unit: Any) -> None:
    """Published statements promise the total to each unit over all releases, later ones included."""
    with pytest.raises(PolicyError, match="with another unit: earlier releases were promised"):
        succeed(deployment, unit=unit)


def test_a_policy_with_a_run_under_way_is_not_succeeded(deployment: Deployment) -> None:
    with Ledger.open(deployment.settings.ledger_url) as ledger:
        arguments: dict[str, Any] = {"plan_digest": "plan", "split_id": "split", "max_attempts": 1, "details": {}}
        ledger.reserve("people_policy", "open", charges=[Charge("m", ("train",), 1)], **arguments)
    with pytest.raises(PolicyError, match="runs are not settled: 'open'"):
        succeed(deployment)


def test_a_successor_of_nothing_is_refused(deployment: Deployment) -> None:
    with pytest.raises(PolicyError, match=r"succeeds: .*'nobody' is not registered"):
        succeed(deployment, "nobody")
    with pytest.raises(ValueError, match="succeeds"):
        succeed(deployment, "no name")
    with pytest.raises(ValueError, match="succeeds='people_policy' is this policy itself"):
        succeed(deployment, "people_policy", "people_policy")


def test_a_policy_registered_before_there_were_successors_is_still_the_same(deployment: Deployment) -> None:
    with Ledger.open(deployment.settings.ledger_url) as ledger:
        assert "succeeds" not in ledger.policy("people_policy").document["policy"]
    deployment.register()
